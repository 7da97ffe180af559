"""Make heads at random, sound and broken ones, and hold the compiled part's reading of them beside Python's."""

from collections.abc import Callable
from random import Random
from typing import Any

from propylon.errors import GatewayError
from propylon.wire import native
from propylon.wire.lookalikes import _KNOWN
from propylon.wire.request import parse_request
from propylon.wire.response import parse_response

Native = Callable[[bytes], Any]

_REQUEST_LINES = (
    *(b"%b /a?b=c HTTP/1.1" % m for m in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")),
    b"GET / HTTP/1.1",
    b"GET /%2e%2e/;x//y?q=a?b&c=%zz HTTP/1.1",
    b'GET /"<>[]^{|}\\`? HTTP/1.1',
    b"GET * HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET http://a.test/x HTTP/1.1",
    b"GET /a HTTP/1.0",
    b"GET /a#b HTTP/1.1",
    b"GET  /a HTTP/1.1",
    b"get /a HTTP/1.1",
    b"QUERY /a HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"CONNECT a.test:443 HTTP/1.1",
)  # fmt: skip
_STATUS_LINES = (
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 200",
    b"HTTP/1.1 404 Not\tFound  ",
    b"HTTP/1.1 599 \xc3\xa9",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 999 x",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 099 x",
    b"HTTP/1.0 200 OK",
    b"HTTP/2.0 200 OK",
    b"HTTP/1.1  200 OK",
)
_NAMES = (
    tuple(
        b"""host connection content-length transfer-encoding te trailer upgrade expect keep-alive proxy proxy-connection
    proxy-authorization proxy-authenticate proxy-authentication-info proxy- forwarded max-forwards traceparent tracestate
    authorization origin access-control-request-method access-control-request-headers dnt sec-gpc x-forwarded x-forwarded-
    x-forwarded-for x-forwarded-proto x-user-id x-user- x-user x-user-a x-client-cert x-client-cert- x-client-cert-subject
    x-request-id x-real-ip x-original-url x-rewrite-url x-http-method-override x-privacy-level location content-location
    refresh link set-cookie x-error-source accept user-agent cookie cache-control content-type date server etag
    sec-fetch-dest x-username proxied h2 hosts x-users x a""".split()
    )
    + tuple(name.encode() for name in _KNOWN)
)
_USUAL = (
    b"accept",
    b"user-agent",
    b"cookie",
    b"set-cookie",
    b"location",
    b"origin",
    b"authorization",
    b"x-a",
    b"date",
)
_VALUES = (
    b"0", b"5", b"007", b"123456789012345678", b"1234567890123456789", b"5, 5", b"+5", b"5 5", b"0x5", b"-0", b"5;",
    b"a.test", b"a.test:80", b"[::1]:8000", b"a..test", b"", b"keep-alive", b"Keep-Alive", b"close", b"upgrade",
    b"keep-alive, X-A", b"Upgrade, HTTP2-Settings", b"authorization", b"content-length", b"chunked", b"Chunked",
    b"gzip, chunked", b"chunked, chunked", b"identity", b"xchunked", b"chunked\xa0", b"100-continue", b"100-Continue ,",
    b"websocket", b"h2c", b"trailers", b"text/html, */*;q=0.8", b"a\tb", b"\xc3\xa9\xff", b"a" * 9 + b"\t" + b"\x80" * 20,
    b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", b"Bearer abc.def-ghi_jkl", b":", b"a: b",
)  # fmt: skip
_BLANKS = (b" ", b"", b"  ", b"\t", b" \t ")
_BYTES = bytes(range(256)) + b"\r\n\r\n\0 \t:-_." * 8
_PIECES = (
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b": ",
    b"\r\n ",
    b"-",
    b"_",
    b"\x7f",
    b"\x80",
)


def _name(random: Random) -> bytes:
    name = random.choice(_NAMES if random.random() < 0.4 else _USUAL)
    way = random.randrange(12)
    if way < 4:
        name = name.title() if way else name.upper()
    elif way == 4:
        name = name.replace(b"-", random.choice((b"_", b".", b"", b"--", b"1", b"~")))
    elif way == 5:
        at = random.randrange(len(name) + 1)
        name = name[:at] + random.choice((b"-", b"_", b".", b"1", b"'", b"z")) + name[at:]
    return name


def _line(random: Random) -> bytes:
    value = random.choice(_VALUES)
    before, behind = random.choice(_BLANKS), (
        random.choice(_BLANKS) if random.random() < 0.2 else b""
    )
    return _name(random) + b":" + before + value + behind


def _likely(random: Random, *, request: bool) -> list[bytes]:
    """Lines that make a sound head, as a rule."""
    lines = [random.choice((b"Host: a.test", b"host:a.test:80"))] if request else []
    if random.random() < 0.5:
        lines.append(b"Content-Length:%b%d" % (random.choice(_BLANKS), random.randrange(10**6)))
    elif random.random() < 0.4:
        lines.append(b"Transfer-Encoding: " + random.choice((b"chunked", b"Chunked")))
    return lines


def random_head(random: Random, *, request: bool) -> bytes:
    """A head: in half of the cases sound, as far as it goes; in the others with a few bytes changed."""
    first_lines = _REQUEST_LINES if request else _STATUS_LINES
    first = random.choice(first_lines[:8] if random.random() < 0.8 else first_lines)
    lines = _likely(random, request=request) if random.random() < 0.9 else []
    lines += [
        _line(random)
        for _ in range(random.choice((0, 1, 2, 3, 5, 60) if random.random() < 0.9 else (250, 260)))
    ]
    if len(lines) > 20:  # none of the special names too often
        lines = [line if at < 6 else b"X-N%d: %b" % (at, line[:4]) for at, line in enumerate(lines)]
    random.shuffle(lines)
    head = b"\r\n".join((first, *lines)) + b"\r\n\r\n"
    return head if random.random() < 0.5 else _broken(random, head)


def _broken(random: Random, head: bytes) -> bytes:
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(head) + 1)
        piece = random.choice(_PIECES) if random.random() < 0.4 else bytes((random.choice(_BYTES),))
        way = random.randrange(5)
        if way == 0:
            head = head[:at] + piece + head[at:]
        elif way == 1:
            head = head[:at] + piece + head[at + len(piece) :]
        elif way == 2:
            head = head[:at] + head[at + random.randrange(1, 6) :]
        elif way == 3:
            head = head[:at] + head[random.randrange(len(head) + 1) :]
        else:
            head = head[:at]
        if not head:
            break
    return head


def said(read: Callable[[], Any]) -> object:
    """All that a head was read as, or why it was refused."""
    try:
        message = read()
    except GatewayError as error:
        return type(error), str(error), error.reason
    found = {name: getattr(message, name) for name in type(message).__slots__}
    fields = found.pop("fields", None)
    return (
        found
        if fields is None
        else found | {name: getattr(fields, name) for name in type(fields).__slots__}
    )


def compare(head: bytes, *, request: bool, compiled: Native) -> bool:
    """Tell whether the compiled part accepts a head; raise AssertionError if Python reads it in another way."""
    if compiled(head) is None:
        return False
    ways: list[Callable[[], Any]] = (
        [lambda: parse_request(head)]
        if request
        else [lambda: parse_response(head, "GET"), lambda: parse_response(head, "HEAD")]
    )
    name = "request" if request else "response"
    before = getattr(native, name)
    try:
        setattr(native, name, compiled)
        quick = [said(way) for way in ways]
        setattr(native, name, lambda _: None)
        slow = [said(way) for way in ways]
    finally:
        setattr(native, name, before)
    assert quick == slow, head
    return True
