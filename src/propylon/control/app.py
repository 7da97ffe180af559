"""Build the FastAPI app that holds the gateway's own endpoints and a team's.

FastAPI falls short in two points, which this module fills. FastAPI refuses HEAD where it answers GET, against
RFC 9110, 9.3.2. And its OpenAPI document cannot offer the password flow as an alternative to a bearer token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from propylon.control.errors import install_error_handlers
from propylon.control.identity import BEARER
from propylon.control.mounted import Mounted
from propylon.control.schemas import Envelope

__all__ = ["HeadAsGet", "create_app", "offer_password"]

PASSWORD = "password"  # noqa: S105 — the scheme's name in the OpenAPI document


def create_app(version: str, routers: Iterable[APIRouter]) -> FastAPI:
    """Return the app with these routers. Its errors have the gateway's envelope."""
    app = FastAPI(
        title="Propylon",
        summary="The gateway's own API.",
        version=version,
        responses={"default": {"model": Envelope, "description": "An error."}},
    )
    for router in routers:
        app.include_router(router)
    install_error_handlers(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Mounted)  # the last one added sees a request first
    return app


class HeadAsGet:
    """ASGI middleware: answer HEAD by the GET endpoint, without the body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`, which answers GET."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; a HEAD that no endpoint answers itself goes to GET."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or _answers_head(scope):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_head)


def _answers_head(scope: Scope) -> bool:
    """Whether an endpoint of the app is registered for HEAD itself."""
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].routes)


def offer_password(app: FastAPI, token_url: str, issues: Callable[[], bool] = lambda: True) -> None:
    """Add the OAuth2 password flow to the OpenAPI document, as an alternative wherever a token is needed.

    While `issues` says no, the document has neither the flow nor the token endpoint.
    """
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if not issues():
            document = describe()
            paths = {path: item for path, item in document["paths"].items() if path != token_url}
            return {**document, "paths": paths}
        document = deepcopy(describe())
        schemes = document.get("components", {}).get("securitySchemes", {})
        if BEARER in schemes and PASSWORD not in schemes:
            scopes = sorted(set(_add_password(document)))
            flow = {"tokenUrl": token_url, "scopes": dict.fromkeys(scopes, "")}
            schemes[PASSWORD] = {"type": "oauth2", "flows": {"password": flow}}
        return document

    # https://fastapi.tiangolo.com/how-to/extending-openapi/
    app.openapi = openapi  # type: ignore[method-assign]


def _add_password(document: dict[str, Any]) -> Iterator[str]:
    """Add the password flow to each operation that needs a token; yield the scopes that it names."""
    for path in document.get("paths", {}).values():
        for operation in path.values():
            security = operation.get("security", []) if isinstance(operation, dict) else []
            for requirement in [entry for entry in security if BEARER in entry]:
                security.append({PASSWORD: requirement[BEARER]})
                yield from requirement[BEARER]
