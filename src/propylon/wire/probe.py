"""Judge a request head of which only the beginning has arrived. Pure."""

from __future__ import annotations

import httptools

from propylon.errors import GatewayError, HeadersTooLarge, InvalidRequest
from propylon.wire import grammar
from propylon.wire.request import MALFORMED, NO_CALLBACKS, NO_LINE

__all__ = ["HeadProbe", "too_large"]

# RFC 9112, 3: at least 8000 bytes for a request line; a method of more than a few dozen is none.
_MAX_METHOD = 64
_TLS_HANDSHAKE = (
    b"\x16\x03"  # RFC 8446, 5.1: the type of the record, and the version that all of them claim
)
_SPEAKS_TLS = "the client speaks TLS, and this listener does not: it was asked by https://"


def too_large(head: bytes | bytearray, limit: int) -> GatewayError:
    """Return the error for a head of more than `limit` bytes: 431, or 400 if not even its method has an end."""
    # RFC 9112, 3 has a long method answered as an unknown one. 431 would ask the client for smaller
    # header fields, of which it has sent none.
    if b" " not in head[:_MAX_METHOD]:
        return InvalidRequest(NO_LINE, reason="a method without an end")
    msg = f"The head of a request may have {limit} bytes at the most"
    return HeadersTooLarge(msg)


class HeadProbe:
    """Check a request head while it arrives in pieces, so that a malformed one is refused at its first wrong byte.

    A client that never sends an empty line (bare LF, HTTP/0.9, a TLS handshake on a plain port) would otherwise hold
    its connection until the header timeout. `parse_request` reads a head that passes once more, as a whole.
    """

    __slots__ = ("_line", "_parser")

    def __init__(self) -> None:
        """Expect the request line."""
        self._parser = httptools.HttpRequestParser(NO_CALLBACKS)
        self._line: bytes | None = b""  # None once it is complete

    def feed(self, data: bytes) -> None:
        """Take the next piece of the head. Raises InvalidRequest as soon as no further bytes could make a head."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            tls = self._line == b"" and data.startswith(_TLS_HANDSHAKE)
            raise InvalidRequest(MALFORMED, reason=_SPEAKS_TLS if tls else str(error)) from error
        if self._line is None:
            return
        line, mark, _ = (self._line + data).partition(b"\n")
        self._line = None if mark else line
        if mark and (line[-1:] != b"\r" or grammar.REQUEST_LINE.fullmatch(line[:-1]) is None):
            raise InvalidRequest(NO_LINE)
