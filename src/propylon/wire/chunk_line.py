"""Read the size line of a chunk (RFC 9112, 7.1) that arrives in pieces: each byte once, whatever the pieces are. Pure.

    SIZE ──;──► SEMICOLON ──► NAME ──=──► EQUALS ──► VALUE ──;──► SEMICOLON       CR follows SIZE, NAME, VALUE, CLOSED
                                             └──"──► QUOTED ──"──► CLOSED         white space: FREE, NAMED, or ignored

Facts. A size line arrives whole as a rule, and one pattern (`grammar.CHUNK_LINE`) reads it. A client that sends it in
single bytes would have the pattern begin anew with each of them: 16 KiB took 17 seconds.

Rules. A line is refused at its first byte after which no further bytes could complete it. The table below says the same
as the pattern; a test compares both with the ABNF.
"""

from __future__ import annotations

import re
from enum import IntEnum, auto

from propylon.wire.grammar import HEXDIG, OWS, QDTEXT, QUOTED_PAIR, TOKEN

__all__ = ["ChunkLine"]

# Digits, as in `grammar.CHUNK_LINE`.
_MAX_DIGITS = 15


class _State(IntEnum):
    """What came last; WRONG is 0, so that a table of zeros refuses all bytes."""

    WRONG = 0
    SIZE = auto()
    FREE = auto()  # white space behind the size or a value: only `;` may follow
    SEMICOLON = auto()
    NAME = auto()
    NAMED = auto()  # white space behind a name: `;` or `=` may follow
    EQUALS = auto()
    VALUE = auto()
    QUOTED = auto()
    BACKSLASH = auto()
    CLOSED = auto()  # the quote at the end of a string
    CR = auto()
    DONE = auto()


def _admitted(pattern: re.Pattern[bytes], before: bytes = b"") -> bytes:
    """Return the bytes that the pattern admits, each by itself behind `before`."""
    return bytes(byte for byte in range(256) if pattern.fullmatch(before + bytes([byte])))


_HEX = _admitted(HEXDIG)
_TCHAR = _admitted(TOKEN)
_TEXT = _admitted(QDTEXT)
_PAIRED = _admitted(QUOTED_PAIR, b"\\")

_S = _State
_BEHIND = [(OWS, _S.FREE), (b";", _S.SEMICOLON), (b"\r", _S.CR)]
# By the state, the bytes that may follow, and the states that they lead to.
_RULES: dict[_State, list[tuple[bytes, _State]]] = {
    _S.SIZE: [(_HEX, _S.SIZE), *_BEHIND],
    _S.FREE: [(OWS, _S.FREE), (b";", _S.SEMICOLON)],
    _S.SEMICOLON: [(OWS, _S.SEMICOLON), (_TCHAR, _S.NAME)],
    _S.NAME: [
        (_TCHAR, _S.NAME),
        (OWS, _S.NAMED),
        (b";", _S.SEMICOLON),
        (b"=", _S.EQUALS),
        (b"\r", _S.CR),
    ],
    _S.NAMED: [(OWS, _S.NAMED), (b";", _S.SEMICOLON), (b"=", _S.EQUALS)],
    _S.EQUALS: [(OWS, _S.EQUALS), (_TCHAR, _S.VALUE), (b'"', _S.QUOTED)],
    _S.VALUE: [(_TCHAR, _S.VALUE), *_BEHIND],
    _S.QUOTED: [(_TEXT, _S.QUOTED), (b"\\", _S.BACKSLASH), (b'"', _S.CLOSED)],
    _S.BACKSLASH: [(_PAIRED, _S.QUOTED)],
    _S.CLOSED: _BEHIND,
    _S.CR: [(b"\n", _S.DONE)],
}


def _table(rules: list[tuple[bytes, _State]]) -> bytes:
    following = bytearray(256)
    for allowed, state in rules:
        for byte in allowed:
            following[byte] = state
    return bytes(following)


_FOLLOWING = [_table(_RULES.get(state, [])) for state in _State]


class ChunkLine:
    """One size line, from its first byte to its CRLF."""

    __slots__ = ("_digits", "_state", "length")

    def __init__(self) -> None:
        """Expect the first digit."""
        self.length = 0  # bytes so far
        self._digits = b""
        self._state: int = _State.SIZE

    @property
    def size(self) -> int | None:
        """The size of the chunk; None until the line is complete."""
        return int(self._digits, 16) if self._state == _State.DONE else None

    def feed(self, data: bytes, position: int) -> int:
        """Read `data` from `position` on; return where the line or the data ends, -1 if no line begins like this."""
        state, begun = self._state, position
        for byte in data[position:]:
            before, state = state, _FOLLOWING[state][byte]
            if state == _State.SIZE:
                self._digits += data[position : position + 1]
            if (
                not state
                or len(self._digits) > _MAX_DIGITS
                or (before == _State.SIZE and not self._digits)
            ):
                return -1
            position += 1
            if state == _State.DONE:
                break
        self._state = state
        self.length += position - begun
        return position
