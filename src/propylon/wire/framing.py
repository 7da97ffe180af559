"""Find where a body ends: by Content-Length, by the chunked coding, or by the end of the connection. Pure.

Facts. Request smuggling needs two parsers that see the end of a body at different places. Every leniency of a parser
is such a place.

Rules. What RFC 9112, 6 and 7 lets a recipient accept or refuse is refused. Extensions and trailers are checked and
dropped, never passed on. All numbers have gone through `grammar` before they reach `int`.
"""

from __future__ import annotations

import re

from propylon.wire.chunk_line import ChunkLine
from propylon.wire.grammar import (
    CHUNK_LINE,
    CONTENT_LENGTH,
    PARTIAL_TRAILER_LINE,
    TRAILER_LINE,
)
from propylon.wire.message import CHUNKED, UNTIL_CLOSE

__all__ = [
    "HEAD_END",
    "LAST_CHUNK",
    "BodyReader",
    "ChunkDecoder",
    "FramingError",
    "announced",
    "chunk",
    "content_length",
]

HEAD_END = b"\r\n\r\n"
# The chunk of size zero and an empty trailer section (RFC 9112, 7.1).
LAST_CHUNK = b"0\r\n\r\n"

# Bytes of one size line with its extension, and of all trailers together: 16 KiB, as Apache and Go
# allow for extensions. Without a limit, an extension of a gigabyte is a body that no `max_body`
# counts.
_LINE_LIMIT = 16 * 1024


class FramingError(ValueError):
    """The bytes cannot be a body in the coding that was announced.

    This is no GatewayError, because it may be the client's fault (400) or the upstream's (502). The caller knows.
    """


def content_length(lines: list[bytes]) -> int:
    """Return the length that the Content-Length lines of a message give.

    Raises FramingError for two lines, a list, a sign or a blank. RFC 9112, 6.3 lets a recipient read `5, 5` as 5, or
    refuse it. A recipient that takes the first and one that takes the last disagree on `5, 6`.
    """
    if len(lines) != 1 or CONTENT_LENGTH.fullmatch(lines[0]) is None:
        msg = "Content-Length must be one decimal number"
        raise FramingError(msg)
    return int(lines[0])


def announced(length: int) -> bytes:
    """Return the header line that announces a body: of `length` bytes, CHUNKED, or none for NO_BODY (RFC 9112, 6)."""
    if length >= 0:
        return b"\r\nContent-Length: %d" % length
    return b"\r\nTransfer-Encoding: chunked" if length == CHUNKED else b""


def chunk(data: bytes) -> bytes:
    """Encode one chunk of data, which must not be empty: an empty chunk ends the body (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ChunkDecoder:
    """Decode a chunked body (RFC 9112, 7.1) that is fed in pieces of any size.

    When `done` is true, `rest` holds the bytes after the body. Trailers are checked and kept apart, as a block in
    `trailers`: a trailer must never become a header (RFC 9110, 6.5.1), and whether it may go on is decided by what
    knows the other side.
    """

    __slots__ = (
        "_closing",
        "_line",
        "_pending",
        "_remaining",
        "_trailing",
        "done",
        "rest",
        "trailers",
    )

    def __init__(self) -> None:
        """Expect the first size line."""
        self.done = False
        self.rest = b""
        self.trailers = b""
        self._line: ChunkLine | None = None  # a size line that has not ended yet
        self._pending = b""  # a trailer, or the CRLF after a chunk's data, that has not ended yet
        self._remaining = 0  # data bytes left in the current chunk
        self._closing = False  # the CRLF after a chunk's data comes next
        self._trailing = -1  # bytes of trailers so far; -1 before the last chunk

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; return the data of all chunks in it, joined. Raises FramingError."""
        # Joined, because a million chunks of one byte must not become a million writes. aiohttp kept
        # a list of chunks, which cost time with each (CVE-2025-69229).
        if self._pending:
            data = self._pending + data
            self._pending = b""
        pieces: list[bytes] = []
        position, end = 0, len(data)
        while position < end and not self.done:
            if self._remaining:
                piece = data[position : position + self._remaining]
                pieces.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                self._closing = not self._remaining
                continue
            step = self._control(data, position)
            if not step:
                break
            position = step
        if self.done:
            self.rest = data[position:]
        elif position < end:
            self._keep(data[position:])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _keep(self, partial: bytes) -> None:
        """Keep the beginning of a control line for the next piece."""
        if len(partial) > _LINE_LIMIT:
            msg = "a trailer is too long"
            raise FramingError(msg)
        self._pending = partial

    def _control(self, data: bytes, position: int) -> int:
        """Read one control line at `position`; return where it ends, 0 while it is incomplete."""
        if self._closing:
            return self._close_chunk(data, position)
        if self._trailing >= 0:
            return self._trailer(data, position)
        match = CHUNK_LINE.match(data, position) if self._line is None else None
        if match is None:
            return self._partial_line(data, position)
        self._begin_chunk(int(match[1], 16), match.end() - position)
        return match.end()

    def _partial_line(self, data: bytes, position: int) -> int:
        """Read a size line that does not arrive whole, or is malformed."""
        line = self._line = self._line or ChunkLine()
        end = line.feed(data, position)
        if end < 0:
            msg = "a chunk's size or extension is malformed"
            raise FramingError(msg)
        size = line.size
        if size is not None:
            self._line = None
        self._begin_chunk(size, line.length)
        return end

    def _begin_chunk(self, size: int | None, line_length: int) -> None:
        """Expect the data of a chunk, or the trailers behind the last one; None: its size line goes on."""
        # 7.1.1: a recipient must ignore extensions that it does not know. Propylon knows none.
        if line_length > _LINE_LIMIT:
            msg = "a chunk's extension is too long"
            raise FramingError(msg)
        if size is not None:
            self._remaining = size
            self._trailing = -1 if size else 0

    def _close_chunk(self, data: bytes, position: int) -> int:
        # A reader that skips two bytes here, whatever they are, lets a client hide a chunk from it
        # (CVE-2025-43859 in h11).
        found = data[position : position + 2]
        if found == b"\r\n":
            self._closing = False
            return position + 2
        if found == b"\r":
            return 0
        msg = "the data of a chunk must end with CRLF"
        raise FramingError(msg)

    def _trailer(self, data: bytes, position: int) -> int:
        # RFC 9110, 6.5.1: trailers may be dropped, and must not be merged into the headers, where
        # an `Authorization` among them would count.
        if data.startswith(b"\r\n", position):
            self.done = True
            return position + 2
        match = TRAILER_LINE.match(data, position)
        if match is None:
            _refuse_unless_partial(data, position, PARTIAL_TRAILER_LINE, "a trailer is malformed")
            return 0
        self._trailing += match.end() - position
        if self._trailing > _LINE_LIMIT:
            msg = "the trailers are too long"
            raise FramingError(msg)
        self.trailers += b"\r\n" + match[0][:-2]  # a block's lines have their CRLF in front
        return match.end()


class BodyReader:
    """Read the body of a message to its end, which its framing gives.

    When `done` is true, `rest` holds the bytes after the body.
    """

    __slots__ = ("_decoder", "_remaining", "done", "rest")

    def __init__(self, length: int) -> None:
        """Expect a body of `length` bytes, or CHUNKED, or UNTIL_CLOSE."""
        self._decoder = ChunkDecoder() if length == CHUNKED else None
        self._remaining = length
        self.done = False
        self.rest = b""

    @property
    def until_close(self) -> bool:
        """Whether only the end of the connection ends the body (RFC 9112, 6.3, rule 8)."""
        return self._remaining == UNTIL_CLOSE

    @property
    def trailers(self) -> bytes:
        """The trailers that came behind a chunked body, as a block."""
        return b"" if self._decoder is None else self._decoder.trailers

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those that belong to the body. Raises FramingError."""
        decoder = self._decoder
        if decoder is not None:
            decoded = decoder.feed(data)
            if decoder.done:
                self.done, self.rest = True, decoder.rest
            return decoded
        if self._remaining == UNTIL_CLOSE:
            return data
        if len(data) < self._remaining:
            self._remaining -= len(data)
            return data
        data, self.rest = data[: self._remaining], data[self._remaining :]
        self._remaining = 0
        self.done = True
        return data


def _refuse_unless_partial(
    data: bytes, position: int, partial: re.Pattern[bytes], message: str
) -> None:
    """Raise FramingError unless further bytes could complete the line that begins at `position`.

    So a malformed line is refused at its first wrong byte: the client need not be waited for.
    """
    if partial.fullmatch(data, position) is None:
        raise FramingError(message)
