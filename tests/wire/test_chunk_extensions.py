"""Chunk extensions (RFC 9112, 7.1.1) against a second reading of their grammar, written rule by rule."""

import re
import string

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from propylon.wire.chunk_line import ChunkLine
from propylon.wire.framing import ChunkDecoder, FramingError
from propylon.wire.grammar import CHUNK_LINE
from tests.support.examples import examples

_TCHAR = frozenset((string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode())
_HEXDIG = frozenset(string.hexdigits.encode())
_VCHAR = frozenset(range(0x21, 0x7F))
_OBS_TEXT = frozenset(range(0x80, 0x100))
_BLANK = frozenset(b" \t")
_QDTEXT = (_BLANK | _VCHAR | _OBS_TEXT) - frozenset(b'"\\')
_PAIRED = _BLANK | _VCHAR | _OBS_TEXT


class Short(Exception):
    """The line may still become one, but it ends here."""


class Wrong(Exception):
    """No line begins like this."""


class Abnf:
    """The rules of RFC 9112, 7.1 and 7.1.1, each a method of its own, without a regular expression."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.at = 0

    def peek(self) -> int:
        """The next byte. Raises Short."""
        if self.at == len(self.line):
            raise Short
        return self.line[self.at]

    def one_of(self, allowed: frozenset[int]) -> None:
        """A byte of these. Raises Short, Wrong."""
        if self.peek() not in allowed:
            raise Wrong
        self.at += 1

    def many(self, allowed: frozenset[int], least: int = 0) -> int:
        """As many bytes of these as there are."""
        for _ in range(least):
            self.one_of(allowed)
        begun = self.at
        while self.at < len(self.line) and self.line[self.at] in allowed:
            self.at += 1
        return self.at - begun + least

    def chunk_line(self) -> None:
        """chunk-size [ chunk-ext ] CRLF. Raises Short, Wrong."""
        if self.many(_HEXDIG, 1) > 15:
            raise Wrong
        while self.extension():
            pass
        self.one_of(frozenset(b"\r"))
        self.one_of(frozenset(b"\n"))
        if self.at != len(self.line):
            raise Wrong

    def extension(self) -> bool:
        """BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ], if there is one."""
        blanks = self.many(_BLANK)
        if self.peek() != ord(";"):
            if blanks:
                raise Wrong
            return False
        self.at += 1
        self.many(_BLANK)
        self.many(_TCHAR, 1)
        before = self.at
        self.many(_BLANK)
        if self.peek() != ord("="):
            self.at = before
            return True
        self.at += 1
        self.many(_BLANK)
        self.value()
        return True

    def value(self) -> None:
        """Token / quoted-string. Raises Short, Wrong."""
        if self.peek() != ord('"'):
            self.many(_TCHAR, 1)
            return
        self.at += 1
        while (byte := self.peek()) != ord('"'):
            self.at += 1
            if byte == ord("\\"):
                self.one_of(_PAIRED)
            elif byte not in _QDTEXT:
                raise Wrong
        self.at += 1


def read(line: bytes) -> str:
    """What the grammar says of these bytes: whole, short (more may follow) or wrong."""
    try:
        Abnf(line).chunk_line()
    except Short:
        return "short"
    except Wrong:
        return "wrong"
    return "whole"


def by_pattern(line: bytes) -> bool:
    """Whether the pattern takes it for a whole line."""
    return CHUNK_LINE.fullmatch(line) is not None


def by_table(line: bytes) -> str:
    """What the state table says of it."""
    reader = ChunkLine()
    end = reader.feed(line, 0)
    if end < 0 or end < len(line):
        return "wrong"
    return "short" if reader.size is None else "whole"


_bws = st.sampled_from([b"", b" ", b"\t", b" \t "])
_token = st.text("abZ09!#$%&'*+-.^_`|~", min_size=1, max_size=5).map(str.encode)
_pair = st.binary(min_size=1, max_size=1).map(lambda byte: b"\\" + byte)
_quoted = st.lists(_pair | st.binary(max_size=3), max_size=4).map(lambda c: b'"%b"' % b"".join(c))
_extension = st.builds(
    lambda a, b, name, rest: b"%b;%b%b%b" % (a, b, name, rest),
    _bws,
    _bws,
    _token,
    st.just(b"")
    | st.builds(lambda a, b, val: b"%b=%b%b" % (a, b, val), _bws, _bws, _token | _quoted),
)
_line = st.builds(
    lambda size, extensions, end: size + b"".join(extensions) + end,
    st.text("0123456789abcdefABCDEF", min_size=1, max_size=16).map(str.encode),
    st.lists(_extension, max_size=4),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b" \r\n", b"\n", b"\r", b";\r\n"]),
)
_odd = st.text("5a;= \t\"\\\r\n\x00\x7f\xff'", max_size=14).map(lambda t: t.encode("latin-1"))
_mutated = st.builds(
    lambda line, at, cut, new: line[: at % (len(line) + 1)]
    + new
    + line[at % (len(line) + 1) + cut :],
    _line,
    st.integers(0, 200),
    st.integers(0, 3),
    _odd,
)


@given(line=_line | _mutated | _odd.map(b"5".__add__) | st.binary(max_size=12))
@examples(800)
@example(line=b'5;a="\\""\r\n')
@example(line=b'5;a="b\\')
def test_pattern_and_table_read_what_the_grammar_says(line: bytes) -> None:
    """A line is whole, short or wrong for our two readers as it is for the ABNF."""
    said = read(line)
    assert (by_table(line), by_pattern(line)) == (said, said == "whole")


@given(line=_line | _mutated)
@examples(300)
def test_a_line_is_refused_at_its_first_wrong_byte(line: bytes) -> None:
    """However the bytes come in: the decoder refuses a line exactly where no further byte could make it whole."""
    decoder = ChunkDecoder()
    for end in range(1, len(line) + 1):
        verdict = read(line[:end])
        if verdict == "wrong":
            with pytest.raises(FramingError):
                decoder.feed(line[end - 1 : end])
            return
        decoder.feed(line[end - 1 : end])
        if verdict == "whole":
            return


class _Complete:
    """Notes that llhttp has read a whole message."""

    def __init__(self) -> None:
        self.data = b""

    def on_body(self, data: bytes) -> None:
        """Collect."""
        self.data += data


@given(extensions=st.lists(_extension, max_size=3))
@examples(300)
def test_what_passes_means_the_same_to_llhttp(extensions: list[bytes]) -> None:
    """An extension that the grammar admits is ignored by llhttp, too, or refused; never read as something else."""
    line = b"5" + b"".join(extensions) + b"\r\n"
    if read(line) != "whole":
        return
    seen = _Complete()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(line + b"hello\r\n0\r\n\r\n")
    except httptools.HttpParserError as error:
        assert re.search("chunk", str(error)), error
        return
    assert seen.data == b"hello"


@pytest.mark.parametrize("line", [b"5; a = b", b"5 ;a=b", b"5\t;a", b'5;a="b;c\\"";d', b"5;a;b=c"])
def test_bad_white_space_is_part_of_the_grammar(line: bytes) -> None:
    """RFC 9110, 5.6.3: a recipient must parse BWS."""
    decoder = ChunkDecoder()
    assert decoder.feed(line + b"\r\nhello\r\n0 ;x\r\n\r\n") == b"hello"
    assert decoder.done


@pytest.mark.parametrize(
    "line",
    [
        b"5;",
        b"5 ",
        b"5;a=b ",
        b"5;a ",
        b"5;bad[=x",
        b'5;a="unterminated',
        b"5;a=",
        b"5;;a",
        b"5;=b",
        b"5;a=b c",
        b"5 a",
    ],
)
def test_what_is_no_extension_is_refused(line: bytes) -> None:
    """Nothing, a blank at the end, a name that is no token and a string without its end are refused."""
    with pytest.raises(FramingError):
        ChunkDecoder().feed(line + b"\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "tail", [b" " * 16000, b";a" * 8000, b';a="' + b"\\a" * 7900, b";" + b"a" * 16000 + b" "]
)
def test_a_long_line_takes_one_reading(tail: bytes) -> None:
    """16 KiB of blanks, names or escapes that end wrongly are refused: no pattern goes back over them."""
    with pytest.raises(FramingError):
        ChunkDecoder().feed(b"5" + tail + b"\x00\r\n")
