"""Receive a request's body: push it to the upstream, and keep a copy for a retry while it is small.

Push, not pull: a piece that comes in is written to the upstream in the same call. Back-pressure goes the other way: an
upstream that is slow pauses the body, and the body pauses the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from propylon.errors import InvalidRequest, PayloadTooLarge
from propylon.loop.signal import Signal
from propylon.upstream.ports import BodySink, Flow

__all__ = ["Body"]

# The largest body that can be sent again in a retry, and the most that is read before an upstream is chosen. 64 KiB
# holds almost every form and JSON call; uploads are not repeated. HAProxy repeats what fits in one buffer (16 KiB),
# Envoy 1 MiB.
_MAX_REPLAY = 64 * 1024


class Body:
    """The body of one request (`propylon.proxy.exchange.IncomingBody`).

    `flow` is what the body comes from: it is paused when the client has to wait. `send_continue` is called when an
    upstream first asks for the body and none of it has come: it sends the `100 Continue` that the client waits for
    (RFC 9110, 10.1.1). A refused request asks for no body, so its client never sends it.
    """

    __slots__ = (
        "_flow",
        "_gathering",
        "_replay_buffer",
        "_send_continue",
        "_sink",
        "_sink_paused",
        "complete",
        "length",
        "limit",
        "received",
        "started",
        "watcher",
    )

    def __init__(self, length: int, flow: Flow, send_continue: Callable[[], None] | None) -> None:
        """Expect `length` bytes, or CHUNKED."""
        self.length = length
        self.limit: int | None = None  # set by the route before the first `pipe`
        self.received = 0
        self.complete = False
        self.started = False
        self._flow = flow
        self._send_continue = send_continue
        self._replay_buffer: list[bytes] | None = []  # all that has come in; None: too much to keep
        self._sink: BodySink | None = None
        self._sink_paused = False
        self._gathering: Signal[None] | None = None  # set when the wait of `gathered` is over
        self.watcher: Callable[[bytes], None] | None = None

    # What the edge calls

    def feed(self, data: bytes) -> None:
        """Take the next piece. Raises PayloadTooLarge, InvalidRequest."""
        self.received += len(data)
        sink = self._sink
        if self.limit is not None and self.received > self.limit:
            self._too_large()
        if 0 <= self.length < self.received:
            msg = "The body is longer than its Content-Length"
            raise InvalidRequest(msg)
        if self._replay_buffer is not None:
            self._keep(data, has_sink=sink is not None)
        if self.watcher is not None:
            self.watcher(data)
        if sink is not None:
            sink.body_data(data)

    def watch(self, watcher: Callable[[bytes], None]) -> None:
        """Call back with each piece, from the first one on; to be called before `pipe`."""
        for data in self._replay_buffer or ():
            watcher(data)
        before = self.watcher

        def both(data: bytes) -> None:
            if before is not None:
                before(data)
            watcher(data)

        self.watcher = watcher if before is None else both

    def end(self, trailers: bytes = b"") -> None:
        """Mark the body as complete, with the trailers behind it. Raises InvalidRequest if bytes are missing.

        `GatewayProtocol` has counted them. An ASGI server, or a middleware in front of the gateway, may not have; a
        shorter body on a kept-alive upstream connection would be filled up with the next request.
        """
        if 0 <= self.length != self.received:
            msg = "The body is shorter than its Content-Length"
            raise InvalidRequest(msg)
        self.complete = True
        if self._sink is not None:
            self._sink.body_end(trailers)
        elif self._gathering is not None:
            self._gathering.set(None)

    # What the upstream calls

    @property
    def replayable(self) -> bool:
        """Whether the body can still be sent from its first byte."""
        return self._replay_buffer is not None

    async def gathered(self) -> bytes | None:
        """Wait for the whole body, and return it; None as soon as it is known to be too large for a retry.

        Nothing is lost: `pipe` pushes all of it afterwards.
        """
        if self.length > _MAX_REPLAY:
            return None
        if not self.complete and self.received <= _MAX_REPLAY:
            if self._send_continue is not None and not self.received:
                self._send_continue()
            self._send_continue = None
            self._gathering = Signal()
            self._flow.resume()
            try:
                await self._gathering
            finally:
                self._gathering = None
        whole = self.complete and self.received <= _MAX_REPLAY
        return b"".join(self._replay_buffer or ()) if whole else None

    def pipe(self, sink: BodySink) -> None:
        """Push the body to `sink` from its first byte."""
        if self._replay_buffer is None:
            msg = "the body has gone out already and was too large to keep"
            raise RuntimeError(msg)
        if self.limit is not None and self.received > self.limit:
            self._too_large()
        self._sink = sink
        self.started = True
        for data in list(self._replay_buffer):
            sink.body_data(data)
        if self.received > _MAX_REPLAY:
            self._replay_buffer = None
        if self.complete:
            sink.body_end()
            return
        if self._send_continue is not None and not self.received:
            self._send_continue()
        self._send_continue = None
        if not self._sink_paused:
            self._flow.resume()

    def unpipe(self) -> None:
        """Stop pushing: the attempt is over. What comes in from now on is kept for the next attempt, if it fits."""
        self._sink = None
        self._sink_paused = False

    def pause(self) -> None:
        """Stop reading from the client: the upstream cannot take more."""
        if not self.complete:
            self._sink_paused = True
            self._flow.pause()

    def resume(self) -> None:
        """Read from the client again."""
        self._sink_paused = False
        if not self.complete:
            self._flow.resume()

    def _keep(self, data: bytes, *, has_sink: bool) -> None:
        if self._replay_buffer is None:
            return
        if self.received <= _MAX_REPLAY or not has_sink:
            self._replay_buffer.append(data)
        if self.received > _MAX_REPLAY:
            if has_sink:
                self._replay_buffer = None
            else:
                self._flow.pause()
                if self._gathering is not None:
                    # Not at once: the edge has more to do with the piece that it is feeding.
                    asyncio.get_running_loop().call_soon(self._gathering.set, None)

    def _too_large(self) -> None:
        msg = f"The body may have {self.limit} bytes at the most"
        raise PayloadTooLarge(msg)
