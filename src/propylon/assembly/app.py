"""Serve a gateway as an ASGI app: requests, WebSockets and the lifespan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol

from propylon.assembly.running import Running
from propylon.config.reading.problems import ConfigError
from propylon.edge.asgi import serve
from propylon.edge.asgi_websocket import serve_socket

__all__ = ["App"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Served(Protocol):
    """What the app needs of the gateway."""

    def start(self) -> Running:
        """Return what runs; start it, if it does not run yet."""

    async def prepare(self) -> None:
        """Wait until the first request may be served."""

    def lifespan(self) -> AbstractAsyncContextManager[Mapping[str, object]]:
        """Run the background work. Raises ConfigError."""

    def own_interpreter(self) -> None:
        """Say that nothing else runs in the interpreter."""


class App:
    """A gateway as an ASGI app: an object, because servers tell ASGI 2 from 3 by `__call__`.

    `stands_alone`: a server that runs the lifespan of this app runs nothing else in its interpreter. It is so for
    `propylon.main:app`. The collector is then the gateway's between start and stop, as under `propylon run`.
    """

    def __init__(self, gateway: Served) -> None:
        self._gateway = gateway
        self.stands_alone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket, or run the lifespan (ASGI 3)."""
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
        if self.stands_alone:
            self._gateway.own_interpreter()
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
