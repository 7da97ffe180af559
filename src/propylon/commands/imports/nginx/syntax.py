"""Take nginx.conf apart: words, directives and blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from propylon.commands.imports.report import At
from propylon.commands.imports.source import Source, Unreadable

__all__ = ["Directive", "parse_files"]

_DEEPEST = 30
_MOST = 200_000
_ENDS = frozenset(";{}")


@dataclass(slots=True, eq=False)
class Directive:
    """A directive with its words, and what stands in its block."""

    name: str
    args: tuple[str, ...]
    at: At
    block: list[Directive] = field(default_factory=list)
    taken: bool = False

    @property
    def first(self) -> str:
        """The first word after the name; empty if there is none."""
        return self.args[0] if self.args else ""

    def option(self, name: str, default: str = "") -> str:
        """Return what stands behind `name=`."""
        for word in self.args:
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
        return default


@dataclass(slots=True)
class _Words:
    """The words of a file. Quoted words are never an end."""

    source: Source
    words: list[tuple[str, int, bool]]
    next: int = 0


def parse_files(sources: list[Source]) -> list[Directive]:
    """Return the directives of all files; what one of them includes stands in its place. Raises Unreadable."""
    parser = _Parser(sources)
    trees = {source.name: parser.file(source) for source in sources}
    files = _Files(trees)
    roots = [files.joined(name, 0) for name in trees if name not in files.included]
    if not roots:
        raise sources[0].refuse(1, "the files include each other")
    return [directive for root in roots for directive in root]


class _Files:
    """Puts named files where another one includes them."""

    def __init__(self, trees: dict[str, list[Directive]]) -> None:
        self._trees = trees
        self.included: set[str] = set()
        self._count = 0
        for name, tree in trees.items():
            self._note(name, tree)

    def _note(self, name: str, tree: list[Directive]) -> None:
        for one in tree:
            if one.name == "include":
                self.included |= set(self._named(one.first)) - {name}
            self._note(name, one.block)

    def _named(self, pattern: str) -> list[str]:
        last = PurePosixPath(pattern).parts[-2:]
        wanted = pattern if pattern.startswith("/") else "/".join(last)
        short = last[-1] if last else ""
        exact = [name for name in self._trees if fnmatchcase(f"/{name}", f"*/{wanted.lstrip('/')}")]
        return exact or [
            name for name in self._trees if fnmatchcase(PurePosixPath(name).name, short)
        ]

    def joined(self, name: str, depth: int) -> list[Directive]:
        return self._inside(self._trees[name], name, depth)

    def _inside(self, tree: list[Directive], name: str, depth: int) -> list[Directive]:
        made: list[Directive] = []
        for one in tree:
            self._count += 1
            if self._count > _MOST or depth > _DEEPEST:
                msg = f"{one.at.place}: files are included too often"
                raise Unreadable(msg)
            names = self._named(one.first) if one.name == "include" else []
            if names and names != [name]:
                for inner in names:
                    made += self.joined(inner, depth + 1)
                continue
            block = self._inside(one.block, name, depth) if one.block else []
            made.append(Directive(one.name, one.args, one.at, block))
        return made


class _Parser:
    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources

    def file(self, source: Source) -> list[Directive]:
        words = _Words(source, _split(source))
        tree = self._block(words, 0, "")
        if words.next < len(words.words):
            raise source.refuse(words.words[words.next][1], "a } too many")
        return tree

    def _block(self, words: _Words, depth: int, within: str) -> list[Directive]:
        if depth > _DEEPEST:
            raise words.source.refuse(words.words[words.next - 1][1], "nested too deeply")
        made: list[Directive] = []
        while words.next < len(words.words):
            word, line, quoted = words.words[words.next]
            if word == "}" and not quoted:
                break
            made.append(self._directive(words, depth, within, line))
        return made

    def _directive(self, words: _Words, depth: int, within: str, line: int) -> Directive:
        args: list[str] = []
        while words.next < len(words.words):
            word, _, quoted = words.words[words.next]
            words.next += 1
            if quoted or word not in _ENDS:
                args.append(word)
                continue
            if word == "}" or not args:
                break
            what = " ".join(args[:3]) if word == "{" else args[0]
            at = words.source.at(line, f"{within} {what}".strip())
            made = Directive(args[0], tuple(args[1:]), at)
            if word == "{":
                made.block = self._block(words, depth + 1, _label(args, within))
                self._close(words, line)
            return made
        raise words.source.refuse(line, "no ; and no { ends this directive")

    @staticmethod
    def _close(words: _Words, line: int) -> None:
        if words.next >= len(words.words):
            raise words.source.refuse(line, "the block is not closed")
        words.next += 1


def _label(args: list[str], within: str) -> str:
    """Name a block for the report: the innermost location or upstream is enough."""
    if args[0] in ("http", "server"):
        return within
    return " ".join(args[:3])


def _split(source: Source) -> list[tuple[str, int, bool]]:
    """Return words with their lines, and whether they were quoted."""
    text, at, line = source.text, 0, 1
    words: list[tuple[str, int, bool]] = []
    while at < len(text):
        char = text[at]
        if char == "\n":
            line += 1
        if char.isspace():
            at += 1
        elif char == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif char in _ENDS:
            words.append((char, line, False))
            at += 1
        else:
            start = line
            word, quoted, at, line = _word(source, at, line)
            words.append((word, start, quoted))
    return words


def _word(source: Source, at: int, line: int) -> tuple[str, bool, int, int]:
    text = source.text
    quote = text[at] if text[at] in "\"'" else ""
    at += len(quote)
    made: list[str] = []
    while at < len(text):
        char = text[at]
        line += char == "\n"
        if char == "\\" and at + 1 < len(text):
            following = text[at + 1]
            line += following == "\n"
            made.append(following if following in "\"'" else char + following)
            at += 2
            continue
        if quote and char == quote:
            return "".join(made), True, at + 1, line
        if not quote and char == "$" and text[at + 1 : at + 2] == "{":
            end = text.find("}", at)
            if end > 0:
                made.append(text[at : end + 1])
                at = end + 1
                continue
        if not quote and (char.isspace() or char in _ENDS):
            return "".join(made), False, at, line - (char == "\n")
        made.append(char)
        at += 1
    if quote:
        raise source.refuse(line, "a quote is not closed")
    return "".join(made), False, at, line
