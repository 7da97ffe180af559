"""Serve the page that shows what the gateway does: `/dashboard`, and the files that it loads.

The page holds no data. It asks for a token, keeps it in its memory, and sends it in the header Authorization: there is no
cookie. Its Content-Security-Policy lets it load nothing from elsewhere, run no script and use no style that stands in the
page: names of services, paths and callers are shown there, and may hold anything.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

from propylon.control.schemas import Envelope
from propylon.control.static import asset

__all__ = ["router"]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Envelope, "description": "There is no such file."}
}
_FILES = ("uplot.css", "dashboard.css")


def router(path: str, version: str, prefix: str, issues: Callable[[], bool]) -> APIRouter:
    """Return the endpoints. `issues` tells whether the page may offer to log in with a name and a password."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(path)
    async def page(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        return Response(
            _page(root + path, root + prefix, version, login=issues()),
            media_type="text/html; charset=utf-8",
            headers={
                "Content-Security-Policy": _POLICY,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Cache-Control": "no-cache",
            },
        )

    @routes.get(f"{path}/assets/{{name}}", responses=_MISSING)
    async def file(name: str, request: Request) -> Response:
        return asset(name, packed="gzip" in request.headers.get("accept-encoding", ""))

    return routes


def _page(path: str, prefix: str, version: str, *, login: bool) -> str:
    at = escape(f"{path}/assets")
    links = "".join(f'<link rel="stylesheet" href="{at}/{name}?v={version}">' for name in _FILES)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,">{links}<title>Propylon</title></head>'
        f'<body data-prefix="{escape(prefix)}" data-version="{escape(version)}"'
        f' data-login="{"yes" if login else "no"}">'
        '<noscript><p class="notice">This page needs JavaScript.</p></noscript>'
        f'<script src="{at}/uplot.js?v={version}"></script>'
        f'<script type="module" src="{at}/dashboard.js?v={version}"></script></body></html>\n'
    )
