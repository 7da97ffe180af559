"""Accept the connections of one worker on all of its listeners.

The loop accepts by itself where it can: on TCP. TLS is a protocol in front of the edge's (`edge.tls`). This module accepts by hand where connections begin
with a PROXY header, because the header has to be read before the handshake. It does so on Unix sockets as well, because
newer loops remove a socket's path as soon as they stop listening, and a reload stops for a moment.

The loop gets only duplicates of the listening sockets. So a stop can take the connections that still wait in the queue.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from weakref import WeakSet

from propylon.edge.state import EdgeState
from propylon.edge.tls import TlsProtocol
from propylon.loop.tasks import spawn
from propylon.process.certificates import Certificates
from propylon.process.preface import Preface
from propylon.process.sockets import BACKLOG, Listening

__all__ = ["Accepting", "Make"]

log = logging.getLogger(__name__)

Make = Callable[[str, str | None], asyncio.Protocol]
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
        self._joining: set[asyncio.Task[None]] = set()
        # Those with TLS. A handshake may still go on at the stop.
        self._shaking: WeakSet[TlsProtocol] = WeakSet()
        self._stopping = False

    async def start(self) -> None:
        """Accept connections on all listeners from now on."""
        for at, listening in enumerate(self._listeners):
            if _by_hand(listening):
                self._watch_all(listening)
            else:
                self._servers[at] = await self._serve(listening)

    async def _serve(self, listening: Listening) -> list[asyncio.Server]:
        make = partial(self._protocol, listening, None)
        servers: list[asyncio.Server] = []
        try:
            for sock in listening.sockets:
                server = await self._loop.create_server(make, sock=sock.dup(), backlog=BACKLOG)
                servers.append(server)
        except OSError:
            for server in servers:
                server.close()
            raise
        return servers

    def _protocol(self, listening: Listening, source: str | None) -> asyncio.Protocol:
        """Return the protocol of a connection: the edge's, behind TLS where the listener speaks it.

        Each connection gets the certificates that are in force when it comes.
        """
        wanted = listening.wanted
        inner = self._make(wanted.edge, source)
        if not wanted.tls or self._certificates is None:
            return inner
        timeout = self._edges[wanted.edge].header_timeout
        outer = TlsProtocol(self._certificates.context, inner, self._loop, timeout)
        self._shaking.add(outer)
        return outer

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
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _connected(
        self, listening: Listening, sock: socket.socket, source: str | None
    ) -> None:
        try:
            await self._loop.connect_accepted_socket(
                partial(self._protocol, listening, source), sock
            )
        except OSError as error:  # the client has left
            log.debug("no connection on %s: %s", listening, error)

    # The stop

    @property
    def busy(self) -> bool:
        """Whether a connection has been accepted that has not reached the edge yet."""
        return bool(self._prefaces or self._joining) or any(
            not one.connected and one.raw is not None for one in self._shaking
        )

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
        for one in self._shaking:
            if not one.connected:
                one.abort()


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
