"""Accept the connections of one worker on all of its listeners.

The loop accepts by itself where it can: on TCP, with TLS or without. This module accepts by hand where connections begin
with a PROXY header, because the header has to be read before the handshake. It does so on Unix sockets as well, because
newer loops remove a socket's path as soon as they stop listening, and a reload stops for a moment.

The loop gets only duplicates of the listening sockets. So a reload can open them again with other certificates, and a stop
can take the connections that still wait in the queue.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from propylon.edge.protocol import GatewayProtocol
from propylon.edge.state import EdgeState
from propylon.loop.tasks import spawn
from propylon.process.certificates import Certificates
from propylon.process.preface import Preface
from propylon.process.sockets import BACKLOG, Listening

__all__ = ["Accepting", "Make"]

log = logging.getLogger(__name__)

Make = Callable[[str, str | None], GatewayProtocol]
"""Makes the protocol of a connection, for a listener's edge and the client's address from a PROXY header."""

# Connections that are accepted before the loop runs other callbacks.
_AT_ONCE = 64
# Seconds without accepting when descriptors or memory have run out (asyncio: ACCEPT_RETRY_DELAY).
_RETRY = 1.0
_TURN = 0.02


class Accepting:
    """The listeners of one worker, from the start to the stop."""

    def __init__(
        self,
        listeners: Sequence[Listening],
        make: Make,
        edges: Mapping[str, EdgeState],
        certificates: Certificates | None,
    ) -> None:
        """Accept nothing yet. `edges` are those of the listeners, by their names."""
        self._listeners = listeners
        self._make = make
        self._edges = edges
        self._certificates = certificates
        self._loop = asyncio.get_running_loop()
        self._servers: dict[int, list[asyncio.Server]] = {}  # by the listener's place
        self._watched: list[socket.socket] = []
        self._prefaces: set[Preface] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Begin to accept."""
        for at, listening in enumerate(self._listeners):
            if _by_hand(listening):
                self._watch_all(listening)
            else:
                self._servers[at] = await self._serve(listening)
        if self._certificates is not None:
            self._certificates.on_renewal = self._renew

    async def _serve(self, listening: Listening) -> list[asyncio.Server]:
        make = partial(self._make, listening.wanted.edge, None)
        tls, timeout = self._tls(listening)
        servers: list[asyncio.Server] = []
        try:
            for sock in listening.sockets:
                server = await self._loop.create_server(
                    make, sock=sock.dup(), ssl=tls, ssl_handshake_timeout=timeout, backlog=BACKLOG
                )
                servers.append(server)
        except OSError:
            for server in servers:
                server.close()
            raise
        return servers

    def _tls(self, listening: Listening) -> tuple[ssl.SSLContext | None, float | None]:
        if not listening.wanted.tls or self._certificates is None:
            return None, None
        timeout = self._edges[listening.wanted.edge].header_timeout
        return self._certificates.context, timeout

    def _renew(self) -> None:
        spawn(self._serve_again())

    async def _serve_again(self) -> None:
        """Have new connections get the certificates that are in force now, and the time for a handshake."""
        for at, listening in enumerate(self._listeners):
            if at not in self._servers or not listening.wanted.tls or self._stopping:
                continue
            try:
                renewed = await self._serve(listening)
            except OSError as error:  # no descriptors, say
                log.warning(
                    "reload: the old certificate stays on %s: %s", listening, error.strerror
                )
                continue
            old, self._servers[at] = self._servers[at], renewed
            for server in old:
                server.close()

    # By hand

    def _watch_all(self, listening: Listening) -> None:
        for sock in listening.sockets:
            self._watched.append(duplicate := sock.dup())
            self._watch(listening, duplicate)

    def _watch(self, listening: Listening, sock: socket.socket) -> None:
        if not self._stopping:
            self._loop.add_reader(sock, self._accept, listening, sock)

    def _accept(self, listening: Listening, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("cannot accept on %s: %s", listening, error.strerror)
                self._loop.remove_reader(listener)
                self._loop.call_later(_RETRY, self._watch, listening, listener)
                return
            self._admit(listening, sock, address)

    def _admit(self, listening: Listening, sock: socket.socket, address: object) -> None:
        """Hand an accepted connection to the edge, after its PROXY header if it has to have one."""
        sock.setblocking(False)
        wanted = listening.wanted
        edge = self._edges[wanted.edge]
        peer = str(address[0]).partition("%")[0] if isinstance(address, tuple) else ""
        # An untrusted peer's header would be a request that begins with "PROXY": the parser refuses it.
        if not wanted.proxied or not edge.trust.trusts(peer):
            self._connect(listening, sock, None)
            return
        deadline = self._loop.time() + edge.header_timeout
        then = partial(self._after_preface, listening)
        self._prefaces.add(Preface(sock, peer, edge.ticker, deadline, then))

    def _after_preface(
        self,
        listening: Listening,
        preface: Preface,
        sock: socket.socket | None,
        source: str | None,
    ) -> None:
        self._prefaces.discard(preface)
        if sock is not None:
            self._connect(listening, sock, source)

    def _connect(self, listening: Listening, sock: socket.socket, source: str | None) -> None:
        task = spawn(self._connected(listening, sock, source))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _connected(
        self, listening: Listening, sock: socket.socket, source: str | None
    ) -> None:
        make = partial(self._make, listening.wanted.edge, source)
        tls, timeout = self._tls(listening)
        try:
            _, protocol = await self._loop.connect_accepted_socket(
                make, sock, ssl=tls, ssl_handshake_timeout=timeout
            )
            if self._stopping:
                protocol.shutdown()
        except OSError as error:  # the handshake has failed, or took too long; ssl.SSLError is one
            log.debug("no connection on %s: %s", listening, error)

    # The stop

    @property
    def busy(self) -> bool:
        """Whether a connection has been accepted that has not reached the edge yet."""
        return bool(self._prefaces or self._handshakes)

    async def stop(self) -> None:
        """Stop listening without resetting clients that have connected and were not accepted yet.

        The kernel resets what is in a listener's queue when it is closed. So the loop's duplicates are closed first, and
        the sockets themselves in the very moment in which they have nothing more to hand out.
        """
        self._stopping = True
        for server in [server for some in self._servers.values() for server in some]:
            server.close()
        for sock in self._watched:
            self._loop.remove_reader(sock)
            sock.close()
        await asyncio.sleep(_TURN)  # uvloop closes its own at the end of a turn
        for listening in self._listeners:
            for listener in listening.sockets:
                for sock, address in _accept_all(listener):
                    self._admit(listening, sock, address)
                listener.close()

    def cut(self) -> None:
        """Close what has not got as far as a request."""
        for preface in list(self._prefaces):
            preface.close()


def _by_hand(listening: Listening) -> bool:
    family = {sock.family for sock in listening.sockets}
    return listening.wanted.proxied or socket.AF_UNIX in family


def _accept_all(listener: socket.socket) -> Iterator[tuple[socket.socket, object]]:
    listener.setblocking(False)
    while True:
        try:
            yield listener.accept()
        except OSError:
            return  # the queue is empty
