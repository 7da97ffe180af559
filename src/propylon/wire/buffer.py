"""Cut a stream of bytes into heads, however they are sliced. Pure."""

from __future__ import annotations

import re

from propylon.errors import HeadersTooLarge
from propylon.wire.framing import HEAD_END
from propylon.wire.request import HeadProbe

__all__ = ["HeadBuffer"]

# RFC 9112, 2.2: empty lines before a request line are ignored.
_LINE_ENDS = re.compile(rb"(?:\r\n)*")


class HeadBuffer:
    """Collect a request head until its empty line has come.

    Looking for the end resumes where it stopped, so that a head sent byte by byte costs no more than
    its length.
    """

    __slots__ = ("_buffer", "_limit", "_probe")

    def __init__(self, limit: int) -> None:
        """Hold at most `limit` bytes."""
        self._limit = limit
        self._buffer = bytearray()
        self._probe: HeadProbe | None = None

    @property
    def pending(self) -> bool:
        """Whether a head has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take the next bytes; return a whole head and what follows it, None if there is none yet.

        Raises HeadersTooLarge, or InvalidRequest as soon as the bytes cannot be a head.
        """
        buffer = self._buffer
        if not buffer:
            if data[:1] == b"\r":
                data = data[_blank(data) :]
            end = data.find(HEAD_END)
            if 0 <= end <= self._limit:
                return data[: end + 4], data[end + 4 :]
        searched = max(0, len(buffer) - 3)
        buffer += data
        if blank := _blank(buffer):
            del buffer[:blank]  # an empty line that came in two pieces
            searched, data = 0, bytes(buffer)
        end = buffer.find(HEAD_END, searched)
        if end > self._limit or (end < 0 and len(buffer) > self._limit):
            msg = f"The head of a request may have {self._limit} bytes at the most"
            raise HeadersTooLarge(msg)
        if end < 0:
            self._look(data)
            return None
        head, rest = bytes(buffer[: end + 4]), bytes(buffer[end + 4 :])
        self.clear()
        return head, rest

    def clear(self) -> None:
        """Forget what has come in."""
        self._buffer.clear()
        self._probe = None

    def _look(self, data: bytes) -> None:
        """Let the probe see what came in, once the line ends before the request line are past."""
        if not self._buffer or self._buffer == b"\r":
            return
        if self._probe is None:
            self._probe = HeadProbe()
            data = bytes(self._buffer)
        self._probe.feed(data)


def _blank(data: bytes | bytearray) -> int:
    """Return how many bytes of empty lines the data begins with."""
    match = _LINE_ENDS.match(data)
    return match.end() if match is not None else 0
