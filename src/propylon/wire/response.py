"""Read response heads: bytes → a checked `Response`. Pure.

llhttp validates the head whole, as in `request`; what it lets through and could still be read in two
ways is refused here.
"""

from __future__ import annotations

import re

import httptools

from propylon.errors import BadResponse
from propylon.wire.framing import FramingError, content_length
from propylon.wire.grammar import STATUS_LINE
from propylon.wire.headers import MAX_FIELDS, Special, take, tokens, without
from propylon.wire.message import CHUNKED, NO_BODY, UNTIL_CLOSE, Response

__all__ = ["ResponseReader", "parse_response"]

_SPECIAL = re.compile(
    rb"\r\n("
    rb"connection|content-length|transfer-encoding|te|trailer|upgrade|keep-alive"
    rb"|proxy-(?:authenticate|authentication-info|connection)|x-request-id|x-error-source"
    rb"):[ \t]*([^\r]*)"
)
_LOOKED_AT = frozenset({b"content-length"})
_STATUSES = {b"%d" % status: status for status in range(100, 600)}
_OK = 200
_NO_CONTENT = 204
_NOT_MODIFIED = 304
_MALFORMED = "The upstream's answer is malformed"


class _Silent:
    """What llhttp reports to: nothing is asked of it but to accept or to refuse."""


_SILENT = _Silent()


class ResponseReader:
    """Read the heads of one connection, remembering the last final one.

    An upstream that gives the same answer again, within the second that its Date shows, sends the same
    bytes again; what was checked and taken apart once need not be again.
    """

    __slots__ = ("_head", "_method", "_response", "size")

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._head = b""
        self._method = ""
        self._response: Response | None = None
        self.size = 0  # of the head that is remembered

    def again(self, data: bytes, method: str) -> Response | None:
        """Return the response if `data` begins with the same head as the last one's."""
        if self._response is None or not data.startswith(self._head) or method != self._method:
            return None
        return self._response

    def read(self, head: bytes, method: str) -> Response:
        """Return the response of a whole head. Raises BadResponse."""
        response = parse_response(head, method)
        if response.status >= _OK:
            self._head, self._method, self._response = head, method, response
            self.size = len(head)
        return response


def parse_response(head: bytes, method: str) -> Response:
    """Read a response head to a request with that method.

    Raises BadResponse (502) for anything malformed or ambiguous.
    """
    try:
        httptools.HttpResponseParser(_SILENT).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # 101: whoever asked decides
    except httptools.HttpParserError as error:
        raise BadResponse(_MALFORMED, reason=str(error)) from error
    line_end = head.find(b"\r\n")
    line = STATUS_LINE.fullmatch(head, 0, line_end)
    if line is None or (len(head) > MAX_FIELDS and head.count(b"\n") > MAX_FIELDS):
        raise BadResponse(_MALFORMED, reason="status line or number of fields")
    version, digits, reason = line.groups()
    status = _STATUSES[digits]
    block, special = take(head[line_end:-4], _SPECIAL, kept=_LOOKED_AT)
    if status < _OK or status == _NO_CONTENT:
        if b"content-length" in special:  # RFC 9110, 8.6: neither has one
            block = without(block, [b"content-length"])
        length = NO_BODY
    else:
        length = _length(special, version)
    keep_alive = version == b"1" and length != UNTIL_CLOSE
    if method == "HEAD" or status == _NOT_MODIFIED:
        length, keep_alive = NO_BODY, version == b"1"
    connection = special.get(b"connection")
    if connection is not None and (connection != [b"keep-alive"] or version == b"0"):
        named = tokens(connection)
        framed = length != UNTIL_CLOSE
        stays = b"keep-alive" in named if version == b"0" else True
        keep_alive = framed and stays and b"close" not in named
        rest = [name for name in named if name not in _NEVER_NAMED]
        if rest:
            block = without(block, rest)
    # RFC 9112, 4: the space stands even where the reason is empty.
    return Response(status, b" " + digits + (reason or b" "), block, length, keep_alive=keep_alive)


# Not headers of their own, or framing, which no `Connection` may take away.
_NEVER_NAMED = frozenset({b"keep-alive", b"close", b"content-length"})


def _length(special: Special, version: bytes) -> int:
    """Decide how long the body is (RFC 9112, 6.3); what could be read in two ways is refused."""
    lengths = special.get(b"content-length")
    codings = special.get(b"transfer-encoding")
    message = "The upstream's answer has no certain length"
    if codings is not None:
        if lengths is not None or version == b"0" or [c.lower() for c in codings] != [b"chunked"]:
            raise BadResponse(message, reason="Transfer-Encoding")
        return CHUNKED
    if lengths is None:
        return UNTIL_CLOSE
    try:
        return content_length(lengths)
    except FramingError as error:
        raise BadResponse(message, reason=str(error)) from error
