"""Say where a body ends: Content-Length, the chunked coding, and what may be believed. Pure.

Strict on purpose: every leniency that a parser grants is a place where two parsers disagree, and
that is what request smuggling is made of. No number from the wire reaches `int` before a pattern
has said that it holds digits only: `int` takes `+5`, `5_0` and ` 5`.
"""

from __future__ import annotations

import re

from propylon.wire.grammar import (
    CHUNK_LINE,
    CONTENT_LENGTH,
    PARTIAL_CHUNK_LINE,
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
    "chunk",
    "content_length",
]

HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

# One size line with its extension, and all trailers together: 16 KiB, as Apache's and Go's limits.
_LINE_LIMIT = 16 * 1024


class FramingError(ValueError):
    """The bytes cannot be a body in the coding that was announced.

    No GatewayError: whether it is the client's fault or the upstream's, each side says itself.
    """


def content_length(lines: list[bytes]) -> int:
    """Return the one Content-Length; raise FramingError for two, a list, a sign or a blank.

    RFC 9112, 6.3 lets a recipient accept `5, 5`; refusing it is allowed too, and safer.
    """
    if len(lines) != 1 or CONTENT_LENGTH.fullmatch(lines[0]) is None:
        msg = "Content-Length must be one decimal number"
        raise FramingError(msg)
    return int(lines[0])


def chunk(data: bytes) -> bytes:
    """Encode one non-empty chunk (an empty one would end the body)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ChunkDecoder:
    """Decode a chunked body (RFC 9112, 7.1) fed in any pieces.

    `feed` returns the data of all chunks in the piece, joined: a million one-byte chunks must not
    become a million writes. When `done`, `rest` holds what came after the body. Extensions and
    trailers are checked and dropped: RFC 9112, 7.1.2 leaves them to the recipient, and a trailer
    must never become a header.
    """

    __slots__ = ("_closing", "_pending", "_remaining", "_trailing", "done", "rest")

    def __init__(self) -> None:
        """Start before the first size line."""
        self.done = False
        self.rest = b""
        self._pending = b""  # a control line that has not ended yet
        self._remaining = 0  # data bytes left in the current chunk
        self._closing = False  # the CRLF after the data of a chunk is due
        self._trailing = -1  # bytes of trailers seen, once the last chunk was

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; return the data in it. Raises FramingError."""
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
            self._hold(data[position:])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _hold(self, partial: bytes) -> None:
        if len(partial) > _LINE_LIMIT:
            msg = "a chunk's size line or a trailer is too long"
            raise FramingError(msg)
        self._pending = partial

    def _control(self, data: bytes, position: int) -> int:
        """Read one control line at `position`; return where it ends, 0 if it is not all there."""
        if self._closing:
            return self._close_chunk(data, position)
        if self._trailing >= 0:
            return self._trailer(data, position)
        match = CHUNK_LINE.match(data, position)
        if match is None:
            _refuse_unless_partial(
                data, position, PARTIAL_CHUNK_LINE, "a chunk's size is malformed"
            )
            return 0
        if match.end() - position > _LINE_LIMIT:
            msg = "a chunk's extension is too long"
            raise FramingError(msg)
        # The pattern admits hexadecimal digits only.
        self._remaining = int(match[1], 16)
        if not self._remaining:
            self._trailing = 0
        return match.end()

    def _close_chunk(self, data: bytes, position: int) -> int:
        found = data[position : position + 2]
        if found == b"\r\n":
            self._closing = False
            return position + 2
        if found == b"\r":
            return 0
        msg = "the data of a chunk must end with CRLF"
        raise FramingError(msg)

    def _trailer(self, data: bytes, position: int) -> int:
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
        return match.end()


class BodyReader:
    """Read a body that ends where its framing says: after so many bytes, chunked, or never.

    `feed` returns what is the body's; when `done`, `rest` holds what came after it.
    """

    __slots__ = ("_decoder", "_remaining", "done", "rest")

    def __init__(self, length: int) -> None:
        """Expect `length` bytes, or CHUNKED, or UNTIL_CLOSE."""
        self._decoder = ChunkDecoder() if length == CHUNKED else None
        self._remaining = length
        self.done = False
        self.rest = b""

    @property
    def until_close(self) -> bool:
        """Whether only the end of the connection ends the body."""
        return self._remaining == UNTIL_CLOSE

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return the body's part of them. Raises FramingError."""
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
    """Raise unless the rest of the data may still become the line that is expected."""
    if partial.fullmatch(data, position) is None:
        raise FramingError(message)
