"""Serve the API document and the pages that show it: `/openapi.json`, `/docs`, `/redoc`, `/scalar`.

The pages and all that they load come from this package. Their Content-Security-Policy lets them load nothing from
elsewhere, and run no script that stands in the page: a service's document is shown there, and may hold anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from html import escape
from typing import Any, Protocol
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from propylon.config.models.schema import GatewayConfig
from propylon.control.admin import AdminGate
from propylon.control.identity import caller_of
from propylon.control.schemas import Envelope
from propylon.control.static import asset
from propylon.proxy.principal import Principal

__all__ = ["ApiTexts", "router"]

_JSON = "application/json"
_MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Envelope, "description": "There is no such file."}
}


class ApiTexts(Protocol):
    """Makes the document."""

    async def text(self, root: str, caller: Principal | None = None) -> tuple[bytes, ...]:
        """Return, in pieces, what the caller may call, for a gateway mounted at `root`; without a caller, all."""


def router(
    version: str,
    texts: ApiTexts,
    gate: AdminGate,
    config: Callable[[], GatewayConfig],
) -> APIRouter:
    """Return the endpoints; `config` returns the configuration in force."""
    routes = APIRouter(include_in_schema=False)

    def filtered() -> bool:
        return config().docs.filter == "caller"

    def providers() -> list[str]:
        return [one.discovery_url for one in config().auth.jwt.entries if one.discovery_url]

    @routes.get("/openapi.json")
    async def document(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        everything = not filtered() or gate.permits("admin", request)
        caller = None if everything else caller_of(request)
        text = await texts.text(root, caller)
        # `no-cache`: it changes by itself. What one caller may see is not kept for another.
        kept = "no-cache" if not filtered() else "private, no-store"
        headers = {"Cache-Control": kept, "Content-Length": str(sum(map(len, text)))}
        if len(text) == 1:
            return Response(text[0], media_type=_JSON, headers=headers)
        return StreamingResponse(_one_by_one(text), media_type=_JSON, headers=headers)

    _add_pages(routes, version, providers)

    @routes.get("/docs/assets/{name}", responses=_MISSING)
    async def file(name: str, request: Request) -> Response:
        return asset(name, packed="gzip" in request.headers.get("accept-encoding", ""))

    return routes


async def _one_by_one(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _add_pages(routes: APIRouter, version: str, providers: Callable[[], Iterable[str]]) -> None:
    for path, name in (("/docs", "swagger"), ("/redoc", "redoc"), ("/scalar", "scalar")):
        _add_page(routes, path, _page(name, version), providers)
    _add_page(routes, "/docs/oauth2-redirect", _page("oauth2-redirect", version), providers)


def _add_page(
    routes: APIRouter, path: str, page: str, providers: Callable[[], Iterable[str]]
) -> None:
    @routes.get(path)
    async def show(request: Request) -> Response:
        root = escape(request.scope.get("root_path", ""))
        return Response(
            page.replace("{root}", root),
            media_type="text/html; charset=utf-8",
            headers={
                "Content-Security-Policy": _policy(providers()),
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-cache",
            },
        )


def _page(name: str, version: str) -> str:
    """Return the page; `{root}` in it is where the gateway is mounted."""
    style = {"swagger": "swagger-ui.css"}.get(name)
    scripts = {
        "swagger": ("swagger-ui-bundle.js", "swagger-start.js"),
        "redoc": ("redoc.standalone.js", "redoc-start.js"),
        "scalar": ("scalar.standalone.js", "scalar-start.js"),
        "oauth2-redirect": ("oauth2-redirect.js",),
    }[name]
    at = "{root}/docs/assets"
    links = [] if style is None else [f'<link rel="stylesheet" href="{at}/{style}?v={version}">']
    ends = [f'<script src="{at}/{script}?v={version}"></script>' for script in scripts]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,">{"".join(links)}<title>API</title></head>'
        '<body><div id="page" data-root="{root}" data-document="{root}/openapi.json"></div>'
        f'{"".join(ends)}</body></html>\n'
    )


def _policy(providers: Iterable[str]) -> str:
    """Return the Content-Security-Policy: what a page may load, and whom it may ask."""
    # A provider's own page answers the login; the page asks it for its document and for tokens, and nobody else.
    asked = " ".join(("'self'", *dict.fromkeys(map(_origin, providers))))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        f" font-src 'self' data:; connect-src {asked}; worker-src 'self' blob:; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
