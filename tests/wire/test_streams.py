"""Bytes cut into heads and bodies, however they are sliced; and what is remembered of heads."""

import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from propylon.errors import BadResponse, GatewayError, HeadersTooLarge, InvalidRequest
from propylon.wire.buffer import HeadBuffer
from propylon.wire.framing import BodyReader, FramingError
from propylon.wire.message import CHUNKED, UNTIL_CLOSE, Request
from propylon.wire.request import FieldsMemory, parse_request
from propylon.wire.response import ResponseReader, parse_response
from tests.support.examples import examples

HEAD = b"GET /a HTTP/1.1\r\nHost: a.test\r\nCookie: b\r\n\r\n"

_cuts = st.lists(st.integers(0, 80), max_size=8)


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    """The bytes, cut at these places."""
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    return [raw[left:right] for left, right in itertools.pairwise(edges)]


def seen(request: Request) -> dict[str, Any]:
    """All that a request says."""
    own = {name: getattr(request, name) for name in Request.__slots__ if name != "fields"}
    shared = request.fields
    return own | {f"fields.{name}": getattr(shared, name) for name in type(shared).__slots__}


# Heads


@given(st.integers(0, 4), st.binary(max_size=10), _cuts)
@examples(300)
@example(2, b"", [1, 3])
@example(1, b"\r\n", [1])
def test_a_head_in_any_pieces(blank: int, after: bytes, cuts: list[int]) -> None:
    """The same head, and nothing of what follows is lost; empty lines in front are skipped."""
    buffer = HeadBuffer(1000)
    rest = pieces(b"\r\n" * blank + HEAD + after, cuts)
    found = None
    while found is None:
        found = buffer.feed(rest.pop(0))
    assert (found[0], found[1] + b"".join(rest)) == (HEAD, after)
    assert not buffer.pending


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("extra", [0, 1])
def test_a_head_is_bounded(step: int, extra: int) -> None:
    """Its lines may have as many bytes as the limit says, whether its end has come or not."""
    limit = len(HEAD) - 4 - extra
    buffer = HeadBuffer(limit)

    def feed() -> object:
        found = None
        for start in range(0, len(HEAD), step):
            found = buffer.feed(HEAD[start : start + step])
        return found

    if step == 1 and extra == 0:
        # Until its empty line has come, what is there of it counts.
        limit += 3
        buffer = HeadBuffer(limit)
    if extra:
        with pytest.raises(HeadersTooLarge):
            feed()
    elif step == 7:
        buffer = HeadBuffer(limit + 3)
        assert feed() == (HEAD, b"")
    else:
        assert feed() == (HEAD, b"")


def test_nonsense_is_refused_before_it_ends() -> None:
    """No empty line has to come."""
    buffer = HeadBuffer(1000)
    with pytest.raises(InvalidRequest):
        buffer.feed(b"\x16\x03\x01")
    buffer.clear()
    assert not buffer.pending
    assert buffer.feed(HEAD) == (HEAD, b"")


def test_empty_lines_cost_what_they_weigh() -> None:
    """A read full of them is dealt with in time that grows with its length."""
    assert HeadBuffer(1000).feed(b"\r\n" * 131_072 + HEAD) == (HEAD, b"")


# Bodies


@given(st.binary(max_size=60), st.integers(1, 70), _cuts)
def test_a_body_of_known_length(raw: bytes, length: int, cuts: list[int]) -> None:
    """It ends at its byte; what follows is the rest."""
    reader, data, rest = BodyReader(length), b"", b""
    for piece in pieces(raw, cuts):
        if reader.done:
            rest += piece
        else:
            data += reader.feed(piece)
    assert (data, reader.rest + rest) == (raw[:length], raw[length:])
    assert reader.done == (len(raw) >= length)
    assert not reader.until_close


@given(st.binary(max_size=60), _cuts)
def test_a_body_until_close(raw: bytes, cuts: list[int]) -> None:
    """It has no end of its own."""
    reader = BodyReader(UNTIL_CLOSE)
    assert b"".join(map(reader.feed, pieces(raw, cuts))) == raw
    assert (reader.done, reader.until_close) == (False, True)


def test_a_chunked_body() -> None:
    """The decoder's data, the decoder's rest."""
    reader = BodyReader(CHUNKED)
    assert reader.feed(b"5\r\nhello\r\n0\r\n\r") == b"hello"
    assert (reader.done, reader.until_close) == (False, False)
    assert reader.feed(b"\nmore") == b""
    assert (reader.done, reader.rest) == (True, b"more")
    with pytest.raises(FramingError):
        BodyReader(CHUNKED).feed(b"x")


# Memory


_lines = st.sampled_from(
    [
        b"\r\nhost: a.test",
        b"\r\nhost: a.test\r\ncookie: b",
        b"\r\nhost: a.test\r\ncontent-length: 5",
        b"\r\nhost: a.test\r\ntransfer-encoding: chunked",
        b"\r\nhost: b.test\r\nconnection: close",
        b"\r\nhost: a.test\r\nexpect: x",
        b"\r\ncookie: b",
        b"",
    ]
)
_request_lines = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"POST /a?b HTTP/1.1",
        b"GET / HTTP/1.0",
        b"GET http://a.test/ HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"get / HTTP/1.1",
        b"\nGET / HTTP/1.1",
        b"CONNECT /a HTTP/1.1",
        b"GET / HTTP/1.1\r\nx-injected: 1",
        b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1",
        b"PROPFIND / HTTP/1.1",
        b"GET /\xff HTTP/1.1",
    ]
)


@given(st.lists(st.tuples(_request_lines, _lines), min_size=1, max_size=6))
@examples(300)
def test_a_memory_changes_nothing(asked: list[tuple[bytes, bytes]]) -> None:
    """Whatever was read before, a head is read as if it were the first; a line is one line."""
    memory = FieldsMemory()
    for line, lines in asked:
        try:
            expected: object = seen(parse_request(line + lines + b"\r\n\r\n"))
        except GatewayError as error:
            expected = type(error)
        if b"\r\n" in line:
            expected = InvalidRequest
        try:
            found: object = seen(memory.read(line, lines))
        except GatewayError as error:
            found = type(error)
        assert found == expected


def test_a_memory_is_bounded() -> None:
    """Clients that never repeat themselves do not fill it."""
    memory = FieldsMemory()
    for number in range(20_000):
        memory.read(b"GET / HTTP/1.1", b"\r\nhost: a.test\r\nx: %d" % number)
    assert len(memory._known) <= 4096


_answers = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 103 Hint\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
    ]
)


@given(st.lists(st.tuples(_answers, st.sampled_from(["GET", "HEAD"])), max_size=6))
def test_a_repeated_answer_is_read_as_a_new_one(asked: list[tuple[bytes, str]]) -> None:
    """What `again` gives is what `parse_response` gives, for this method."""
    reader = ResponseReader()
    for head, method in asked:
        again = reader.again(head + b"rest", method)
        try:
            expected = parse_response(head, method)
        except BadResponse:
            assert again is None
            with pytest.raises(BadResponse):
                reader.read(head, method)
            continue
        if again is None:
            again = reader.read(head, method)
        else:
            assert reader.size == len(head)
        facts = ("status", "reason", "block", "length", "keep_alive")
        assert [getattr(again, name) for name in facts] == [
            getattr(expected, name) for name in facts
        ]
