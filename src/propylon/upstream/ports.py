"""Define what goes to an upstream (`Outgoing`), what comes back (`Answer`), and the ports between the two sockets.

Strategy. Bodies are pushed, never pulled: a chunk travels from one socket to the other in one call, without a task, a
queue or a future. The receiver that cannot take more calls `pause` on the source of the chunks (back-pressure), as
transports of asyncio do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from propylon.loop.signal import Signal
from propylon.loop.ticker import NEVER
from propylon.wire.framing import announced
from propylon.wire.message import NO_BODY, Response
from propylon.wire.offer import Handshake

__all__ = [
    "NEVER",
    "Answer",
    "BodySink",
    "Flow",
    "Outgoing",
    "Reachable",
    "RequestBody",
    "Sink",
    "Timeouts",
    "Upstream",
]


class Flow(Protocol):
    """The source of a body's chunks, which can be paused (back-pressure)."""

    def pause(self) -> None:
        """Stop pushing chunks; a few that were read already may still come."""

    def resume(self) -> None:
        """Push chunks again, after `pause`."""


# The calls of a sink, in order: any number of `interim`, then any number of `write`, then `finish`
# or nothing. A body that breaks off is told by the signal of `Answer.pipe`, because a sink that
# took an error for an end would make a cut answer look whole.


class Sink(Protocol):
    """The receiver of an answer: of its 1xx answers and of its body."""

    def write(self, data: bytes) -> None:
        """Take the next piece of the body, without the chunked coding; an empty piece means nothing."""

    def finish(self, trailers: bytes = b"") -> None:
        """Take the end of the body, and the trailers behind it as a block; not called for a body that breaks off."""

    def interim(self, head: Response) -> None:
        """Take a 1xx answer (RFC 9110, 15.2); the final answer, or another 1xx, follows."""


class RequestBody(Flow, Protocol):
    """The body of a request, while it arrives from the client."""

    # A body of unknown length goes out in the chunked coding, whatever it came in (RFC 9112, 7.1).
    length: int  # bytes, or CHUNKED
    complete: bool  # all of it has arrived
    started: bool  # `pipe` was called: the client was told to go on (100), if it waited for that

    def pipe(self, sink: BodySink) -> None:
        """Push what has arrived, from the first byte on, and then what arrives, to `sink`.

        May be called again for another attempt while `replayable` is true. Raises PayloadTooLarge.
        """

    def unpipe(self) -> None:
        """Stop pushing, because the attempt is over."""

    @property
    def replayable(self) -> bool:
        """Whether the body is still held from its first byte on, so that another attempt can be made."""


class BodySink(Protocol):
    """The receiver of a request's body: an upstream."""

    def body_data(self, data: bytes) -> None:
        """Take the next piece of the body, without the chunked coding."""

    def body_end(self, trailers: bytes = b"") -> None:
        """Take the end of the body, and the trailers behind it as a block."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the gateway waits for an upstream, in seconds.

    `connect` is for one connection, the name lookup included; `first_byte` for the head of the answer, from the end of
    the request; `idle` for silence in a body, `stream` for silence in an event stream. `total` runs from the end of the request to the head of the final answer,
    retries included. `max_duration`, if set, bounds one attempt with its body.
    """

    # Envoy: 5 s to connect, 15 s for a route (`total`), no limit for a body. nginx: 60 s each. An
    # idle timeout does not cut long uploads and downloads that make progress, which a limit for the
    # whole exchange does.

    connect: float = 5.0
    first_byte: float = 30.0
    idle: float = 30.0
    total: float = 60.0
    max_duration: float = NEVER
    # A server sends an event when there is one. WHATWG's HTML recommends a comment each 15 s, which few servers send;
    # five minutes are Envoy's `stream_idle_timeout`.
    stream: float = field(default=300.0, compare=False)


class Outgoing:
    """A request to an upstream, complete, with the limits that the upstream's adapter has to keep.

    `line` is the request line; `block` the header block, Host included. How the body is framed (`length`: bytes,
    NO_BODY or CHUNKED) is written by the connection: only it knows whether it will be used again. `deadline` is a time
    of the loop's clock for the head of the final answer; it is NEVER while the client still sends the body. `context` is
    for an ASGI app in this process, which may know who is asking; it is never sent. `closes`: the request goes out on a
    connection of its own, which says `Connection: close` and is not used again. `hidden`: the headers, in lower case, that
    are removed from 1xx answers. `header` is the header of the PROXY protocol with which the request's connection must have
    begun, where the instance asks for that; if empty, it is the gateway itself who asks. `handshake` is the offer
    of another protocol, which an upstream may take up with a 101. `line_behind` makes the line for a base path, where
    path or query change by the values of the request.
    """

    __slots__ = (
        "block",
        "body",
        "closes",
        "context",
        "deadline",
        "handshake",
        "header",
        "hidden",
        "length",
        "line",
        "line_behind",
        "method",
        "timeouts",
    )

    def __init__(
        self,
        method: str,
        line: bytes,
        block: bytes,
        body: RequestBody | None,
        timeouts: Timeouts,
        deadline: float,
        context: object = None,
        length: int = NO_BODY,
        handshake: Handshake | None = None,
        *,
        closes: bool = False,
    ) -> None:
        """Take the parts; `block` and `line` may be replaced for each attempt, and `hidden` and `header` may be set."""
        self.method = method
        self.line = line
        self.block = block
        self.body = body
        self.timeouts = timeouts
        self.deadline = deadline
        self.context = context
        self.length = length
        self.handshake = handshake
        self.closes = closes
        self.header = b""
        self.hidden: tuple[bytes, ...] = ()
        self.line_behind: Callable[[bytes], bytes] | None = None

    def framing(self) -> bytes:
        """Return the header lines that the connection puts behind the block: of the body, and of the connection."""
        # RFC 9112, 9.6: an upstream that obeys `close` takes nothing that stands behind this request for another one.
        return announced(self.length) + (b"\r\nConnection: close" if self.closes else b"")

    def begin_sending(self) -> None:
        """Suspend `total` while the client sends the body: that may take as long as the client needs."""
        # As Envoy's route timeout, which begins when the request is complete.
        if self.body is not None and not self.body.complete:
            self.deadline = NEVER

    def begin_waiting(self, now: float) -> float:
        """Start `total` at `now`, if it was suspended, because the request is complete; return the deadline."""
        # Once: a second attempt sends a body that is complete, and must not get the time again.
        if self.deadline == NEVER:
            self.deadline = now + self.timeouts.total
        return self.deadline


class Answer(Flow, Protocol):
    """An upstream's answer: its head, and its body, which may still be arriving."""

    head: Response
    # The whole body, if it arrived with the head; None if it has to be piped.
    body: bytes | None

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body to `sink`.

        The signal is set at its end; it fails with UpstreamReset, BadResponse, UpstreamTimeout or ClientGone.
        """

    def abort(self) -> None:
        """Cancel the answer: close its connection, or cancel the app's task; a no-op after its end."""


@runtime_checkable
class Reachable(Protocol):
    """What can be connected to without a request: a pool of connections, and not an app in this process."""

    async def reach(
        self,
        timeout: float,  # noqa: ASYNC109 — as `connect` in `Timeouts`
    ) -> None:
        """Open a connection, TLS included, and close it. Raises ConnectFailed or ConnectTimeout."""


class Upstream(Protocol):
    """What a request can be sent to: a pool of connections, or an app in this process."""

    @property
    def busy(self) -> int:
        """How many exchanges are under way, those that wait for a connection included."""

    def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
        """Send the request; awaiting the result returns the final answer, when its head has arrived.

        `sink` gets the 1xx answers meanwhile. A caller that stops awaiting closes the connection. Raises ConnectFailed,
        ConnectTimeout, UpstreamBusy, StaleConnection, UpstreamReset, BadResponse, UpstreamTimeout or RequestTimeout.
        """
