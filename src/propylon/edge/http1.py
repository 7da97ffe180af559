"""Answer over a connection of our own: the `Downstream` of the fast path."""

from __future__ import annotations

from typing import Protocol

from propylon.edge.body import Body
from propylon.edge.turn import Turn
from propylon.proxy.exchange import Origin
from propylon.upstream.ports import Flow
from propylon.wire.framing import LAST_CHUNK, chunk
from propylon.wire.message import Request, Response

__all__ = ["Client", "FastTurn"]

_BODILESS = frozenset({204, 304})


class Client(Protocol):
    """The connection that a turn answers over."""

    congested: bool  # the client reads more slowly than we write
    last: bool  # the connection ends with the exchange in flight

    def send(self, data: bytes) -> None:
        """Write."""

    def cut(self, *, reset: bool) -> None:
        """Close at once."""

    def turn_over(self, turn: FastTurn) -> None:
        """Go on to the next request, or close."""


class FastTurn(Turn):
    """One exchange on a connection: its `Downstream`."""

    __slots__ = (
        "_chunked",
        "_client",
        "_flow",
        "_rest",
        "body",
        "bytes_out",
        "closes",
        "complete",
        "origin",
        "request",
        "started",
    )

    def __init__(self, client: Client, origin: Origin, request: Request | None) -> None:
        """Begin with nothing sent."""
        super().__init__()
        self.origin = origin
        self.body: Body | None = None
        self.started = False
        self.bytes_out = 0
        self.request = request
        self.complete = False  # the answer has been sent whole
        self.closes = request is None or not request.keep_alive
        self._client = client
        self._flow: Flow | None = None
        self._chunked = False
        self._rest = -1  # bytes that the announced length still demands

    # Downstream

    def respond(self, head: Response, block: bytes, body: bytes) -> None:
        """Send a whole answer in one write."""
        request = self.request
        if head.status in _BODILESS or (request is not None and request.method == "HEAD"):
            body = b""
        self.started = self.complete = True
        self.bytes_out = len(body)
        self._client.send(
            b"HTTP/1.1%b%b%b\r\n\r\n%b" % (head.reason, block, self._connection(), body)
        )

    def start(self, head: Response, block: bytes) -> None:
        """Send the head."""
        self.started = True
        self._rest = head.length
        framing = b""
        if head.length < 0:
            if self.request is not None and self.request.version == 0:
                self.closes = True  # close-delimited: HTTP/1.0 has nothing else
            else:
                self._chunked = True
                framing = b"\r\nTransfer-Encoding: chunked"
        connection = self._connection()
        self._client.send(b"HTTP/1.1%b%b%b%b\r\n\r\n" % (head.reason, block, framing, connection))

    def attach(self, flow: Flow) -> None:
        """Pause `flow` while the client reads slowly."""
        self._flow = flow
        if self._client.congested:
            flow.pause()

    def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        if data:
            self.bytes_out += len(data)
            self._client.send(chunk(data) if self._chunked else data)

    def finish(self, trailers: bytes = b"") -> None:  # noqa: ARG002 — dropped: RFC 9110, 6.5.1
        """End the body; an answer that is not as long as it said is cut instead."""
        self._flow = None
        if self._chunked:
            self._client.send(LAST_CHUNK)
        elif self._rest >= 0 and self._rest != self.bytes_out:
            self.abort()
            return
        self.complete = True

    def interim(self, head: Response) -> None:
        """Send a 1xx answer; HTTP/1.0 knows none (RFC 9110, 15.2)."""
        if not self.started and self.request is not None and self.request.version == 1:
            self._client.send(b"HTTP/1.1%b%b\r\n\r\n" % (head.reason, head.block))

    def abort(self) -> None:
        """Cut the connection, with a reset where a plain close would look like the end."""
        self.closes = True
        delimited_by_close = self._rest < 0 and not self._chunked and not self.complete
        self._client.cut(reset=delimited_by_close)

    def _connection(self) -> bytes:
        """Decide whether the connection stays, and say so."""
        body = self.body
        if self.closes or self._client.last or (body is not None and not body.complete):
            self.closes = True
            return b"\r\nConnection: close"
        if self.request is not None and self.request.version == 0:
            return b"\r\nConnection: keep-alive"
        return b""

    # Flow control, as the protocol hears of it

    def pause(self) -> None:
        """Have the upstream wait."""
        if self._flow is not None:
            self._flow.pause()

    def resume(self) -> None:
        """Let the upstream go on."""
        if self._flow is not None:
            self._flow.resume()

    # Turn

    def ended(self) -> None:
        """Make room for the next request."""
        self._client.turn_over(self)

    def crashed(self) -> None:
        """Leave the connection in a known state: closed."""
        self._client.cut(reset=True)
