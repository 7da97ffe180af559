"""The grammar: the border cases of each rule, asked of everything that uses it. All must give the same verdict."""

import ast
import asyncio
import re
from collections.abc import Callable, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.exceptions import HTTPException

import propylon
from propylon.config.models import syntax
from propylon.config.models.schema import GatewayConfig
from propylon.control import revoke
from propylon.control.identity import require_roles, require_scopes
from propylon.control.policies import compose_policies
from propylon.control.token_schemas import TokenForm
from propylon.edge.trust import Trust
from propylon.errors import (
    AuthError,
    BadResponse,
    GatewayError,
    InternalError,
    InvalidRequest,
    Refused,
)
from propylon.names.addresses import AllowList
from propylon.proxy.authenticate import bearer
from propylon.proxy.authenticate.claims import Rules, principal_of
from propylon.proxy.challenge import insufficient
from propylon.proxy.cors import Cors
from propylon.proxy.outgoing import hops
from propylon.proxy.principal import ANONYMOUS, Principal, identify
from propylon.services.retry import retry_after_seconds
from propylon.stores import user_rules
from propylon.stores.users import InvalidUser, User
from propylon.telemetry.access_log import Stamp
from propylon.upstream.inprocess import InProcess
from propylon.upstream.ports import Answer, Outgoing, Timeouts
from propylon.wire import grammar
from propylon.wire.framing import ChunkDecoder, FramingError
from propylon.wire.grammar import date_time, read_date_time
from propylon.wire.headers import fields
from propylon.wire.message import Request
from propylon.wire.request import parse_request
from propylon.wire.response import parse_response
from tests.upstream.peer import Collected, run

Verdict = Callable[[Any], bool]


def taken(check: Callable[[Any], object], *errors: type[Exception]) -> Verdict:
    """Whether a check lets a value pass; it raises one of `errors`, or ValueError, otherwise."""

    def verdict(value: Any) -> bool:
        try:
            check(value)
        except (ValueError, *errors):
            return False
        return True

    return verdict


def request(*lines: bytes, method: bytes = b"GET", target: bytes = b"/") -> Request:
    """A request with these header lines; Host is among them or added."""
    block = b"".join(b"\r\n" + line for line in lines)
    if b"\r\nhost:" not in block.lower():
        block = b"\r\nHost: a.test" + block
    return parse_request(b"%b %b HTTP/1.1%b\r\n\r\n" % (method, target, block))


def answered(*headers: tuple[bytes, bytes]) -> Answer:
    """The answer of an app in this process that sends these headers."""

    async def app(scope: object, receive: object, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": list(headers)}
        await send(start)
        await send({"type": "http.response.body", "body": b"hello"})

    async def main() -> Answer:
        outgoing = Outgoing("GET", b"GET / HTTP/1.1", b"", None, Timeouts(), float("inf"))
        return await InProcess(app, asyncio.get_running_loop()).send(outgoing, Collected())

    return run(main())


def refusing(headers: MutableMapping[str, str]) -> Refused:
    """What becomes of a policy that refuses with these headers."""

    async def policy(request: Request, principal: Principal) -> None:
        raise HTTPException(403, "no", headers=dict(headers))

    async def main() -> Refused:
        try:
            await compose_policies([policy], 60.0)(request(), ANONYMOUS)
        except Refused as refused:
            return refused
        raise AssertionError

    return run(main())


def trailer(line: bytes) -> bytes:
    """Read a chunked body that ends with this trailer line. Raises FramingError."""
    decoder = ChunkDecoder()
    decoder.feed(b"0\r\n" + line + b"\r\n\r\n")
    if not decoder.done or decoder.rest:
        raise FramingError
    return line


# RFC 6749, 3.3: scope-token, without the comma

SCOPES = {
    "read": True,
    "a": True,
    "orders:write": True,
    "https://api.example.com/orders?x=1#y": True,
    "!": True,
    "~": True,
    "[a]": True,
    "it's": True,
    "x" * 300: True,
    "": False,
    " ": False,
    "a b": False,
    "a,b": False,
    ",": False,
    'a"': False,
    "a\\b": False,
    "é": False,
    "a\u00a0b": False,
    "a\tb": False,
    "a\r\nb": False,
    "a\n": False,
    "a\x00": False,
    "\x7f": False,
    "\u0663": False,
    "\ud800": False,
}
SCOPE_USERS: dict[str, Verdict] = {
    "grammar": lambda text: grammar.SCOPE_TEXT.fullmatch(text) is not None,
    "configuration": taken(syntax.check_scope),
    "token": lambda text: principal_of({"sub": "42", "scopes": [text]}, Rules()).scopes == {text},
    "endpoint": taken(require_scopes),
    "user": taken(
        lambda text: user_rules.check_user(User("ann", scopes=frozenset({text}))), InvalidUser
    ),
    "header": taken(lambda text: identify(Principal("42", scopes=[text]))),
    # RFC 6749, 3.3: a server may ignore scopes that it is asked for. What is no scope is not granted.
    "token form": lambda text: _granted({text}) if _asked(text) == {text} else False,
}


def _asked(text: str) -> set[str]:
    """The scopes that a form asks for; none if the endpoint refuses the form."""
    try:
        return set((TokenForm(scope=text).scope or "").split())
    except ValidationError:
        return set()


def _granted(asked: set[str]) -> bool:
    """Whether all these scopes can be granted: a user can be added who has them."""
    return all(map(SCOPE_USERS["user"], asked))


@pytest.mark.parametrize("user", SCOPE_USERS)
@pytest.mark.parametrize(("text", "fits"), SCOPES.items(), ids=ascii)
def test_rfc6749_3_3_scope(user: str, text: str, fits: bool) -> None:
    """A scope is the same to the configuration, a token, an endpoint, the users and the upstream."""
    assert SCOPE_USERS[user](text) is fits


@pytest.mark.parametrize("text", [text for text, fits in SCOPES.items() if fits], ids=ascii)
def test_rfc6750_3_a_scope_fits_into_a_challenge(text: str) -> None:
    """A scope that a route asks for neither ends the quotes of the challenge nor its line."""
    ((_, value),) = insufficient("no", [text]).headers
    assert grammar.FIELD_VALUE.fullmatch(value)
    assert value.decode().endswith(f'scope="{text}"')
    assert value.count(b'"') == 4


# Roles are no matter of an RFC, but they travel as scopes do

ROLES = {
    "clerk": True,
    "Domain Admins": True,
    "Domain\u00a0Admins": True,
    'say "hi"': True,
    "é": True,
    "": False,
    " ": False,
    " admin": False,
    "admin ": False,
    "a,b": False,
    "a\nb": False,
    "a\x85b": False,
    "a\u2028b": False,
    "\ud800": False,
}
ROLE_USERS: dict[str, Verdict] = {
    "configuration": taken(syntax.check_role),
    "token": lambda text: principal_of({"sub": "42", "roles": [text]}, Rules()).roles == {text},
    "endpoint": taken(require_roles),
    "header": taken(lambda text: identify(Principal("42", roles=[text]))),
}


@pytest.mark.parametrize("user", ROLE_USERS)
@pytest.mark.parametrize(("text", "fits"), ROLES.items(), ids=ascii)
def test_role(user: str, text: str, fits: bool) -> None:
    """A role that can be asked for is one that a token can carry, and no other."""
    assert ROLE_USERS[user](text) is fits


# RFC 9110, 5.6.2: token

TOKENS = {
    "a": True,
    "X-A": True,
    "x_a": True,
    "!#$%&'*+.^_`|~": True,
    "0": True,
    "x" * 300: True,
    "": False,
    "a b": False,
    "a ": False,
    "a\t": False,
    "a[b]": False,
    "a/b": False,
    "a(b)": False,
    'a"b': False,
    "a,b": False,
    "a\x7f": False,
    "a\x80": False,
    "a\n": False,
    "a\r\nb": False,
}
TOKEN_USERS: dict[str, Verdict] = {
    "grammar": lambda text: grammar.TOKEN.fullmatch(text.encode("latin-1")) is not None,
    "grammar, text": lambda text: grammar.TOKEN_TEXT.fullmatch(text) is not None,
    "configuration": taken(lambda text: syntax.check_token(text, "name")),
    "request": taken(lambda text: request(text.encode("latin-1") + b": v"), InvalidRequest),
    "response": taken(
        lambda text: parse_response(
            b"HTTP/1.1 200 OK\r\n" + text.encode("latin-1") + b": v\r\n\r\n", "GET"
        ),
        BadResponse,
    ),
    "trailer": taken(lambda text: trailer(text.encode("latin-1") + b": v")),
    "policy": lambda text: any(
        name.decode() == text for name, _ in refusing({text: "v"}).headers if name
    ),
    "in process": taken(lambda text: answered((text.encode("latin-1"), b"v")), InternalError),
}


@pytest.mark.parametrize("user", TOKEN_USERS)
@pytest.mark.parametrize(("text", "fits"), TOKENS.items(), ids=ascii)
def test_rfc9110_5_6_2_token(user: str, text: str, fits: bool) -> None:
    """A field name is the same to llhttp, to our own patterns and to what operators and teams write."""
    assert TOKEN_USERS[user](text) is fits


@pytest.mark.parametrize(
    ("text", "fits"),
    # OWS may stand around an element of the list, and a comma parts two; an empty one is none (5.6.1).
    [
        (text, fits)
        for text, fits in TOKENS.items()
        if fits or not re.search(r"[,\r\n\x7f]|\s\Z", text)
    ],
    ids=ascii,
)
def test_rfc9110_5_6_2_names_that_a_preflight_asks_for(text: str, fits: bool) -> None:
    """Of the headers that a page wants to send, those that are names are allowed."""
    asking = request(
        b"Origin: https://a.test",
        b"Access-Control-Request-Method: PUT",
        b"Access-Control-Request-Headers: " + text.encode("latin-1"),
        method=b"OPTIONS",
    )
    block = dict(fields(Cors(frozenset({b"https://a.test"})).preflight(asking, b"PUT").block))
    assert (block.get(b"Access-Control-Allow-Headers") == text.encode("latin-1")) is fits


# RFC 9110, 5.5: field-value

VALUES = {
    b"": True,
    b"a": True,
    b"a b\tc": True,
    b"!~": True,
    b"caf\xe9": True,
    "caf\u00e9".encode(): True,
    b"\x80\xff": True,
    b"a\nb": False,
    b"a\rb": False,
    b"a\r\nb": False,
    b"a\r\nX-User-Id: root": False,
    b"a\x00b": False,
    b"a\x0bb": False,
    b"a\x1bb": False,
    b"a\x7fb": False,
}
VALUE_USERS: dict[str, Verdict] = {
    "grammar": lambda sent: grammar.FIELD_VALUE.fullmatch(sent) is not None,
    "grammar, text": lambda sent: bool(grammar.FIELD_VALUE_TEXT.fullmatch(sent.decode("latin-1"))),
    "request": lambda sent: _passed(lambda: request(b"X-A: " + sent).block, sent),
    "response": lambda sent: _passed(
        lambda: parse_response(b"HTTP/1.1 200 OK\r\nX-A: %b\r\n\r\n" % sent, "GET").block, sent
    ),
    "trailer": taken(lambda sent: trailer(b"X-A: " + sent)),
    "policy": lambda sent: refusing({"X-A": sent.decode("latin-1")}).headers == ((b"X-A", sent),),
    "in process": taken(lambda sent: answered((b"x-a", sent)), InternalError),
}


def _passed(read: Callable[[], bytes], sent: bytes) -> bool:
    """Whether a head was accepted with that value, and as one line."""
    try:
        return (b"X-A", sent) in fields(read())
    except GatewayError:
        return False


@pytest.mark.parametrize("user", VALUE_USERS)
@pytest.mark.parametrize(("sent", "fits"), VALUES.items(), ids=repr)
def test_rfc9110_5_5_field_value(user: str, sent: bytes, fits: bool) -> None:
    """No value that would end its line passes: not a client's, an upstream's, a policy's or an endpoint's."""
    if user == "trailer" and sent == b"a\r\nX-User-Id: root":
        return  # two trailers, both well formed: read and dropped
    assert VALUE_USERS[user](sent) is fits


@pytest.mark.parametrize("padded", [" a", "a ", "\ta", "a\t", " a\t "])
def test_rfc9110_5_5_white_space_is_not_the_value(padded: str) -> None:
    """White space around a value is taken off where it is sent, and an error where it is written down."""
    sent = padded.encode()
    assert grammar.FIELD_VALUE.fullmatch(sent) is None
    assert not taken(syntax.check_header_value)(padded)
    assert refusing({"X-A": padded}).headers == ((b"X-A", b"a"),)
    assert answered((b"x-a", sent)).head.block.startswith(b"\r\nx-a: a\r\n")
    assert fields(request(b"X-A:" + sent).block)[-1] == (b"X-A", b"a")


@pytest.mark.parametrize(("sent", "fits"), VALUES.items(), ids=repr)
def test_rfc9110_5_5_what_an_operator_writes_is_ascii(sent: bytes, fits: bool) -> None:
    """A value of the configuration is one that passes everywhere, less what has no agreed encoding."""
    text = sent.decode("latin-1")
    assert taken(syntax.check_header_value)(text) is (fits and text.isascii())


# RFC 9110, 8.6: Content-Length

LENGTHS = {
    b"0": True,
    b"5": True,
    b"005": True,
    b"9" * 18: True,
    b"": False,
    b"+5": False,
    b"-5": False,
    b"5_0": False,
    b"0x5": False,
    b"5.0": False,
    b"5,5": False,
    b"5 5": False,
    "\u0665".encode(): False,
    b"1" * 19: False,
    b"0" * 5000: False,
}
LENGTH_USERS: dict[str, Verdict] = {
    "grammar": lambda sent: grammar.CONTENT_LENGTH.fullmatch(sent) is not None,
    "request": taken(lambda sent: request(b"Content-Length: " + sent), InvalidRequest),
    "response": taken(
        lambda sent: parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n" % sent, "GET"),
        BadResponse,
    ),
}


@pytest.mark.parametrize("user", LENGTH_USERS)
@pytest.mark.parametrize(("sent", "fits"), LENGTHS.items(), ids=lambda value: repr(value)[:20])
def test_rfc9110_8_6_content_length(user: str, sent: bytes, fits: bool) -> None:
    """A length is digits, in a request and in a response."""
    assert LENGTH_USERS[user](sent) is fits


@pytest.mark.parametrize("sent", [[b"+5"], [b"5_0"], [b"0x5"], [b""], [b"5", b"5"], [b"5", b"6"]])
def test_rfc9110_8_6_an_endpoint_is_held_to_it(sent: list[bytes]) -> None:
    """An endpoint whose Content-Length is none fails: the client would read two of them."""
    with pytest.raises(InternalError):
        answered(*[(b"content-length", value) for value in sent])
    assert answered((b"Content-Length", b"5")).head.block == b"\r\nContent-Length: 5"


# RFC 9110, 7.6.2 and 10.2.3: other numbers


@pytest.mark.parametrize(
    ("sent", "left"),
    [(b"0", 0), (b"10", 10), (b"007", 7), (b"999", 999)]
    + [(sent, None) for sent in (b"", b"-1", b"+1", b"1_0", b"1.0", b"1000", b"1, 2", b"\xd9\xa3")],
)
def test_rfc9110_7_6_2_max_forwards(sent: bytes, left: int | None) -> None:
    """Max-Forwards is a small number, or the request is refused."""
    if left is None:
        with pytest.raises(InvalidRequest):
            hops(request(b"Max-Forwards: " + sent))
    else:
        assert hops(request(b"Max-Forwards: " + sent)) == left


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [(b"0", 0.0), (b"120", 120.0), (b"9" * 10, 9999999999.0)]
    + [
        (sent, 0.0)
        for sent in (b"", b"-1", b"1.5", b"1_0", b"1" * 11, b"Fri, 31 Dec 1999 23:59:59 GMT")
    ],
)
def test_rfc9110_10_2_3_retry_after(sent: bytes, seconds: float) -> None:
    """Retry-After in seconds is waited for; a date and anything else is not."""
    assert retry_after_seconds(b"\r\nRetry-After: " + sent) == seconds


# RFC 9110, 11.4 and RFC 6750, 2.1: the token of a request


@pytest.mark.parametrize(
    ("sent", "token"),
    [
        (b"Bearer abc", b"abc"),
        (b"bearer  abc", b"abc"),
        (b"BEARER a.b-c_d~e+f/g==", b"a.b-c_d~e+f/g=="),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Bearer =", None),
        (b"Bearer a=b", None),
        (b"Bearer a b", None),
        (b"Bearer\tabc", None),
        (b"Bearer a,b", None),
        (b'Bearer "abc"', None),
        (b"Bearer a\xe9", None),
        (b"Basic abc", None),
    ],
)
def test_rfc6750_2_1_b64token(sent: bytes, token: bytes | None) -> None:
    """One token68 behind the scheme, in any case of the scheme; anything else is no bearer token."""
    if token is None:
        with pytest.raises(AuthError):
            bearer._token([sent])
    else:
        assert bearer._token([sent]) == token


# RFC 3986, 3.2.2 and RFC 9110, 7.2: Host

HOSTS = {
    b"a.test": True,
    b"A.test:8080": True,
    b"a.test:": True,
    b"a.test:65535": True,
    b"a_b": True,
    b"a.": True,
    b"127.0.0.1": True,
    b"[::1]": True,
    b"[::1]:80": True,
    b"x" * 255: True,
    b"x" * 256: False,
    b"": False,
    b".": False,
    b"a..b": False,
    b":80": False,
    b"a:b": False,
    b"a:80:80": False,
    b"a:65536": False,
    b"a:100000": False,
    b"a:+80": False,
    b"::1": False,
    b"[::1": False,
    b"[::1]x": False,
    b"[]": False,
    b"[" + b"0" * 46 + b"]": False,
    b"a b": False,
    b"a/b": False,
    b"a@b": False,
    b"a%2eb": False,
    b"<a>": False,
    b"caf\xe9": False,
}
HOST_USERS: dict[str, Verdict] = {
    "Host": taken(lambda host: request(b"Host: " + host), InvalidRequest),
    "absolute form": taken(
        lambda host: request(b"Host: " + host, target=b"http://%b/" % host), InvalidRequest
    ),
    "X-Forwarded-Host": lambda host: (
        Trust([])
        .refine(Trust([]).origin("10.0.0.1", "http"), request(b"X-Forwarded-Host: " + host))
        .host
        == host
    ),
}


@pytest.mark.parametrize("user", HOST_USERS)
@pytest.mark.parametrize(("host", "fits"), HOSTS.items(), ids=lambda value: repr(value)[:20])
def test_rfc9110_7_2_host(user: str, host: bytes, fits: bool) -> None:
    """A host that a client may ask for is one that a trusted proxy may report, and no other."""
    assert HOST_USERS[user](host) is fits


PORTS = {
    "1": True,
    "80": True,
    "00080": True,
    "65535": True,
    "65536": False,
    "100000": False,
    "-1": False,
    "+80": False,
    "8_0": False,
    " 80": False,
    "80 ": False,
    "8.0": False,
    "\u0663": False,
}
PORT_USERS: dict[str, Verdict] = {
    "grammar": lambda text: grammar.read_port(text) is not None,
    "configuration": taken(syntax.check_port),
    "url": taken(lambda text: syntax.check_url(f"http://a.test:{text}")),
    "Host": taken(lambda text: request(f"Host: a.test:{text}".encode()), InvalidRequest),
}


@pytest.mark.parametrize("user", PORT_USERS)
@pytest.mark.parametrize(("text", "fits"), PORTS.items(), ids=ascii)
def test_rfc3986_3_2_3_port(user: str, text: str, fits: bool) -> None:
    """A port is the same in a configuration and in a Host."""
    if user == "Host" and text == "80 ":
        return  # white space at the end belongs to the line
    assert PORT_USERS[user](text) is fits


def test_rfc3986_3_2_3_port_zero() -> None:
    """Nothing listens on port 0, so no URL may name it; what a client calls the host is its own affair."""
    assert grammar.read_port("0") == 0
    assert not PORT_USERS["configuration"]("0")
    assert not PORT_USERS["url"]("0")
    assert PORT_USERS["Host"]("0")


# RFC 9112, 3: the request line

LINES = {
    b"GET / HTTP/1.1": True,
    b"GET /a?b HTTP/1.0": True,
    b"GET http://a.test/ HTTP/1.1": True,
    b"GET  / HTTP/1.1": False,
    b"GET / HTTP/1.1 ": False,
    b" GET / HTTP/1.1": False,
    b"GET\t/ HTTP/1.1": False,
    b"GET / HTTP/2.0": False,
    b"GET /": False,
    b"G(T / HTTP/1.1": False,
    b"GET /\x00 HTTP/1.1": False,
    b"GET / HTTP/1.1\n": False,
}


@pytest.mark.parametrize(("line", "fits"), LINES.items(), ids=repr)
def test_rfc9112_3_request_line(line: bytes, fits: bool) -> None:
    """Three parts with one space between them; the pattern says what the whole reader says."""
    assert (grammar.REQUEST_LINE.fullmatch(line) is not None) is fits
    read = taken(lambda sent: parse_request(sent + b"\r\nHost: a.test\r\n\r\n"), GatewayError)
    assert read(line) is fits


@given(st.binary(max_size=8))
def test_rfc9112_3_2_1_the_plain_line_reads_no_more(rest: bytes) -> None:
    """What the short way takes for a target is one by the long way, too, cut at the same place."""
    match = grammar.PLAIN_REQUEST_LINE.fullmatch(b"GET /%b HTTP/1.1" % rest)
    assert (match is not None) is (grammar.ORIGIN_FORM.fullmatch(b"/" + rest) is not None)
    if match is not None:
        path, mark, query = (b"/" + rest).partition(b"?")
        assert (match[2], match[3] or b"") == (path, mark + query)
        assert grammar.REQUEST_LINE.fullmatch(match[0])


@pytest.mark.parametrize(
    "text",
    [
        "/a",
        "/a%2Fb",
        "/~a.b-c_d",
        "/a;b=c",
        "/@:!$&'()*+,=",
        "/a%zz",
        "/a%",
        "/a b",
        "/a?b",
        "/a#b",
        "/\u00e9",
    ],
)
def test_rfc3986_3_3_a_path_of_the_configuration_can_be_asked_for(text: str) -> None:
    """A path that an operator may write is one that a client may send; an escape is complete in it."""
    if taken(lambda path: syntax.check_path(path, names=False))(text):
        assert grammar.ORIGIN_FORM.fullmatch(text.encode("ascii"))
        assert not grammar.BAD_ESCAPE.search(text.encode("ascii"))
        assert request(target=text.encode("ascii")).path == text.encode("ascii")
    else:
        assert text in {"/a%zz", "/a%", "/a b", "/a?b", "/a#b", "/\u00e9"}


# RFC 3339: times

TIMES = {
    "2026-01-01T00:00:00Z": 1767225600.0,
    "2026-01-01t00:00:00z": 1767225600.0,
    "2026-01-01T01:00:00+01:00": 1767225600.0,
    "2025-12-31T23:30:00-00:30": 1767225600.0,
    "2026-01-01T00:00:00.25Z": 1767225600.25,
    "2026-01-01T00:00:00.123456789Z": 1767225600.123456,
    "1970-01-01T00:00:00Z": 0.0,
    "9999-12-31T23:59:59Z": float(grammar.LATEST),
    "2026-01-01T00:00:00": None,
    "2026-01-01 00:00:00Z": None,
    "2026-01-01": None,
    "20260101T000000Z": None,
    "2026-W01-1T00:00:00Z": None,
    "2026-1-1T00:00:00Z": None,
    "2026-02-31T00:00:00Z": None,
    "2026-01-01T24:00:00Z": None,
    "2026-01-01T00:60:00Z": None,
    "2026-01-01T00:00:60Z": None,
    "2026-01-01T00:00Z": None,
    "2026-01-01T00:00:00.Z": None,
    "2026-01-01T00:00:00+24:00": None,
    "2026-01-01T00:00:00+0100": None,
    "2026-01-01T00:00:00 01:00": None,
    "10000-01-01T00:00:00Z": None,
    "0000-01-01T00:00:00Z": None,
    "2026-01-01T00:00:00Z\n": None,
    "\u0662026-01-01T00:00:00Z": None,
}


@pytest.mark.parametrize(("text", "seconds"), TIMES.items(), ids=ascii)
def test_rfc3339_5_6_date_time(text: str, seconds: float | None) -> None:
    """A moment is the same to the grammar and to the endpoint that takes one."""
    for read in (read_date_time, revoke._parse_moment):
        if seconds is None:
            assert not taken(read, ValueError, GatewayError)(text)
        else:
            assert read(text) == pytest.approx(seconds, abs=1e-5)


@given(st.integers(0, grammar.LATEST))
def test_rfc3339_5_6_what_is_written_is_read(seconds: int) -> None:
    """A time that the gateway writes, in a log or an answer, can be sent back to it."""
    assert read_date_time(date_time(seconds)) == seconds
    assert read_date_time(Stamp(lambda: float(seconds))()) == seconds


def test_rfc3339_5_6_there_is_a_last_moment() -> None:
    """A year has four digits: what is later is written as the last second of 9999."""
    assert date_time(grammar.LATEST) == date_time(grammar.LATEST + 1) == "9999-12-31T23:59:59Z"
    assert date_time(0.9) == "1970-01-01T00:00:00Z"


# What is ours


@pytest.mark.parametrize(
    ("sent", "fits"),
    [(b"a", True), (b"8f14e45f-ceea-167a", True), (b"a.b_c~d+e/f=", True), (b"x" * 128, True)]
    + [
        (sent, False)
        for sent in (b"", b"x" * 129, b"a b", b"a,b", b"a;b", b"a\n", b"\xe9", b'"a"', b"$(id)")
    ],
)
def test_request_id(sent: bytes, fits: bool) -> None:
    """A client's own id is kept if it can stand in a header, a log line, a URL and a shell."""
    assert (grammar.REQUEST_ID.fullmatch(sent) is not None) is fits


PREFIXES = {
    "/api/v1": "/api/v1",
    "/api/v1/": "/api/v1",
    "/": "",
    "/a%2Fb": "/a%2Fb",
    "": None,
    "api": None,
    "//": None,
    "/a//b": None,
    "/a b": None,
    "/a?b": None,
    "/a/../b": None,
    "/{name}": None,
    "/\u00e9": None,
}


@pytest.mark.parametrize(("written", "prefix"), PREFIXES.items(), ids=ascii)
def test_prefix(written: str, prefix: str | None) -> None:
    """What the gateway's endpoints are below is read the same by the model and by the checks around it."""
    if prefix is None:
        with pytest.raises(ValidationError, match="prefix"):
            GatewayConfig.model_validate({"prefix": written})
        assert syntax.prefix_of(written) == syntax.DEFAULT_PREFIX
    else:
        assert GatewayConfig.model_validate({"prefix": written}).prefix == prefix
        assert syntax.check_prefix(written) == syntax.prefix_of(written) == prefix


@pytest.mark.parametrize("written", [None, 5, ["/a"]])
def test_prefix_that_is_no_text(written: object) -> None:
    """The default, as where none was written; it is the model's, too."""
    assert syntax.prefix_of(written) == syntax.DEFAULT_PREFIX == GatewayConfig().prefix


@pytest.mark.parametrize(
    "rule",
    [
        "10.0.0.0/8",
        "::1",
        "localhost",
        "*.internal",
        "a_b",
        "*",
        "a.1",
        "example.123",
        "0x7f.1",
        "127.1",
    ],
)
def test_what_may_be_registered_can_be_compiled(rule: str) -> None:
    """An entry of `registry.allow` that passes `check` does not stop the gateway from starting."""
    assert taken(syntax.check_registrable)(rule) is taken(lambda text: AllowList([text]))(rule)


# One fact, one place

SOURCES = sorted(Path(propylon.__file__).parent.rglob("*.py"))
# How each rule looks where a module writes it down again.
RESTATED = {
    "token": re.compile(r"#\$%&'\*\+|\^_`\|~"),
    "field-value": re.compile(r"(?:\\t|\\x09)(?: |\\x20)-~|\\x20-\\x7e|\\x21-\\x7e"),
    "scope-token": re.compile(r"\\x23-\\x|!#-|\\x5d-\\x7e"),
    "date-time": re.compile(r"%Y-%m-%d|\\d\{4\}-|\[0-9\]\{4\}-"),
    "unreserved": re.compile(r"0-9\._~|A-Za-z0-9\._?~"),
    "the last moment": re.compile(r"253_?402_?300_?799"),
    "the default prefix": re.compile(r"\A/api/v1\Z"),
}
# A key's id may be any base64 and any URL, which is no rule of an RFC; the target of a redirect may have placeholders, too. Patterns of `/openapi.json` are narrower than what is
# checked: they say what a client should send.
ALLOWED = {
    ("field-value", "control/token_schemas.py"),
    ("unreserved", "config/models/answered.py"),
    ("unreserved", "control/registration.py"),
    ("unreserved", "proxy/authenticate/keys.py"),
    ("the default prefix", "config/models/syntax.py"),
}


@cache
def literals(path: Path) -> list[str]:
    """Every text, bytes and number of a module, but for docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    segments = [node for node in found if id(node) not in docstrings]
    return [
        node.value if isinstance(node.value, str) else ascii(node.value).removeprefix("b")
        for node in segments
    ]


@pytest.mark.parametrize("rule", RESTATED)
def test_no_module_restates_a_rule(rule: str) -> None:
    """A rule stands in the grammar, and the other modules ask for it by its name."""
    package = Path(propylon.__file__).parent
    found = [
        (rule, path.relative_to(package).as_posix())
        for path in SOURCES
        if path.name != "grammar.py" and any(map(RESTATED[rule].search, literals(path)))
    ]
    assert [place for place in found if place not in ALLOWED] == []
