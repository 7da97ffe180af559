"""Follow the frames of a WebSocket by their length fields (RFC 6455, 5.2), and write control frames. Pure.

Facts. The gateway passes the bytes of a socket on as they are: subprotocols, extensions, pings and close codes are the
business of the two ends. It needs to know one thing: where a frame ends. Only there can it put a close frame or a ping
of its own between the frames of the other end.

Strategy. Only the heads of frames are read. The payload is counted, and neither looked at nor copied. The one exception
is the code in a close frame, for the access log. The beginning of a head that has not arrived whole is held back (13
bytes at the most; a close frame as a whole has 131), so that what was passed on always ends within a payload or between
two frames.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

__all__ = [
    "CONTINUATION",
    "NO_CODE",
    "FrameFollower",
    "FrameLimits",
    "Inspect",
    "close_frame",
    "ping_frame",
]

CONTINUATION = 0x0
_CLOSE = 0x8
_PING = 0x9
_FIN = 0x80
_MASKED = 0x80
# 5.5: the longest payload of a control frame.
_MAX_CONTROL = 125
# 7.1.5: what an end concludes from a close frame without a code.
NO_CODE = 1005
_POLICY = 1008
_TOO_BIG = 1009

# Called with the first byte of a frame and the length of its payload, before any byte of the frame passes. Returns the
# code to close with, or 0 if the frame may pass.
Inspect = Callable[[int, int], int]


class FrameFollower:
    """Where one direction of a socket stands: within a frame's payload, or between two frames.

    `left` is how many bytes of the payload are still to come; 0: between two frames. `close_code` is the code of the
    first close frame that has passed, None before. `refused` is the code that the inspection has returned, else 0.
    `noticed` is set with either of them; the caller resets it.
    """

    __slots__ = ("_held", "_inspect", "close_code", "left", "noticed", "refused")

    def __init__(self, inspect: Inspect | None = None) -> None:
        """Begin between two frames. Without `inspect`, all frames pass."""
        self.left = 0
        self.close_code: int | None = None
        self.noticed = False
        self.refused = 0
        self._held = b""
        self._inspect = inspect

    def follow(self, data: bytes) -> bytes:
        """Take what has arrived; return what may pass now.

        That is all of it, but for the beginning of a head, and for everything from a refused frame on.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        size = len(data)
        position = self.left
        while position < size:
            start = position
            if size - start < 2:
                return self._hold(data, start)
            second = data[start + 1]
            length = second & 0x7F
            position = start + (6 if second & _MASKED else 2)
            if length > _MAX_CONTROL:
                field = 2 if length == _MAX_CONTROL + 1 else 8
                position += field
                length = int.from_bytes(data[start + 2 : start + 2 + field], "big")
            if position > size:
                return self._hold(data, start)
            if data[start] & 0x0F == _CLOSE and self.close_code is None:
                if length <= _MAX_CONTROL and position + length > size:
                    return self._hold(data, start)
                self.close_code = _code(data, start, position, length)
                self.noticed = True
            if self._inspect is not None and (refused := self._inspect(data[start], length)):
                return self._refuse(data, start, refused)
            position += length
        self.left = position - size
        return data

    def trust(self) -> None:
        """Inspect no frame any more: nothing of them passes."""
        self._inspect = None

    def _refuse(self, data: bytes, start: int, code: int) -> bytes:
        """Return what stands before a refused frame; go on following behind it."""
        self.refused = code
        self.noticed = True
        self._inspect = None
        self.left = 0
        self.follow(data[start:])
        return data[:start]

    def _hold(self, data: bytes, start: int) -> bytes:
        self._held = data[start:]
        self.left = 0
        return data[:start]


class FrameLimits:
    """Refuses the frames of one side that make a message too large, or come too often."""

    __slots__ = ("_arrival", "_burst", "_clock", "_interval", "_max_message", "_message")

    def __init__(
        self, max_message: int | None, rate: tuple[int, float] | None, clock: Callable[[], float]
    ) -> None:
        """`rate` is a number of messages in so many seconds, and as many at once; `clock` is monotonic."""
        self._max_message = max_message
        self._message = 0  # bytes of the message under way
        self._interval = 0.0 if rate is None else rate[1] / rate[0]
        self._burst = 0.0 if rate is None else rate[1]
        self._arrival = 0.0
        self._clock = clock

    def __call__(self, first: int, length: int) -> int:
        """Return the code to close with, or 0."""
        opcode = first & 0x0F
        if opcode != CONTINUATION and self._interval and self._too_often():
            return _POLICY
        if opcode >= _CLOSE:  # 5.4: control frames may stand between the fragments of a message
            return 0
        self._message = length if opcode != CONTINUATION else self._message + length
        if self._max_message is not None and self._message > self._max_message:
            return _TOO_BIG
        return 0

    def _too_often(self) -> bool:
        """Count a message by GCRA, as `stores.buckets` counts requests."""
        now = self._clock()
        arrival = max(self._arrival, now) + self._interval
        if (
            arrival - self._burst - now > 5e-10
        ):  # half a nanosecond: readings of clocks are not exact
            return True
        self._arrival = arrival
        return False


def _code(data: bytes, start: int, position: int, length: int) -> int:
    """Return the code of a close frame, whose payload begins at `position` (5.5.1)."""
    if length < 2:
        return NO_CODE
    code = int.from_bytes(data[position : position + 2], "big")
    if data[start + 1] & _MASKED:
        code ^= int.from_bytes(data[position - 4 : position - 2], "big")
    return code


def close_frame(code: int, reason: str = "", key: bytes = b"") -> bytes:
    """Return a close frame (5.5.1). `key` is the four-byte masking key of a client's frame (5.3)."""
    return _control(_CLOSE, struct.pack("!H", code) + reason.encode("ascii"), key)


def ping_frame(key: bytes = b"") -> bytes:
    """Return a ping without a payload (5.5.2), so that its pong cannot be taken for another ping's."""
    return _control(_PING, b"", key)


def _control(opcode: int, payload: bytes, key: bytes) -> bytes:
    if not key:
        return bytes((_FIN | opcode, len(payload))) + payload
    masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    return bytes((_FIN | opcode, _MASKED | len(payload))) + key + masked
