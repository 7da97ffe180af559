"""Tell the gateway's own endpoints where an application has mounted the gateway.

`outer.mount("/gateway", gateway.asgi)`: the browser asks for /gateway/docs, and the page that it gets must load
/gateway/openapi.json. /openapi.json would be the outer application's.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from propylon.upstream.inprocess import CONTEXT

__all__ = ["Mounted"]


class Mounted:
    """ASGI middleware: put the outer application's prefix back in front of the path, as ASGI has it for a mount."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`, which builds its links from `root_path`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with the prefix that the server or the outer application gave."""
        context = (scope.get("state") or {}).get(CONTEXT)
        root = getattr(getattr(context, "downstream", None), "root_path", "")
        if root:
            raw = root.encode() + scope["raw_path"]
            scope = {**scope, "root_path": root, "path": root + scope["path"], "raw_path": raw}
        await self._app(scope, receive, send)
