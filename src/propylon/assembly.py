"""Put the parts together: configuration → `Gateway`. The only module that knows all the others."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from propylon.config.compile import compile_table
from propylon.config.load import Loaded, load
from propylon.config.schema import GatewayConfig
from propylon.control.app import create_app
from propylon.control.health import HealthState
from propylon.edge.asgi import serve
from propylon.edge.state import STATE_KEY, EdgeState
from propylon.edge.trust import Trust
from propylon.proxy.forward import Forward
from propylon.proxy.pipeline import Pipeline
from propylon.telemetry.access_log import LEVELS, AccessLog, Format, as_json, as_text
from propylon.telemetry.logs import WriterHandler
from propylon.telemetry.metrics import Metrics
from propylon.telemetry.writer import LineWriter
from propylon.upstream.inprocess import InProcess
from propylon.upstream.outbox import Outbox
from propylon.upstream.pool import Address, Pool
from propylon.upstream.ticker import Ticker
from propylon.version import __version__

__all__ = ["Gateway", "Running"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

# Exchanges end within this of their deadline; a connection's silence may last a little longer.
_EXCHANGE_TICK = 0.025
_CONNECTION_TICK = 0.25
_STDOUT = 1  # its descriptor: what `sys.stdout` is may be somebody's capture


@dataclass(slots=True)
class Running:
    """What exists only while a loop runs: the core, its pools, its clocks, its log."""

    edge: EdgeState
    pools: dict[tuple[Address, int], Pool]
    writer: LineWriter
    handler: logging.Handler


class Gateway:
    """The façade: a configuration, and the ways to run it."""

    def __init__(self, loaded: Loaded) -> None:
        """Take a valid configuration; nothing is opened before the gateway starts."""
        self.loaded = loaded
        self._metrics = Metrics()
        self._health = HealthState(__version__)
        self._running: Running | None = None
        self.api: FastAPI = create_app(self._health, self._metrics.render)
        self.asgi = _App(self)

    @classmethod
    def from_file(cls, path: str | Path, environ: Mapping[str, str] | None = None) -> Gateway:
        """Read a configuration file; `environ` is the process's unless given.

        Raises ConfigError with every problem in it.
        """
        return cls(load(Path(path), os.environ if environ is None else environ))

    @property
    def config(self) -> GatewayConfig:
        """The configuration."""
        return self.loaded.config

    @asynccontextmanager
    async def lifespan(
        self,
        app: object = None,  # noqa: ARG002 — FastAPI(lifespan=gateway.lifespan) passes itself
    ) -> AsyncIterator[Mapping[str, object]]:
        """Run the background work; for apps that mount `asgi`, whose lifespans nobody calls."""
        running = self.start()
        try:
            yield {STATE_KEY: running.edge}
        finally:
            self._stop()

    def drain(self) -> None:
        """Turn unready; answers close their connections from now on."""
        self._health.draining = True
        if self._running is not None:
            self._running.edge.draining = True

    def reload(self) -> None:
        """Read the file again and swap the table; a file with errors changes nothing."""
        log.warning("reload: not read again, because this version cannot")

    def start(self) -> Running:
        """Return what runs; start it, if it does not run yet. Needs a running loop."""
        if self._running is not None:
            return self._running
        loop = asyncio.get_running_loop()
        render = self._render()
        writer = LineWriter(_STDOUT, loop)
        handler = self._log_to(writer, render)
        pools: dict[tuple[Address, int], Pool] = {}
        ticker = Ticker(loop, _EXCHANGE_TICK)
        outbox = Outbox(loop)

        def connect(address: Address, limit: int) -> Pool:
            pool = Pool(address, limit=limit, ticker=ticker, outbox=outbox, loop=loop)
            return pools.setdefault((address, limit), pool)

        # Ids, not secrets: the generator is seeded from the system's entropy, and fast.
        chance = random.Random()  # noqa: S311
        table = compile_table(self.config, connect, InProcess(self.api, loop), chance.random)
        self._health.services = table.services
        pipeline = Pipeline(
            table,
            Forward(loop.time, time.perf_counter),
            (AccessLog(writer, level=self.config.log.level, render=render), self._metrics),
            clock=time.perf_counter,
            chance=chance.getrandbits,
        )
        self._running = Running(self._edge(pipeline, outbox, loop), pools, writer, handler)
        # What exists by now lives as long as the process: looking through FastAPI's models for
        # garbage takes tens of milliseconds, and finds none.
        gc.collect()
        gc.freeze()
        return self._running

    def _render(self) -> Format:
        if self.config.log.format == "text":
            return partial(as_text, coloured=os.isatty(_STDOUT))
        return as_json

    def _log_to(self, writer: LineWriter, render: Format) -> logging.Handler:
        handler = WriterHandler(writer, render)
        logger = logging.getLogger("propylon")
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(LEVELS[self.config.log.level])
        return handler

    def _edge(
        self, pipeline: Pipeline, outbox: Outbox, loop: asyncio.AbstractEventLoop
    ) -> EdgeState:
        server = self.config.server
        trusted = [ip_network(network, strict=False) for network in server.trusted_proxies]
        return EdgeState(
            pipeline=pipeline,
            trust=Trust(trusted),
            ticker=Ticker(loop, _CONNECTION_TICK),
            outbox=outbox,
            loop=loop,
            max_header=server.max_header,
            header_timeout=server.timeouts.header,
            idle_timeout=server.timeouts.idle,
            body_timeout=server.timeouts.body,
        )

    def _stop(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        for pool in running.pools.values():
            pool.close()
        logging.getLogger("propylon").removeHandler(running.handler)
        running.writer.close()


class _App:
    """A gateway as an ASGI app: an object, because servers tell ASGI 2 from 3 by `__call__`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        kind = scope["type"]
        if kind == "http":
            await serve(self._gateway.start().edge, scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            # WebSockets are not built yet; closing before accepting is HTTP 403 to the client.
            await receive()
            await send({"type": "websocket.close", "code": 1011})

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        async with self._gateway.lifespan() as state:
            if "state" in scope:
                scope["state"].update(state)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
