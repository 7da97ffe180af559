"""Compress an answer's body while it streams, a slice at a time.

    upstream ──► write ──► pieces ──► slice ──► encoder ──► client
             ◄── pause ───────────┘   (one a turn of the loop)

Rules.

1. A slice of 16 KiB is compressed in one go, then the loop has a turn. So a large piece holds no other request up.
2. Little waits: when more than 64 KiB do, or the client reads slowly, the upstream is paused.
3. Nothing is held back for long: where no more has come for some milliseconds, what there is goes out, so that a slow
   upstream's bytes reach the client as they come. To do so with every piece would cost much of what compression gains.
4. An encoder holds up to a megabyte, and a slow client holds the encoder. So there are only so many at a time; who comes
   when the room is full gets the plain answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import WeakSet

from propylon.errors import GatewayError
from propylon.loop.signal import Signal
from propylon.proxy.coding.codecs import SLICE, Encoder
from propylon.proxy.coding.fields import without_digests
from propylon.upstream.ports import Answer, Sink
from propylon.wire.message import Response

__all__ = ["Encoded", "Room"]

_LAG = 64 * 1024  # bytes: as everywhere in the gateway
# Seconds. Less than a person or a timeout notices, and long enough for the next piece of a busy upstream.
_HELD_BACK = 0.005


class Room:
    """Where so many answers at a time are compressed while they stream, in one worker."""

    __slots__ = ("_inside", "_most")

    def __init__(self, most: int) -> None:
        """Begin empty."""
        self._most = most
        # Weak: an answer that nobody ends takes no place for ever.
        self._inside: WeakSet[Encoded] = WeakSet()

    @property
    def full(self) -> bool:
        """Whether there is no place left."""
        return len(self._inside) >= self._most

    def enter(self, answer: Encoded) -> None:
        """Take a place."""
        self._inside.add(answer)

    def leave(self, answer: Encoded) -> None:
        """Give it back; a no-op the second time."""
        self._inside.discard(answer)


class Encoded:
    """An answer that is compressed for one client: an `Answer`, and the `Sink` of the upstream's."""

    __slots__ = (
        "__weakref__",
        "_answer",
        "_encoder",
        "_ended",
        "_flush",
        "_loop",
        "_paused",
        "_pieces",
        "_room",
        "_signal",
        "_sink",
        "_stepping",
        "_throttles",
        "_trailers",
        "_unflushed",
        "_waiting",
        "body",
        "head",
    )

    def __init__(self, answer: Answer, head: Response, encoder: Encoder, room: Room) -> None:
        """Take the upstream's answer, the head that the client gets, and a place in the room."""
        self._room = room
        room.enter(self)
        self.head = head
        self.body: bytes | None = None
        self._answer = answer
        self._encoder = encoder
        self._pieces: deque[bytes] = deque()
        self._waiting = 0  # bytes in them
        self._sink: Sink | None = None
        self._signal: Signal[None] = Signal()
        self._loop: asyncio.AbstractEventLoop
        self._ended = False
        self._paused = False  # by the client
        self._throttles = False  # the upstream is paused for what waits here
        self._stepping = False  # the next slice is due
        self._trailers = b""
        self._unflushed = False  # the encoder may hold something back
        self._flush: asyncio.TimerHandle | None = None

    # As an answer

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the compressed body to `sink`; see `Answer.pipe`."""
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        if self._answer.body is not None:
            self._ended = True
            self._take(self._answer.body)
            return self._signal
        ended = self._answer.pipe(self)
        if ended.done:
            self._upstream_ended(ended)
        else:
            ended.attach(self._upstream_ended)
        return self._signal

    def pause(self) -> None:
        """Stop: the client reads slowly."""
        self._paused = True
        self._throttle()

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        self._step_soon()

    def abort(self) -> None:
        """Cancel the answer."""
        self._stop()
        self._answer.abort()

    # As the sink of the upstream's

    def interim(self, head: Response) -> None:
        """Drop it: the final head has come."""

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        if data and self._sink is not None:
            self._take(data)

    def finish(self, trailers: bytes = b"") -> None:
        """Take the end."""
        self._ended = True
        self._trailers = without_digests(trailers)
        if not self._stepping:
            self._step()

    def _upstream_ended(self, signal: Signal[None]) -> None:
        try:
            signal.result()
        except GatewayError as error:
            self._stop()
            self._signal.fail(error)

    # Slices

    def _take(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        if not self._stepping:
            self._step()
        if self._waiting > _LAG:
            self._throttle()

    def _throttle(self) -> None:
        """Pause the upstream until nothing waits here."""
        if not self._throttles and not self._ended:
            self._throttles = True
            self._answer.pause()

    def _step_soon(self) -> None:
        if not self._stepping:
            self._stepping = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        """Compress a slice; what comes meanwhile waits for the next turn of the loop."""
        self._stepping = False
        sink = self._sink
        if sink is None or self._paused:
            return
        if not self._pieces:
            self._rest(sink)
            return
        out = self._encoder.write(self._slice())
        self._unflushed = True
        if out:
            sink.write(out)  # which may pause or abort
        if self._ended and not self._pieces and self._sink is not None:
            self._end(sink)
        else:
            self._step_soon()

    def _rest(self, sink: Sink) -> None:
        """Do what is to be done when nothing waits: end, or wait for more, but not for long with what there is."""
        if self._ended:
            self._end(sink)
            return
        if self._unflushed and self._flush is None:
            self._flush = self._loop.call_later(_HELD_BACK, self._flush_now)
        if self._throttles:
            self._throttles = False
            self._answer.resume()

    def _slice(self) -> bytes:
        """Take up to a slice off the pieces: small ones go together."""
        parts, room = [], SLICE
        while self._pieces and room:
            piece = self._pieces.popleft()
            part = piece[:room]
            if len(piece) > room:
                self._pieces.appendleft(piece[room:])
            parts.append(part)
            room -= len(part)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._waiting -= len(data)
        return data

    def _flush_now(self) -> None:
        self._flush = None
        sink = self._sink
        if sink is not None and not self._pieces and self._unflushed:
            self._unflushed = False
            sink.write(self._encoder.flush())

    def _end(self, sink: Sink) -> None:
        out = self._encoder.finish()
        if out:
            sink.write(out)
        trailers = self._trailers
        self._stop()
        sink.finish(trailers)
        self._signal.set(None)

    def _stop(self) -> None:
        self._sink = None
        self._room.leave(self)
        self._pieces.clear()
        self._waiting = 0
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
