"""Read the content codings of requests, a bounded piece at a time.

Rules.

1. A call takes a small piece and returns a small piece, however much one holds of the other: 10 MB of zeros are 27 bytes of Brotli.
2. The window that a client may ask for is bounded: 8 MiB for Zstandard (RFC 9659), 16 MiB for Brotli (RFC 7932, 9.1), 32 KiB for
   the others.
3. Several members of gzip (RFC 1952, 2.2) and frames of Zstandard (RFC 8878, 3) may follow each other. Whatever else follows
   the end is an error: one reader would take it for a part of the body, the next one would not.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from propylon.proxy.coding.codecs import library, package_missing

__all__ = ["CorruptBody", "Decoder", "decoders"]

# zlib's `wbits`: the gzip format, and that of RFC 1950, which HTTP calls deflate (RFC 9110, 8.4.1.2).
_GZIP, _ZLIB = 31, 15
_ZSTD_WINDOW = 23


class CorruptBody(ValueError):
    """What came is not of the coding."""


class Decoder(Protocol):
    """Unpacks one body."""

    @property
    def pending(self) -> bool:
        """Whether more can be read before more is given."""

    @property
    def whole(self) -> bool:
        """Whether the body has ended, and nothing is behind its end."""

    def read(self, data: bytes, most: int) -> bytes:
        """Take a piece, which may be empty; return about `most` bytes. Raises CorruptBody."""


def decoders() -> Mapping[bytes, Callable[[], Decoder]]:
    """Return what makes decoders, by the codings that can be read here; the best known first."""
    found: dict[bytes, Callable[[], Decoder]] = {
        b"gzip": lambda: _Inflating(_GZIP),
        b"deflate": lambda: _Inflating(_ZLIB),
    }
    if not package_missing("br"):
        found[b"br"] = lambda: _Brotli(library("br"))
    if not package_missing("zstd"):
        found[b"zstd"] = lambda: _Zstandard(library("zstd"))
    return found


class _Inflating:
    """gzip, with its members one after the other, and deflate."""

    __slots__ = ("_full", "_left", "_made", "_wbits")

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._made = zlib.decompressobj(wbits)
        self._left = b""
        self._full = False  # the last piece was as long as it might be

    @property
    def pending(self) -> bool:
        return bool(self._left) or self._full

    @property
    def whole(self) -> bool:
        return self._made.eof and not self._left

    def read(self, data: bytes, most: int) -> bytes:
        data = self._left + data
        if self._made.eof and data:
            if self._wbits != _GZIP:
                msg = "bytes behind the end"
                raise CorruptBody(msg)
            self._made = zlib.decompressobj(self._wbits)
        try:
            out = self._made.decompress(data, most)
        except zlib.error as error:
            raise CorruptBody(str(error)) from error
        self._left = self._made.unused_data if self._made.eof else self._made.unconsumed_tail
        self._full = len(out) >= most
        return out


class _Brotli:
    """One stream."""

    __slots__ = ("_error", "_made", "_makes")

    def __init__(self, brotli: Any) -> None:
        self._made = brotli.Decompressor()
        self._error = brotli.error
        self._makes = False  # the last call has made something

    @property
    def pending(self) -> bool:
        # Not `can_accept_more_data` alone: it is true while a long run is still to be made of what it has taken.
        return not self.whole and (self._makes or not self._made.can_accept_more_data())

    @property
    def whole(self) -> bool:
        return bool(self._made.is_finished())

    def read(self, data: bytes, most: int) -> bytes:
        try:
            out: bytes = self._made.process(data, output_buffer_limit=most)
        except self._error as error:
            raise CorruptBody(str(error)) from error
        self._makes = bool(out)
        return out


class _Zstandard:
    """Frames, one after the other."""

    __slots__ = ("_left", "_library", "_made")

    def __init__(self, zstd: Any) -> None:
        self._library = zstd
        self._made = self._begun()
        self._left = b""

    def _begun(self) -> Any:
        longest = {self._library.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
        return self._library.ZstdDecompressor(options=longest)

    @property
    def pending(self) -> bool:
        return bool(self._left) or not (self._made.eof or self._made.needs_input)

    @property
    def whole(self) -> bool:
        return self._made.eof and not self._left

    def read(self, data: bytes, most: int) -> bytes:
        if self._made.eof:
            data = self._left + data
            if not data:
                return b""
            self._made, self._left = self._begun(), b""
        try:
            out: bytes = self._made.decompress(data, most)
        except self._library.ZstdError as error:
            raise CorruptBody(str(error)) from error
        if self._made.eof:
            self._left = self._made.unused_data
        return out
