"""Take haproxy.cfg apart: sections, and the words of each line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from propylon.commands.imports.report import At
from propylon.commands.imports.source import Source

__all__ = ["Line", "Section", "sections"]

_KINDS = frozenset(
    [
        "global",
        "defaults",
        "frontend",
        "backend",
        "listen",
        "resolvers",
        "peers",
        "userlist",
        "cache",
        "program",
        "mailers",
        "http-errors",
        "ring",
        "fcgi-app",
        "log-forward",
        "crt-store",
        "traces",
    ]
)


@dataclass(slots=True, eq=False)
class Line:
    """A line of a section: its words, and whether somebody has read it."""

    words: tuple[str, ...]
    at: At
    taken: bool = False

    @property
    def name(self) -> str:
        """The first word."""
        return self.words[0]

    @property
    def args(self) -> tuple[str, ...]:
        """The words after it."""
        return self.words[1:]

    @property
    def first(self) -> str:
        """The second word, empty if there is none."""
        return self.words[1] if len(self.words) > 1 else ""

    @property
    def end(self) -> str:
        """The last word."""
        return self.words[-1]

    @property
    def plain(self) -> tuple[str, ...]:
        """The words in front of a condition."""
        for number, word in enumerate(self.words):
            if word in ("if", "unless"):
                return self.words[:number]
        return self.words

    @property
    def condition(self) -> tuple[str, ...]:
        """`if` or `unless`, and what stands behind it; empty if there is none."""
        return self.words[len(self.plain) :]


@dataclass(slots=True, eq=False)
class Section:
    """A section with its lines; those of its defaults count where it has none of its own."""

    kind: str
    name: str
    at: At
    lines: list[Line] = field(default_factory=list)
    defaults: Section | None = None

    def all(self, *begin: str) -> list[Line]:
        """Return the lines of its own that begin with these words."""
        found = [line for line in self.lines if line.words[: len(begin)] == begin]
        for line in found:
            line.taken = True
        return found

    def last(self, *begin: str) -> Line | None:
        """Return the line that counts: its own last one, or the one of its defaults."""
        found = self.all(*begin)
        if found:
            return found[-1]
        return self.defaults.last(*begin) if self.defaults else None

    def has(self, *begin: str) -> bool:
        """Tell whether an option is on; `no option …` switches it off."""
        return self.last(*begin) is not None and not self.all("no", *begin)


def sections(sources: list[Source]) -> list[Section]:
    """Return the sections of all files, in order. Raises Unreadable."""
    made: list[Section] = []
    defaults: Section | None = None
    for source in sources:
        for number, text in enumerate(source.text.split("\n"), 1):
            words = _words(source, number, text)
            if not words:
                continue
            if words[0] in _KINDS:
                name = words[1] if len(words) > 1 else ""
                label = f"{words[0]} {name}".strip()
                section = Section(words[0], name, source.at(number, label))
                if words[0] == "defaults":
                    defaults = section
                elif words[0] in ("frontend", "backend", "listen"):
                    section.defaults = defaults
                made.append(section)
            elif not made:
                raise source.refuse(number, f"{words[0][:40]} stands outside of a section")
            else:
                inside = f"{made[-1].at.what} {words[0]}"
                made[-1].lines.append(Line(tuple(words), source.at(number, inside)))
    return made


_PIECE = re.compile(
    r"""(?P<space>\s+)|(?P<comment>\#.*)|(?P<escaped>\\.)|'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)\"|(?P<plain>[^\s\#\\'"]+)|(?P<end>\\$)""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\([ #\\'\"])")  # before anything else a backslash stays


def _words(source: Source, number: int, text: str) -> list[str]:
    """Split a line at spaces; quotes and backslashes hold words together, # begins a comment."""
    words: list[str] = []
    fresh, at = True, 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise source.refuse(number, "a quote is not closed")
        at = piece.end()
        kind = piece.lastgroup
        if kind == "comment":
            break
        if kind == "space":
            fresh = True
            continue
        said = piece[kind or 0]
        value = _ESCAPE.sub(r"\1", said) if kind in ("double", "escaped") else said
        if fresh:
            words.append("")
        words[-1] += value
        fresh = False
    return words
