"""Answer one request over a client's HTTP/1 connection: the `Downstream` of the fast edge."""

from __future__ import annotations

from typing import Protocol, cast

from propylon.edge.body import Body
from propylon.edge.turn import Turn
from propylon.edge.websocket import Opened
from propylon.proxy.exchange import Exchange, Origin
from propylon.upstream.handshakes import Switched
from propylon.upstream.ports import Answer, Flow
from propylon.wire.framing import HEAD_END, LAST_CHUNK, chunk
from propylon.wire.headers import tokens
from propylon.wire.message import NO_BODY, Request, Response
from propylon.wire.proxy_header import Ends
from propylon.wire.trailers import permitted

__all__ = ["ClientConnection", "Http1Turn"]

_BODILESS = frozenset({204, 304})  # RFC 9112, 6.3: their answers end with the head


class ClientConnection(Protocol):
    """The connection that a turn answers over (`GatewayProtocol`)."""

    congested: bool  # the client reads more slowly than the gateway writes
    last: bool  # the connection closes after the exchange in flight

    @property
    def ends(self) -> Ends:
        """The two ends of the connection."""

    def send(self, data: bytes) -> None:
        """Write `data` to the client, unless the client has left."""

    def cut(self, *, reset: bool) -> None:
        """Close at once, with a TCP reset if `reset` is true."""

    def exchange_ended(self, turn: Http1Turn) -> None:
        """Go on to the next request, or close."""

    def switch(self, exchange: Exchange, answer: Switched, block: bytes) -> Opened:
        """Leave the connection to another protocol. Raises ClientGone, ConnectFailed."""


class _Left:
    """Stands for the connection when another protocol has it: a turn must not keep the old protocol in memory."""

    congested = False
    last = True
    ends = Ends("", 0, "", 0)

    def send(self, data: bytes) -> None:
        """Send nothing: the bytes would stand among those of the other protocol."""

    def cut(self, *, reset: bool) -> None:
        """Do nothing: who waits for the tunnel's end cuts it by giving up."""

    def exchange_ended(self, turn: Http1Turn) -> None:
        """Do nothing: the tunnel has closed the connection."""

    def switch(
        self,
        exchange: Exchange,  # noqa: ARG002 — the port's contract
        answer: Switched,  # noqa: ARG002 — as above
        block: bytes,  # noqa: ARG002 — as above
    ) -> Opened:
        """Refuse: it has switched already. Raises RuntimeError."""
        raise RuntimeError


_LEFT = _Left()


class Http1Turn(Turn):
    """One exchange on an HTTP/1 connection, and its `Downstream`."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_content_length",
        "_flow",
        "body",
        "bytes_out",
        "closes",
        "complete",
        "origin",
        "request",
        "started",
    )

    def __init__(
        self, connection: ClientConnection, origin: Origin, request: Request | None
    ) -> None:
        """Answer `request` over `connection`; `request` is None if its head could not be read."""
        super().__init__()
        self.origin = origin
        self.body: Body | None = None
        self.started = False
        self.bytes_out = 0
        self.request = request
        self.complete = False
        self.closes = request is None or not request.keep_alive
        self._connection = connection
        self._flow: Flow | None = None  # what streams the answer's body
        self._chunked = False
        self._content_length = -1  # of the answer that is being streamed; negative: not announced

    # Downstream

    @property
    def ends(self) -> Ends:
        """The two ends of the client's connection."""
        return self._connection.ends

    def respond(self, head: Response, block: bytes, body: bytes) -> None:
        """Send a whole answer in one write, without its body where the client expects none."""
        request = self.request
        if head.status in _BODILESS or (request is not None and request.method == "HEAD"):
            body = b""
        self.started = self.complete = True
        self.bytes_out = len(body)
        self._connection.send(
            # Joined, and not formatted with `%`, which takes twice as long.
            b"".join((b"HTTP/1.1", head.reason, block, self._connection_line(), HEAD_END, body))
        )

    def start(self, head: Response, block: bytes) -> None:
        """Send the head, and choose how the body is framed: by its length, in chunks, or by the close."""
        self.started = True
        self._content_length = head.length
        framing = b""
        if head.length < 0:
            if self.request is not None and self.request.version == 0:
                self.closes = True  # HTTP/1.0 has no chunks: only the close ends this body
            else:
                self._chunked = True
                framing = b"\r\nTransfer-Encoding: chunked"
        connection = self._connection_line()
        self._connection.send(
            b"HTTP/1.1%b%b%b%b\r\n\r\n" % (head.reason, block, framing, connection)
        )

    def attach(self, flow: Flow) -> None:
        """Pause `flow` while the client reads slowly."""
        self._flow = flow
        if self._connection.congested:
            flow.pause()

    def write(self, data: bytes) -> None:
        """Send a piece of the body, as one chunk if the body is chunked."""
        if data:
            self.bytes_out += len(data)
            self._connection.send(chunk(data) if self._chunked else data)

    def finish(self, trailers: bytes = b"") -> None:
        """End the body; cut the connection if the answer is not as long as its Content-Length.

        Trailers pass to a client that says that it keeps them (`TE: trailers`; RFC 9110, 6.5.1 and 10.1.4).
        """
        self._flow = None
        if self._chunked:
            passing = permitted(trailers) if trailers and self._keeps_trailers() else b""
            self._connection.send(b"0%b\r\n\r\n" % passing if passing else LAST_CHUNK)
        elif self._content_length >= 0 and self._content_length != self.bytes_out:
            self.abort()
            return
        self.complete = True

    def _keeps_trailers(self) -> bool:
        request = self.request
        return request is not None and b"trailers" in tokens(request.special.get(b"te", ()))

    def interim(self, head: Response) -> None:
        """Send a 1xx answer, but not to an HTTP/1.0 client, which knows none (RFC 9110, 15.2)."""
        if not self.started and self.request is not None and self.request.version == 1:
            self._connection.send(b"HTTP/1.1%b%b\r\n\r\n" % (head.reason, head.block))

    async def upgrade(self, exchange: Exchange, answer: Answer, block: bytes) -> None:
        """Send the 101, and wait for the end of the tunnel."""
        opened = self._connection.switch(exchange, cast("Switched", answer), block)
        self.started = self.complete = True
        self._connection = _LEFT
        splice = opened.splice
        self.body = volume = Body(NO_BODY, opened, None)
        volume.complete = True  # it only counts
        try:
            exchange.close_code = await splice.ended
        finally:
            opened.end()
            volume.received, self.bytes_out = splice.client.received, splice.upstream.received

    def abort(self) -> None:
        """Cut the connection, by a reset if a plain close would look like the end of the answer.

        The client notices a missing last chunk or a short Content-Length. A body that ends with the close looks whole.
        """
        self.closes = True
        delimited_by_close = self._content_length < 0 and not self._chunked and not self.complete
        self._connection.cut(reset=delimited_by_close)

    def _connection_line(self) -> bytes:
        """Decide whether the connection is kept alive, and return the header line that says so (RFC 9112, 9.3).

        An answer that comes before the request's body has ended closes the connection: otherwise the rest of the body
        would be read as the next request.
        """
        body = self.body
        if self.closes or self._connection.last or (body is not None and not body.complete):
            self.closes = True
            return b"\r\nConnection: close"
        if self.request is not None and self.request.version == 0:
            return b"\r\nConnection: keep-alive"
        return b""

    # Flow control: the connection tells the turn how fast the client reads

    def pause(self) -> None:
        """Stop the upstream: the client reads slowly."""
        if self._flow is not None:
            self._flow.pause()

    def resume(self) -> None:
        """Let the upstream go on: the client has read enough."""
        if self._flow is not None:
            self._flow.resume()

    # Turn

    def ended(self) -> None:
        """Let the connection serve the next request."""
        self._connection.exchange_ended(self)

    def crashed(self) -> None:
        """Cut the connection: how much of the answer was sent is unknown."""
        self._connection.cut(reset=True)
