"""Tell the gateway's own endpoints where an application has mounted the gateway.

`outer.mount("/gateway", gateway.asgi)`: the browser asks for /gateway/docs, and the page that it gets must load
/gateway/openapi.json. /openapi.json would be the outer application's.
"""

from __future__ import annotations

from urllib.parse import unquote

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from propylon.control.admin import exchange_of

__all__ = ["Mounted"]


class Mounted:
    """ASGI middleware: put the outer application's prefix back in front of the path, as ASGI has it for a mount."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`, which builds its links from `root_path`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with the prefix that the server or the outer application gave."""
        exchange = exchange_of(HTTPConnection(scope))
        quoted = b"" if exchange is None else exchange.downstream.origin.root
        if quoted:
            root, raw = unquote(quoted), quoted + scope["raw_path"]
            scope = {**scope, "root_path": root, "path": root + scope["path"], "raw_path": raw}
        await self._app(scope, receive, send)
