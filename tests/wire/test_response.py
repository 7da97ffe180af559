"""Response heads: what is believed, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import BadResponse
from propylon.wire.message import CHUNKED, NO_BODY, UNTIL_CLOSE
from propylon.wire.response import AnswerProbe, parse_response


def head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """A head with these lines."""
    return b"\r\n".join((status, *lines)) + b"\r\n\r\n"


def test_a_plain_answer_passes_as_it_is() -> None:
    """Status line and headers are kept byte for byte, repeated ones in order."""
    raw = head(b"Set-Cookie: a=1", b"content-LENGTH: 5", b"Set-Cookie:  b=2 ", b"X:")
    read = parse_response(raw, "GET")
    assert (read.status, read.reason, read.length, read.keep_alive) == (200, b" 200 OK", 5, True)
    assert read.block == raw[len(b"HTTP/1.1 200 OK") : -4]
    assert repr(read) == "<Response 200 length=5>"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (b"HTTP/1.1 200 ", b" 200 "),
        (b"HTTP/1.1 200", b" 200 "),
        (b"HTTP/1.1 404 Not  Found ", b" 404 Not  Found "),
        (b"HTTP/1.1 599 \xc3\xa9", b" 599 \xc3\xa9"),
        (b"HTTP/1.0 200 OK", b" 200 OK"),
    ],
)
def test_reason(status: bytes, reason: bytes) -> None:
    """The reason passes as sent; the space in front of it stands even where it is empty."""
    assert parse_response(head(b"Content-Length: 0", status=status), "GET").reason == reason


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([b"Content-Length: 0"], 0),
        ([b"Content-Length: 12"], 12),
        ([b"Transfer-Encoding: chunked"], CHUNKED),
        ([b"transfer-encoding:  Chunked "], CHUNKED),
        ([], UNTIL_CLOSE),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [b"200 OK", b"304 Not Modified", b"204 No Content"])
def test_length(lines: list[bytes], length: int, method: str, status: bytes) -> None:
    """RFC 9112, 6.3: answers to HEAD, 204 and 304 have no body whatever they announce."""
    read = parse_response(head(*lines, status=b"HTTP/1.1 " + status), method)
    bodiless = method == "HEAD" or status[:3] in (b"304", b"204")
    assert read.length == (NO_BODY if bodiless else length)
    assert read.keep_alive == (bodiless or length != UNTIL_CLOSE)


@pytest.mark.parametrize(
    ("status", "method", "kept"),
    [
        (b"HTTP/1.1 204 No Content", "GET", False),
        (b"HTTP/1.1 103 Early Hints", "GET", False),
        (b"HTTP/1.1 304 Not Modified", "GET", True),
        (b"HTTP/1.1 200 OK", "HEAD", True),
    ],
)
def test_content_length_of_bodiless_answers(status: bytes, method: str, kept: bool) -> None:
    """RFC 9110, 8.6: 1xx and 204 have none; with 304 and HEAD it tells of the GET."""
    block = parse_response(head(b"A: b", b"Content-Length: 5", status=status), method).block
    assert (b"Content-Length: 5" in block) == kept


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", id="not HTTP"),
        pytest.param(b"\r\n\r\n", id="empty"),
        pytest.param(head(status=b"HTTP/2.0 200 OK"), id="HTTP/2"),
        pytest.param(head(status=b"HTTP/0.9 200 OK"), id="HTTP/0.9"),
        pytest.param(head(status=b"HTTP/1.1 99 Low"), id="99"),
        pytest.param(head(status=b"HTTP/1.1 0200 OK"), id="0200"),
        pytest.param(head(status=b"HTTP/1.1 2x0 OK"), id="2x0"),
        pytest.param(head(status=b"HTTP/1.1  200 OK"), id="two spaces"),
        pytest.param(head(status=b"HTTP/1.1 200\tOK"), id="tab"),
        pytest.param(head(status=b"http/1.1 200 OK"), id="lower case"),
        pytest.param(head(status=b"HTTP/1.1 200 O\nK"), id="LF in the reason"),
        pytest.param(head(b"Content-Length: 5", b"Content-Length: 5"), id="twice"),
        pytest.param(head(b"Content-Length: 5", b"Content-Length: 6"), id="two lengths"),
        pytest.param(head(b"Content-Length: 5, 5"), id="a list"),
        pytest.param(head(b"Content-Length: +5"), id="a sign"),
        pytest.param(head(b"Content-Length: "), id="empty length"),
        pytest.param(head(b"Content-Length: 99999999999999999999"), id="too many digits"),
        pytest.param(head(b"Transfer-Encoding: chunked", b"Content-Length: 5"), id="both"),
        pytest.param(head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), id="both turned"),
        pytest.param(head(b"Transfer-Encoding: gzip, chunked"), id="gzip, chunked"),
        pytest.param(head(b"Transfer-Encoding: chunked, chunked"), id="chunked twice"),
        pytest.param(
            head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), id="two lines"
        ),
        pytest.param(head(b"Transfer-Encoding: identity"), id="identity"),
        pytest.param(head(b"Transfer-Encoding: \x0bchunked"), id="vertical tab"),
        pytest.param(
            head(b"Transfer-Encoding: chunked", status=b"HTTP/1.0 200 OK"), id="chunked in 1.0"
        ),
        pytest.param(head(b"A : b"), id="space before the colon"),
        pytest.param(head(b" A: b"), id="folded first line"),
        pytest.param(head(b"A: b", b" c"), id="folded"),
        pytest.param(head(b"A b"), id="no colon"),
        pytest.param(head(b": b"), id="no name"),
        pytest.param(head(b"A: b\0c"), id="NUL"),
        pytest.param(head(b"A: b\rc"), id="bare CR"),
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", id="bare LF"),
        pytest.param(head(*[b"A: b"] * 300), id="300 fields"),
    ],
)
def test_refused(raw: bytes) -> None:
    """What is not HTTP, or could be read in two ways, is a 502."""
    with pytest.raises(BadResponse):
        parse_response(raw, "GET")


@pytest.mark.parametrize(
    ("version", "connection", "stays"),
    [
        (b"1.1", None, True),
        (b"1.1", b"keep-alive", True),
        (b"1.1", b"close", False),
        (b"1.1", b"x, Close", False),
        (b"1.0", None, False),
        (b"1.0", b"keep-alive", True),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"close, keep-alive", False),
    ],
)
def test_keep_alive(version: bytes, connection: bytes | None, stays: bool) -> None:
    """RFC 9112, 9.3: HTTP/1.1 stays unless it says otherwise, HTTP/1.0 goes."""
    lines = [b"Content-Length: 0"] + ([b"Connection: " + connection] if connection else [])
    read = parse_response(head(*lines, status=b"HTTP/%b 200 OK" % version), "GET")
    assert read.keep_alive == stays


def test_a_body_until_close_never_keeps_the_connection() -> None:
    """`Connection: keep-alive` does not make an unframed answer end anywhere."""
    read = parse_response(head(b"Connection: keep-alive"), "GET")
    assert (read.length, read.keep_alive) == (UNTIL_CLOSE, False)
    named = parse_response(head(b"Connection: keep-alive, x"), "GET")
    assert (named.length, named.keep_alive) == (UNTIL_CLOSE, False)


def test_hop_by_hop_lines_are_taken_out() -> None:
    """They, what `Connection` names, and an upstream's copies of our own headers never pass."""
    raw = head(
        b"Connection: X-Hop, keep-alive, Content-Length",
        b"X-Hop: 1",
        b"Keep-Alive: timeout=5",
        b"Trailer: x",
        b"TE: x",
        b"Upgrade: h2c",
        b"Proxy-Authenticate: Basic",
        b"Proxy-Connection: close",
        b"X-Request-ID: theirs",
        b"X-Error-Source: theirs",
        b"Content-Length: 0",
        b"Tea: green",
    )
    assert parse_response(raw, "GET").block == b"\r\nContent-Length: 0\r\nTea: green"


@given(st.binary(max_size=80), st.sampled_from(["GET", "HEAD"]))
def test_garbage_is_refused_or_read_and_nothing_else(raw: bytes, method: str) -> None:
    """No other error than BadResponse leaves the parser."""
    for candidate in (raw + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + raw + b"\r\n\r\n"):
        try:
            parse_response(candidate[: candidate.find(b"\r\n\r\n") + 4], method)
        except BadResponse as error:
            assert error.status == 502


@pytest.mark.parametrize("status", [599, 600, 999])
def test_a_status_outside_of_the_classes_is_read(status: int) -> None:
    """RFC 9110, 15: it is invalid, and a client reads it as a 5xx; the gateway passes it on."""
    raw = b"HTTP/1.1 %d Odd\r\nContent-Length: 3\r\n\r\n" % status
    response = parse_response(raw, "GET")
    assert (response.status, response.reason, response.length) == (status, b" %d Odd" % status, 3)


def test_a_beginning_of_a_head_is_no_fault() -> None:
    """Every beginning of a sound head passes the probe, whatever the pieces are."""
    raw = b"HTTP/1.1 200 OK\r\nA: b\r\nSet-Cookie: c=d; Path=/\r\nContent-Length: 3\r\n\r"
    for step in (1, 2, 7, len(raw)):
        probe = AnswerProbe()
        for end in range(step, len(raw) + 1, step):
            probe.feed(raw[:end])
