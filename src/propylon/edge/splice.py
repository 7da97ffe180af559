"""Pass bytes both ways between a client and an upstream that speak another protocol than HTTP.

    client ──► End ── write ──► transport of the other End ──► upstream         and the same way back

Facts. A message on a socket is often a few bytes, and there are many of them. What one costs is the loop's work for a read
and a write; a task, a queue or a copy for each message would cost more than that.

Strategy. Each `End` is the protocol of one transport. What it receives, it writes to the other's transport in the same call.
Back-pressure is the transports': while one cannot write, the other is not read. The frames of a WebSocket are followed by
their length fields, so that the gateway knows where it may put one of its own.

Rules for the close of a WebSocket by the gateway (RFC 6455, 5.5.1).

1. A close frame stands between two frames. Where a frame is under way, its rest passes first; if that does not come within
   a second, the connection is cut.
2. Each side gets one close frame: no second one, and none after its own.
3. A side that got a close frame has a few seconds to answer. Then its connection is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from propylon.loop.sendqueue import unsent
from propylon.loop.signal import Signal
from propylon.wire.frames import FrameFollower, Inspect, close_frame, ping_frame

__all__ = [
    "ABNORMAL",
    "GOING_AWAY",
    "POLICY",
    "SERVICE_RESTART",
    "TOO_BIG",
    "End",
    "FrameEnd",
    "FrameSplice",
    "Splice",
    "part",
]

# RFC 6455, 7.4.1. 1006 is never sent: it stands for a connection that ended without a close frame.
GOING_AWAY = 1001
ABNORMAL = 1006
POLICY = 1008
TOO_BIG = 1009
SERVICE_RESTART = 1012  # of IANA's registry: the client may connect again
_UPSTREAM_GONE = 1011
# Seconds for the rest of a frame, and for the answer to a close frame. A client that never answers must not hold its
# descriptor (`websockets` waits for 10 s, Chromium for 2 s).
_FRAME_TIME = 1.0
_ANSWER_TIME = 2.0

_PASSING, _FINISHING, _DROPPING = range(3)


class End(asyncio.Protocol):
    """One side of a tunnel. What it receives goes to the other side."""

    __slots__ = ("congested", "forward", "other", "received", "splice", "transport")

    def __init__(self) -> None:
        """Begin without a transport; `Splice` joins two ends."""
        self.transport: asyncio.Transport | None = None
        self.received = 0  # bytes
        self.congested = False  # this side reads more slowly than the gateway writes
        self.other: End = self
        self.splice: Splice | None = None
        self.forward: Callable[[bytes], None] = _nowhere

    def join(self, transport: asyncio.Transport, other: End, splice: Splice) -> None:
        """Serve `transport`, and send what it receives to the other end."""
        self.transport = transport
        self.other = other
        self.splice = splice

    # asyncio calls

    def data_received(self, data: bytes) -> None:
        """Pass the bytes on."""
        self.received += len(data)
        self.forward(data)

    def pause_writing(self) -> None:
        """Have the other side wait: this one reads slowly (back-pressure)."""
        self.congested = True
        if (transport := self.other.transport) is not None and not transport.is_closing():
            transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other side go on."""
        self.congested = False
        if (transport := self.other.transport) is not None and not transport.is_closing():
            transport.resume_reading()

    def eof_received(self) -> bool:
        """Tell the other side that no more bytes come; return True if this side may still read."""
        other = self.other.transport
        if self.forward is _nowhere or other is None or not other.can_write_eof():
            return False
        self.forward = _nowhere
        other.write_eof()
        return self.other.forward is not _nowhere

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Tell the splice that this side is gone, so that the other side is closed."""
        self.transport = None
        self.forward = self.other.forward = _nowhere
        if self.splice is not None:
            self.splice.lost(self)

    def cut_off(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()


def _nowhere(data: bytes) -> None:
    """Drop what has nowhere to go any more."""


class Splice:
    """Two ends that are one tunnel. `ended` is set with the close code (of a WebSocket) when both connections have ended."""

    __slots__ = ("_alive", "_loop", "_lost", "client", "code", "ended", "upstream")

    def __init__(
        self,
        client: End,
        upstream: End,
        loop: asyncio.AbstractEventLoop,
        lost: Callable[[End], None],
    ) -> None:
        """Join the ends by `join`. `lost` is called with each of them when its connection has ended."""
        self.client = client
        self.upstream = upstream
        self._lost = lost
        self.ended: Signal[int] = Signal(lambda _: self.cut())
        self.code = 0
        self._loop = loop
        self._alive = (-1, -1)  # what had been received at the last ping

    def join(self, client: asyncio.Transport, upstream: asyncio.Transport) -> None:
        """Pass frames between these two transports from now on."""
        self.client.join(client, self.upstream, self)
        self.upstream.join(upstream, self.client, self)
        self.client.forward = upstream.write
        self.upstream.forward = client.write

    def activity(self) -> tuple[int, int]:
        """Return two numbers that change while both sides read or send; one of a side that does neither does not."""
        ends = (self.client, self.upstream)
        stuck = [end for end in ends if end.congested and end.transport is not None]
        if stuck:  # a side that sends, and never reads what it gets, is idle
            return (-1, sum(unsent(cast("asyncio.Transport", end.transport)) for end in stuck))
        return (self.client.received, self.upstream.received)

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002 — only a WebSocket can tell it
        """Close both connections, once what is on its way has been sent."""
        self.code = self.code or code
        for end in (self.client, self.upstream):
            if end.transport is not None:
                end.transport.close()
        self._loop.call_later(_ANSWER_TIME, self.cut)

    def ping(self, key: bytes) -> bool:  # noqa: ARG002 — only a WebSocket has pings
        """Return True: another protocol has no pings that the gateway knows."""
        return True

    def cut(self) -> None:
        """Close both connections at once."""
        self.client.cut_off()
        self.upstream.cut_off()

    def lost(self, end: End) -> None:
        """Close the other connection, because one has ended."""
        self._lost(end)
        other = end.other
        if other.transport is None:
            self.ended.set(self.code)
            return
        self._one_lost(end, other)

    def _one_lost(self, end: End, other: End) -> None:  # noqa: ARG002
        self._part(other)

    def _part(self, end: End) -> None:
        if end.transport is not None:
            part(end.transport, self._loop)


class FrameEnd(End):
    """One side of a WebSocket: its frames are followed by their length fields."""

    __slots__ = ("close_passed", "frames", "stage", "told")

    def __init__(self, inspect: Inspect | None = None) -> None:
        """`inspect` sees the head of each frame that this side sends; None: the frames are not looked at."""
        super().__init__()
        self.frames = FrameFollower(inspect)
        self.stage = _PASSING
        self.told = False  # the gateway has sent this side a close frame
        self.close_passed = False  # a close frame of this side has passed to the other

    def data_received(self, data: bytes) -> None:
        """Pass the bytes on, all but the beginning of a frame's head."""
        self.received += len(data)
        if self.stage:
            self._received_while_closing(data)
            return
        frames = self.frames
        passing = frames.follow(data)
        if passing:
            self.forward(passing)
        if frames.noticed:
            cast("FrameSplice", self.splice).noticed(self)

    def _received_while_closing(self, data: bytes) -> None:
        """Pass the rest of a frame that is under way, and look for a close frame in what is dropped."""
        splice, frames = cast("FrameSplice", self.splice), self.frames
        if self.stage == _FINISHING:
            left = frames.left
            self.forward(frames.follow(data[:left]))
            if frames.left:
                return
            data = data[left:]
            splice.frame_ended(self)
        if data:
            frames.follow(data)
        if frames.noticed:
            splice.noticed(self)

    def eof_received(self) -> bool:
        """Return False: a WebSocket whose side sends no more is closed (RFC 6455, 7.1.1)."""
        return False

    @property
    def has_closed(self) -> bool:
        """Whether this side has sent a close frame."""
        return self.frames.close_code is not None


class FrameSplice(Splice):
    """The two ends of a WebSocket."""

    __slots__ = ("_closing", "_goodbye", "_key")

    def __init__(
        self,
        client: FrameEnd,
        upstream: FrameEnd,
        loop: asyncio.AbstractEventLoop,
        lost: Callable[[End], None],
        key: Callable[[], bytes],
    ) -> None:
        """`key` returns four random bytes to mask with."""
        super().__init__(client, upstream, loop, lost)
        self._closing = False
        self._goodbye = (0, "")
        self._key = key

    def noticed(self, end: FrameEnd) -> None:
        """Act on what has passed from this side: a close frame, or a frame that is refused."""
        end.frames.noticed = False
        if end.frames.refused and end.stage != _DROPPING:
            end.stage = _DROPPING  # the frame that was refused does not pass, nor what is behind it
            self.close(
                end.frames.refused, "too large" if end.frames.refused == TOO_BIG else "too fast"
            )
        elif end.has_closed and end.stage == _PASSING:
            end.close_passed = True
        if end.has_closed:
            self._side_closed(end, cast("FrameEnd", end.other))

    def _side_closed(self, end: FrameEnd, other: FrameEnd) -> None:
        self.code = self.code or end.frames.close_code or 0
        if end.told or other.transport is None:
            # It has answered the gateway's close frame, or the other side's, which is gone.
            if end.transport is not None:
                end.transport.close()
        elif other.has_closed:
            # 7.1.1: the server closes first. A server that does not must not keep the client waiting.
            self._loop.call_later(_ANSWER_TIME, self._part, end)
            self._loop.call_later(_ANSWER_TIME, self._part, other)

    def close(self, code: int, reason: str) -> None:
        """Send each side a close frame, after the frame that is under way to it."""
        if self._closing:
            return
        self._closing = True
        self._goodbye = (code, reason)
        self.code = self.code or code
        client, upstream = cast("FrameEnd", self.client), cast("FrameEnd", self.upstream)
        for end, source in ((client, upstream), (upstream, client)):
            # Rule 2. Where one side has said goodbye, the two of them come to an end by themselves.
            if end.close_passed or source.close_passed:
                continue
            if source.frames.left and source.stage == _PASSING:
                source.stage = _FINISHING
            else:
                self._say_goodbye(end, source)
        self._loop.call_later(_FRAME_TIME, self._cut_unfinished)
        self._loop.call_later(_FRAME_TIME + _ANSWER_TIME, self.cut)

    def frame_ended(self, source: FrameEnd) -> None:
        """Send the other side its close frame: the last frame to it is complete."""
        self._say_goodbye(cast("FrameEnd", source.other), source)

    def _say_goodbye(self, end: FrameEnd, source: FrameEnd) -> None:
        source.stage = _DROPPING
        source.frames.trust()
        if end.transport is None:
            return
        end.told = True
        _read_on(source)  # what is dropped need not wait for a slow reader
        if end.has_closed:
            end.transport.close()
        else:
            end.transport.write(close_frame(*self._goodbye, key=self._key_of(end)))

    def _key_of(self, end: End) -> bytes:
        """Return the key that frames to this side are masked with (5.3: those to a server)."""
        return self._key() if end is self.upstream else b""

    def _cut_unfinished(self) -> None:
        for end in (self.client, self.upstream):
            if cast("FrameEnd", end.other).stage == _FINISHING:
                end.cut_off()

    def ping(self, key: bytes) -> bool:
        """Send a ping to each side, between two frames; return False if one has sent nothing since the last ping."""
        alive = self.client.received != self._alive[0] and self.upstream.received != self._alive[1]
        self._alive = (self._ping(self.client, b""), self._ping(self.upstream, key))
        return alive

    def _ping(self, end: End, key: bytes) -> int:
        """Send a ping to this side; return how much it has sent so far, -1 if a ping cannot pass now."""
        source = cast("FrameEnd", end.other)
        if source.stage or source.frames.left or source.has_closed or end.congested:
            return -1
        if end.transport is not None:
            end.transport.write(ping_frame(key))
        return end.received

    def _one_lost(self, end: End, other: End) -> None:
        end, other = cast("FrameEnd", end), cast("FrameEnd", other)
        unfinished = end.stage == _FINISHING
        if unfinished or other.transport is None:
            other.cut_off()
            return
        end.stage = other.stage = _DROPPING
        other.frames.trust()
        _read_on(other)
        if end.has_closed or other.told:
            # The close frame of the lost side, or the gateway's, has passed: the answer is waited for.
            other.told = True
        else:
            self._tell_of_loss(end, other)
        if other.told and not other.has_closed:
            self._loop.call_later(_ANSWER_TIME, self._part, other)
        else:
            self._part(other)

    def _tell_of_loss(self, end: FrameEnd, other: FrameEnd) -> None:
        """Tell the client that the upstream is gone; nothing is made up for an upstream whose client is."""
        self.code = self.code or other.frames.close_code or ABNORMAL
        if end is self.upstream and not end.frames.left and not other.has_closed:
            self._goodbye = (_UPSTREAM_GONE, "upstream gone")
            self.code = _UPSTREAM_GONE
            self._say_goodbye(other, end)


def _read_on(end: End) -> None:
    """Read from this side again, if back-pressure has paused it."""
    if (transport := end.transport) is not None and not transport.is_closing():
        transport.resume_reading()


def part(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
    """Close when all that is on its way has been sent; cut when the side takes none of it for a while."""
    transport.close()
    loop.call_later(_ANSWER_TIME, _cut_if_stuck, transport, loop, unsent(transport))


def _cut_if_stuck(
    transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, before: int
) -> None:
    left = unsent(transport)
    if 0 < left < before:
        loop.call_later(_ANSWER_TIME, _cut_if_stuck, transport, loop, left)
    else:
        transport.abort()
