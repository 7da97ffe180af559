"""Carry what client and upstream have agreed on, on the fast edge: the protocol class that follows `GatewayProtocol`.

`GatewayProtocol` leaves its connection to a `ClientEnd` by `set_protocol`, and is freed. uvicorn's contract (membership in
`server_state.connections`, `shutdown`) and the server's own (`last`, `cut`) go over with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from propylon.edge.open_sockets import OpenSocket, OpenSockets
from propylon.edge.splice import End, FrameEnd, FrameSplice, Splice
from propylon.edge.state import EdgeState
from propylon.errors import InternalError
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import SocketRules
from propylon.upstream.handshakes import Switched
from propylon.wire.frames import FrameLimits, Inspect
from propylon.wire.offer import Handshake

__all__ = ["Opened", "inspector", "open_tunnel", "switching_head"]


class _ClientContract:
    """What uvicorn and our server ask of a connection."""

    __slots__ = ()

    socket: OpenSocket | None
    splice: Splice | None
    sockets: OpenSockets

    def shutdown(self) -> None:
        """Close in the stop of the process, a short while later."""
        if self.socket is not None:
            self.sockets.say_goodbye(self.socket)

    def cut(self, *, reset: bool) -> None:  # noqa: ARG002 — the server's contract
        """Close at once. A socket that ends without a close frame is seen to be cut."""
        if self.splice is not None:
            self.splice.cut()


class ClientEnd(_ClientContract, FrameEnd):
    """The client's side of a WebSocket."""

    __slots__ = ("last", "socket", "sockets")

    def __init__(self, sockets: OpenSockets, inspect: Inspect | None) -> None:
        """`inspect` sees the heads of the client's frames."""
        super().__init__(inspect)
        self.last = False
        self.sockets = sockets
        self.socket: OpenSocket | None = None


class RawClientEnd(_ClientContract, End):
    """The client's side of another tunnel."""

    __slots__ = ("last", "socket", "sockets")

    def __init__(self, sockets: OpenSockets) -> None:
        """Begin without a socket."""
        super().__init__()
        self.last = False
        self.sockets = sockets
        self.socket: OpenSocket | None = None


class Opened:
    """A tunnel that has begun: `splice.ended` is set when it is over."""

    __slots__ = ("_answer", "_connections", "client", "leave", "splice")

    def __init__(
        self, edge: EdgeState, exchange: Exchange, answer: Switched, connections: set[Any]
    ) -> None:
        """Make the two ends for the protocol that was agreed on. `connections` is uvicorn's set of all of them."""
        handshake, rules = agreed(exchange)
        self._answer = answer
        self._connections = connections
        self.leave: Callable[[], None] | None = None  # counts the client's connection no more
        self.client: ClientEnd | RawClientEnd
        self.splice: Splice
        if handshake.is_websocket:
            self.client = ClientEnd(edge.sockets, inspector(rules, edge.loop))
            self.splice = FrameSplice(
                self.client, FrameEnd(), edge.loop, self._lost, edge.sockets.key
            )
        else:
            self.client = RawClientEnd(edge.sockets)
            self.splice = Splice(self.client, End(), edge.loop, self._lost)

    def take_over(self, transport: asyncio.Transport) -> None:
        """Take both transports over. Raises ConnectFailed if the upstream's is lost."""
        upstream = self._answer.take(self.splice.upstream)
        transport.set_protocol(self.client)
        self._connections.add(self.client)
        self.splice.join(transport, upstream)

    def watch(self, edge: EdgeState, exchange: Exchange) -> None:
        """Have it end in time; this may close it at once, so the client has its 101 by then."""
        self.client.socket = edge.sockets.open(self.splice, exchange)

    def end(self) -> None:
        """Watch the socket no more: both its connections have ended. A stop waits for that, and for its record."""
        self._connections.discard(self.client)
        if self.client.socket is not None:
            self.client.sockets.end(self.client.socket)
            self.client.socket = None
        leave, self.leave = self.leave, None
        if leave is not None:
            leave()

    def pause(self) -> None:
        """Do nothing: the two ends pause each other."""

    def resume(self) -> None:
        """Do nothing: the two ends resume each other."""

    def _lost(self, end: End) -> None:
        if end is not self.client:
            self._answer.released()


def open_tunnel(
    edge: EdgeState,
    transport: asyncio.Transport,
    exchange: Exchange,
    answer: Switched,
    block: bytes,
    early: bytes,
    connections: set[Any],
) -> Opened:
    """Send the client its 101, and pass on what comes. `early` are the bytes that the client sent behind its handshake.

    Raises ConnectFailed.
    """
    opened = Opened(edge, exchange, answer, connections)
    opened.take_over(transport)
    transport.write(switching_head(exchange, answer, block))
    opened.watch(edge, exchange)
    if answer.rest:
        opened.splice.upstream.data_received(answer.rest)
    if early:
        opened.client.data_received(early)
    return opened


def switching_head(exchange: Exchange, answer: Switched, block: bytes) -> bytes:
    """Return the 101 for the client: the upstream's, with the lines that are for this hop."""
    handshake, _ = agreed(exchange)
    if handshake.chosen:  # the token was the only subprotocol, and the upstream has not seen it
        block += b"\r\nSec-WebSocket-Protocol: " + handshake.chosen
    return b"HTTP/1.1%b%b%b\r\n\r\n" % (answer.head.reason, block, handshake.block)


def agreed(exchange: Exchange) -> tuple[Handshake, SocketRules]:
    """Return the handshake of an exchange, and the rules of its route."""
    request, route = exchange.request, exchange.route
    if request is None or request.handshake is None or route is None or route.sockets is None:
        msg = "a tunnel without a handshake"
        raise InternalError(msg)
    return request.handshake, route.sockets


def inspector(rules: SocketRules, loop: asyncio.AbstractEventLoop) -> Inspect | None:
    """Return what looks at the heads of a client's frames; None where no rule asks for it."""
    if rules.max_message is None and rules.max_rate is None:
        return None
    return FrameLimits(rules.max_message, rules.max_rate, loop.time)
