"""What the client gets of an upstream's answer: everything that is meant for it, and as it was."""

import gzip
import json

import pytest

from tests.support import answers
from tests.support.client import RawClient, ask, request
from tests.support.gateway import Gateway
from tests.support.upstream import Upstream


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    "status",
    ["200 OK", "201 Created", "204 No Content", "206 Partial Content", "301 Moved", "304 Not Modified",
     "400 Bad Request", "401 Unauthorized", "404 Not Found", "418 I'm a teapot", "422 Unprocessable",
     "429 Too Many", "500 Oops", "502 Bad", "503 Busy", "504 Late", "599 Odd"],
)  # fmt: skip
def test_answer_passes_unchanged(gateway: Gateway, up: Upstream, status: str, method: str) -> None:
    """Status, body bytes and headers reach the client as the upstream sent them."""
    bodiless = method == "HEAD" or status[:3] in ("204", "304")
    body = b"" if bodiless else b"\x00\xff body of " + status.encode()
    path = up.on(
        "/answer", answers.plain(status, ["X-Custom: v1", "Location: /up/elsewhere"], body)
    )
    answer = ask(gateway.port, method, "/up" + path)
    assert (answer.status, answer.body, answer.complete) == (int(status[:3]), body, True)
    assert (answer.get("x-custom"), answer.get("location")) == ("v1", "/up/elsewhere")
    expected = "upstream" if answer.status >= 400 else None
    assert answer.get("x-error-source") == expected


def test_two_cookies_stay_two(gateway: Gateway, up: Upstream) -> None:
    """Two Set-Cookie headers arrive as two, in their order."""
    cookies = ["a=1; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2; HttpOnly"]
    up.on("/c", answers.plain(headers=[f"Set-Cookie: {cookie}" for cookie in cookies]))
    assert ask(gateway.port, target="/up/c").all("set-cookie") == [c.encode() for c in cookies]


def test_headers_keep_their_order_and_values(gateway: Gateway, up: Upstream) -> None:
    """Repeated and odd headers of an answer pass in order."""
    sent = ["X-A: 1", "Link: <a>; rel=x", "X-A: 2", "Link: <b>", "X-Latin: caf\xe9", "X-Empty:"]
    up.on("/o", answers.plain(headers=sent))
    answer = ask(gateway.port, target="/up/o")
    wanted = (b"x-a", b"link", b"x-latin", b"x-empty")
    got = [(n.lower(), v) for n, v in answer.headers if n.lower() in wanted]
    assert got == [
        (b"x-a", b"1"),
        (b"link", b"<a>; rel=x"),
        (b"x-a", b"2"),
        (b"link", b"<b>"),
        (b"x-latin", b"caf\xe9"),
        (b"x-empty", b""),
    ]


def test_encoded_body_passes_as_it_is(gateway: Gateway, up: Upstream) -> None:
    """A gzip body is not touched: its length and its coding still fit."""
    packed = gzip.compress(b"text " * 1000)
    up.on("/gz", answers.plain(headers=["Content-Encoding: gzip"], body=packed))
    answer = ask(gateway.port, target="/up/gz", headers=[("Accept-Encoding", "gzip")])
    assert answer.get("content-encoding") == "gzip"
    assert gzip.decompress(answer.body) == b"text " * 1000


def test_hop_by_hop_headers_of_an_answer_stay_here(gateway: Gateway, up: Upstream) -> None:
    """Hop-by-hop headers of the answer, and what its Connection names, do not reach the client."""
    sent = [
        "Connection: x-secret, keep-alive",
        "X-Secret: hidden",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "Upgrade: h2c",
        "TE: trailers",
        "Proxy-Connection: keep-alive",
        "X-Open: 1",
    ]
    up.on("/hop", answers.plain(headers=sent))
    answer = ask(gateway.port, target="/up/hop")
    names = {name.lower() for name, _ in answer.headers}
    assert (
        names & {b"x-secret", b"proxy-authenticate", b"upgrade", b"te", b"proxy-connection"}
        == set()
    )
    assert answer.get("keep-alive") != "timeout=5"
    assert b"hidden" not in answer.head
    assert answer.get("x-open") == "1"


@pytest.mark.parametrize("named", ["X-Request-ID", "Content-Length", "X-Answer-Set"])
def test_connection_of_an_answer_cannot_remove_ours(
    gateway: Gateway, up: Upstream, named: str
) -> None:
    """An upstream cannot take away the gateway's own headers by naming them in Connection."""
    up.on("/rules/c", answers.plain(headers=[f"Connection: {named}"], body=b"abc"))
    answer = ask(gateway.port, target="/rules/c")
    assert (answer.status, answer.body, answer.complete) == (200, b"abc", True)
    assert answer.get("x-request-id")
    assert answer.get("x-answer-set") == "by-gateway"


def test_upstreams_copies_of_our_headers_are_replaced(gateway: Gateway, up: Upstream) -> None:
    """X-Request-ID and X-Error-Source are the gateway's, whatever the upstream says."""
    sent = ["X-Request-ID: theirs", "x-request-id: again", "X-Error-Source: gateway"]
    up.on("/copies", answers.plain("500 Oops", sent))
    answer = ask(gateway.port, target="/up/copies", headers=[("X-Request-ID", "ours")])
    assert answer.get("x-request-id") == "ours"
    assert answer.get("x-error-source") == "upstream"


def test_error_source_is_never_on_a_success(gateway: Gateway, up: Upstream) -> None:
    """An answer below 400 bears no X-Error-Source, even if the upstream set one."""
    up.on("/fine", answers.plain(headers=["X-Error-Source: gateway"]))
    assert ask(gateway.port, target="/up/fine").get("x-error-source") is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_caching_headers_are_kept(gateway: Gateway, up: Upstream, method: str) -> None:
    """Cache-Control, ETag, Vary, Date and Server are the upstream's and pass."""
    sent = ["Cache-Control: max-age=60", 'ETag: "v1"', "Vary: Accept", "Age: 3",
            "Date: Tue, 01 Jan 2030 00:00:00 GMT", "Server: theirs"]  # fmt: skip
    up.on("/cached", answers.plain(headers=sent, body=b"x"))
    answer = ask(gateway.port, method, "/up/cached")
    for line in sent:
        name, _, value = line.partition(": ")
        assert answer.get(name) == value


def test_not_modified_keeps_its_etag_and_has_no_body(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """304 passes with its validators, without a body, and the connection goes on."""
    up.on(
        "/nm", answers.raw(b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\nContent-Length: 7\r\n\r\n')
    )
    answer = client.send(request(target="/up/nm", headers=[("If-None-Match", '"v1"')])).read()
    assert (answer.status, answer.body, answer.get("etag")) == (304, b"", '"v1"')
    assert client.send(request()).read().status == 200


def test_head_keeps_the_length_of_what_get_would_give(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """HEAD has the Content-Length of the GET and no body, and the connection goes on."""
    up.on("/h", answers.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"))
    answer = client.send(request("HEAD", "/up/h")).read("HEAD")
    assert (answer.status, answer.get("content-length")) == (200, "12345")
    assert client.send(request()).read().status == 200


def test_head_of_a_chunked_answer_has_no_body(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """HEAD of what GET would answer chunked has neither chunk nor end, and the connection goes on."""
    up.on("/h", answers.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
    assert client.send(request("HEAD", "/up/h")).read("HEAD").status == 200
    assert client.send(request()).read().status == 200


def test_no_content_has_no_framing_headers(gateway: Gateway, up: Upstream) -> None:
    """204 reaches the client without Content-Length and Transfer-Encoding."""
    up.on("/nc", answers.raw(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"))
    answer = ask(gateway.port, "DELETE", "/up/nc")
    assert answer.status == 204
    assert (answer.get("content-length"), answer.get("transfer-encoding")) == (None, None)


def test_no_server_header_of_our_own(gateway: Gateway, up: Upstream) -> None:
    """The gateway names neither itself nor what it is built on."""
    for target in ("/up/x", "/livez", "/nosuch"):
        answer = ask(gateway.port, target=target)
        assert (answer.all("server"), b"uvicorn" in answer.head.lower()) == ([], False)


def test_livez_is_json_and_carries_an_id(gateway: Gateway, up: Upstream) -> None:
    """The gateway's own endpoints carry a request id as any other answer does."""
    answer = ask(gateway.port, target="/livez", headers=[("X-Request-ID", "probe-1")])
    assert answer.get("x-request-id") == "probe-1"
    assert json.loads(answer.body) == {"status": "alive"}
