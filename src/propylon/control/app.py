"""Build the FastAPI app that holds the gateway's own endpoints and a team's.

FastAPI falls short in two points, which this module fills. FastAPI refuses HEAD where it answers GET, against
RFC 9110, 9.3.2. And its document and pages are replaced by those of `api_docs`: they know the routes and the services.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from propylon.control.errors import install_error_handlers
from propylon.control.mounted import Mounted
from propylon.control.schemas import Envelope
from propylon.control.traced import Traced

__all__ = ["HeadAsGet", "create_app"]


def create_app(version: str, routers: Iterable[APIRouter]) -> FastAPI:
    """Return the app with these routers. Its errors have the gateway's envelope."""
    app = FastAPI(
        title="Propylon",
        summary="The gateway's own endpoints, and those of the services behind it.",
        version=version,
        responses={"default": {"model": Envelope, "description": "An error."}},
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    for router in routers:
        app.include_router(router)
    install_error_handlers(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Traced)
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
