"""Which answers are compressed, and what becomes of their heads."""

import pytest

from propylon.proxy.coding.codecs import encoder
from propylon.proxy.coding.compress import Compress, CompressRules
from propylon.proxy.coding.stream import Encoded, Room
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Route
from propylon.upstream.ports import Answer
from propylon.upstream.reply import Reply
from propylon.wire.headers import fields, values
from propylon.wire.message import NO_BODY, Request, Response
from tests.proxy.coding.unpacked import UNPACK
from tests.proxy.doubles import Client, request, run

BODY = b'{"a": 1, "b": [1, 2, 3]}' * 200
JSON = b"\r\nContent-Type: application/json; charset=utf-8"
GZIP = b"Accept-Encoding: gzip"
RULES = CompressRules(
    (b"br", b"zstd", b"gzip"), (b"text/*", b"application/*+json", b"application/json"), 100
)
ENCODERS = {coding: encoder(coding.decode(), None) for coding in RULES.codings}


class Service:
    """Answers with this, and keeps the block of the request."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.block = b""

    async def __call__(self, exchange: Exchange, asked: Request, route: Route) -> Answer:
        """Answer."""
        self.block = asked.block
        return self.answer


def reply(block: bytes = JSON, body: bytes = BODY, status: int = 200) -> Reply:
    """An answer that came whole."""
    full = b"%b\r\nContent-Length: %d" % (block, len(body))
    return Reply(Response(status, b" %d X" % status, full, len(body), keep_alive=True), body, None)


def asked(
    answer: Answer, *lines: bytes, method: bytes = b"GET"
) -> tuple[Answer, Service, Exchange]:
    """What a client gets that sends these lines."""
    service, sent = Service(answer), request(b"/", *lines, method=method)
    before = sent.block
    exchange = Exchange(sent, Client(), b"0" * 80, 0.0)
    stage = Compress(RULES, service, ENCODERS, Room(9))
    got = run(stage(exchange, sent, None))  # type: ignore[arg-type]
    assert sent.block is before
    return got, service, exchange


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
def test_a_whole_answer(coding: str) -> None:
    """Its head says what it is, and its length is that of the compressed body; digests of the plain one are gone."""
    more = b'\r\nETag: "v7"\r\nAccept-Ranges: bytes\r\nContent-MD5: x\r\nDigest: sha-256=x\r\nRepr-Digest: x'
    answer, _, exchange = asked(reply(JSON + more), b"Accept-Encoding: " + coding.encode())
    assert answer.body is not None
    assert UNPACK[coding](answer.body) == BODY
    assert sorted(fields(answer.head.block)) == [
        (b"Content-Encoding", coding.encode()),
        (b"Content-Length", b"%d" % len(answer.body)),
        (b"Content-Type", b"application/json; charset=utf-8"),
        (b"ETag", b'"v7~%b"' % coding.encode()),
        (b"Vary", b"Accept-Encoding"),
    ]
    assert (answer.head.length, exchange.flags) == (len(answer.body), ("compressed",))


def test_a_large_answer_is_compressed_while_it_is_sent() -> None:
    """Nobody knows its length."""
    answer, _, _ = asked(reply(body=BODY * 20), GZIP)
    assert isinstance(answer, Encoded)
    assert answer.head.length < 0
    assert values(answer.head.block, b"content-length") == []


@pytest.mark.parametrize(
    ("answer", "varies"),
    [
        (reply(b"\r\nContent-Type: image/png"), False),
        (reply(b"\r\nContent-Type: text/event-stream"), False),
        (reply(b"\r\nContent-Type: Text/Event-Stream;charset=utf-8"), False),
        (reply(b""), False),
        (reply(JSON + b"\r\nContent-Type: text/plain"), False),
        (reply(JSON + b"\r\nContent-Encoding: gzip"), False),
        (reply(JSON + b"\r\nCache-Control: public, No-Transform"), False),
        (reply(JSON + b"\r\nContent-Range: bytes 0-9/10", status=206), False),
        (reply(status=206), False),
        (reply(status=205), False),
        (reply(body=b"x" * 99), False),
        (reply(body=bytes(range(100))), True),  # compressed it would be longer
    ],
)
def test_what_is_left_alone(answer: Reply, varies: bool) -> None:
    """Byte for byte; it varies only if another body of the same URL would be compressed."""
    block, body = answer.head.block, answer.body
    got, _, exchange = asked(answer, GZIP)
    assert (got.body, exchange.flags) == (body, ())
    assert got.head.block == block + (b"\r\nVary: Accept-Encoding" if varies else b"")


@pytest.mark.parametrize(
    "lines", [(), (b"Accept-Encoding: deflate",), (GZIP, b"Cache-Control: no-transform")]
)
def test_who_gets_the_plain_answer_hears_of_the_other(lines: tuple[bytes, ...]) -> None:
    """A shared cache must not give it to everybody (RFC 9110, 12.5.5)."""
    got, _, _ = asked(reply(JSON + b'\r\nETag: "a"'), *lines)
    assert got.body == BODY
    assert values(got.head.block, b"vary") == [b"Accept-Encoding"]
    assert values(got.head.block, b"etag") == [b'"a"']


@pytest.mark.parametrize("vary", [b"*", b"Origin, accept-encoding", b"Accept-Encoding"])
def test_vary_is_said_once(vary: bytes) -> None:
    """Also where the service says it."""
    for lines in ((), (GZIP,)):
        got, _, _ = asked(reply(JSON + b"\r\nVary: " + vary), *lines)
        assert values(got.head.block, b"vary") == [vary]


def test_a_head_request_is_told_what_a_get_would_be() -> None:
    """But for the length, which nobody knows; and an identity coding is none."""
    block = JSON + b'\r\nContent-Encoding: identity\r\nETag: "a"\r\nContent-Length: 5000'
    head = Response(200, b" 200 OK", block, NO_BODY, keep_alive=True)
    got, _, _ = asked(Reply(head, b"", None), GZIP, method=b"HEAD")
    assert got.body == b""
    assert got.head.length == NO_BODY
    told = dict(fields(got.head.block))
    assert (told[b"Content-Encoding"], told[b"ETag"]) == (b"gzip", b'"a~gzip"')
    assert b"Content-Length" not in told
    small = Response(200, b" 200 OK", JSON + b"\r\nContent-Length: 50", NO_BODY, keep_alive=True)
    got, _, _ = asked(Reply(small, b"", None), GZIP, method=b"HEAD")
    assert got.head.block == small.block


@pytest.mark.parametrize(
    ("line", "gets"),
    [
        (b'If-None-Match: "a~gzip"', b'If-None-Match: "a"'),
        (b'If-None-Match: W/"x", "a~gzip", "b~br"', b'If-None-Match: W/"x", "a", "b~br"'),
        (b'If-Match: "a~gzip", "b~br"', b'If-Match: "a", "b"'),
        (b'If-Range: "a~gzip"', b'If-Range: "a~gzip"'),
        (b'X-Other: "a~gzip"', b'X-Other: "a~gzip"'),
        (b'If-None-Match: "a~gzip', b'If-None-Match: "a~gzip'),
    ],
)
def test_the_service_sees_its_own_tags(line: bytes, gets: bytes) -> None:
    """Of the coding that this request would get; and under If-Match, of any."""
    _, service, _ = asked(reply(), GZIP, line)
    assert service.block.endswith(b"\r\n" + gets)


def test_a_304_has_the_tag_that_the_client_has() -> None:
    """A strong tag that the client does not have would update nothing there (RFC 9111, 4.3.4)."""

    def unchanged(*lines: bytes) -> list[bytes]:
        head = Response(304, b" 304 Not Modified", b'\r\nETag: "a"', NO_BODY, keep_alive=True)
        got, _, _ = asked(Reply(head, b"", None), *lines)
        return values(got.head.block, b"etag") + values(got.head.block, b"vary")

    assert unchanged(GZIP, b'If-None-Match: "a~gzip"') == [b'"a~gzip"', b"Accept-Encoding"]
    assert unchanged(GZIP, b'If-None-Match: "a"') == [b'"a"']
    assert unchanged(b'If-None-Match: "a~gzip"') == [b'"a"']


@pytest.mark.parametrize("tag", [b'W/"a"', b"unquoted"])
def test_other_tags_stay(tag: bytes) -> None:
    """A weak one means the same for both, and what is no tag is none of ours."""
    got, _, _ = asked(reply(JSON + b"\r\nETag: " + tag), GZIP)
    assert values(got.head.block, b"etag") == [tag]


def test_a_level_never_holds_the_loop() -> None:
    """Brotli and Zstandard at 9 would take tens of milliseconds for a slice; the bytes are good at every level."""
    for coding in UNPACK:
        for level in (1, 9):
            made = encoder(coding, level)()
            assert UNPACK[coding](made.write(BODY) + made.finish()) == BODY
    assert encoder("br", 9)().write(BODY * 50) == encoder("br", 6)().write(BODY * 50)
