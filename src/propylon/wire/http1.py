"""Read heads: bytes of a request or response head → a checked `Request` or `Response`.

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

import httptools  # type: ignore[import-untyped, unused-ignore]

from propylon.errors import (
    BadResponse,
    HeadersTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    UnknownExpectation,
)
from propylon.wire.framing import FramingError, content_length
from propylon.wire.headers import tokens, without
from propylon.wire.message import CHUNKED, NO_BODY, UNTIL_CLOSE, Request, Response, Special
from propylon.wire.target import ORIGIN_FORM

__all__ = ["HEAD_END", "MAX_FIELDS", "HeadProbe", "parse_request", "parse_response"]

HEAD_END = b"\r\n\r\n"
# Envoy allows 100, Node 2,000; browsers send about 20, long proxy chains about 60.
MAX_FIELDS = 256

# Every request header with a meaning for a gateway; `_` for `-` counts, because CGI, WSGI and PHP
# read `X_User_Id` and `X-User-Id` as one variable (CVE-2025-64484). These lines are taken out of the
# block; what may pass on is put back by whoever decides it.
_REQUEST_SPECIAL = re.compile(
    rb"\r\n(?=[acdefhkmopstux])("
    rb"host|connection|content[-_]length|transfer[-_]encoding|te|trailer|upgrade|expect|keep[-_]alive"
    rb"|proxy(?:[-_][^:]*)?|forwarded|max[-_]forwards|trace(?:parent|state)|authorization"
    rb"|x[-_](?:forwarded(?:[-_][^:]*)?|user[-_][^:]*|request[-_]id|real[-_]ip|original[-_]url"
    rb"|rewrite[-_]url|http[-_]method[-_]override)"
    rb"):[ \t]*([^\r]*)"
)
_RESPONSE_SPECIAL = re.compile(
    rb"\r\n(?=[cktpux])("
    rb"connection|content-length|transfer-encoding|te|trailer|upgrade|keep-alive"
    rb"|proxy-(?:authenticate|authentication-info|connection)|x-request-id|x-error-source"
    rb"):[ \t]*([^\r]*)"
)
_HOST = re.compile(
    rb"(?P<name>[A-Za-z0-9._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5})?)?"
)
_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.[01]\r")
_VERSIONS = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})( [^\r\n]*)?")
_MAX_PORT = 65535

OK = 200
NO_CONTENT = 204
NOT_MODIFIED = 304


class _Completion:
    """Notice that llhttp, too, sees the end of the head where we do."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen = False

    def on_headers_complete(self) -> None:
        self.seen = True


def parse_request(head: bytes) -> Request:
    """Read a request head, from the request line to the empty line.

    Raises InvalidRequest (400) for anything malformed or ambiguous, MethodNotAllowed (405) for
    CONNECT and TRACE, HeadersTooLarge (431) for too many fields, UnknownExpectation (417).
    """
    _validate_request(head)
    line_end = head.find(b"\r\n")
    parts = head[:line_end].split(b" ")
    version = _VERSIONS.get(parts[-1])
    if len(parts) != 3 or version is None:  # noqa: PLR2004 — method, target, version
        msg = "The request line is not METHOD SP target SP HTTP/1.1"
        raise InvalidRequest(msg)
    method = parts[0].decode("ascii")
    if method in ("CONNECT", "TRACE"):
        msg = f"{method} is not allowed"
        raise MethodNotAllowed(msg)
    block, special = _take_special(head[line_end:-4], _REQUEST_SPECIAL)
    path, query, authority = _target(parts[1])
    request = Request(method, path, query, version, block, special)
    _host(request, authority)
    _body(request)
    connection = special.get(b"connection")
    if connection is not None:
        _connection(request, connection)
    if b"expect" in special:
        _expect(request)
    return request


def _validate_request(head: bytes) -> None:
    completion = _Completion()
    try:
        httptools.HttpRequestParser(completion).feed_data(head)
    except httptools.HttpParserUpgrade:
        # Raised at the end of the head: llhttp stops where another protocol would begin. We decide
        # on upgrades ourselves.
        completion.seen = True
    except httptools.HttpParserError as error:
        msg = "The request is malformed"
        raise InvalidRequest(msg, reason=str(error)) from error
    if not completion.seen:
        msg = "The request is malformed"
        raise InvalidRequest(msg)
    if head.count(b"\n") > MAX_FIELDS:
        msg = f"More than {MAX_FIELDS} header fields"
        raise HeadersTooLarge(msg)


class HeadProbe:
    """Look at a request head while it trickles in, so that nonsense is refused at its first byte.

    Otherwise a client that never sends an empty line (bare LF, HTTP/0.9, a TLS handshake on a plain
    port) would be waited for until the header timeout. What passes is still read whole at the end.
    """

    __slots__ = ("_line", "_parser")

    def __init__(self) -> None:
        """Start before the request line."""
        self._parser = httptools.HttpRequestParser(_Completion())
        self._line: bytes | None = b""  # until it is complete

    def feed(self, data: bytes) -> None:
        """Take the next piece of the head; raise InvalidRequest as soon as it cannot be one."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            msg = "The request is malformed"
            raise InvalidRequest(msg, reason=str(error)) from error
        if self._line is None:
            return
        line, mark, _ = (self._line + data).partition(b"\n")
        self._line = None if mark else line
        if mark and _REQUEST_LINE.fullmatch(line) is None:
            msg = "The request line is not METHOD SP target SP HTTP/1.1"
            raise InvalidRequest(msg)


def _take_special(
    block: bytes, pattern: re.Pattern[bytes], kept: bytes = b""
) -> tuple[bytes, Special]:
    """Return the block without the lines that match, and their values by lower-case name.

    A name spelled with `_` is taken out too, and not recorded: it never had a right to a meaning.
    The name `kept` is recorded and stays where it is.
    """
    special: Special = {}
    pieces = []
    position = 0
    for match in pattern.finditer(block.lower()):
        start, end = match.span()
        name = match[1]
        if b"_" not in name:
            special.setdefault(name, []).append(block[match.start(2) : end].rstrip(b" \t"))
        if name != kept:
            pieces.append(block[position:start])
            position = end
    if not position:
        return block, special
    pieces.append(block[position:])
    return b"".join(pieces), special


def _target(target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Split a target into path, query and, for the absolute form, its authority."""
    authority = None
    if not target.startswith(b"/"):
        match = _ABSOLUTE.fullmatch(target)
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


def _host(request: Request, authority: bytes | None) -> None:
    """Fix the authority that the request is for (RFC 9112, 3.2; RFC 9110, 7.2)."""
    hosts = request.special.get(b"host")
    if hosts is None:
        # HTTP/1.0 knows no Host; load balancers still check health that way.
        if request.version == 1:
            msg = "The Host header is missing"
            raise InvalidRequest(msg)
        if authority is None:
            return
        hosts = [authority]
    if len(hosts) != 1:
        msg = "The Host header stands more than once"
        raise InvalidRequest(msg)
    host = hosts[0]
    request.authority = _authority(host)
    if authority is not None and authority.lower() != host.lower():
        # RFC 9112, 3.2.2 would have the target win; a request that names two hosts is refused
        # instead, because an upstream may let the other one win.
        msg = "The request target and the Host header name different hosts"
        raise InvalidRequest(msg)
    request.host = host


def _authority(host: bytes) -> bytes:
    match = _HOST.fullmatch(host)
    # The pattern admits at most five digits.
    if match is None or (match["port"] and int(match["port"]) > _MAX_PORT):
        msg = "The Host header is malformed"
        raise InvalidRequest(msg)
    return match["name"].lower()


def _body(request: Request) -> None:
    """Decide how long the body is (RFC 9112, 6.3)."""
    special = request.special
    lengths = special.get(b"content-length")
    codings = special.get(b"transfer-encoding")
    if codings is None:
        if lengths is not None:
            try:
                request.length = content_length(lengths)
            except FramingError as error:
                raise InvalidRequest(str(error)) from error
        return
    if lengths is not None or request.version == 0 or [c.lower() for c in codings] != [b"chunked"]:
        msg = "The framing of the body is ambiguous or unknown"
        raise InvalidRequest(msg)
    request.length = CHUNKED


def _connection(request: Request, lines: list[bytes]) -> None:
    """Obey `Connection`: what it names does not pass (RFC 9110, 7.6.1)."""
    named = tokens(lines)
    if named == [b"keep-alive"]:
        request.keep_alive = True
        return
    request.keep_alive = b"close" not in named and (
        request.version == 1 or b"keep-alive" in named
    )
    if b"upgrade" in named:
        _upgrade(request)
    request.block = without(request.block, named) if named else request.block


def _upgrade(request: Request) -> None:
    """Note what the client would rather speak; whether it may is decided by the route.

    A body before the switch is refused: uvicorn drops it, nghttpx and others left it in the
    connection to be read as the next request (CVE-2026-58055).
    """
    request.upgrade = b",".join(request.special.get(b"upgrade", [])).strip().lower()
    if request.upgrade and request.length not in (NO_BODY, 0):
        msg = "A request with a body cannot change the protocol"
        raise InvalidRequest(msg)


def _expect(request: Request) -> None:
    if request.version == 0:
        return  # RFC 9110, 10.1.1: ignored from HTTP/1.0
    if tokens(request.special[b"expect"]) != [b"100-continue"]:
        msg = "The expectation is not known"
        raise UnknownExpectation(msg)
    request.expects_continue = request.length not in (NO_BODY, 0)


def parse_response(head: bytes, method: str) -> Response:
    """Read a response head to a request with that method.

    Raises BadResponse (502) for anything malformed or ambiguous.
    """
    completion = _Completion()
    try:
        httptools.HttpResponseParser(completion).feed_data(head)
    except httptools.HttpParserUpgrade:
        completion.seen = True
    except httptools.HttpParserError as error:
        msg = "The upstream's answer is malformed"
        raise BadResponse(msg, reason=str(error)) from error
    line_end = head.find(b"\r\n")
    line = _STATUS_LINE.fullmatch(head, 0, line_end)
    if line is None or not completion.seen or head.count(b"\n") > MAX_FIELDS:
        msg = "The upstream's answer is malformed"
        raise BadResponse(msg, reason="status line or number of fields")
    status = int(line[2])  # three digits, says the pattern
    block, special = _take_special(
        head[line_end:-4], _RESPONSE_SPECIAL, kept=b"content-length"
    )
    length = _response_length(special, status, method, version=line[1])
    keep_alive = line[1] == b"1" and length != UNTIL_CLOSE
    connection = special.get(b"connection")
    if connection is not None:
        named = tokens(connection)
        keep_alive = b"close" not in named and (keep_alive or b"keep-alive" in named)
        if named not in ([b"keep-alive"], [b"close"]):
            block = without(block, [name for name in named if name != b"content-length"])
    if b"content-length" in special and (status == NO_CONTENT or status < OK):
        block = without(block, [b"content-length"])  # RFC 9110, 8.6: not in 1xx and 204
    reason = head[8:line_end] if line[3] else b" %d " % status
    return Response(status, reason, block, length, keep_alive=keep_alive)


def _response_length(special: Special, status: int, method: str, *, version: bytes) -> int:
    """Decide how long the body is (RFC 9112, 6.3); what could be read in two ways is refused."""
    codings = special.get(b"transfer-encoding")
    lengths = special.get(b"content-length")
    try:
        length = content_length(lengths) if lengths is not None else UNTIL_CLOSE
    except FramingError as error:
        msg = "The upstream's answer has no certain length"
        raise BadResponse(msg, reason=str(error)) from error
    if codings is not None:
        if lengths is not None or version == b"0" or [c.lower() for c in codings] != [b"chunked"]:
            msg = "The upstream's answer has no certain length"
            raise BadResponse(msg, reason="Transfer-Encoding")
        length = CHUNKED
    if method == "HEAD" or status < OK or status in (NO_CONTENT, NOT_MODIFIED):
        return NO_BODY
    return length
