"""Answer HEAD wherever GET is answered (RFC 9110, 9.3.2): the same head, and no body."""

from __future__ import annotations

from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HeadAsGet"]


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
