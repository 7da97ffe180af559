"""Run one worker: uvicorn's sockets, TLS and loop, our signals and our way to stop.

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
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import NoReturn, cast

import uvicorn

from propylon.edge.asgi import Receive, Scope, Send
from propylon.edge.protocol import GatewayProtocol
from propylon.edge.state import LISTENERS_KEY, STATE_KEY
from propylon.loop.tasks import spawn
from propylon.process.hangup import early_hangup, note_hangups
from propylon.process.watch import Fingerprint, follow

__all__ = [
    "CannotListen",
    "Hooks",
    "Others",
    "ServerOptions",
    "exit_quietly",
    "listen",
    "serve_sockets",
    "tls_context",
]

log = logging.getLogger(__name__)

# Linux cuts it to net.core.somaxconn (4096); uvicorn's own default is 2048.
_BACKLOG = 2048
_PUBLIC = ""  # the name of the listener at server.host and server.port

Others = Mapping[str, list[socket.socket]]
NO_OTHERS: Others = MappingProxyType({})
_POLL = 0.02
# The sockets are closed within this part of `drain`, so that the other parts are left for the answers.
_SHARE_OF_DRAIN = 4


class CannotListen(Exception):
    """The address or the certificate cannot be used; the message is one clear sentence."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How long a stop takes (seconds), and the certificate, if any."""

    drain: float
    drain_delay: float
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the server tells the gateway: to turn unready, and to read its file again."""

    drain: Callable[[], None]
    reload: Callable[[], None]
    watched: Path | None = None  # a file whose change is a reason to reload
    seen: Fingerprint = None  # what it was when it was read


def listen(host: str, port: int) -> list[socket.socket]:
    """Bind every address of `host`. Raises CannotListen."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        msg = f'cannot listen on "{host}": the host is not known'
        raise CannotListen(msg) from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sockets.append(sock := socket.socket(family, kind, protocol))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
    except (OSError, OverflowError) as error:
        for sock in sockets:
            sock.close()
        msg = f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}"
        raise CannotListen(msg) from error
    return sockets


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return the context for a certificate and its key. Raises CannotListen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        msg = f"the certificate {certificate} and the key {key} do not fit: {error.reason}"
        raise CannotListen(msg) from error
    except OSError as error:
        msg = f"cannot read {certificate} or {key}: {error.strerror}"
        raise CannotListen(msg) from error
    return context


def _no_password() -> str:
    """Answer for a key that is encrypted: OpenSSL would ask the terminal, and wait for ever."""
    return ""


def exit_quietly() -> None:
    """Have SIGTERM and SIGINT end the process with 0, and remember SIGHUP, until a loop takes them over."""
    note_hangups()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 — signal's contract
    raise SystemExit(0)


def serve_sockets(
    app: Callable[[Scope, Receive, Send], object],
    sockets: list[socket.socket],
    options: ServerOptions,
    hooks: Hooks,
    others: Others = NO_OTHERS,
) -> None:
    """Serve `app` on the sockets until SIGTERM or SIGINT has been obeyed.

    `others` are the sockets of the other listeners, by their names: the app says by the lifespan state what is served
    there.
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
        log_level="error",
    )
    config.load()
    config.ssl = options.tls
    _Server(config, options, hooks, others).run(sockets=sockets)


class _Server(uvicorn.Server):
    """uvicorn's server with our signals and our way to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        options: ServerOptions,
        hooks: Hooks,
        others: Others = NO_OTHERS,
    ) -> None:
        super().__init__(config)
        self._others = others
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
        if early_hangup():
            loop.call_soon(self._hooks.reload)
        hooks = self._hooks
        watching = (
            None
            if hooks.watched is None
            else spawn(follow(hooks.watched, hooks.reload, hooks.seen))
        )
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
            for number in (*stops, signal.SIGHUP):
                loop.remove_signal_handler(number)
            signal.signal(
                signal.SIGHUP, signal.SIG_IGN
            )  # a reload has no more to say than the stop

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
        """Start as uvicorn does; then listen on the other listeners, too."""
        await super().startup(sockets=sockets)
        loop = asyncio.get_running_loop()
        for listener, some in self._others.items():
            for sock in some:
                # uvicorn closes it with its own.
                self.servers.append(
                    await loop.create_server(
                        partial(self._protocol, listener),
                        sock=sock,
                        ssl=self.config.ssl,
                        backlog=_BACKLOG,
                    )
                )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing new; let what is in flight finish, for as long as that may take."""
        others = [(sock, name) for name, some in self._others.items() for sock in some]
        await self._empty_queue([*((sock, _PUBLIC) for sock in sockets or []), *others])
        connections = self.server_state.connections
        for edge in self.lifespan.state[LISTENERS_KEY].values():
            edge.sockets.spread = min(edge.sockets.spread, self._options.drain / _SHARE_OF_DRAIN)
        for connection in list(connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._options.drain
        # uvicorn's set of connections has no event to wait for.
        while connections and loop.time() < end and not self._hurry.is_set():  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        if connections:
            log.warning("stopping: cutting %d connections that did not finish", len(connections))
        for connection in list(connections):
            cast("GatewayProtocol", connection).cut(reset=True)
        await asyncio.sleep(0)
        await self.lifespan.shutdown()

    async def _empty_queue(self, sockets: list[tuple[socket.socket, str]]) -> None:
        """Stop listening without resetting who has connected but was not yet accepted.

        The kernel resets what is in a listener's queue when it is closed. So a duplicate outlives the
        loop's own, and is closed in the very moment in which it has nothing more to hand out.
        """
        duplicates = [(sock.dup(), name) for sock, name in sockets]
        for server in self.servers:
            server.close()
        for sock, _ in sockets:
            sock.close()
        await asyncio.sleep(_POLL)  # uvloop closes its own at the end of a turn
        waiting: list[tuple[socket.socket, str]] = []
        for duplicate, name in duplicates:
            waiting.extend((sock, name) for sock in _accept_all(duplicate))
            duplicate.close()
        loop = asyncio.get_running_loop()
        for sock, name in waiting:
            make = partial(self._protocol, name)
            await loop.connect_accepted_socket(make, sock, ssl=self.config.ssl)

    def _protocol(self, listener: str) -> GatewayProtocol:
        """Return the protocol of a connection to one of the listeners."""
        state = {STATE_KEY: self.lifespan.state[LISTENERS_KEY][listener]}
        return GatewayProtocol(self.config, self.server_state, state, asyncio.get_running_loop())

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return


def _accept_all(listener: socket.socket) -> Iterator[socket.socket]:
    listener.setblocking(False)
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # the queue is empty
        sock.setblocking(False)
        yield sock
