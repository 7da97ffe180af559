"""Request heads: what is read, what is refused, and that llhttp sees the same head."""

from typing import Any

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from propylon.errors import (
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    UnknownExpectation,
)
from propylon.wire.message import CHUNKED, NO_BODY, Request
from propylon.wire.probe import HeadProbe
from propylon.wire.request import HeadReader, parse_request
from tests.support.examples import examples

_LINE = b"GET /a?b=c HTTP/1.1"
_LIMIT = 64 * 1024


def head(*lines: bytes, line: bytes = _LINE, host: bytes | None = b"a.test") -> bytes:
    """A head with these lines."""
    hosts = () if host is None else (b"Host: " + host,)
    return b"\r\n".join((line, *hosts, *lines)) + b"\r\n\r\n"


def seen(request: Request) -> dict[str, Any]:
    """All that a request says."""
    own = {name: getattr(request, name) for name in Request.__slots__ if name != "fields"}
    shared = request.fields
    return own | {f"fields.{name}": getattr(shared, name) for name in type(shared).__slots__}


# Reading


def test_a_browser_is_read() -> None:
    """The lines that pass stay as sent, byte for byte and in order; the special ones are kept apart."""
    read = parse_request(
        head(
            b"ACCEPT:  text/html ",
            b"Cookie: a=1",
            b"x-request-id: abc",
            b"Cookie: b=2",
            b"Authorization: Bearer x",
            line=b"GET /A%2fb;c//d?e=f?g HTTP/1.1",
            host=b"A.Test:8000",
        )
    )
    assert read.block == (
        b"\r\nACCEPT:  text/html \r\nCookie: a=1\r\nCookie: b=2\r\nAuthorization: Bearer x"
    )
    assert (read.method, read.path, read.query) == ("GET", b"/A%2fb;c//d", b"?e=f?g")
    assert (read.host, read.authority, read.length) == (b"A.Test:8000", b"a.test", NO_BODY)
    assert read.line == b"GET /A%2fb;c//d?e=f?g HTTP/1.1"
    assert read.special[b"x-request-id"] == [b"abc"]
    assert read.special[b"authorization"] == [b"Bearer x"]
    assert b"expect" not in read.special
    assert (read.keep_alive, read.plain, read.version) == (True, False, 1)


def test_a_representation_shows_no_secret() -> None:
    """Neither headers nor the query stand in it."""
    read = parse_request(head(b"Authorization: s3cret", line=b"GET /a?token=s3cret HTTP/1.1"))
    assert "s3cret" not in repr(read)


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Keep_Alive",
        b"TE",
        b"Trailer",
        b"Upgrade",
        b"Proxy-Authorization",
        b"proxy_anything",
        b"Proxy-Connection",
        b"Forwarded",
        b"X-Forwarded-For",
        b"X_Forwarded_For",
        b"X-Forwarded_For",
        b"x_forwarded-host",
        b"X-FORWARDED-ANYTHING",
        b"X-User-Id",
        b"X_User_Id",
        b"x-user_roles",
        b"X-Real-IP",
        b"X_Real-IP",
        b"X-Original-URL",
        b"X-Rewrite_URL",
        b"X-HTTP-Method-Override",
        b"X_HTTP_METHOD_OVERRIDE",
        b"X-Request-ID",
        b"X_Request_ID",
        b"traceparent",
        b"TraceState",
        b"Max-Forwards",
        b"Max_Forwards",
        b"X-Privacy-Level",
        b"X_Privacy_Level",
        b"DNT",
        b"Sec-GPC",
        b"sec_gpc",
        b"Access_Control_Request_Method",
        b"Content_Length",
        b"Transfer_Encoding",
        b"transfer_encoding",
    ],
)
def test_special_names_do_not_pass_by_themselves(name: bytes) -> None:
    """In any case, with `_` or `-`: the line is taken out; only the `-` spelling has a meaning."""
    read = parse_request(head(name + b": x", b"Passes: y"))
    assert read.block == b"\r\nPasses: y"
    lower = name.lower()
    assert read.special.get(lower) == (None if b"_" in name else [b"x"])
    assert read.length == NO_BODY


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization",
        b"AUTHORIZATION",
        b"Origin",
        b"Access-Control-Request-Method",
        b"access-control-request-HEADERS",
    ],
)
def test_some_names_are_only_looked_at(name: bytes) -> None:
    """What the gateway reads and the upstream is to have, too, stays where it was, as often as sent."""
    lines = (b"A: 1", name + b": x ", b"B: 2", name.lower() + b":y")
    read = parse_request(head(*lines))
    assert read.block == b"".join(b"\r\n" + line for line in lines)
    assert read.special[name.lower()] == [b"x", b"y"]
    assert (read.plain, read.private) == (True, False)


@pytest.mark.parametrize("name", [b"X-Privacy-Level", b"dnt", b"SEC-GPC"])
def test_a_wish_for_privacy_is_noted(name: bytes) -> None:
    """A request without a privacy header is told apart, so that the stage looks only at the others."""
    assert parse_request(head(name + b": 1")).private
    assert not parse_request(head(name + b"s: 1")).private


def test_connection_cannot_take_the_token_away() -> None:
    """A client that names Authorization in Connection does not remove it: the upstream would see an anonymous request."""
    lines = (b"Connection: authorization, x-a", b"X-A: 1", b"Authorization: Bearer x")
    assert parse_request(head(*lines)).block == b"\r\nAuthorization: Bearer x"


@pytest.mark.parametrize(
    "name", [b"X-Users", b"X-UserAgent", b"Hosts", b"X-Te", b"Tea", b"Proxies"]
)
def test_names_that_only_look_special_pass(name: bytes) -> None:
    """A name counts whole."""
    assert parse_request(head(name + b": x")).block == b"\r\n" + name + b": x"


# The request line


@pytest.mark.parametrize(
    "line",
    [
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET / HTTP/2.0",
        b"GET / HTTP/1.2",
        b"GET / HTTP/0.9",
        b"GET / HTTP/1.01",
        b"GET / http/1.1",
        b"GET / HTTPS/1.1",
        b"GET * HTTP/1.1",
        b"POST * HTTP/1.1",
        b"OPTIONS *? HTTP/1.1",
        b"GET a HTTP/1.1",
        b"GET ?a HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /a#b HTTP/1.1",
        b"GET /a\x00b HTTP/1.1",
        b"GET /a\x7fb HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET ftp://a.test/ HTTP/1.1",
        b"GET http:/a HTTP/1.1",
        b"GET http://other.test/ HTTP/1.1",
        b"GET http://user@a.test/ HTTP/1.1",
        b"GET a.test:80 HTTP/1.1",
        b"get / HTTP/1.1",
        b"G\xc3\x89T / HTTP/1.1",
        b"GE(T / HTTP/1.1",
        b"FOO / HTTP/1.1",
        b"",
        b"PRI * HTTP/2.0",
    ],
)
def test_request_line_is_refused(line: bytes) -> None:
    """Only METHOD SP target SP HTTP/1.0 or HTTP/1.1, with a path or an http URL for its target."""
    with pytest.raises(InvalidRequest):
        parse_request(head(line=line))


def test_connect_is_refused() -> None:
    """This is no forward proxy."""
    with pytest.raises(MethodNotAllowed):
        parse_request(head(line=b"CONNECT a.test:443 HTTP/1.1", host=b"a.test:443"))


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (b"http://a.test/x?y", b"GET /x?y HTTP/1.1"),
        (b"HTTPS://A.TEST/x", b"GET /x HTTP/1.1"),
        (b"http://a.test", b"GET / HTTP/1.1"),
        (b"http://a.test?y=/", b"GET /?y=/ HTTP/1.1"),
        (b"http://a.test//x", b"GET //x HTTP/1.1"),
    ],
)
def test_absolute_form(target: bytes, line: bytes) -> None:
    """An absolute target is the same request in origin form; its authority is the Host's."""
    read = parse_request(head(line=b"GET " + target + b" HTTP/1.1"))
    assert (read.line, read.authority) == (line, b"a.test")


def test_absolute_form_without_host_in_http_1_0() -> None:
    """Where HTTP/1.0 sends no Host, the target names it."""
    read = parse_request(head(line=b"GET http://B.test:1/ HTTP/1.0", host=None))
    assert (read.host, read.authority) == (b"B.test:1", b"b.test")


# Host


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        (b"a.test", b"a.test"),
        (b"A.Test:80", b"a.test"),
        (b"a.test:", b"a.test"),
        (b"127.0.0.1:65535", b"127.0.0.1"),
        (b"[::1]:8000", b"[::1]"),
        (b"[FE80::1]", b"[fe80::1]"),
        (b"a_b.test", b"a_b.test"),
        (b"A.test.", b"a.test"),
        (b"a.test.:80", b"a.test"),
    ],
)
def test_host(host: bytes, authority: bytes) -> None:
    """The authority is for matching; the host is kept as sent."""
    read = parse_request(head(host=host))
    assert (read.host, read.authority) == (host, authority)


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"a b",
        b"a:b",
        b"a:65536",
        b"a:123456",
        b"a/b",
        b"a@b",
        b"[::1",
        b"::1",
        b"a,b",
        b"a:1:2",
        b"http://a",
        b"a\\b",
        b"a#",
        b"a?b",
        b"[g]",
        b"\xe9.test",
        b"a\tb",
        b'"a"',
        b"a<b",
        b"a.test..",
        b"a.test..:80",
        b"a..test",
        b".a.test",
        b"..",
        b".",
    ],
)
def test_malformed_host_is_refused(host: bytes) -> None:
    """An upstream may read more into it than we do."""
    with pytest.raises(InvalidRequest):
        parse_request(head(host=host))


def test_host_stands_once() -> None:
    """None (in HTTP/1.1) or two of them are refused, even two that are equal."""
    with pytest.raises(InvalidRequest):
        parse_request(head(host=None))
    with pytest.raises(InvalidRequest):
        parse_request(head(b"hOST: a.test"))
    assert parse_request(head(line=b"GET / HTTP/1.0", host=None)).authority == b""


# Framing


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([], NO_BODY),
        ([b"Content-Length: 0"], 0),
        ([b"content-length:\t7 "], 7),
        ([b"Content-Length: 007"], 7),
        ([b"Transfer-Encoding: chunked"], CHUNKED),
        ([b"Transfer-Encoding: CHUNKED"], CHUNKED),
    ],
)
def test_length(lines: list[bytes], length: int) -> None:
    """RFC 9112, 6.3."""
    assert parse_request(head(*lines, line=b"POST / HTTP/1.1")).length == length


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: +5"],
        [b"Content-Length: -5"],
        [b"Content-Length: 5_0"],
        [b"Content-Length: 0x5"],
        [b"Content-Length: 5 5"],
        [b"Content-Length:"],
        [b"Content-Length: " + b"9" * 19],
        [b"Content-Length : 5"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked, gzip"],
        [b"Transfer-Encoding: chunked, "],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked;x=1"],
        [b"Transfer-Encoding: \x0bchunked"],
        [b'Transfer-Encoding: "chunked"'],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding\x00: chunked"],
        [b"A: b\nTransfer-Encoding: chunked"],
        [b"A: b\rTransfer-Encoding: chunked"],
        [b"A: b", b" Transfer-Encoding: chunked"],
        [b"A: b", b"\tc"],
        [b" A: b"],
        [b"A: b\x00c"],
        [b"A: b\x7fc"],
        [b"A(: b"],
        [b": b"],
        [b"A"],
        [b"\xc3\xa9: b"],
    ],
)
def test_ambiguous_framing_is_refused(lines: list[bytes]) -> None:
    """What two parsers could read differently never gets in, and the connection ends there."""
    with pytest.raises(InvalidRequest) as caught:
        parse_request(head(*lines, line=b"POST / HTTP/1.1"))
    assert caught.value.closes


def test_chunked_in_http_1_0_is_refused() -> None:
    """RFC 9112, 6.1: such a message has faulty framing."""
    with pytest.raises(InvalidRequest):
        parse_request(head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"))


# Connection, Upgrade, Expect


@pytest.mark.parametrize(
    ("version", "lines", "stays"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: close"], False),
        (b"1.1", [b"Connection: x", b"connection: CLOSE"], False),
        (b"1.1", [b"Connection: closed"], True),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: Keep-Alive"], True),
        (b"1.0", [b"Connection: keep-alive, close"], False),
    ],
)
def test_keep_alive(version: bytes, lines: list[bytes], stays: bool) -> None:
    """RFC 9112, 9.3."""
    assert parse_request(head(*lines, line=b"GET / HTTP/" + version)).keep_alive == stays


def test_what_connection_names_does_not_pass() -> None:
    """RFC 9110, 7.6.1: in any case, from any line, patterns being no patterns."""
    read = parse_request(
        head(
            b"Connection: X-A, ,close,A.c",
            b"x-a: 1",
            b"abc: 2",
            b"a.C: 3",
            b"Connection: Y",
            b"y: 4",
        )
    )
    assert read.block == b"\r\nabc: 2"


def test_connection_does_not_take_away_what_we_decide_on() -> None:
    """Naming Host or Content-Length changes nothing in how the request is read."""
    read = parse_request(head(b"Connection: host, content-length, close", b"Content-Length: 5"))
    assert (read.host, read.length) == (b"a.test", 5)


def test_upgrade_is_noted_only_with_its_connection_option() -> None:
    """RFC 9110, 7.8: without it, `Upgrade` says nothing."""
    assert parse_request(head(b"Upgrade: websocket")).upgrade == b""
    both = parse_request(head(b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade"))
    assert (both.upgrade, both.block) == (b"websocket", b"")


def test_an_offer_of_another_protocol_changes_no_framing() -> None:
    """A request with a body may offer one: whether it is taken is for the route to say."""
    lines = (b"Upgrade: h2c", b"Connection: Upgrade")
    for framing, length in ((b"Content-Length: 5", 5), (b"Transfer-Encoding: chunked", CHUNKED)):
        request = parse_request(head(*lines, framing))
        assert (request.upgrade, request.length, request.block) == (b"h2c", length, b"")


def test_options_asterisk_is_a_path_by_itself() -> None:
    """RFC 9112, 3.2.4: it asks about the server as a whole."""
    request = parse_request(head(line=b"OPTIONS * HTTP/1.1"))
    assert (request.method, request.path, request.query) == ("OPTIONS", b"*", b"")


def test_expectation() -> None:
    """100-continue, with a body, in HTTP/1.1; anything else is 417; HTTP/1.0 has none."""
    expects = head(b"Expect: 100-Continue", b"Content-Length: 5")
    assert parse_request(expects).expects_continue
    assert not parse_request(head(b"Expect: 100-continue")).expects_continue
    with pytest.raises(UnknownExpectation):
        parse_request(head(b"Expect: 200-ok"))
    with pytest.raises(UnknownExpectation):
        parse_request(head(b"Expect: 100-continue, x"))
    old = head(b"Expect: x", b"Content-Length: 5", line=b"POST / HTTP/1.0")
    assert not parse_request(old).expects_continue


def test_number_of_fields_is_bounded() -> None:
    """256 lines with their request line pass, one more is 431."""
    assert parse_request(head(*[b"a: b"] * 253)).block == b"\r\na: b" * 253
    with pytest.raises(HeadersTooLarge):
        parse_request(head(*[b"a: b"] * 256))


# Properties over heads that are almost good


class Oracle:
    """What llhttp reports of a head."""

    def __init__(self) -> None:
        self.complete = False

    def on_headers_complete(self) -> None:
        """Note the end of the head."""
        self.complete = True


_special_lines = st.sampled_from(
    [
        b"Content-Length: 5",
        b"Content-Length: 0",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Connection: keep-alive, x-a",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"X-Forwarded-For: 1.2.3.4",
        b"Cookie: a=b; c=d",
        b"X-A: \xc3\xa9",
        b"x-a:",
        b"Te: trailers",
        b"X_User_Id: 7",
        b"Proxy-Connection: keep-alive",
    ]
)
_lines = st.builds(
    lambda method, target, version: b"%b %b HTTP/%b" % (method, target, version),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"QUERY"]),
    st.sampled_from([b"/", b"/a?b", b"/a%2F..;/", b"http://a.test/x", b"//a", b'/"<>[]^{|}', b"*"]),
    st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]),
)
_heads = st.builds(
    lambda line, lines: head(*lines, line=line), _lines, st.lists(_special_lines, max_size=4)
)
_bytes = st.sampled_from(
    [
        b"",
        b"\r",
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b":",
        b",",
        b"\x00",
        b"\x0b",
        b"\x85",
        b"\xa0",
        b"/",
        b"#",
        b"?",
        b"_",
        b"-",
        b"x",
        b"\x7f",
        b"\xff",
        b"http://",
    ]
) | st.binary(min_size=1, max_size=2)
_mutations = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), _bytes), max_size=3)


def mutated(raw: bytes, mutations: list[tuple[int, int, bytes]]) -> bytes:
    """The head with some bytes replaced, cut at its first empty line, as an edge would cut it."""
    for at, cut, new in mutations:
        place = at % (len(raw) + 1)
        raw = raw[:place] + new + raw[place + cut :]
    end = raw.find(b"\r\n\r\n")
    return raw[: end + 4] if end >= 0 else raw + b"\r\n\r\n"


@given(_heads, _mutations)
@examples(400)
@example(b"\r\n" + head(), [])
@example(head(b"A: b", b" "), [])
@example(head(b"A:", b"\t"), [])
def test_llhttp_sees_the_same_head(raw: bytes, mutations: list[tuple[int, int, bytes]]) -> None:
    """For what is accepted, llhttp's head ends exactly at the empty line, not a byte earlier."""
    raw = mutated(raw, mutations)
    try:
        read = parse_request(raw)
    except GatewayError:
        return
    before, after = Oracle(), Oracle()
    httptools.HttpRequestParser(before).feed_data(raw[:-1])
    parser = httptools.HttpRequestParser(after)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        assert read.upgrade
    assert (before.complete, after.complete) == (False, True)
    assert parser.get_method().decode() == read.method
    assert parser.get_http_version() == f"1.{read.version}"


@given(_heads, _mutations)
@examples(250)
def test_what_is_accepted_is_clean(raw: bytes, mutations: list[tuple[int, int, bytes]]) -> None:
    """What passes on is whole lines, none of them special, none of them named by `Connection`."""
    try:
        read = parse_request(mutated(raw, mutations))
    except GatewayError:
        return
    assert read.line.count(b" ") == 2
    assert read.line.split(b" ")[1] == read.path + read.query
    lines = read.block.split(b"\r\n")
    assert lines[0] == b""
    names = {line.partition(b":")[0].lower() for line in lines[1:]}
    assert not {b"host", b"connection", b"content-length", b"transfer-encoding", b""} & names
    assert not any(byte in read.block.replace(b"\r\n", b"") for byte in (b"\r", b"\n", b"\0"))
    assert not [name for name in names if name.replace(b"_", b"-").startswith(b"x-user-")]


@given(_heads, _mutations, st.integers(1, 40))
@examples(250)
@example(head(line=b"GET / HTTP/1.1"), [], 1)
@example(head(b"Upgrade: websocket", b"Connection: upgrade"), [], 1)
def test_probe_refuses_nothing_that_is_good(
    raw: bytes, mutations: list[tuple[int, int, bytes]], step: int
) -> None:
    """A head that is accepted whole passes the probe in any pieces, all but its last byte."""
    raw = mutated(raw, mutations)
    try:
        parse_request(raw)
    except GatewayError:
        return
    probe = HeadProbe()
    partial = raw[:-1]
    for start in range(0, len(partial), step):
        probe.feed(partial[start : start + step])


@pytest.mark.parametrize(
    ("raw", "limit"),
    [
        (b"\x16\x03\x01\x02\x00\x01", 1),
        (b"GET /\r\n", 7),
        (b"GET /a b HTTP/1.1\r\n", 19),
        (b"GET / HTTP/1.1\nHost: a\n\n", 15),
        (b"GET / HTTP/3.0\r\n", 16),
        (b"SSH-2.0-x\r\n", 2),
        (b"GET / HTTP/1.1\r\nA b\r\n", 20),
        (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n", 22),
    ],
)
def test_probe_refuses_early(raw: bytes, limit: int) -> None:
    """Nonsense is refused at the byte that makes it so, at its line's end at the latest."""
    probe = HeadProbe()
    with pytest.raises(InvalidRequest):
        for position in range(limit):
            probe.feed(raw[position : position + 1])


# Heads that repeat


_targets = st.one_of(
    st.sampled_from(
        [b"/", b"/a", b"/a?b", b"/?", b"/a??b", b"//", b"*", b"", b"a", b"http://a.test/"]
    ),
    st.binary(max_size=6).map(lambda raw: b"/" + raw),
    st.text("".join(map(chr, range(0x21, 0x7F))), max_size=8).map(
        lambda text: b"/" + text.encode()
    ),
)
_request_lines = st.one_of(
    st.builds(
        lambda method, target, rest: method + b" " + target + rest,
        st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"])
        | st.sampled_from(
            [b"TRACE", b"CONNECT", b"PROPFIND", b"get", b"FOO", b"", b"GET ", b"\r\nGET"]
        ),
        _targets,
        st.sampled_from(
            [b" HTTP/1.1"] * 6 + [b" HTTP/1.0", b" HTTP/2.0", b"", b" HTTP/1.1 ", b"\n"]
        ),
    ),
    st.binary(max_size=20),
)


@given(st.lists(_special_lines, max_size=3), _request_lines)
@examples(300)
def test_a_repeated_head_is_read_as_a_new_one(lines: list[bytes], line: bytes) -> None:
    """After `read`, `again` gives what `parse_request` gives, or nothing; never what it refuses."""
    reader = HeadReader()
    try:
        reader.read(head(*lines))
    except GatewayError:
        return
    raw = head(*lines, line=line)
    again = reader.again(raw, _LIMIT)
    try:
        read = parse_request(raw)
    except GatewayError:
        assert again is None
        return
    if again is not None:
        assert seen(again) == seen(read)


@given(_heads, _mutations, _heads, _mutations)
@examples(200)
def test_another_head_is_never_taken_for_the_last(
    first: bytes,
    first_mutations: list[tuple[int, int, bytes]],
    second: bytes,
    second_mutations: list[tuple[int, int, bytes]],
) -> None:
    """Whatever came before, `again` gives only what `parse_request` would."""
    reader = HeadReader()
    try:
        reader.read(mutated(first, first_mutations))
    except GatewayError:
        return
    raw = mutated(second, second_mutations)
    again = reader.again(raw, _LIMIT)
    if again is not None:
        assert seen(again) == seen(parse_request(raw))


def test_the_common_case_is_remembered() -> None:
    """The next request of a keep-alive client is taken from memory, whatever its path."""
    reader = HeadReader()
    assert reader.again(head(), _LIMIT) is None
    first = reader.read(head(b"Cookie: a"))
    second = reader.again(head(b"Cookie: a", line=b"POST /other?x HTTP/1.1"), _LIMIT)
    assert second is not None
    assert second.fields is first.fields
    assert (second.method, second.path, second.query) == ("POST", b"/other", b"?x")


@pytest.mark.parametrize(
    "raw",
    [
        head(b"Cookie: b"),
        head(b"Cookie: a")[:-1],
        head(b"Cookie: a", line=b"GET / HTTP/1.0"),
        head(b"Cookie: a", line=b"GET http://a.test/ HTTP/1.1"),
        b"",
        b"\r\n",
    ],
)
def test_what_differs_is_not_taken_from_memory(raw: bytes) -> None:
    """Other lines, another version or form: read anew."""
    reader = HeadReader()
    reader.read(head(b"Cookie: a"))
    assert reader.again(raw, _LIMIT) is None


def test_what_comes_behind_a_repeated_head() -> None:
    """The body is no reason to read the head anew, and is not counted as a part of it."""
    reader = HeadReader()
    raw = head(b"Content-Length: 7", line=b"POST /a HTTP/1.1")
    reader.read(raw)
    again = reader.again(raw + b"\r\n\r\nabc", len(raw))
    assert again is not None
    assert (again.length, reader.size) == (7, len(raw))
    assert reader.again(raw + b"\r\n\r\nabc", len(raw) - 1) is None


@pytest.mark.parametrize("line", [b"GET / HTTP/1.0", b"GET http://a.test/ HTTP/1.1"])
def test_what_the_line_decided_is_not_remembered(line: bytes) -> None:
    """Version and authority of the request line are part of how its headers were read."""
    reader = HeadReader()
    reader.read(head(line=line))
    assert reader.again(head(), _LIMIT) is None


@pytest.mark.parametrize("blank", [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_nothing_stands_before_the_method(blank: bytes, method: bytes) -> None:
    """Llhttp skips line ends there; the method would be another one for us than for an upstream."""
    with pytest.raises(InvalidRequest):
        parse_request(head(line=blank + method + b" / HTTP/1.1"))


def test_a_head_holds_one_request() -> None:
    """Llhttp reads on behind an empty line; a second request must not pass for header lines."""
    with pytest.raises(InvalidRequest):
        parse_request(head() + b"GET /admin HTTP/1.1\r\nX: y\r\n\r\n")


@pytest.mark.parametrize("size", [1, 2, 5, 500])
def test_tls_on_a_plain_port_is_called_by_its_name(size: int) -> None:
    """Who writes https:// to a port without TLS finds it in the log."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(489)
    with pytest.raises(InvalidRequest) as caught:
        HeadProbe().feed(hello[:size])
    assert ("speaks TLS" in caught.value.reason) == (size > 1)
