"""Name what goes to an upstream and what comes back, and the ports in between.

Bodies are pushed, never pulled: a chunk travels from one socket to the other in one call, without a
task, a queue or a future. Whoever cannot take more says `pause` to where the chunks come from.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from propylon.loop.signal import Signal
from propylon.loop.ticker import NEVER
from propylon.wire.message import NO_BODY, Response

__all__ = [
    "Answer",
    "BodySink",
    "Flow",
    "Outgoing",
    "RequestBody",
    "Sink",
    "Timeouts",
    "Upstream",
]


class Flow(Protocol):
    """Where chunks come from: can be told to wait."""

    def pause(self) -> None:
        """Send no more for now."""

    def resume(self) -> None:
        """Go on."""


class Sink(Protocol):
    """Where chunks go to."""

    def write(self, data: bytes) -> None:
        """Take the next piece; an empty one is nothing."""

    def finish(self, trailers: bytes = b"") -> None:
        """Note that the body is complete; `trailers` is the block that came behind it."""

    def interim(self, head: Response) -> None:
        """Take a 1xx answer; more will follow."""


class RequestBody(Flow, Protocol):
    """The body of a request, while it comes in."""

    length: int
    complete: bool
    started: bool

    def pipe(self, sink: BodySink) -> None:
        """Push what has come in and what will to `sink`, from the start.

        Can be called again, for another attempt, as long as `replayable` is true.
        """

    def unpipe(self) -> None:
        """Push no more: the attempt is over."""

    @property
    def replayable(self) -> bool:
        """Whether `pipe` can still start at the first byte."""


class BodySink(Protocol):
    """Where a request body goes to."""

    def body_data(self, data: bytes) -> None:
        """Take the next piece."""

    def body_end(self, trailers: bytes = b"") -> None:
        """Note that the body is complete; `trailers` is the block that came behind it."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long is waited, in seconds.

    `total` runs until the final answer's head, retries included, from the moment the request is
    complete; `idle` is silence in a body; `max_duration` bounds one attempt, body included, if set.
    """

    connect: float = 5.0
    first_byte: float = 30.0
    idle: float = 30.0
    total: float = 60.0
    max_duration: float = NEVER


class Outgoing:
    """A request on its way out: everything an upstream needs, and the limits it has to keep.

    `line` is the request line; `block` the header block, Host included. How the body is framed (`length`: bytes,
    NO_BODY or CHUNKED) is written by what sends it: only a connection knows how it is used.
    `deadline` is on the loop's clock and holds until the final answer's head. It is NEVER while
    the request's body is going out as it comes in: how long that takes is up to the client, and `total`
    is counted from its end (as Envoy's route timeout is). `context` is for upstreams in this process
    that may know more than what is sent: it never leaves it.
    """

    __slots__ = ("block", "body", "context", "deadline", "length", "line", "method", "timeouts")

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
    ) -> None:
        """Take the parts."""
        self.method = method
        self.line = line
        self.block = block
        self.body = body
        self.timeouts = timeouts
        self.deadline = deadline
        self.context = context
        self.length = length

    def begin_sending(self) -> None:
        """Suspend `total` if the request has not come in whole: from here on the client is waited for."""
        if self.body is not None and not self.body.complete:
            self.deadline = NEVER

    def begin_waiting(self, now: float) -> float:
        """Start `total`, once, when the request has come in whole; return the deadline."""
        if self.deadline == NEVER:
            self.deadline = now + self.timeouts.total
        return self.deadline


class Answer(Flow, Protocol):
    """An upstream's answer: its head, and its body now or later."""

    head: Response
    # The whole body, when it came with the head; else None, and `pipe` it.
    body: bytes | None

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body to `sink`; the signal is set when it has ended, or fails with its error."""

    def abort(self) -> None:
        """Want no more of it: the connection is closed, the upstream's work cancelled."""


class Upstream(Protocol):
    """Anything that can be asked."""

    @property
    def busy(self) -> int:
        """How many exchanges it has in hand, those that wait for a connection included."""

    def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
        """Send the request; what is awaited brings the final answer's head.

        1xx answers go to `sink` meanwhile. Raises ConnectFailed, ConnectTimeout, StaleConnection,
        UpstreamReset, BadResponse or UpstreamTimeout; giving up waiting closes the connection.
        """
