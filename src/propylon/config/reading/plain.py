r"""Read routes that are written plainly, one key a line, without the YAML parser. Pure.

Strategy. A file of thousands of routes is the same few lines over and over. libyaml parses them in ten milliseconds, but
makes two nodes and four marks of each line, in Python, and that takes three hundred. So routes that hold nothing but
plain lines are read here, and are taken out of the text: each run of them leaves one placeholder and as many empty lines
as it had, so that every other line keeps its number. The parser reads what is left; `document` puts the routes back.

Facts that this stands on:

- What is read here means the same to the parser: words without any character that means something in YAML, texts in
  quotes without escapes, lists and mappings of these. Anything else (`&`, `*`, `!`, `|`, `$`, a tab, a letter beyond ASCII)
  leaves the route that has it to the parser.
- A plain route ends where the next dash stands at the same column, or a line further left: there the parser, too, is done
  with it, whatever follows.
- A placeholder that the parser does not find among the routes shows that its lines were part of something else, a text
  in quotes over several lines for example. Then the parser reads the whole text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from propylon.config.reading.expand import read_scalar

__all__ = ["PLACEHOLDER", "Plain", "take_plain"]

PLACEHOLDER = "~"
# Deeper than any route, and with the three levels around it far from what `document` allows.
_DEEPEST = 8

# In brackets a comma or a brace would mean something; outside of them `/orders/{id}` is a word, and so is a URL.
_FLOW_WORD = r"[A-Za-z0-9/_][A-Za-z0-9/_.~-]*"
_WORD = r"(?:[A-Za-z0-9/_](?:[A-Za-z0-9/_.~{}%+=@,*-]|:(?=[A-Za-z0-9/{]))*|-[0-9]+)"
# ASCII without a dollar, the quote itself and, where it escapes, the backslash.
_QUOTED = r"""(?:"[ !#%-\[\]-~]*"|'[ -#%&(-~]*')"""
_REST = r"(?: +#[ -~]*| *)"
_LINE = re.compile(
    rf"( *)([A-Za-z_][A-Za-z0-9_-]*):(?: +(?:({_WORD})|({_QUOTED})|([\[{{][ -~]*[\]}}])))?{_REST}"
)
_ITEM = re.compile(rf"({_WORD}|{_QUOTED}){_REST}")
_IGNORED = re.compile(r" *(?:#[ -~]*)?")
_LIST = re.compile(rf"^routes:{_REST}$", re.MULTILINE)
# The beginning of what is certainly neither a comment nor part of what came before it.
_OTHER = re.compile(r" *[A-Za-z_\"'-]")
# Of a colon only with a space behind it: `{a:b}` is one word.
_SIGN = re.compile(rf" *({_FLOW_WORD}|{_QUOTED}|: |.)")
_FULL_WORD = re.compile(_FLOW_WORD)


class _NotPlain(Exception):
    """The parser has to read this."""


@dataclass(slots=True)
class Plain:
    """What the parser has to read, and what it need not: by the line of its placeholder, from 0, routes with theirs."""

    text: str
    column: int = 0
    runs: dict[int, list[tuple[int, object]]] = field(default_factory=dict)


def take_plain(text: str) -> Plain:
    """Take the plain routes out of a text."""
    begin = _LIST.search(text)
    # A carriage return ends a line, too; what `<<` merges has lines of its own.
    if begin is None or "\r" in text or "<<" in text:
        return Plain(text)
    lines = text.split("\n")
    reader = _Routes(lines, text.count("\n", 0, begin.start()) + 1)
    runs = dict(reader.runs())
    return Plain("\n".join(lines), reader.column + 2, runs) if runs else Plain(text)


@dataclass(slots=True)
class _Line:
    """One line: how far to the right its key stands, and what it says of it."""

    indent: int
    key: str = ""
    value: object = None
    below: bool = False  # the value may stand on the lines that follow

    @property
    def may_be_shared(self) -> bool:
        """Whether nothing in the value can be changed: a variable of the environment may set a key of a mapping."""
        value = self.value
        if isinstance(value, list):
            return not any(isinstance(item, dict | list) for item in value)
        return not isinstance(value, dict)


_UNCLEAR = _Line(-1)
_EMPTY = _Line(-2)


class _Routes:
    """Reads the items of `routes`, and empties the lines of those that it could read."""

    def __init__(self, lines: list[str], at: int) -> None:
        """Begin at a line."""
        self._lines = lines
        self._at = at
        # Thousands of routes say `auth: none`, and it is read once.
        self._known: dict[str, _Line] = {}
        self._skip()
        self.column = _indent(self._line) if self._line.lstrip(" ").startswith("- ") else -1

    @property
    def _line(self) -> str:
        return self._lines[self._at] if self._at < len(self._lines) else ""

    def runs(self) -> Iterator[tuple[int, list[tuple[int, object]]]]:
        """Yield the line of each placeholder, and what it stands for."""
        dash = " " * self.column + "- "
        while self.column >= 0 and self._line.startswith(dash):
            begin = self._at
            run = []
            while (item := self._item(dash)) is not None:
                run.append(item)
            if run:
                self._lines[begin : self._at] = [dash + PLACEHOLDER] + [""] * (self._at - begin - 1)
                yield begin, run
            else:
                self._pass(dash)

    def _item(self, dash: str) -> tuple[int, object] | None:
        """Read the item that begins here, or stay here."""
        begin = self._at
        if not self._line.startswith(dash):
            return None
        try:
            value = self._dashed(self.column, 0)
        except _NotPlain:
            self._at = begin
            return None
        self._skip()
        if self._line.startswith(dash) or self._is_over():
            return begin, value
        self._at = begin
        return None

    def _is_over(self) -> bool:
        if self._at >= len(self._lines):
            return True
        return _indent(self._line) <= self.column and _OTHER.match(self._line) is not None

    def _pass(self, dash: str) -> None:
        """Go on to the next item, or to the end of them all."""
        self._at += 1
        self._skip()
        while not self._line.startswith(dash) and not self._is_over():
            self._at += 1
            self._skip()

    def _skip(self) -> None:
        while self._at < len(self._lines) and _IGNORED.fullmatch(self._line):
            self._at += 1

    def _dashed(self, column: int, depth: int) -> object:
        """Read what stands behind a dash: a word, or a mapping that goes on below."""
        rest = self._line[column + 2 :]
        if (word := _ITEM.fullmatch(rest)) is not None:
            self._at += 1
            return word[1][1:-1] if word[1][0] in "\"'" else read_scalar(word[1])
        if rest.startswith(("{", "[")):
            self._at += 1
            return _flow(rest)
        return self._mapping(" " * (column + 2) + rest, column + 2, depth + 1)

    def _mapping(self, line: str, indent: int, depth: int) -> dict[str, object]:
        """Read a mapping whose keys stand at `indent`, from a line on."""
        read: dict[str, object] = {}
        lines, known = self._lines, self._known
        while True:
            said = known.get(line) or self._learned(line)
            if said.indent == indent:
                if said.key in read:
                    raise _NotPlain
                self._at += 1
                read[said.key] = self._below(indent, depth) if said.below else said.value
            elif said is _EMPTY and read:
                self._at += 1
            elif read:
                return read
            else:
                raise _NotPlain
            if self._at >= len(lines):
                return read
            line = lines[self._at]

    def _below(self, indent: int, depth: int) -> object:
        """Read the value of a key that has none on its own line."""
        self._skip()
        column = _indent(self._line)
        if depth > _DEEPEST:
            raise _NotPlain
        # A list may stand right below its key.
        if column >= indent and self._line[column:].startswith("- "):
            return self._list(column, depth)
        return self._mapping(self._line, column, depth + 1) if column > indent else None

    def _list(self, column: int, depth: int) -> list[object]:
        read = []
        dash = " " * column + "- "
        while self._line.startswith(dash):
            read.append(self._dashed(column, depth))
            self._skip()
        return read

    def _learned(self, line: str) -> _Line:
        said = _read_line(line)
        if said.may_be_shared:
            self._known[line] = said
        return said


def _read_line(line: str) -> _Line:
    match = _LINE.fullmatch(line)
    if match is None:
        return _EMPTY if _IGNORED.fullmatch(line) else _UNCLEAR
    indent, key, word, quoted, flow = match.groups()
    if word is not None:
        return _Line(len(indent), key, read_scalar(word))
    if quoted is not None:
        return _Line(len(indent), key, quoted[1:-1])
    if flow is not None:
        return _Line(len(indent), key, _flow(flow))
    return _Line(len(indent), key, below=True)


def _flow(text: str) -> object:
    """Read a list in brackets or a mapping in braces."""
    signs = iter(_SIGN.findall(text))
    value = _flow_value(next(signs), signs, 0)
    rest = "".join(signs).strip(" ")
    if rest:
        raise _NotPlain
    return value


def _flow_value(sign: str, signs: Iterator[str], depth: int) -> object:
    if depth > _DEEPEST:
        raise _NotPlain
    if sign == "[":
        return _flow_list(signs, depth + 1)
    if sign == "{":
        return _flow_mapping(signs, depth + 1)
    return _scalar(sign)


def _flow_list(signs: Iterator[str], depth: int) -> list[object]:
    read: list[object] = []
    sign = next(signs, "")
    while sign != "]":
        read.append(_flow_value(sign, signs, depth))
        sign = _after(signs, "]")
    return read


def _flow_mapping(signs: Iterator[str], depth: int) -> dict[str, object]:
    read: dict[str, object] = {}
    sign = next(signs, "")
    while sign != "}":
        _scalar(sign)
        key = sign[1:-1] if sign[0] in "\"'" else sign
        if key in read or next(signs, "") != ": ":
            raise _NotPlain
        read[key] = _flow_value(next(signs, ""), signs, depth)
        sign = _after(signs, "}")
    return read


def _after(signs: Iterator[str], closing: str) -> str:
    """Return what follows a comma, or the bracket that closes."""
    sign = next(signs, "")
    if sign == ",":
        sign = next(signs, "")
        if sign != closing:  # a comma with nothing behind it
            return sign
    elif sign == closing:
        return sign
    raise _NotPlain


def _scalar(sign: str) -> object:
    """Read a word, or a text in quotes; a lone character is neither."""
    if len(sign) > 1 and sign[0] in "\"'":
        return sign[1:-1]
    if not _FULL_WORD.fullmatch(sign):
        raise _NotPlain
    return read_scalar(sign)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
