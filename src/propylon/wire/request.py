"""Read request heads: bytes → a checked `Request`. Pure.

llhttp validates a head whole: names, values, line ends, Content-Length against Transfer-Encoding;
no leniency is switched on. It is given no callback per header, which is worth a quarter of the
gateway's speed: what it accepted is then searched for the few names that matter, with one pattern.
Bodies never pass through llhttp: `framing` reads them, so that the end of a message is known to the
byte and the next head can be handed over whole.

What llhttp lets through and is refused here (measured on httptools 0.9.0): a missing, doubled or
malformed Host, two spaces in the request line, `GET *`, Transfer-Encoding in HTTP/1.0 or other
than `chunked`, Content-Length spelled twice.
"""

from __future__ import annotations

import re
from functools import lru_cache

import httptools

from propylon.errors import HeadersTooLarge, InvalidRequest, MethodNotAllowed, UnknownExpectation
from propylon.wire.framing import HEAD_END, FramingError, content_length
from propylon.wire.grammar import (
    ABSOLUTE_FORM,
    HOST,
    MAX_PORT,
    ORIGIN_FORM,
    PLAIN_REQUEST_LINE,
    REQUEST_LINE,
)
from propylon.wire.headers import MAX_FIELDS, take, tokens, without
from propylon.wire.message import CHUNKED, LOOKED_AT, NO_BODY, Fields, Request

__all__ = ["FieldsMemory", "HeadProbe", "HeadReader", "host_name", "parse_request"]

# Every request header with a meaning for a gateway; `_` for `-` counts, because CGI, WSGI and PHP
# read `X_User_Id` and `X-User-Id` as one variable (CVE-2025-64484). These lines are taken out of the
# block; what may pass on is put back by whoever decides it. A few are only looked at.
_SPECIAL = re.compile(
    rb"\r\n("
    rb"host|connection|content[-_]length|transfer[-_]encoding|te|trailer|upgrade|expect|keep[-_]alive"
    rb"|proxy(?:[-_][^:]*)?|forwarded|max[-_]forwards|trace(?:parent|state)|authorization"
    rb"|origin|access[-_]control[-_]request[-_](?:method|headers)|dnt|sec[-_]gpc"
    rb"|x[-_](?:forwarded(?:[-_][^:]*)?|user[-_][^:]*|request[-_]id|real[-_]ip|original[-_]url"
    rb"|rewrite[-_]url|http[-_]method[-_]override|privacy[-_]level)"
    rb"):[ \t]*([^\r]*)"
)
_VERSIONS = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_MALFORMED = "The request is malformed"
_NO_LINE = "The request line is not METHOD SP target SP HTTP/1.1"
_SHORTEST_FIELD = len(b"a:\r\n")
_KEEP_ALIVE = [b"keep-alive"]
# Sets of header lines; a browser's are about 700 bytes, so this is a megabyte at the most usual.
_REMEMBERED = 512
_REMEMBERED_SIZE = 4096  # bytes: what is idle must not hold a large head
# The methods that most requests have; llhttp knows 30 more, which take the longer way.
_COMMON = {
    method.encode(): method
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}


class _Silent:
    """What llhttp reports to: nothing is asked of it but to accept or to refuse."""


_SILENT = _Silent()


class HeadReader:
    """Read the heads of one connection, remembering the header lines of the last one.

    Clients that keep a connection open send the same lines again and again; what was checked and
    taken apart once need not be again. Only the request line is looked at then. What is remembered
    is bounded: one block a connection.
    """

    __slots__ = ("_fields", "_tail")

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._tail = b""
        self._fields: Fields | None = None

    def again(self, data: bytes) -> Request | None:
        """Return the request if `data` is one whole head with the same header lines as the last."""
        end = data.find(b"\r\n")
        fields = self._fields
        if fields is None or data[end:] != self._tail:
            return None
        usual = _usual(data, end)
        if usual is None:
            return None
        method, path, query = usual
        return Request(method, data[:end], path, query, fields)

    def read(self, head: bytes) -> Request:
        """Return the request of a head that ends at its first empty line.

        Raises what `parse_request` raises.
        """
        request = _parse(head)
        fields = request.fields
        end = head.find(b"\r\n")
        if request.version == 1 and fields.remembered and len(head) - end <= _REMEMBERED_SIZE:
            self._tail = head[end:]
            self._fields = fields
        return request


class FieldsMemory:
    """Remember what header lines said, for those who know nothing of connections (ASGI).

    The key is every byte of the lines; what is remembered is bounded.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._known: dict[bytes, Fields] = {}

    def read(self, line: bytes, lines: bytes) -> Request:
        """Return the request of a request line and header lines (CRLF in front of each).

        Raises what `parse_request` raises.
        """
        fields = self._known.get(lines)
        usual = _usual(line, len(line))
        if fields is not None and usual is not None:
            method, path, query = usual
            return Request(method, line, path, query, fields)
        if REQUEST_LINE.fullmatch(line) is None:
            raise InvalidRequest(_NO_LINE)  # a line end in it would hide header lines from the key
        request = parse_request(line + lines + HEAD_END)
        small = len(lines) <= _REMEMBERED_SIZE
        if small and request.version == 1 and request.fields.remembered:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[lines] = request.fields
        return request


def parse_request(head: bytes) -> Request:
    """Read a request head, from the request line to the empty line.

    Raises InvalidRequest (400) for anything malformed or ambiguous, MethodNotAllowed (405) for CONNECT,
    HeadersTooLarge (431) for too many fields, UnknownExpectation (417).
    """
    if head.find(HEAD_END) != len(head) - len(HEAD_END):
        # Not from our own edge, which cuts there: a server whose header values hold line ends.
        raise InvalidRequest(_MALFORMED, reason="more than one head")
    return _parse(head)


def _parse(head: bytes) -> Request:
    _validate(head)
    line_end = head.find(b"\r\n")
    usual = _usual(head, line_end)
    if usual is not None:
        method, path, query = usual
        fields = _fields(head[line_end:-4], 1, None)
        return Request(method, head[:line_end], path, query, fields)
    return _parse_unusual(head, line_end)


def _usual(head: bytes, line_end: int) -> tuple[str, bytes, bytes] | None:
    """Read a request line of the kind that nearly all are; None if it is of another."""
    match = PLAIN_REQUEST_LINE.fullmatch(head, 0, line_end)
    if match is None:
        return None
    name, path, query = match.groups()
    method = _COMMON.get(name)
    return None if method is None else (method, path, query or b"")


def _parse_unusual(head: bytes, line_end: int) -> Request:
    line = head[:line_end]
    # llhttp skips line ends before the method, and allows more than one space.
    if REQUEST_LINE.fullmatch(line) is None:
        raise InvalidRequest(_NO_LINE)
    parts = line.split(b" ")
    version = _VERSIONS[parts[2]]
    method = parts[0].decode("ascii")
    if method == "CONNECT":
        msg = "CONNECT is not allowed: this is no forward proxy"
        raise MethodNotAllowed(msg)
    path, query, authority = _target(parts[1])
    fields = _fields(head[line_end:-4], version, authority)
    if authority is not None:
        line = b"%b %b%b %b" % (parts[0], path, query, parts[2])
    return Request(method, line, path, query, fields)


def _validate(head: bytes) -> None:
    try:
        httptools.HttpRequestParser(_SILENT).feed_data(head)
    except httptools.HttpParserUpgrade:
        # Raised at the end of the head: llhttp stops where another protocol would begin. We decide
        # on upgrades ourselves.
        pass
    except httptools.HttpParserError as error:
        raise InvalidRequest(_MALFORMED, reason=str(error)) from error
    if len(head) > MAX_FIELDS * _SHORTEST_FIELD and head.count(b"\n") > MAX_FIELDS:
        msg = f"More than {MAX_FIELDS} header fields"
        raise HeadersTooLarge(msg)


def _target(target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Split a target into path, query and, for the absolute form, its authority."""
    authority = None
    if not target.startswith(b"/"):
        match = ABSOLUTE_FORM.fullmatch(target)
        if match is None:
            msg = "The request target is not a path"
            raise InvalidRequest(msg)
        authority = match["authority"]
        rest = match["rest"]
        target = rest if rest.startswith(b"/") else b"/" + rest
    if ORIGIN_FORM.fullmatch(target) is None:
        msg = "The request target holds a byte that does not belong there"
        raise InvalidRequest(msg)
    path, mark, query = target.partition(b"?")
    return path, mark + query, authority


def _fields(lines: bytes, version: int, authority: bytes | None) -> Fields:
    """Take the header lines apart and judge what they say together."""
    block, special = take(lines, _SPECIAL, LOOKED_AT)
    fields = Fields(block, special, version)
    _host(fields, authority)
    if b"content-length" in special or b"transfer-encoding" in special:
        _body(fields)
    connection = special.get(b"connection")
    if connection is not None:
        _connection(fields, connection)
    if b"expect" in special:
        _expect(fields)
    fields.remembered = authority is None
    return fields


def _host(fields: Fields, authority: bytes | None) -> None:
    """Fix the authority that the request is for (RFC 9112, 3.2; RFC 9110, 7.2)."""
    hosts = fields.special.get(b"host")
    if hosts is None:
        # HTTP/1.0 knows no Host; load balancers still check health that way.
        if fields.version == 1:
            msg = "The Host header is missing"
            raise InvalidRequest(msg)
        if authority is None:
            return
        hosts = [authority]
    if len(hosts) != 1:
        msg = "The Host header stands more than once"
        raise InvalidRequest(msg)
    host = hosts[0]
    name = host_name(host)
    if authority is not None and authority.lower() != host.lower():
        # RFC 9112, 3.2.2 would have the target win; a request that names two hosts is refused
        # instead, because an upstream may let the other one win.
        msg = "The request target and the Host header name different hosts"
        raise InvalidRequest(msg)
    fields.host = host
    fields.authority = name


@lru_cache(maxsize=256)
def host_name(host: bytes) -> bytes:
    """Return the lower-case name in a Host, without its port. Raises InvalidRequest."""
    match = HOST.fullmatch(host)
    # The pattern admits at most five digits.
    if match is None or (match["port"] and int(match["port"]) > MAX_PORT):
        msg = "The Host header is malformed"
        raise InvalidRequest(msg)
    # RFC 1034, 3.1: with the dot at its end it is the same name.
    name = match["name"].lower().removesuffix(b".")
    # An empty label is nobody's name (RFC 1035, 2.3.1); who drops it would see the host of another route.
    if not name or b".." in b".%b." % name:
        msg = "The Host header is malformed"
        raise InvalidRequest(msg)
    return name


def _body(fields: Fields) -> None:
    """Decide how long the body is (RFC 9112, 6.3)."""
    lengths = fields.special.get(b"content-length")
    codings = fields.special.get(b"transfer-encoding")
    if codings is None:
        try:
            fields.length = content_length(lengths or [])
        except FramingError as error:
            raise InvalidRequest(str(error)) from error
        return
    if lengths is not None or fields.version == 0 or [c.lower() for c in codings] != [b"chunked"]:
        msg = "The framing of the body is ambiguous or unknown"
        raise InvalidRequest(msg)
    fields.length = CHUNKED


def _connection(fields: Fields, lines: list[bytes]) -> None:
    """Obey `Connection`: what it names does not pass (RFC 9110, 7.6.1)."""
    if lines == _KEEP_ALIVE:  # what browsers send
        fields.keep_alive = True
        return
    named = tokens(lines)
    fields.keep_alive = b"close" not in named and (fields.version == 1 or b"keep-alive" in named)
    if b"upgrade" in named:
        _upgrade(fields)
    rest = [name for name in named if name not in _NEVER_NAMED]
    if rest:
        fields.block = without(fields.block, rest)


# Not headers of their own; and the token, without which the upstream would see somebody else.
_NEVER_NAMED = frozenset({b"keep-alive", b"close", b"upgrade", b"authorization"})


def _upgrade(fields: Fields) -> None:
    """Note what the client would rather speak; whether it may is decided by the route.

    A body before the switch is refused: uvicorn drops it, nghttpx and others left it in the
    connection to be read as the next request (CVE-2026-58055).
    """
    fields.upgrade = b",".join(fields.special.get(b"upgrade", [])).strip().lower()
    if fields.upgrade and fields.length not in (NO_BODY, 0):
        msg = "A request with a body cannot change the protocol"
        raise InvalidRequest(msg)


def _expect(fields: Fields) -> None:
    if fields.version == 0:
        return  # RFC 9110, 10.1.1: ignored from HTTP/1.0
    if tokens(fields.special[b"expect"]) != [b"100-continue"]:
        msg = "The expectation is not known"
        raise UnknownExpectation(msg)
    fields.expects_continue = fields.length not in (NO_BODY, 0)


class HeadProbe:
    """Look at a request head while it trickles in, so that nonsense is refused at its first byte.

    Otherwise a client that never sends an empty line (bare LF, HTTP/0.9, a TLS handshake on a plain
    port) would be waited for until the header timeout. What passes is still read whole at the end.
    """

    __slots__ = ("_line", "_parser")

    def __init__(self) -> None:
        """Start before the request line."""
        self._parser = httptools.HttpRequestParser(_SILENT)
        self._line: bytes | None = b""  # until it is complete

    def feed(self, data: bytes) -> None:
        """Take the next piece of the head; raise InvalidRequest as soon as it cannot be one."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise InvalidRequest(_MALFORMED, reason=str(error)) from error
        if self._line is None:
            return
        line, mark, _ = (self._line + data).partition(b"\n")
        self._line = None if mark else line
        if mark and (line[-1:] != b"\r" or REQUEST_LINE.fullmatch(line[:-1]) is None):
            raise InvalidRequest(_NO_LINE)
