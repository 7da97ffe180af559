"""Read response heads: from bytes to a checked `Response`. Pure.

Facts. The upstream's answer and the client's view of it must end at the same byte; else the next client on the
connection gets a part of this answer (response splitting, cache poisoning). An upstream is trusted no more than a
client there: what it sends may be what an attacker made it send.

Rules. llhttp checks every head, as in `request`. What it lets through and a client could read in another way is a 502,
and the connection is closed.
"""

from __future__ import annotations

import re

import httptools

from propylon.errors import BadResponse
from propylon.wire import native
from propylon.wire.framing import FramingError, content_length
from propylon.wire.grammar import STATUS_LINE
from propylon.wire.headers import MAX_FIELDS, Special, take, tokens, without
from propylon.wire.message import CHUNKED, NO_BODY, UNTIL_CLOSE, Response

__all__ = [
    "LOOKED_AT",
    "SPECIAL",
    "AnswerProbe",
    "ResponseReader",
    "is_event_stream",
    "parse_response",
]

# Headers for this hop alone (RFC 9110, 7.6.1), and those that the gateway itself sends with every
# answer. They do not pass. `Proxy-Authenticate` is for the gateway, and asking the client for a
# proxy password is phishing.
SPECIAL = re.compile(
    rb"\r\n("
    rb"connection|content-length|transfer-encoding|te|trailer|upgrade|keep-alive"
    rb"|proxy-(?:authenticate|authentication-info|connection)|x-request-id|x-error-source"
    rb"|location|content-location|refresh|link|set-cookie"
    rb"):[ \t]*([^\r]*)"
)
# These pass: a length may be needed where there is no body (HEAD, 304; RFC 9110, 8.6), and the others may hold an address
# of the upstream, which `proxy.public` changes.
_ADDRESSED = frozenset({b"location", b"content-location", b"refresh", b"link"})
LOOKED_AT = _ADDRESSED | {b"content-length", b"set-cookie"}
# RFC 9110, 15: looked up, not computed, on the hot path.
_STATUSES = {b"%d" % status: status for status in range(100, 1000)}
_OK = 200
_NO_CONTENT = 204
_NOT_MODIFIED = 304
_HTTP = b"HTTP/1."
_LATEST = b"HTTP/1.1 "
_VERSION_END = len(b"HTTP/1.1")
_MALFORMED = "The upstream's answer is malformed"


_EVENT_STREAM = re.compile(rb"(?i)\r\ncontent-type:[ \t]*text/event-stream[ \t]*(?:[;\r]|\Z)")


def is_event_stream(head: Response) -> bool:
    """Tell whether the body is a stream of server-sent events, which may be silent between two events."""
    return _EVENT_STREAM.search(head.block) is not None


class _NoCallbacks:
    """The object that llhttp would report to. It has no methods: llhttp only accepts or refuses."""


_NO_CALLBACKS = _NoCallbacks()


class ResponseReader:
    """Read the heads of one connection, and keep the last final one for an answer that repeats it.

    An upstream that gives the same answer twice within one second, which is what its Date shows, sends the same bytes
    twice.
    """

    __slots__ = ("_head", "_method", "_response", "size")

    def __init__(self) -> None:
        """Start with no head kept."""
        self._head = b""
        self._method = ""
        self._response: Response | None = None
        self.size = 0  # bytes of the head that is kept

    def again(self, data: bytes, method: str) -> Response | None:
        """Return the response if `data` begins with the last final head and the method is the same; else None."""
        if self._response is None or not data.startswith(self._head) or method != self._method:
            return None
        return self._response

    def read(self, head: bytes, method: str) -> Response:
        """Return the response of a whole head. Raises BadResponse (502)."""
        response = parse_response(head, method)
        # An interim head is followed by another one: keeping it would evict the final head each
        # time.
        if response.status >= _OK:
            self._head, self._method, self._response = head, method, response
            self.size = len(head)
        return response


class AnswerProbe:
    """Check a response head while it arrives in pieces, so that what is no HTTP/1 is refused at its first wrong byte.

    A bare LF at the end of a line, a TLS record or a banner never has the empty line that ends a head: the client would
    wait for `timeouts.first_byte`.
    """

    __slots__ = ("_parser", "_seen")

    def __init__(self) -> None:
        """Expect the status line."""
        self._parser = httptools.HttpResponseParser(_NO_CALLBACKS)
        self._seen = 0

    def feed(self, beginning: bytes) -> None:
        """Take all that has arrived of the head. Raises BadResponse as soon as no further bytes could make a head."""
        if not beginning.startswith(_HTTP[: len(beginning)]):
            msg = "The upstream does not speak HTTP/1"
            raise BadResponse(msg)
        new, self._seen = beginning[self._seen :], len(beginning)
        try:
            self._parser.feed_data(new)
        except httptools.HttpParserError as error:
            raise BadResponse(_MALFORMED, reason=str(error)) from error


def parse_response(head: bytes, method: str) -> Response:
    """Read one response head to a request with this method.

    Raises BadResponse (502) for a head that is malformed or ambiguous.
    """
    read = native.response(head)
    status, told, block, special = read if read is not None else _judge(head)
    # RFC 9112, 2.3: llhttp has seen to it that this is 1.0 or 1.1.
    latest = read is not None or head.startswith(_LATEST)
    # RFC 9112, 6.3, rule 1: interim answers, 204, 304 and answers to HEAD end with their head,
    # whatever they say.
    if status < _OK or status == _NO_CONTENT:
        if (
            b"content-length" in special
        ):  # RFC 9110, 8.6: must not be sent; a client could wait for a body
            block = without(block, [b"content-length"])
        length = NO_BODY
    else:
        length = _length(special, latest=latest)
    keep_alive = latest and length != UNTIL_CLOSE
    # After `_length`: an ambiguous framing is a 502 even where there is no body, since the upstream
    # is confused.
    if method == "HEAD" or status == _NOT_MODIFIED:
        length, keep_alive = NO_BODY, latest
    connection = special.get(b"connection")
    # RFC 9112, 9.3: when the connection persists. What `Connection` names is for this hop alone.
    if connection is not None and (connection != [b"keep-alive"] or not latest):
        named = tokens(connection)
        framed = length != UNTIL_CLOSE
        stays = latest or b"keep-alive" in named
        keep_alive = framed and stays and b"close" not in named
        rest = [name for name in named if name not in _NEVER_NAMED]
        if rest:
            block = without(block, rest)
    response = Response(status, told, block, length, keep_alive=keep_alive)
    if len(special) > 1 or length < 0:  # else Content-Length is the only one
        response.addressed = not _ADDRESSED.isdisjoint(special)
        response.sets_cookies = b"set-cookie" in special
    return response


def _judge(head: bytes) -> tuple[int, bytes, bytes, Special]:
    """Return status, reason, block and special lines of a head that llhttp accepts. Raises BadResponse."""
    try:
        httptools.HttpResponseParser(_NO_CALLBACKS).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # 101: the caller knows whether it asked for another protocol
    except httptools.HttpParserError as error:
        raise BadResponse(_MALFORMED, reason=str(error)) from error
    line_end = head.find(b"\r\n")
    line = STATUS_LINE.fullmatch(head, 0, line_end)
    if line is None or (len(head) > MAX_FIELDS and head.count(b"\n") > MAX_FIELDS):
        raise BadResponse(_MALFORMED, reason="status line or number of fields")
    _, digits, reason = line.groups()
    block, special = take(head[line_end:-4], SPECIAL, kept=LOOKED_AT)
    # RFC 9112, 4: the space stands even where the reason is empty.
    told = head[_VERSION_END:line_end] if reason else b" %b " % digits
    return _STATUSES[digits], told, block, special


# Options of the connection that are no headers; and Content-Length: without it the client could not
# tell a whole answer from one that was cut short.
_NEVER_NAMED = frozenset({b"keep-alive", b"close", b"content-length"})


def _length(special: Special, *, latest: bool) -> int:
    """Return the length of the body (RFC 9112, 6.3). Raises BadResponse for what is ambiguous or unknown."""
    lengths = special.get(b"content-length")
    codings = special.get(b"transfer-encoding")
    message = "The upstream's answer has no certain length"
    if codings is not None:
        # 6.3, rule 3: a proxy must remove Content-Length beside it; an upstream that sends both is
        # confused, or under attack. 6.1: HTTP/1.0 has no codings.
        if lengths is not None or not latest or [c.lower() for c in codings] != [b"chunked"]:
            raise BadResponse(message, reason="Transfer-Encoding")
        return CHUNKED
    if lengths is None:
        return UNTIL_CLOSE
    try:
        return content_length(lengths)
    except FramingError as error:
        raise BadResponse(message, reason=str(error)) from error
