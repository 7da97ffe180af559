"""Hold a request's body while it comes in: pushed on, or kept until somebody wants it."""

from __future__ import annotations

from collections.abc import Callable

from propylon.errors import InvalidRequest, PayloadTooLarge
from propylon.upstream.ports import BodySink, Flow

__all__ = ["Body"]

# What is kept so that an attempt can be repeated, and what may wait for a sink. 64 KiB covers every
# form and JSON call; uploads are not repeated.
_KEPT = 64 * 1024


class Body:
    """The body of one request (`propylon.proxy.exchange.IncomingBody`).

    `flow` is where it comes from. `wanted` is called once, when somebody first asks for the body: that
    is when a client that waits for `100 Continue` is told to go on.
    """

    __slots__ = (
        "_flow",
        "_kept",
        "_paused",
        "_sink",
        "_wanted",
        "complete",
        "length",
        "limit",
        "received",
        "started",
    )

    def __init__(self, length: int, flow: Flow, wanted: Callable[[], None] | None) -> None:
        """Expect `length` bytes, or CHUNKED."""
        self.length = length
        self.limit: int | None = None  # set by the route before the first `pipe`
        self.received = 0
        self.complete = False
        self.started = False
        self._flow = flow
        self._wanted = wanted
        self._kept: list[bytes] | None = []
        self._paused = False  # by the sink
        self._sink: BodySink | None = None

    # What the edge says

    def feed(self, data: bytes) -> None:
        """Take the next piece. Raises PayloadTooLarge, InvalidRequest."""
        self.received += len(data)
        sink = self._sink
        if self.limit is not None and self.received > self.limit:
            self._too_large()
        if 0 <= self.length < self.received:
            msg = "The body is longer than its Content-Length"
            raise InvalidRequest(msg)
        if self._kept is not None:
            self._keep(data, has_sink=sink is not None)
        if sink is not None:
            sink.body_data(data)

    def end(self, trailers: bytes = b"") -> None:
        """Note that the body is complete, with the trailers behind it. Raises InvalidRequest if it is not.

        Our own edge counts; a server, or what somebody put between it and us, may not.
        """
        if 0 <= self.length != self.received:
            msg = "The body is shorter than its Content-Length"
            raise InvalidRequest(msg)
        self.complete = True
        if self._sink is not None:
            self._sink.body_end(trailers)

    # What the upstream says

    @property
    def replayable(self) -> bool:
        """Whether everything that came in so far is still here."""
        return self._kept is not None

    def pipe(self, sink: BodySink) -> None:
        """Push the body to `sink` from its first byte."""
        if self._kept is None:
            msg = "the body has gone out already and was too large to keep"
            raise RuntimeError(msg)
        if self.limit is not None and self.received > self.limit:
            self._too_large()
        self._sink = sink
        self.started = True
        for data in list(self._kept):
            sink.body_data(data)
        if self.received > _KEPT:
            self._kept = None
        if self.complete:
            sink.body_end()
            return
        if self._wanted is not None and not self.received:
            self._wanted()
        self._wanted = None
        if not self._paused:
            self._flow.resume()

    def unpipe(self) -> None:
        """Push no more: what comes in is kept, as far as that goes."""
        self._sink = None
        self._paused = False

    def pause(self) -> None:
        """Have the client wait."""
        if not self.complete:
            self._paused = True
            self._flow.pause()

    def resume(self) -> None:
        """Let the client go on."""
        self._paused = False
        if not self.complete:
            self._flow.resume()

    def _keep(self, data: bytes, *, has_sink: bool) -> None:
        if self._kept is None:
            return
        if self.received <= _KEPT or not has_sink:
            self._kept.append(data)
        if self.received > _KEPT:
            if has_sink:
                self._kept = None
            else:
                self._flow.pause()

    def _too_large(self) -> None:
        msg = f"The body may have {self.limit} bytes at the most"
        raise PayloadTooLarge(msg)
