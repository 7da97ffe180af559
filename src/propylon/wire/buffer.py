"""Cut a stream of bytes into request heads, in whatever pieces the bytes arrive. Pure.

Facts. Nearly every head arrives whole, in one piece. The client chooses the pieces, so a hostile client sends
single bytes (Slowloris).

Strategy. A head that arrives whole is cut without a copy. Other heads are collected; the search for their end goes
on where it stopped, so that a head in single bytes costs no more than its length.
"""

from __future__ import annotations

import re

from propylon.wire.framing import HEAD_END
from propylon.wire.probe import HeadProbe, too_large

__all__ = ["HeadBuffer"]

# RFC 9112, 2.2: a server should ignore at least one empty line before a request line. Old clients
# send a CRLF behind the body of a POST. Only CRLF counts: a bare LF is refused, because other
# readers end lines there.
_LINE_ENDS = re.compile(rb"(?:\r\n)*")


class HeadBuffer:
    """Collect the bytes of one request head until its empty line has arrived."""

    __slots__ = ("_buffer", "_limit", "_probe", "pending")

    def __init__(self, limit: int) -> None:
        """Collect at most `limit` bytes (`server.max_header`)."""
        self._limit = limit
        self._buffer = bytearray()
        self._probe: HeadProbe | None = None
        # Whether a part of a head has arrived; the client then has `timeouts.header` to send the rest.
        self.pending = False

    @property
    def so_far(self) -> bytes:
        """What has arrived of a head."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take the next bytes; return a whole head and the bytes after it, or None while it is incomplete.

        Raises HeadersTooLarge (431); InvalidRequest (400) as soon as no further bytes could make a head.
        """
        buffer = self._buffer
        if not buffer:
            if data[:1] == b"\r":
                data = data[_empty_lines(data) :]
            end = data.find(HEAD_END)
            if 0 <= end <= self._limit:
                return data[: end + 4], data[end + 4 :]
        # The end has four bytes, three of which may have arrived before.
        searched = max(0, len(buffer) - 3)
        buffer += data
        if blank := _empty_lines(buffer):
            del buffer[:blank]  # an empty line that arrived in two pieces
            searched, data = 0, bytes(buffer)
        self.pending = bool(buffer)  # not where all that came was an empty line
        end = buffer.find(HEAD_END, searched)
        # The limit holds for a head that has no end yet, too: an endless head must not fill the
        # memory.
        if end > self._limit or (end < 0 and len(buffer) > self._limit):
            raise too_large(buffer, self._limit)
        if end < 0:
            self._check_partial(data)
            return None
        head, rest = bytes(buffer[: end + 4]), bytes(buffer[end + 4 :])
        self.clear()
        return head, rest

    def clear(self) -> None:
        """Drop the incomplete head, for the next request or because the connection ends."""
        self._buffer.clear()
        self.pending = False
        self._probe = None

    def _check_partial(self, data: bytes) -> None:
        """Have the probe read the new bytes, once the empty lines before the request line are past."""
        # A lone CR may be half of an empty line.
        if not self._buffer or self._buffer == b"\r":
            return
        if self._probe is None:
            self._probe = HeadProbe()
            data = bytes(self._buffer)
        self._probe.feed(data)


def _empty_lines(data: bytes | bytearray) -> int:
    """Return how many bytes of empty lines the data begins with."""
    match = _LINE_ENDS.match(data)
    return match.end() if match is not None else 0
