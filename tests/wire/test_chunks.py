"""The chunked coding: one reading, however the bytes arrive, and the same one as llhttp's."""

import itertools

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from propylon.wire.framing import ChunkDecoder, FramingError, chunk, content_length
from tests.support.examples import examples

Result = tuple[bytes, bytes] | str | None  # (data, rest), what was refused, or not at its end yet

_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_LIMIT = 16 * 1024


def decode(pieces: list[bytes]) -> Result:
    """Feed the pieces; what comes after the end counts as rest."""
    decoder, data, rest = ChunkDecoder(), b"", b""
    for piece in pieces:
        if decoder.done:
            rest += piece
            continue
        try:
            data += decoder.feed(piece)
        except FramingError:
            return "refused"
    return (data, decoder.rest + rest) if decoder.done else None


def bytewise(raw: bytes) -> list[bytes]:
    """The same bytes, one at a time."""
    return [raw[i : i + 1] for i in range(len(raw))]


class Oracle:
    """What llhttp makes of the same body, fed byte by byte so that its end is known."""

    def __init__(self) -> None:
        self.data = b""
        self.done = False

    def on_body(self, data: bytes) -> None:
        """Collect."""
        self.data += data

    def on_message_complete(self) -> None:
        """Note the end."""
        self.done = True

    def read(self, raw: bytes) -> tuple[Result, str]:
        """The result, and llhttp's complaint."""
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(_HEAD)
        for position, piece in enumerate(bytewise(raw), 1):
            try:
                parser.feed_data(piece)
            except httptools.HttpParserError as error:
                return "refused", str(error)
            if self.done:
                return (self.data, raw[position:]), ""
        return None, ""


def agree(raw: bytes) -> None:
    """Whatever we take for a body is one for llhttp too: the same data, the same end.

    It is stricter about extensions (no white space) and trailers alone; both are dropped, so no upstream reads them.
    """
    ours = decode([raw])
    theirs, complaint = Oracle().read(raw)
    if isinstance(ours, tuple) and ours != theirs:
        named = ("chunk extensions", "chunk size", "Content-Length", "Transfer-Encoding")
        assert theirs == "refused"
        assert any(name in complaint for name in named), complaint


_token = st.text("abcXYZ!#$%&'*+-.^_`|~019", min_size=1, max_size=8).map(str.encode)
_value = st.one_of(_token, st.just(b'"a b\t;c"'))
_extension = st.one_of(
    st.just(b""),
    st.builds(lambda name: b";" + name, _token),
    st.builds(lambda name, value: b";%b=%b" % (name, value), _token, _value),
)
_data = st.binary(min_size=1, max_size=40)
_chunk = st.builds(
    lambda data, zeros, extension: b"%b%x%b\r\n%b\r\n" % (zeros, len(data), extension, data),
    _data,
    st.sampled_from([b"", b"0", b"000000"]),
    _extension,
)
_trailer = st.builds(
    lambda name, value: b"x-%b: %b\r\n" % (name, value), _token, st.just(b"") | _value
)
_body = st.builds(
    lambda chunks, extension, trailers: b"%b0%b\r\n%b\r\n"
    % (b"".join(chunks), extension, b"".join(trailers)),
    st.lists(_chunk, max_size=6),
    _extension,
    st.lists(_trailer, max_size=3),
)
_mutated = st.builds(
    lambda raw, at, cut, new: raw[: at % (len(raw) + 1)] + new + raw[at % (len(raw) + 1) + cut :],
    _body,
    st.integers(0, 10_000),
    st.integers(0, 3),
    st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"0", b"f", b";", b" ", b"_", b"x", b"-", b"\0"])
    | st.binary(max_size=3),
)


@given(raw=_body | _mutated | st.binary(max_size=30), cuts=st.lists(st.integers(0, 300)))
@examples(300)
@example(raw=b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", cuts=[4])
def test_any_pieces_give_the_same_result(raw: bytes, cuts: list[int]) -> None:
    """Whole, byte by byte or in any pieces: the same data, the same rest, the same refusal."""
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    pieces = [raw[left:right] for left, right in itertools.pairwise(edges)]
    whole = decode([raw])
    assert decode(pieces) == whole
    assert decode(bytewise(raw)) == whole


@given(raw=_body | _mutated, after=st.binary(max_size=10))
@examples(400)
@example(raw=b"5;\r\nhello\r\n0\r\n\r\n", after=b"")
@example(raw=b"0\r\nContent-Length: 5\r\n\r\n", after=b"")
def test_what_is_accepted_is_what_llhttp_reads(raw: bytes, after: bytes) -> None:
    """A body that we take as whole ends at the same byte for llhttp and holds the same data."""
    agree(raw + after)


@given(raw=_body)
@examples(200)
def test_every_well_formed_body_is_accepted(raw: bytes) -> None:
    """What RFC 9112 lets a sender write is read to its end, as llhttp reads it."""
    theirs, complaint = Oracle().read(raw)
    assert complaint == ""
    assert theirs == decode([raw])


@given(st.lists(_data, max_size=8))
def test_what_is_encoded_is_decoded(parts: list[bytes]) -> None:
    """`chunk` and the decoder are each other's inverse."""
    raw = b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    assert decode([raw]) == (b"".join(parts), b"")


@pytest.mark.parametrize(
    "size",
    [
        b"0x5",
        b"5_0",
        b"-5",
        b"+5",
        b" 5",
        b"5 ",
        b"5\t",
        b"",
        b"g",
        b"5h",
        b"1" * 16,
        b"0" * 16 + b"5",
        b"f" * 17,
        b"5\x0b",
        b"\xef\xbc\x95",
        b"5\0",
        b"5 ;",
        b"5;a\0",
        b"5;a\x7f",
    ],
)
def test_bad_size_is_refused(size: bytes) -> None:
    """A size is 1 to 15 hexadecimal digits and nothing else; never does `int` see anything more."""
    raw = size + b"\r\nhello\r\n0\r\n\r\n"
    assert decode([raw]) == "refused"
    assert decode(bytewise(raw)) == "refused"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"5\nhello\r\n0\r\n\r\n", id="LF after the size"),
        pytest.param(b"5\rhello\r\n0\r\n\r\n", id="CR after the size"),
        pytest.param(b"5\r\r\nhello\r\n0\r\n\r\n", id="two CR after the size"),
        pytest.param(b"5\r\nhello\n0\r\n\r\n", id="LF after the data"),
        pytest.param(b"5\r\nhello\r0\r\n\r\n", id="CR after the data"),
        pytest.param(b"5\r\nhello0\r\n\r\n", id="nothing after the data"),
        pytest.param(b"5\r\nhello!\r\n0\r\n\r\n", id="more data than announced"),
        pytest.param(b"5;a\nb\r\nhello\r\n0\r\n\r\n", id="LF in an extension"),
        pytest.param(b"0\n\r\n", id="LF after the last size"),
        pytest.param(b"0\r\n\n", id="LF for the last line"),
        pytest.param(b"0\r\nA: b\n\r\n", id="LF after a trailer"),
        pytest.param(b"0\r\nA : b\r\n\r\n", id="space before a trailer's colon"),
        pytest.param(b"0\r\n A: b\r\n\r\n", id="folded trailer"),
        pytest.param(b"0\r\nA: b\r\n c\r\n\r\n", id="folded second line"),
        pytest.param(b"0\r\n: b\r\n\r\n", id="trailer without a name"),
        pytest.param(b"0\r\nA: b\0c\r\n\r\n", id="NUL in a trailer"),
        pytest.param(b"0\r\nA\r\n\r\n", id="trailer without a colon"),
    ],
)
def test_malformed_line_is_refused(raw: bytes) -> None:
    """Only CRLF ends a line, and a trailer is a header line."""
    assert decode([raw]) == "refused"
    assert decode(bytewise(raw)) == "refused"


@pytest.mark.parametrize("extra", [0, 1])
def test_an_extension_is_bounded(extra: int) -> None:
    """A size line has 16 KiB at the most, its CRLF included, in one piece or in many."""
    line = b"5;" + b"a" * (_LIMIT - 4 + extra) + b"\r\n"
    raw = line + b"hello\r\n0\r\n\r\n"
    expected = (b"hello", b"") if not extra else "refused"
    pieces = [raw[i : i + 1000] for i in range(0, len(raw), 1000)]
    assert (decode([raw]), decode(pieces)) == (expected, expected)


@pytest.mark.parametrize("extra", [0, 1])
def test_trailers_are_bounded_together(extra: int) -> None:
    """All trailers together have 16 KiB at the most."""
    line = b"a: " + b"b" * (1024 - 5) + b"\r\n"
    raw = b"0\r\n" + line * 15 + line[: 1024 - 2] + b"b" * extra + b"\r\n\r\n"
    expected = (b"", b"") if not extra else "refused"
    pieces = [raw[i : i + 700] for i in range(0, len(raw), 700)]
    assert (decode([raw]), decode(pieces)) == (expected, expected)


def test_a_line_that_never_ends_is_refused() -> None:
    """What is held of an unfinished line is bounded."""
    decoder = ChunkDecoder()
    with pytest.raises(FramingError):
        for _ in range(40):
            decoder.feed(b"5;" + b"a" * 1000 if decoder._line is None else b"a" * 1000)
    assert decoder._pending == b""


def test_a_million_chunks_of_one_byte() -> None:
    """A million one-byte chunks come out as one piece, in time that grows with their number."""
    count = 1_000_000
    assert ChunkDecoder().feed(b"1\r\na\r\n" * count + b"0\r\n\r\n") == b"a" * count


def test_rest_is_what_follows_the_body() -> None:
    """The next message starts at the byte after the body."""
    decoder = ChunkDecoder()
    decoder.feed(b"0\r\n\r\nGET / HTTP/1.1\r\n")
    assert (decoder.done, decoder.rest) == (True, b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b"5", b"5"],
        [b"5, 5"],
        [b"+5"],
        [b"-5"],
        [b"5_0"],
        [b" 5"],
        [b"5 "],
        [b"0x5"],
        [b"1" * 19],
        [b"5\n"],
        ["٥".encode()],
        [b"5.0"],
        [b"1e3"],
    ],
)
def test_a_content_length_is_one_decimal_number(lines: list[bytes]) -> None:
    """Two, a list, a sign, a blank, an underscore or 19 digits are refused."""
    with pytest.raises(FramingError):
        content_length(lines)


@given(st.integers(0, 10**18 - 1))
def test_every_plain_length_is_read(length: int) -> None:
    """Up to 18 digits, leading zeros included."""
    assert content_length([b"%d" % length]) == length
    assert content_length([(b"%d" % length).rjust(18, b"0")]) == length
