"""Requests whose end, or whose meaning, could be read in two ways: refused, and nothing forwarded."""

import pytest

from tests.support.attack import FEEDS, HOST, MARK, NEXT, assert_refused, get, post
from tests.support.client import RawClient, chunked, post_chunked, request
from tests.support.excused import excused
from tests.support.gateway import Gateway
from tests.support.topology import Upstreams
from tests.support.upstream import Upstream

BAD = (400,)
CODING = (400, 501)
INSIDE = chunked(b"x") + NEXT
CL, TE = b"Content-Length: 5", b"Transfer-Encoding: chunked"

# Each is refused from its head alone.
HEADS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "cl-te": (post(CL, TE, body=INSIDE), BAD),
    "te-cl": (post(TE, CL, body=INSIDE), BAD),
    "cl-te-case": (post(b"content-LENGTH: 5", b"TRANSFER-encoding: Chunked", body=INSIDE), BAD),
    "cl0-te": (post(b"Content-Length: 0", TE, body=INSIDE), BAD),
    "two-lengths": (post(CL, b"Content-Length: 6", body=b"hello!"), BAD),
    "length-list-same": (post(b"Content-Length: 5, 5", body=b"hello"), BAD),
    "length-list": (post(b"Content-Length: 5, 6", body=b"hello!"), BAD),
    "length-plus": (post(b"Content-Length: +5", body=b"hello"), BAD),
    "length-minus": (post(b"Content-Length: -1", body=b"hello"), BAD),
    "length-hex": (post(b"Content-Length: 0x5", body=b"hello"), BAD),
    "length-underscore": (post(b"Content-Length: 5_0", body=b"hello"), BAD),
    "length-empty": (post(b"Content-Length: ", body=b"hello"), BAD),
    "length-20-digits": (post(b"Content-Length: 18446744073709551621", body=b"hello"), (400, 413)),
    "length-huge": (post(b"Content-Length: " + b"9" * 400, body=b"hello"), (400, 413)),
    "length-fraction": (post(b"Content-Length: 5.0", body=b"hello"), BAD),
    "length-arabic": (post(b"Content-Length: \xd9\xa5", body=b"hello"), BAD),
    "te-xchunked": (post(b"Transfer-Encoding: xchunked", body=INSIDE), CODING),
    "te-twice": (post(b"Transfer-Encoding: chunked, chunked", body=INSIDE), CODING),
    "te-two-lines": (post(TE, TE, body=INSIDE), CODING),
    "te-identity-chunked": (post(b"Transfer-Encoding: identity, chunked", body=INSIDE), CODING),
    "te-chunked-identity": (post(b"Transfer-Encoding: chunked, identity", body=INSIDE), CODING),
    "te-gzip-chunked": (post(b"Transfer-Encoding: gzip, chunked", body=INSIDE), CODING),
    "te-gzip": (post(b"Transfer-Encoding: gzip", body=INSIDE), CODING),
    "te-quoted": (post(b'Transfer-Encoding: "chunked"', body=INSIDE), CODING),
    "te-vtab": (post(b"Transfer-Encoding: \x0bchunked", body=INSIDE), CODING),
    "te-empty": (post(b"Transfer-Encoding:", body=INSIDE), CODING),
    "te-comma": (post(b"Transfer-Encoding: ,chunked", body=INSIDE), CODING),
    "te-identity-cl": (post(b"Transfer-Encoding: identity", CL, body=b"hello"), CODING),
    "te-space-colon": (post(b"Transfer-Encoding : chunked", body=INSIDE), BAD),
    "te-leading-space": (post(b" Transfer-Encoding: chunked", body=INSIDE), BAD),
    "te-leading-tab": (post(b"X: y", b"\tTransfer-Encoding: chunked", body=INSIDE), BAD),
    "te-leading-vtab": (post(b"\x0bTransfer-Encoding: chunked", body=INSIDE), BAD),
    "te-cr-in-name": (post(b"Transfer\r-Encoding: chunked", body=INSIDE), BAD),
    "te-folded": (post(b"Transfer-Encoding:\r\n chunked", body=INSIDE), BAD),
    "te-http10": (post(TE, body=INSIDE, version=b"1.0"), BAD),
    "fold": (get(b"X-A: 1", b" folded: 2"), BAD),
    "space-before-colon": (get(b"X-A : 1"), BAD),
    "name-empty": (get(b": 1"), BAD),
    "name-odd": (get(b"X(A): 1"), BAD),
    "name-8bit": (get(b"X-\xe9: 1"), BAD),
    "no-colon": (get(b"X-A 1"), BAD),
    "bare-lf-all": (get(b"X: y").replace(b"\r\n", b"\n"), BAD),
    "bare-lf-one": (get(b"X-A: 1\nX-B: 2"), BAD),
    "bare-lf-request-line": (get().replace(b"1.1\r\n", b"1.1\n"), BAD),
    "bare-cr": (get(b"X-A: 1\rX-B: 2"), BAD),
    "bare-cr-end": (get(b"X-A: 1\r\r"), BAD),
    "nul-value": (get(b"X-A: a\0b"), BAD),
    "nul-name": (get(b"X-\0A: b"), BAD),
    "control-value": (get(b"X-A: a\x01b"), BAD),
    "escape-value": (get(b"X-A: a\x1b[31m"), BAD),
    "delete-value": (get(b"X-A: a\x7f"), BAD),
    "no-host": (get(host=b""), BAD),
    "two-hosts": (get(b"Host: other"), BAD),
    "two-hosts-same": (get(b"host: gw.test"), BAD),
    "host-empty": (get(host=b"Host:\r\n"), BAD),
    "host-list": (get(host=b"Host: a,b\r\n"), BAD),
    "host-path": (get(host=b"Host: a/path\r\n"), BAD),
    "host-user": (get(host=b"Host: user@a\r\n"), BAD),
    "host-port": (get(host=b"Host: a:99999\r\n"), BAD),
    "host-port-text": (get(host=b"Host: a:80x\r\n"), BAD),
    "host-control": (get(host=b"Host: a\x01b\r\n"), BAD),
    "host-space": (get(host=b"Host: a b\r\n"), BAD),
    "host-query": (get(host=b"Host: a?b\r\n"), BAD),
    "host-fragment": (get(host=b"Host: a#b\r\n"), BAD),
    "host-backslash": (get(host=b"Host: a\\b\r\n"), BAD),
    "host-8bit": (get(host=b"Host: a\xe9\r\n"), BAD),
    "host-bad-ipv6": (get(host=b"Host: [::1\r\n"), BAD),
    "upgrade-websocket-body": (
        post(b"Connection: Upgrade", b"Upgrade: websocket", TE, body=INSIDE), BAD,
    ),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 40 + b"\r\n\r\n", BAD),
    "h2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 405, 505)),
}  # fmt: skip

# Each starts well and is found out in its body.
CHUNKS: dict[str, bytes] = {
    "hex-prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"5_0\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "space-before": b" 5\r\nhello\r\n0\r\n\r\n",
    "space-after": b"5 \r\nhello\r\n0\r\n\r\n",
    "tab-after": b"5\t\r\nhello\r\n0\r\n\r\n",
    "17-digits": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "overflow": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "bare-lf-size": b"5\nhello\r\n0\r\n\r\n",
    "bare-cr-size": b"5\rhello\r\n0\r\n\r\n",
    "bare-lf-data": b"5\r\nhello\n0\r\n\r\n",
    "no-crlf-data": b"5\r\nhello0\r\n\r\n",
    "too-much-data": b"5\r\nhello!\r\n0\r\n\r\n",
    "empty-size": b"\r\nhello\r\n0\r\n\r\n",
    "not-hex": b"g\r\nhello\r\n0\r\n\r\n",
    "extension-control": b"5;a=\x01\r\nhello\r\n0\r\n\r\n",
    "extension-nul": b"5;a=\0\r\nhello\r\n0\r\n\r\n",
    "extension-bare-lf": b"5;a\nhello\r\n0\r\n\r\n",
    "extension-bare-cr": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "extension-empty": b"5;\r\nhello\r\n0\r\n\r\n",
    "extension-name": b"5;bad[=x\r\nhello\r\n0\r\n\r\n",
    "extension-unterminated": b'5;a="unterminated\r\nhello\r\n0\r\n\r\n',
    "extension-blank-after": b"5;a=b \r\nhello\r\n0\r\n\r\n",
    "extension-huge": b"5;a=" + b"b" * 17_000 + b"\r\nhello\r\n0\r\n\r\n",
    "last-bare-lf": b"5\r\nhello\r\n0\n\n",
    "trailer-bare-lf": b"5\r\nhello\r\n0\r\nX: y\n\r\n",
    "trailer-no-colon": b"5\r\nhello\r\n0\r\nGET /up/SMUGGLED HTTP/1.1\r\n\r\n",
    "trailer-space": b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "trailer-nul": b"5\r\nhello\r\n0\r\nX: \0\r\n\r\n",
    "trailers-huge": b"5\r\nhello\r\n0\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("how", FEEDS)
@pytest.mark.parametrize("name", HEADS)
def test_ambiguous_head_is_refused(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, name: str, how: str
) -> None:
    """A head that two parsers could read differently is refused and closes the connection."""
    payload, statuses = HEADS[name]
    assert_refused(gateway, upstreams, payload, statuses, how)


@pytest.mark.parametrize("how", FEEDS)
@pytest.mark.parametrize("name", CHUNKS)
def test_bad_chunk_is_refused_and_aborts_the_upstream(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, name: str, how: str
) -> None:
    """A body that is no chunked coding is 400 and the end; the upstream never takes it for whole."""
    payload = post(TE, body=CHUNKS[name])
    with RawClient(gateway.port) as client:
        if how == "bytewise":
            client.trickle(payload) if len(payload) < 1000 else client.trickle(payload, 1000)
        else:
            client.send(payload + (NEXT if how == "followed" else b""))
        status = client.read().status
        if status == 200 and excused(gateway.edge, "framing"):
            # Its parser reads this as a chunk; we then send one of our own making.
            if how == "followed":
                client.read()  # a request of its own, then
            assert b"hello" in [bytes(arrived.body) for arrived in up.requests]
            return
        assert status == 400 or (excused(gateway.edge, "framing") and status >= 400)
        assert client.is_closed()
    assert MARK not in up.raw
    assert all(not arrived.complete for arrived in up.requests)


def test_bad_chunk_after_good_ones_closes_the_upstreams_connection(
    gateway: Gateway, up: Upstream
) -> None:
    """A body that goes wrong on its way cuts the upstream's connection: it is not used again."""
    with RawClient(gateway.port) as client:
        client.send(post(TE, body=b"5\r\nhello\r\n", path=b"/up/cut-off"))
        begun = up.arrived("/cut-off")
        assert up.wait(lambda: begun.length == 5)
        client.send(b"zz\r\n")
        status = client.read().status
        assert status == 400 or (excused(gateway.edge, "framing") and status >= 400)
    number = begun.connection
    assert not begun.complete
    assert up.wait(lambda: number not in {peer.number for peer in up._peers})


@pytest.mark.parametrize(
    "name", ["Content-Length", "Transfer-Encoding", "Host", "Authorization", "X-User-Id", "X-Fine"]
)
def test_trailer_never_becomes_a_header(gateway: Gateway, up: Upstream, name: str) -> None:
    """Trailers are dropped or refused, never merged into the headers."""
    with RawClient(gateway.port) as client:
        client.send(
            post_chunked("/up/x", chunked(b"hello", trailers=f"{name}: root666\r\n".encode()))
        )
        answer = client.read()
    assert answer.status in (200, 400)
    if answer.status == 200:
        assert bytes(up.of(answer).body) == b"hello"
    if name in ("Authorization", "X-Fine") and excused(gateway.edge, "request-trailers"):
        return
    assert b"root666" not in b"".join(arrived.head for arrived in up.requests)
    assert name == "X-Fine" or b"root666" not in up.raw


@pytest.mark.parametrize("extension", [b"a", b"a=b", b'a="b;c"', b"a=b;c=d", b"\xff", b"x" * 8000])
def test_chunk_extension_is_not_forwarded(gateway: Gateway, up: Upstream, extension: bytes) -> None:
    """Chunk extensions end here; the data passes."""
    with RawClient(gateway.port) as client:
        client.send(post(TE, body=b"5;" + extension + b"\r\nhello\r\n0;" + extension + b"\r\n\r\n"))
        answer = client.read()
    assert answer.status in (200, 400)
    assert b";" not in up.raw
    if answer.status == 200:
        arrived = up.of(answer)
        assert (bytes(arrived.body), arrived.complete) == (b"hello", True)


@pytest.mark.parametrize("spelling", [b"5", b"05", b"0005", b"000000000000005"])
def test_chunk_size_with_leading_zeros_is_a_size(
    gateway: Gateway, up: Upstream, spelling: bytes
) -> None:
    """Leading zeros, within 16 digits, change nothing."""
    with RawClient(gateway.port) as client:
        client.send(post(TE, body=spelling + b"\r\nhello\r\n0\r\n\r\n"))
        answer = client.read()
    assert (answer.status, bytes(up.of(answer).body)) == (200, b"hello")


@pytest.mark.parametrize("name", [b"chunked", b"Chunked", b"CHUNKED"])
def test_coding_is_read_in_any_case(gateway: Gateway, up: Upstream, name: bytes) -> None:
    """`Chunked` is chunked."""
    with RawClient(gateway.port) as client:
        client.send(post(b"transfer-encoding: " + name, body=chunked(b"hello")))
        answer = client.read()
    assert (answer.status, bytes(up.of(answer).body)) == (200, b"hello")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_of_a_bodiless_method_is_not_the_next_request(
    gateway: Gateway, up: Upstream, client: RawClient, method: str, framing: str
) -> None:
    """A GET with a body has a body: what follows it, and only that, is the next request."""
    if framing == "length":
        client.send(request(method, "/up/x", body=NEXT))
    else:
        client.send(request(method, "/up/x", [("Transfer-Encoding", "chunked")]) + chunked(NEXT))
    assert client.read(method).status in (200, 400)
    client.send(request(target="/up/after"))
    if not client.is_closed(0.1):
        assert client.read().status == 200
    assert [r.target for r in up.requests if MARK in r.target] == []


def test_body_of_a_refused_request_is_not_the_next_request(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, client: RawClient
) -> None:
    """The body of a 404 is drained or the connection closed: it is never read as a request."""
    client.send(request("POST", "/nosuch", body=NEXT))
    assert client.read().status == 404
    client.send(request(target="/livez"))
    rest = client.rest() if client.is_closed(0.2) else bytes(client.buffer)
    assert rest.count(b"HTTP/1.1 ") <= 1
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize("blank", [b"\r\n", b"\r\n\r\n"])
def test_empty_lines_before_a_request_are_ignored(
    gateway: Gateway, up: Upstream, client: RawClient, blank: bytes
) -> None:
    """RFC 9112, 2.2: an empty line or two before the request line is nothing."""
    assert client.send(blank + get()).read().status == 200


def test_expectation_that_nobody_knows_is_417(
    gateway: Gateway, up: Upstream, upstreams: Upstreams
) -> None:
    """An Expect other than 100-continue is refused, or ignored where the server hides it."""
    with RawClient(gateway.port) as client:
        client.send(
            b"POST /up/x HTTP/1.1\r\n" + HOST + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\nhi"
        )
        status = client.read().status
    if excused(gateway.edge, "unknown-expectation"):
        assert status in (200, 417)
    else:
        assert status == 417
        assert upstreams.nothing_arrived()


@pytest.mark.parametrize("protocol", ["h2c", "foo", "TLS/1.0, h2c"])
@pytest.mark.parametrize("framing", ["length", "chunked", "none"])
def test_an_offer_that_the_route_does_not_take_is_dropped(
    gateway: Gateway, up: Upstream, protocol: str, framing: str
) -> None:
    """JDK's client offers `h2c` with every request: it is served in HTTP/1.1, body or not (RFC 9110, 7.8)."""
    lines = (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: " + protocol.encode(),
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    )
    payloads = {
        "length": post(*lines, CL, body=b"hello"),
        "chunked": post(*lines, TE, body=chunked(b"hello")),
        "none": get(*lines),
    }
    with RawClient(gateway.port) as client:
        answer = client.send(payloads[framing]).read()
        if framing != "none" and excused(gateway.edge, "upgrade"):
            assert answer.status == 400  # it dropped the body: never taken for an empty one
            return
        arrived = up.of(answer)
        assert (answer.status, bytes(arrived.body)) == (200, b"" if framing == "none" else b"hello")
        assert not arrived.names & {"upgrade", "http2-settings", "connection"}
        if not excused(gateway.edge, "upgrade"):
            assert client.send(get()).read().status == 200  # the connection goes on


def test_options_asterisk_is_answered_by_the_gateway(
    gateway: Gateway, up: Upstream, upstreams: Upstreams
) -> None:
    """`OPTIONS *` asks about the gateway: 204 with `Allow`, and nothing is forwarded (RFC 9110, 9.3.7)."""
    with RawClient(gateway.port) as client:
        answer = client.send(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n").read("OPTIONS")
        if answer.status == 400 and excused(gateway.edge, "parse-errors"):
            return
        assert answer.status == 204
        assert answer.get("allow") == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
        assert gateway.record(answer)["path"] == "*"
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize("how", ["whole", "bytewise"])
@pytest.mark.parametrize("method", [b"A", b"GET", b"GETGET"], ids=["odd", "known", "doubled"])
def test_an_endless_method_is_no_request(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, method: bytes, how: str
) -> None:
    """A method without an end is 400: no smaller header field would help, as 431 would say (RFC 9112, 3)."""
    payload = method * 10_000
    with RawClient(gateway.port) as client:
        client.send(payload) if how == "whole" else client.trickle(payload[:200])
        assert client.read().status == 400
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize("line", [b"5; a = b", b"5 ;a=b", b"5\t;a", b'5;a="b;\\"c"'])
def test_white_space_in_an_extension_is_accepted(
    gateway: Gateway, up: Upstream, line: bytes
) -> None:
    """RFC 9112, 7.1.1: white space around `;` and `=` is part of the grammar."""
    with RawClient(gateway.port) as client:
        answer = client.send(post(TE, body=line + b"\r\nhello\r\n0 ;x\r\n\r\n")).read()
    if answer.status != 200 and excused(gateway.edge, "framing"):
        return  # llhttp is stricter
    assert (answer.status, bytes(up.of(answer).body)) == (200, b"hello")
