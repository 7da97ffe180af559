"""Run one worker: uvicorn's loop and lifespan, our listeners, our signals and our way to stop.

uvicorn alone dies of SIGHUP, closes its listeners before readiness can turn, and ends on SIGTERM with the signal
instead of exit status 0. Here a stop has two steps. For `drain_delay` the worker is unready and still accepts. Then it
accepts nothing new, and exchanges in flight may finish for `drain`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn, cast

import uvicorn

from propylon.edge.asgi import Receive, Scope, Send
from propylon.edge.protocol import GatewayProtocol
from propylon.edge.state import LISTENERS_KEY, SOURCE_KEY, STATE_KEY
from propylon.loop.tasks import spawn
from propylon.process.accept import Accepting
from propylon.process.certificates import Certificates
from propylon.process.hangup import early_hangup, note_hangups
from propylon.process.sockets import Listening
from propylon.process.watch import Fingerprint, follow

__all__ = ["Hooks", "ServerOptions", "exit_quietly", "serve_sockets"]

log = logging.getLogger(__name__)

_POLL = 0.02
_BEAT = 1.0
# The sockets are closed within this part of `drain`, so that the other parts are left for the answers.
_SHARE_OF_DRAIN = 4


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How long a stop takes (seconds), and the certificates, if any."""

    drain: float
    drain_delay: float
    certificates: Certificates | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the server tells the gateway: to turn unready, to read its file again, and to open its log files anew."""

    drain: Callable[[], None]
    reload: Callable[[], None]
    reopen: Callable[[], None] = lambda: None
    # Looks at the files whose change is a reason to reload.
    look: Callable[[], Fingerprint] | None = None
    seen: Fingerprint = None  # what they were when they were read
    beat: Callable[[], None] | None = (
        None  # called every second: another's supervisor wants to know that the loop runs
    )


def exit_quietly() -> None:
    """Have SIGTERM and SIGINT end the process with 0, and remember SIGHUP, until a loop takes them over."""
    note_hangups()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 — signal's contract
    raise SystemExit(0)


def serve_sockets(
    app: Callable[[Scope, Receive, Send], object],
    listeners: Sequence[Listening],
    options: ServerOptions,
    hooks: Hooks,
) -> None:
    """Serve `app` on the listeners until SIGTERM or SIGINT has been obeyed.

    The app says by the lifespan state what is served on each.
    """
    config = uvicorn.Config(
        app,
        http=GatewayProtocol,
        ws="none",
        lifespan="on",
        loop="uvloop",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        log_config=None,
        # The gateway itself logs why it cannot start. uvicorn's traceback would follow, outside of the log.
        log_level="critical",
    )
    config.load()
    _Server(config, options, hooks, listeners).run(sockets=[])


async def _repeat(beat: Callable[[], None]) -> None:
    while True:
        beat()
        await asyncio.sleep(_BEAT)


class _Server(uvicorn.Server):
    """uvicorn's server with our signals and our way to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        options: ServerOptions,
        hooks: Hooks,
        listeners: Sequence[Listening] = (),
    ) -> None:
        super().__init__(config)
        self._listeners = listeners
        self._accepting: Accepting  # from the startup on
        self._options = options
        self._hooks = hooks
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals on the loop, and end without raising them again: a stop is a success."""
        loop = asyncio.get_running_loop()
        stops = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            stops.append(signal.SIGINT)  # else a supervisor hears it for us
        for number in stops:
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._hooks.reload)
        loop.add_signal_handler(signal.SIGUSR1, self._hooks.reopen)
        if early_hangup():
            loop.call_soon(self._hooks.reload)
        hooks = self._hooks
        tasks = []
        if hooks.look is not None:
            tasks.append(spawn(follow(hooks.look, hooks.reload, hooks.seen)))
        if hooks.beat is not None:
            tasks.append(spawn(_repeat(hooks.beat)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for number in (*stops, signal.SIGHUP, signal.SIGUSR1):
                loop.remove_signal_handler(number)
            # Neither has anything more to say than the stop.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def _on_stop(self) -> None:
        if self._stop.is_set():
            self._hurry.set()  # asked twice: now
        self._stop.set()
        self._hooks.drain()  # also ends the wait of a worker that has not accepted anything yet

    async def main_loop(self) -> None:
        """Wait for the signal to stop; then be unready for `drain_delay`, still accepting."""
        # What exists by now lives as long as the process: looking through FastAPI's models for garbage takes tens
        # of milliseconds, and finds none. Only here: in an application's process its objects are not ours to freeze.
        gc.collect()
        gc.freeze()
        await self._stop.wait()
        log.info("stopping: unready from now on")
        for connection in self.server_state.connections:
            cast("GatewayProtocol", connection).last = True
        await self._pause(self._options.drain_delay)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, which gets no sockets; then listen."""
        await super().startup(sockets=sockets)
        edges = self.lifespan.state[LISTENERS_KEY]
        certificates = self._options.certificates
        self._accepting = Accepting(self._listeners, self._protocol, edges, certificates)
        await self._accepting.start()

    async def shutdown(
        self, sockets: list[socket.socket] | None = None  # noqa: ARG002 — uvicorn's contract
    ) -> None:
        """Accept nothing new; let what is in flight finish, for as long as that may take."""
        accepting, connections = self._accepting, self.server_state.connections
        await accepting.stop()
        for edge in self.lifespan.state[LISTENERS_KEY].values():
            edge.sockets.spread = min(edge.sockets.spread, self._options.drain / _SHARE_OF_DRAIN)
        told: set[object] = set()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._options.drain
        # uvicorn's set of connections has no event to wait for.
        while (connections or accepting.busy) and loop.time() < end:
            # Those, too, whose handshake has ended meanwhile.
            for connection in [one for one in connections if one not in told]:
                told.add(connection)
                connection.shutdown()
            if self._hurry.is_set():
                break
            await asyncio.sleep(_POLL)
        if connections:
            log.warning("stopping: cutting %d connections that did not finish", len(connections))
        accepting.cut()
        for connection in list(connections):
            cast("GatewayProtocol", connection).cut(reset=True)
        await asyncio.sleep(0)
        await self.lifespan.shutdown()

    def _protocol(self, listener: str, source: str | None) -> GatewayProtocol:
        """Return the protocol of a connection to one of the listeners; `source` is as in `Make`."""
        edge = self.lifespan.state[LISTENERS_KEY][listener]
        state = {STATE_KEY: edge, SOURCE_KEY: source}
        return GatewayProtocol(self.config, self.server_state, state, asyncio.get_running_loop())

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return
