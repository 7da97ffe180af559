"""Serve a gateway as an ASGI app: requests, sockets, and the lifespan.

A mounted app's lifespan does not run by itself. Without it, the gateway starts with the first request.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol

from propylon.assembly.running import Running
from propylon.config.reading.problems import ConfigError
from propylon.edge.asgi import Receive, Scope, Send, serve
from propylon.edge.asgi_websocket import serve_socket

__all__ = ["App"]


class Startable(Protocol):
    """A gateway, as its app uses it."""

    def start(self) -> Running:
        """Return what runs; start it, if it does not run yet. Raises ConfigError."""

    async def prepare(self) -> None:
        """Wait until the gateway can answer; at once where it can."""

    def lifespan(self) -> AbstractAsyncContextManager[Mapping[str, Any]]:
        """Run the gateway for as long as the context lasts. Raises ConfigError."""


class App:
    """A gateway as an ASGI app: an object, because servers tell ASGI 2 from 3 by `__call__`."""

    def __init__(self, gateway: Startable) -> None:
        """Serve `gateway`, which starts with the first request where the server runs no lifespan."""
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        kind = scope["type"]
        if kind == "http":
            running = self._gateway.start()
            await self._gateway.prepare()  # nothing to wait for where the lifespan ran
            await serve(running.edge, scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            running = self._gateway.start()
            await self._gateway.prepare()
            await serve_socket(running.edge, scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                state = await stack.enter_async_context(self._gateway.lifespan())
            except ConfigError as error:
                # Without this message uvicorn would take the app for one without a lifespan, and serve all the same.
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
            if "state" in scope:
                scope["state"].update(state)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
