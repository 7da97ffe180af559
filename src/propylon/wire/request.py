"""Read request heads: from bytes to a checked `Request`. Pure.

Facts. llhttp (Node's parser, by httptools) checks names, values and line ends, and Content-Length against
Transfer-Encoding. It lets through (httptools 0.9.0) a missing, repeated or malformed Host, two spaces in the request
line, `GET *`, Transfer-Encoding in HTTP/1.0 or other than `chunked`, and two equal Content-Lengths.

Rules.

1. llhttp sees every head, whole, with no leniency switched on. What it lets through and an upstream could read in
   another way is refused here.
2. Bodies never go through llhttp. `framing` reads them, so that the end of a message is known to the byte.

Strategy. llhttp gets no callback for each header, which saves a quarter of the gateway's time. The head that it accepted
is searched for the few names that matter, with one pattern. Clients on kept-alive connections repeat their header
lines; lines that equal the last ones are not read again. The compiled part (`native`), where there is one, has read nearly all
others before llhttp is asked.
"""

from __future__ import annotations

import re

import httptools

from propylon.errors import (
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    UnknownExpectation,
)
from propylon.wire import grammar, native
from propylon.wire.framing import HEAD_END, FramingError, content_length
from propylon.wire.headers import MAX_FIELDS, take, tokens, without
from propylon.wire.lookalikes import LOOKALIKE
from propylon.wire.message import ASTERISK, CHUNKED, LOOKED_AT, NO_BODY, Fields, Request
from propylon.wire.target import host_name

__all__ = [
    "MALFORMED",
    "NO_CALLBACKS",
    "NO_LINE",
    "SPECIAL",
    "FieldsMemory",
    "HeadReader",
    "parse_request",
]

# Every request header with a meaning for a gateway: hop-by-hop (RFC 9110, 7.6.1), about the client
# (X-Forwarded-*, Forwarded, X-Client-Cert-*), about the user (X-User-*), and those that make a framework see another
# URL or method. These lines are removed; the stage that decides about one puts it back. Those of
# LOOKED_AT stay. What a reader could take for one of them is removed, and has no name here.
SPECIAL = re.compile(
    rb"\r\n(?:("
    rb"host|connection|content-length|transfer-encoding|te|trailer|upgrade|expect|keep-alive"
    rb"|proxy(?:-[^:]*)?|forwarded|max-forwards|trace(?:parent|state)|authorization"
    rb"|origin|access-control-request-(?:method|headers)|dnt|sec-gpc"
    rb"|x-(?:forwarded(?:-[^:]*)?|user-[^:]*|client-cert-[^:]*|request-id|real-ip|original-url"
    rb"|rewrite-url|http-method-override|privacy-level|propylon-explain)"
    rb")|" + LOOKALIKE + rb"):[ \t]*([^\r]*)"
)
_VERSIONS = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
MALFORMED = "The request is malformed"
NO_LINE = "The request line is not METHOD SP target SP HTTP/1.1"
# A head that is shorter than so many of these has no more fields than that: nearly all need no counting.
_SHORTEST_FIELD = len(b"a:\r\n")
_KEEP_ALIVE = [b"keep-alive"]
# Sets of header lines that `FieldsMemory` keeps. A browser's lines are about 700 bytes, so that is
# about a megabyte for each worker, with what was read from them.
_REMEMBERED = 512
# Bytes of one set. Ten thousand idle connections that keep 64 KiB each would be 640 MB.
_REMEMBERED_SIZE = 4096
# Methods that nearly all requests have. llhttp knows 30 more; a request with one takes the longer
# way.
_COMMON = {
    method.encode(): method
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}


class _NoCallbacks:
    """The object that llhttp would report to. It has no methods: llhttp only accepts or refuses."""


NO_CALLBACKS = _NoCallbacks()


class HeadReader:
    """Read the heads of one connection, and keep the last one's header lines for a request that repeats them.

    Only whole lines are compared, byte for byte, and they were checked together. The request line is read each time.
    """

    __slots__ = ("_tail", "fields", "size")

    def __init__(self) -> None:
        """Start with no lines kept."""
        self._tail = b""
        self.fields: Fields | None = None  # of the lines that are kept
        self.size = 0  # bytes of the head that `again` has found

    def again(self, data: bytes, limit: int) -> Request | None:
        """Return the request if `data` begins with a head whose header lines repeat the last ones; else None.

        A head of more than `limit` bytes is not looked at. What comes behind the head begins at `size`.
        """
        fields = self.fields
        end = data.find(b"\r\n", 0, limit)
        # The lines end with an empty one and have no other: what begins with them is a whole head.
        if fields is None or not data.startswith(self._tail, end):
            return None
        size = end + len(self._tail)
        common = _read_common(data, end) if size <= limit else None
        if common is None:
            return None
        self.size = size
        method, path, query = common
        return Request(method, data[:end], path, query, fields)

    def at_once(self, data: bytes, limit: int) -> Request | None:
        """Return the request if `data` is exactly one head of at most `limit` bytes that the compiled part accepts.

        None says nothing: the head is for `read`, which also tells why one is refused.
        """
        parts = native.request(data) if len(data) <= limit else None
        if parts is None:
            return None
        try:
            request = _accepted(parts)
        except GatewayError:
            return None
        self._keep(data, len(request.line), request)
        return request

    def read(self, head: bytes) -> Request:
        """Return the request of a whole head, which the caller has cut at its first empty line.

        Raises what `parse_request` raises.
        """
        end = head.find(b"\r\n")
        request = _parse(head, end)
        self._keep(head, end, request)
        return request

    def _keep(self, head: bytes, end: int, request: Request) -> None:
        """Keep the header lines, which begin at `end`."""
        fields = request.fields
        # HTTP/1.0 keeps no connection alive unless it says so: there is seldom a next request.
        if request.version == 1 and fields.remembered and len(head) - end <= _REMEMBERED_SIZE:
            self._tail = head[end:]
            self.fields = fields


class FieldsMemory:
    """Keep header lines that were read, for the ASGI edge, which does not see connections.

    The key is every byte of the lines: a client can only find what it sent itself.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        """Start with no lines kept."""
        self._known: dict[bytes, Fields] = {}

    def read(self, line: bytes, lines: bytes) -> Request:
        """Return the request of a request line and a block of header lines.

        Raises what `parse_request` raises.
        """
        fields = self._known.get(lines)
        common = _read_common(line, len(line))
        if fields is not None and common is not None:
            method, path, query = common
            return Request(method, line, path, query, fields)
        # A line end within the request line would make header lines that are not part of the key.
        if grammar.REQUEST_LINE.fullmatch(line) is None:
            raise InvalidRequest(NO_LINE)
        request = parse_request(line + lines + HEAD_END)
        small = len(lines) <= _REMEMBERED_SIZE
        if small and request.version == 1 and request.fields.remembered:
            # Emptied as a whole: cheaper than an LRU, and the lines in use are back after one
            # request each.
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[lines] = request.fields
        return request


def parse_request(head: bytes) -> Request:
    """Read one request head, from the request line to the empty line.

    Raises InvalidRequest (400) for a head that is malformed or ambiguous, MethodNotAllowed (405) for CONNECT,
    HeadersTooLarge (431) for too many fields, UnknownExpectation (417).
    """
    if head.find(HEAD_END) != len(head) - len(HEAD_END):
        # Our own edge cuts heads there. An ASGI server that passes line ends in values is caught
        # here.
        raise InvalidRequest(MALFORMED, reason="more than one head")
    return _parse(head, head.find(b"\r\n"))


def _parse(head: bytes, line_end: int) -> Request:
    parts = native.request(head)
    if parts is not None:
        return _accepted(parts)
    _validate(head)
    common = _read_common(head, line_end)
    if common is not None:
        method, path, query = common
        fields = _fields(head[line_end:-4], 1, None)
        return Request(method, head[:line_end], path, query, fields)
    return _parse_uncommon(head, line_end)


def _accepted(parts: native.RequestParts) -> Request:
    """Return the request that the compiled part has read. Raises InvalidRequest, UnknownExpectation."""
    method, line, path, query, block, special = parts
    return Request(method, line, path, query, _checked(Fields(block, special, 1), None))


def _read_common(head: bytes, line_end: int) -> tuple[str, bytes, bytes] | None:
    """Return method, path and query of a common request line (origin form, HTTP/1.1); None for any other."""
    match = grammar.PLAIN_REQUEST_LINE.fullmatch(head, 0, line_end)
    if match is None:
        return None
    name, path, query = match.groups()
    method = _COMMON.get(name)
    return None if method is None else (method, path, query or b"")


def _parse_uncommon(head: bytes, line_end: int) -> Request:
    line = head[:line_end]
    # RFC 9112, 3: one space each. llhttp skips line ends before the method, and allows more than
    # one space; readers that split on any white space take `GET /a b HTTP/1.1` for two different
    # targets.
    if grammar.REQUEST_LINE.fullmatch(line) is None:
        raise InvalidRequest(NO_LINE)
    parts = line.split(b" ")
    version = _VERSIONS[parts[2]]
    method = parts[0].decode("ascii")
    # RFC 9110, 9.3.6: a tunnel to any host and port; an open proxy reaches the inside of the
    # network.
    if method == "CONNECT":
        msg = "CONNECT is not allowed: this is no forward proxy"
        raise MethodNotAllowed(msg)
    path, query, authority = _target(parts[1], method)
    fields = _fields(head[line_end:-4], version, authority)
    # RFC 9112, 3.2.1: a request to an origin server has the origin form.
    if authority is not None:
        line = b"%b %b%b %b" % (parts[0], path, query, parts[2])
    return Request(method, line, path, query, fields)


def _validate(head: bytes) -> None:
    try:
        httptools.HttpRequestParser(NO_CALLBACKS).feed_data(head)
    except httptools.HttpParserUpgrade:
        # Raised at the end of a sound head: llhttp stops where another protocol would begin.
        # Whether the client may change the protocol is for `_upgrade` and the route to decide.
        pass
    except httptools.HttpParserError as error:
        raise InvalidRequest(MALFORMED, reason=str(error)) from error
    if len(head) > MAX_FIELDS * _SHORTEST_FIELD and head.count(b"\n") > MAX_FIELDS:
        msg = f"More than {MAX_FIELDS} header fields"
        raise HeadersTooLarge(msg)


def _target(target: bytes, method: str) -> tuple[bytes, bytes, bytes | None]:
    """Split a target into path, query and, for the absolute form, its authority.

    `*` of OPTIONS is a path by itself: it asks about the gateway as a whole (RFC 9112, 3.2.4). Raises InvalidRequest
    for `*` of any other method and for the authority form (3.2.3): no route matches them.
    """
    authority = None
    if target == ASTERISK and method == "OPTIONS":
        return ASTERISK, b"", None
    if not target.startswith(b"/"):
        match = grammar.ABSOLUTE_FORM.fullmatch(target)
        if match is None:
            msg = "The request target is not a path"
            raise InvalidRequest(msg)
        authority = match["authority"]
        rest = match["rest"]
        # RFC 9110, 4.2.3: an empty path is `/`.
        target = rest if rest.startswith(b"/") else b"/" + rest
    if grammar.ORIGIN_FORM.fullmatch(target) is None:
        msg = "The request target holds a byte that does not belong there"
        raise InvalidRequest(msg)
    path, mark, query = target.partition(b"?")
    return path, mark + query, authority


def _fields(lines: bytes, version: int, authority: bytes | None) -> Fields:
    """Take the header lines apart and check them against each other. Raises InvalidRequest, UnknownExpectation."""
    block, special = take(lines, SPECIAL, LOOKED_AT)
    return _checked(Fields(block, special, version), authority)


def _checked(fields: Fields, authority: bytes | None) -> Fields:
    """Check the special lines against each other, and fill in what they say. Raises InvalidRequest, UnknownExpectation."""
    special = fields.special
    _host(fields, authority)
    if b"content-length" in special or b"transfer-encoding" in special:
        _body(fields)
    connection = special.get(b"connection")
    if connection is not None:
        _connection(fields, connection)
    if b"expect" in special:
        _expect(fields)
    # Lines that were checked against an absolute form's authority say nothing for the next request.
    fields.remembered = authority is None
    return fields


def _host(fields: Fields, authority: bytes | None) -> None:
    """Set the authority that the request is for (RFC 9112, 3.2; RFC 9110, 7.2). Raises InvalidRequest."""
    hosts = fields.special.get(b"host")
    if hosts is None:
        # RFC 9112, 3.2: HTTP/1.1 must have one, or 400. HTTP/1.0 knows none, and load balancers
        # check health with it.
        if fields.version == 1:
            msg = "The Host header is missing"
            raise InvalidRequest(msg)
        if authority is None:
            return
        hosts = [authority]
    # RFC 9112, 3.2: more than one is 400. The gateway would route by one and the upstream by the
    # other.
    if len(hosts) != 1:
        msg = "The Host header stands more than once"
        raise InvalidRequest(msg)
    host = hosts[0]
    name = host_name(host)
    if authority is not None and authority.lower() != host.lower():
        # RFC 9112, 3.2.2 lets the target win. A request that names two hosts is refused instead,
        # because an upstream may let the other one win.
        msg = "The request target and the Host header name different hosts"
        raise InvalidRequest(msg)
    fields.host = host
    fields.authority = name


def _body(fields: Fields) -> None:
    """Set the length of the body (RFC 9112, 6.3). Raises InvalidRequest for what is ambiguous or unknown."""
    lengths = fields.special.get(b"content-length")
    codings = fields.special.get(b"transfer-encoding")
    if codings is None:
        try:
            fields.length = content_length(lengths or [])
        except FramingError as error:
            raise InvalidRequest(str(error)) from error
        return
    # 6.3, rule 3: both headers together ought to be an error: CL.TE smuggling. 6.1:
    # Transfer-Encoding in HTTP/1.0 is faulty framing. 7: a coding that we do not know would hide
    # where the body ends.
    if lengths is not None or fields.version == 0 or [c.lower() for c in codings] != [b"chunked"]:
        msg = "The framing of the body is ambiguous or unknown"
        raise InvalidRequest(msg)
    fields.length = CHUNKED


def _connection(fields: Fields, lines: list[bytes]) -> None:
    """Remove the headers that `Connection` names: they are for this hop alone (RFC 9110, 7.6.1)."""
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


# Options of the connection that are no headers. And `Authorization`, which a client must not be
# able to remove after the gateway has read it: the upstream would see an anonymous request.
# `X-User-*` and the other headers about the client are out of reach, because the gateway adds them
# later (CVE-2024-45410 in Traefik).
_NEVER_NAMED = frozenset({b"keep-alive", b"close", b"upgrade", b"authorization"})


def _upgrade(fields: Fields) -> None:
    """Set the protocol that the client offers to change to (RFC 9110, 7.8); the route decides whether it takes it.

    A server may ignore the offer. JDK's client makes it with every request, those with a body included (`h2c`).
    """
    fields.upgrade = b",".join(fields.special.get(b"upgrade", [])).strip().lower()


def _expect(fields: Fields) -> None:
    # RFC 9110, 10.1.1: a server must ignore it from an HTTP/1.0 client, and may answer 417 to what
    # it does not know.
    if fields.version == 0:
        return
    if tokens(fields.special[b"expect"]) != [b"100-continue"]:
        msg = "The expectation is not known"
        raise UnknownExpectation(msg)
    fields.expects_continue = fields.length not in (NO_BODY, 0)
