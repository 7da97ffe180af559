"""Build the FastAPI app that holds the gateway's own endpoints, and a team's.

FastAPI leaves two things to us: it refuses HEAD where it answers GET (RFC 9110, 9.3.2), and its document does not
offer the password flow beside a bearer token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from propylon.control.errors import enveloped
from propylon.control.identity import BEARER
from propylon.control.schemas import Envelope

__all__ = ["HeadAsGet", "create_app", "offer_password"]

PASSWORD = "password"  # noqa: S105 — the scheme's name in the documentation


def create_app(version: str, routers: Iterable[APIRouter]) -> FastAPI:
    """Return the app; its errors have the gateway's envelope."""
    app = FastAPI(
        title="Propylon",
        summary="The gateway's own API.",
        version=version,
        responses={"default": {"model": Envelope, "description": "An error."}},
    )
    for router in routers:
        app.include_router(router)
    enveloped(app)
    app.add_middleware(HeadAsGet)
    return app


class HeadAsGet:
    """Middleware of a FastAPI app, whose GET endpoints would refuse HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask what is meant for HEAD itself; otherwise what answers GET, less its body."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or _is_there(scope):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_head)


def _is_there(scope: Scope) -> bool:
    """Whether something on the app answers HEAD by itself."""
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].routes)


def offer_password(app: FastAPI, token_url: str) -> None:
    """Describe the password flow, beside a token, as a way into every operation that needs one."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        schemes = document.get("components", {}).get("securitySchemes", {})
        if BEARER in schemes and PASSWORD not in schemes:
            needed = list(_alternatives(document))
            flow = {"tokenUrl": token_url, "scopes": dict.fromkeys(sorted(set(needed)), "")}
            schemes[PASSWORD] = {"type": "oauth2", "flows": {"password": flow}}
        return document

    # https://fastapi.tiangolo.com/how-to/extending-openapi/
    app.openapi = openapi  # type: ignore[method-assign]


def _alternatives(document: dict[str, Any]) -> Iterator[str]:
    """Add the alternative wherever a token is needed; yield the scopes."""
    for path in document.get("paths", {}).values():
        for operation in path.values():
            asked = operation.get("security", []) if isinstance(operation, dict) else []
            for one in [one for one in asked if BEARER in one]:
                asked.append({PASSWORD: one[BEARER]})
                yield from one[BEARER]
