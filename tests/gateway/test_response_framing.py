"""Answers of an upstream that is broken or hostile: delivered whole, visibly cut, or 502."""

import threading

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, chunked, request
from tests.support.excused import excused
from tests.support.gateway import Gateway
from tests.support.upstream import Arrived, Peer, Script, Upstream

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FIVE = OK + b"Content-Length: 5\r\n\r\n"


def silence(peer: Peer) -> None:
    """Say nothing more, until the gateway has had enough."""
    while True:
        peer.receive()


# Never an answer: 502, before the first byte reaches the client.
NONSENSE: dict[str, bytes] = {
    "two-lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "two-same-lengths": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length-list": OK + b"Content-Length: 5, 6\r\n\r\nhello!",
    "length-plus": OK + b"Content-Length: +5\r\n\r\nhello",
    "length-minus": OK + b"Content-Length: -5\r\n\r\nhello",
    "length-hex": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "length-underscore": OK + b"Content-Length: 5_0\r\n\r\nhello",
    "length-text": OK + b"Content-Length: five\r\n\r\nhello",
    "length-empty": OK + b"Content-Length:\r\n\r\nhello",
    "length-overflow": OK + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "length-and-coding": OK
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "coding-unknown": OK + b"Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "coding-twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "coding-not-last": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "garbage": b"\x00\x01\x02garbage\r\n\r\n",
    "words": b"hello there\r\n\r\n",
    "http-0.9": b"<html>hello</html>",
    "banner": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "smtp": b"220 mail ESMTP\r\n",
    "tls-alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "http2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80",
    "status-99": b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
    "status-000": b"HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n",
    "status-1000": b"HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n",
    "status-text": b"HTTP/1.1 abc Text\r\nContent-Length: 0\r\n\r\n",
    "status-plus": b"HTTP/1.1 +20 Plus\r\nContent-Length: 0\r\n\r\n",
    "status-none": b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "version-2": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version-icy": b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    "name-space": OK + b"X-A : 1\r\nContent-Length: 0\r\n\r\n",
    "no-colon": OK + b"X-A 1\r\nContent-Length: 0\r\n\r\n",
    "nul": OK + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n",
    "bare-cr": OK + b"X-A: a\rX-B: b\r\nContent-Length: 0\r\n\r\n",
    "folded": OK + b"X-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "head-1m": OK + b"X-A: " + b"v" * 1_000_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "10000-headers": OK + b"X-A: v\r\n" * 10_000 + b"Content-Length: 0\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nraw",
    "switching-bare": b"HTTP/1.1 101 Switching Protocols\r\n\r\nraw",
    "empty": b"",
    "half-head": OK + b"Content-Le",
}

# Begun well and broken off: the client must see that it is not whole.
CUT: dict[str, tuple[bytes, answers.End]] = {
    "length-close": (OK + b"Content-Length: 500\r\n\r\nhello", answers.close),
    "length-reset": (OK + b"Content-Length: 500\r\n\r\nhello", answers.reset),
    "chunks-close": (CHUNKED + b"5\r\nhello\r\n", answers.close),
    "chunks-reset": (CHUNKED + b"5\r\nhello\r\n", answers.reset),
    "chunk-close": (CHUNKED + b"500\r\nhello", answers.close),
    "chunk-no-last": (CHUNKED + b"5\r\nhello\r\n0\r\n", answers.close),
    "chunk-bad-size": (CHUNKED + b"5\r\nhello\r\nzz\r\nx\r\n0\r\n\r\n", answers.keep),
    "chunk-bad-end": (CHUNKED + b"5\r\nhelloXX0\r\n\r\n", answers.keep),
    "chunk-size-hex": (CHUNKED + b"5\r\nhello\r\n0x5\r\nworld\r\n0\r\n\r\n", answers.keep),
    "chunk-size-huge": (CHUNKED + b"5\r\nhello\r\n" + b"f" * 17 + b"\r\nx", answers.keep),
    "chunk-bare-lf": (CHUNKED + b"5\r\nhello\r\n5\nworld\r\n0\r\n\r\n", answers.keep),
    "trailer-bad": (CHUNKED + b"5\r\nhello\r\n0\r\nbad\r\n\r\n", answers.keep),
    "silence-length": (OK + b"Content-Length: 500\r\n\r\nhello", silence),
    "silence-chunks": (CHUNKED + b"5\r\nhello\r\n", silence),
}


def split_after_head(raw: bytes) -> tuple[bytes, bytes]:
    """Head and first chunk first, so that the answer has begun when it breaks."""
    end = raw.index(b"hello") + 5
    return raw[:end], raw[end:]


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_502(gateway: Gateway, up: Upstream, name: str) -> None:
    """What is no answer, or could be read as two, is 502, and the connection to it is closed."""
    end = (
        answers.close
        if name in ("empty", "half-head", "http-0.9", "tls-alert", "http2")
        else answers.keep
    )
    up.on("/n", answers.raw(NONSENSE[name], end=end))
    answer = ask(gateway.port, target="/up/n")
    # A time-out would be 504: nobody has waited for one.
    assert (answer.status, answer.json()["error"]["code"]) == (502, "UPSTREAM_ERROR")
    number = up.last.connection
    assert up.wait(lambda: number not in {peer.number for peer in up._peers})


@pytest.mark.parametrize("name", CUT)
def test_broken_answer_never_looks_whole(
    gateway: Gateway, up: Upstream, client: RawClient, name: str
) -> None:
    """An answer that breaks off after its first byte ends the client's connection, visibly cut."""
    raw, end = CUT[name]
    first, rest = split_after_head(raw)
    begun = threading.Event()

    def breaks_off(peer: Peer, arrived: Arrived) -> None:
        peer.send(first)
        begun.wait(20)
        peer.send(rest)
        end(peer)

    up.on("/lull/cut", breaks_off)
    client.send(request(target="/lull/cut")).has_come(b"hello")
    begun.set()
    answer = client.read()
    assert answer.status == 200
    assert answer.body in (b"hello", b"helloworld", b"hellox")
    assert answer.ended in ("cut", "reset")
    # ... and is no success in the log.
    record = gateway.record(answer)
    assert record["error"]


@pytest.mark.parametrize("name", ["length-close", "chunks-close", "chunk-bad-size"])
def test_answer_broken_at_once_is_502_or_cut(
    gateway: Gateway, up: Upstream, client: RawClient, name: str
) -> None:
    """Head and broken body in one segment: 502 as nothing has reached the client, or visibly cut."""
    raw, end = CUT[name]
    up.on("/cut", answers.raw(raw, end=end))
    answer = client.send(request(target="/up/cut")).read()
    assert answer.status == 502 or answer.ended in ("cut", "reset")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_answer_until_close_is_delivered(
    gateway: Gateway, up: Upstream, client: RawClient, version: str
) -> None:
    """An answer delimited by its close is whole; a client of HTTP/1.1 gets it in chunks."""
    up.on("/uc", answers.raw(OK + b"\r\nhello", b" world", pause=0.05, end=answers.close))
    answer = client.send(request(target="/up/uc", version=version)).read()
    assert answer.body == b"hello world"
    assert answer.ended == ("whole" if version == "1.1" else answer.ended)
    if version == "1.1":
        assert client.send(request()).read().status == 200


def test_answer_until_close_that_is_reset_is_cut(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """A reset is no orderly end: the client must see that."""
    up.on("/ur", answers.raw(OK + b"\r\nhello", b"", pause=0.1, end=answers.reset))
    answer = client.send(request(target="/up/ur")).read()
    assert answer.status == 502 or answer.ended in ("cut", "reset")


def test_http_1_0_answer_is_delivered(gateway: Gateway, up: Upstream, client: RawClient) -> None:
    """An upstream of HTTP/1.0 is understood, and its connection not used again."""
    up.on("/10", answers.raw(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
    answers_ = [client.send(request(target="/up/10")).read() for _ in range(2)]
    assert [answer.body for answer in answers_] == [b"hello", b"hello"]
    assert len({arrived.connection for arrived in up.requests}) == 2


@pytest.mark.parametrize(
    "pieces",
    [[FIVE + b"hello"], [FIVE[:10], FIVE[10:] + b"he", b"llo"], [bytes([b]) for b in FIVE + b"hello"],
     [CHUNKED + chunked(b"hello")], [bytes([b]) for b in CHUNKED + chunked(b"he", b"llo")],
     [CHUNKED + b"5;ext=1\r\nhello\r\n0;x\r\n\r\n"], [CHUNKED + b"05\r\nhello\r\n000\r\n\r\n"],
     [CHUNKED.replace(b"chunked", b"Chunked") + chunked(b"hello")],
     [b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"],
     [b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"],
     [b"HTTP/1.1 200 Caf\xe9\r\nContent-Length: 5\r\n\r\nhello"]],
    ids=["whole", "three", "bytewise", "chunked", "chunked-bytewise", "extensions", "zeros", "case",
         "no-reason", "empty-reason", "8bit-reason"],
)  # fmt: skip
def test_answer_in_any_shape_is_the_same_answer(
    gateway: Gateway, up: Upstream, client: RawClient, pieces: list[bytes]
) -> None:
    """However an answer is cut or coded, the client gets the same, and extensions never."""
    up.on("/shape", answers.raw(*pieces, pause=0.001))
    answer = client.send(request(target="/up/shape")).read()
    assert (answer.status, answer.body, answer.complete) == (200, b"hello", True)
    assert client.send(request()).read().status == 200


@pytest.mark.parametrize("name", ["X-T", "Content-Length", "Transfer-Encoding", "Set-Cookie"])
def test_trailers_of_an_answer_are_never_headers(
    gateway: Gateway, up: Upstream, client: RawClient, name: str
) -> None:
    """Trailers of an answer are dropped or passed as trailers; the body stays whole."""
    up.on("/tr", answers.raw(CHUNKED + chunked(b"hello", trailers=f"{name}: sesame\r\n".encode())))
    answer = client.send(request(target="/up/tr")).read()
    assert (answer.body, answer.complete) == (b"hello", True)
    assert b"sesame" not in answer.head
    assert client.send(request()).read().status == 200


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


@pytest.mark.parametrize(
    "first",
    [b"HTTP/1.1 100 Continue\r\n\r\n", INTERIM, b"HTTP/1.1 102 Processing\r\n\r\n", INTERIM * 5,
     b"HTTP/1.1 100 Continue\r\n\r\n" * 50],
    ids=["100", "103", "102", "5x103", "50x100"],
)  # fmt: skip
@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_interim_answers_do_not_hide_the_final_one(
    gateway: Gateway, up: Upstream, client: RawClient, first: bytes, pause: float
) -> None:
    """1xx answers come before the final one, which is delivered; a 100 nobody asked for stays here."""
    up.on("/i", answers.raw(first, FIVE + b"hello", pause=pause))
    answer = client.send(request(target="/up/i")).read()
    assert (answer.status, answer.body, answer.complete) == (200, b"hello", True)
    assert 100 not in [interim.status for interim in answer.interim]
    if not excused(gateway.edge, "interim") and first.startswith(INTERIM):
        assert {interim.status for interim in answer.interim} == {103}
        assert answer.interim[0].get("link") == "</a.css>; rel=preload"
    assert client.send(request()).read().status == 200


def test_http_1_0_client_never_gets_an_interim_answer(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """RFC 9110, 15.2: no 1xx to a client of HTTP/1.0."""
    up.on("/i0", answers.raw(INTERIM + FIVE + b"hello"))
    answer = client.send(request(target="/up/i0", version="1.0")).read()
    assert (answer.status, answer.interim, answer.body) == (200, [], b"hello")


def test_endless_interim_answers_end(gateway: Gateway, up: Upstream) -> None:
    """An upstream that sends 1xx for ever is 502 or 504 by the deadline."""
    up.on("/hasty", answers.endless(b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.01))
    assert ask(gateway.port, target="/hasty").status in (502, 504)


def test_endless_head_ends(gateway: Gateway, up: Upstream) -> None:
    """A head that never ends is 502, with bounded memory, and the upstream is let go."""
    before = gateway.rss()
    up.on("/eh", answers.endless(b"X-A: " + b"v" * 60_000 + b"\r\n", OK))
    assert ask(gateway.port, target="/up/eh").status in (502, 504)
    assert up.wait(lambda: up.last.cancelled)
    assert gateway.rss() - before < 10_000_000


def early(status: bytes, end: answers.End) -> Script:
    """Answer before the body is read."""
    return answers.raw(
        b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\nearly", early=True, end=end
    )


def drain(peer: Peer, arrived: Arrived) -> None:
    """Answer first, and read the body afterwards all the same."""
    early(b"200 OK", answers.keep)(peer, arrived)
    peer.read_body(arrived)


@pytest.mark.parametrize("size", [100, 900_000, 20_000_000])
def test_early_answer_is_delivered(gateway: Gateway, up: Upstream, size: int) -> None:
    """An answer that comes before the upload has ended is delivered, not turned into a 502."""
    delivered = threading.Event()

    def refuse(peer: Peer, arrived: Arrived) -> None:
        early(b"413 Too Large\r\nConnection: close", answers.keep)(peer, arrived)
        delivered.wait(20)  # with input unread, a close is a reset, which overtakes the answer
        peer.close()

    up.on("/big/early", refuse)
    with RawClient(gateway.port) as client:
        client.send(
            request("POST", "/big/early", [("Content-Length", str(size))])
            + b"x" * min(size, 200_000)
        )
        answer: Answer = client.read()
    delivered.set()
    assert (answer.status, answer.body) == (413, b"early")


def test_early_answer_before_an_unfinished_upload_leaves_no_half_used_connection(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """What is left of an upload never becomes the head of the next request, on either side."""
    up.on("/early", early(b"200 OK", answers.keep))
    client.send(request("POST", "/up/early", [("Content-Length", "50")]) + b"x" * 10)
    assert client.read().body == b"early"
    client.send(b"GET /up/SMUGGLED HTTP/1.1\r\nHost: a\r\n\r\n"[:40] + request())
    if not client.is_closed(0.3):
        client.read()
    assert ask(gateway.port, target="/up/other").status == 200
    assert [arrived.target for arrived in up.requests if b"SMUGGLED" in arrived.target] == []


def test_upstream_that_answers_and_then_drains_is_fine(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """An early 200 with the upload still going on reaches the client; both may go on."""
    up.on("/drain", drain)
    answer = client.send(request("POST", "/up/drain", body=b"x" * 200_000)).read()
    assert (answer.status, answer.body) == (200, b"early")
    assert ask(gateway.port).status == 200


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize(
    "framing", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"]
)
def test_body_behind_a_bodiless_answer_goes_nowhere(
    gateway: Gateway, up: Upstream, client: RawClient, status: bytes, framing: bytes
) -> None:
    """A body behind 204 or 304 is never sent on, and never paired with the next request."""
    up.on("/b", answers.raw(b"HTTP/1.1 " + status + b"\r\n" + framing + b"\r\nhello"))
    answer = client.send(request(target="/up/b")).read()
    if answer.status != 502:
        assert (answer.status, answer.body) == (int(status[:3]), b"")
    assert client.send(request(target="/up/after")).read().body.startswith(b"GET /after ")
    numbers = [arrived.connection for arrived in up.requests]
    assert numbers[0] != numbers[1]


def test_body_behind_a_head_answer_goes_nowhere(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """A body behind the answer to HEAD is never sent on, and its connection not used again."""
    up.on("/hb", answers.raw(FIVE + b"hello"))
    assert client.send(request("HEAD", "/up/hb")).read("HEAD").status == 200
    assert client.send(request(target="/up/after")).read().body.startswith(b"GET /after ")
    numbers = [arrived.connection for arrived in up.requests]
    assert numbers[0] != numbers[1]


@pytest.mark.parametrize("status", [600, 777, 999])
def test_a_status_above_599_passes_and_counts_as_a_failure(
    gateway: Gateway, up: Upstream, status: int
) -> None:
    """RFC 9110, 15: whoever gets such a status reads it as a 5xx."""
    up.on("/odd", answers.plain(f"{status} Odd", body=b"odd"))
    answer = ask(gateway.port, target="/up/odd")
    assert answer.status == (500 if excused(gateway.edge, "status") else status)
    assert (answer.body, answer.get("x-error-source")) == (b"odd", "upstream")
    record = gateway.record(answer)
    assert (record["upstream_status"], record["level"]) == (status, "error")


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", id="bare LF"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n", id="one bare LF"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\rC: d", id="bare CR"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA : b", id="space before a colon"),
        pytest.param(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76", id="TLS handshake"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x46", id="TLS alert"),
        pytest.param(b"220 mail.example.com ESMTP\r\n", id="banner"),
        pytest.param(b"HTTP/2", id="version"),
        pytest.param(b"HTTP/1.1 2x", id="status"),
    ],
)
@pytest.mark.parametrize("how", ["whole", "bytewise"])
def test_what_is_no_http_is_502_at_once(
    gateway: Gateway, up: Upstream, beginning: bytes, how: str
) -> None:
    """An answer that can never become one is refused at its first wrong byte: the upstream stays silent after it."""
    pieces = [beginning] if how == "whole" else [bytes([byte]) for byte in beginning]
    up.on("/never", answers.raw(*pieces, end=silence))
    answer = ask(gateway.port, target="/up/never")
    record = gateway.record(answer)
    assert answer.status == 502
    assert "BadResponse" in record["error"]  # and no timeout
