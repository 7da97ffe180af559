"""Parse YAML, JSON and TOML into values that know their line, and whether anybody took them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from propylon.commands.imports.report import At, Place
from propylon.commands.imports.source import Source, Unreadable
from propylon.config.reading.document import Unreadable as BadDocument
from propylon.config.reading.document import read
from propylon.config.reading.lines import Path
from propylon.config.reading.problems import dotted

__all__ = ["Item", "named", "parse", "parse_all", "plain"]

_BETWEEN: Final = re.compile(r"(?m)^---(?:[ \t].*)?$")
_MOST_DOCUMENTS: Final = 100
_TABLE: Final = re.compile(r"^\s*\[+\s*(?P<name>[^\]]+?)\s*\]+")
_KEY: Final = re.compile(r"^\s*(?P<name>[\w.\"'-]+)\s*=")


class Item:
    """A value of a file. Keys of a mapping count as taken when they are asked for."""

    def __init__(
        self, source: Source, value: object, path: Path, lines: Mapping[Path, int]
    ) -> None:
        """Keep a value with its path, and the lines of the whole document."""
        self.source, self.value, self.path = source, value, path
        self._lines = lines
        self._items: dict[str, Item] = {}
        self.ignored: set[str] = set()

    def __repr__(self) -> str:
        """Return the place; a value may be a secret."""
        return f"<Item {self.at.place} {self.at.what}>"

    def __bool__(self) -> bool:
        """Tell whether there is a value other than an empty one."""
        return self.value is not None and self.value not in ({}, [])

    @property
    def at(self) -> At:
        """The place of the value, and its name."""
        for end in range(len(self.path), -1, -1):
            if (line := self._lines.get(self.path[:end])) is not None:
                return At(Place(self.source.name, line), dotted(self.path))
        return At(Place(self.source.name, 1), dotted(self.path))

    @property
    def key(self) -> str:
        """The last key of the path."""
        return str(self.path[-1]) if self.path else ""

    def get(self, *keys: str) -> Item:
        """Return the value under a key, or under keys one inside the other; an item with None if there is none."""
        found = self
        for key in keys:
            found = found._child(key)
        return found

    def _child(self, key: str) -> Item:
        if key not in self._items:
            values = self.value if isinstance(self.value, dict) else {}
            self._items[key] = Item(self.source, values.get(key), (*self.path, key), self._lines)
        return self._items[key]

    def names(self) -> set[str]:
        """Return the keys of a mapping, without taking them; there are none in anything else."""
        return set(self.value) if isinstance(self.value, dict) else set()

    def items(self) -> Iterator[tuple[str, Item]]:
        """Go through the pairs of a mapping; there are none where nothing stands. Raises Unreadable for anything else."""
        if self.value is None:
            return
        if not isinstance(self.value, dict):
            raise self.source.refuse(self.at.place.line, f"{self.at.what} must be a mapping")
        for key in self.value:
            yield key, self._child(key)

    def each(self) -> list[Item]:
        """Return the values of a list; a single value that is no list counts as one."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            return [self]
        return [
            Item(self.source, value, (*self.path, index), self._lines)
            for index, value in enumerate(self.value)
        ]

    def texts(self) -> list[str]:
        """Return the scalars of a list as texts."""
        return [item.text() for item in self.each() if not isinstance(item.value, dict | list)]

    def text(self, default: str = "") -> str:
        """Return a scalar as text."""
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        return str(self.value) if isinstance(self.value, str | int | float) else default

    def number(self, default: float = 0) -> float:
        """Return a number; a text that is none is the default."""
        try:
            return float(self.text() or default)
        except ValueError:
            return default

    def flag(self, *, default: bool = False) -> bool:
        """Return a truth value."""
        if isinstance(self.value, bool):
            return self.value
        return {"true": True, "false": False}.get(self.text().lower(), default)

    def ignore(self, *keys: str) -> None:
        """Let keys pass that say nothing of traffic, such as ids and timestamps."""
        self.ignored.update(keys)

    def untaken(self) -> list[Item]:
        """Return the values that nobody asked for, at any depth below what was asked for."""
        found: list[Item] = []
        for key in self.value if isinstance(self.value, dict) else ():
            if key in self.ignored:
                continue
            if key not in self._items:
                found.append(Item(self.source, None, (*self.path, key), self._lines))
            else:
                found += self._items[key].untaken_within()
        return found

    def untaken_within(self) -> list[Item]:
        """Return the same, if anybody looked inside; what is taken as a whole has nothing left."""
        return self.untaken() if self._items else []


def named(item: Item, *names: str) -> Item:
    """Return the value of the first of these keys that is there, in kebab or camel case, or in another case of letters."""
    wanted = {plain(name) for name in names}
    for key in item.names():
        if plain(key) in wanted:
            return item.get(key)
    return item.get(names[0])


def plain(key: str) -> str:
    """Return a key as it is compared: without hyphens, underscores and capitals."""
    return key.replace("-", "").replace("_", "").lower()


def parse(source: Source) -> Item:
    """Parse a file with one document, by the end of its name: .toml, or YAML, which JSON is a part of.

    Raises Unreadable.
    """
    if source.name.endswith(".toml"):
        return _toml(source)
    documents = parse_all(source)
    if len(documents) > 1:
        raise source.refuse(
            documents[1].at.place.line, "a second YAML document; write one file each"
        )
    return documents[0]


def parse_all(source: Source) -> list[Item]:
    """Parse the YAML documents of a file. Raises Unreadable."""
    starts = [match.start() for match in _BETWEEN.finditer(source.text)]
    if len(starts) >= _MOST_DOCUMENTS:
        raise source.refuse(1, f"more than {_MOST_DOCUMENTS} YAML documents")
    bounds = [0, *starts, len(source.text)]
    found: list[Item] = []
    for begin, end in pairwise(bounds):
        text = source.text[begin:end]
        if _BETWEEN.sub("", text).strip():
            item = _document(source, "\n" * source.text.count("\n", 0, begin) + text)
            found += [item] if item.value is not None else []
    if not found:
        raise source.refuse(1, "there is nothing in it")
    return found


def _document(source: Source, text: str) -> Item:
    try:
        # Our own reading has bounds for depth, aliases and size. It would replace ${VARIABLES}; doubled, they stay.
        document = read(_BETWEEN.sub("", text).replace("$", "$$"), {})
    except BadDocument as error:
        raise source.refuse(error.line, error.message) from error
    if document.problems:
        path, message = document.problems[0]
        raise source.refuse(_line(document.lines, path), f"{dotted(path)}: {message}")
    if "$" not in text:
        return Item(source, document.value, (), document.lines)
    lines = {_single(path): line for path, line in document.lines.items()}
    return Item(source, _undoubled(document.value), (), lines)


def _single(path: Path) -> Path:
    return tuple(part.replace("$$", "$") if isinstance(part, str) else part for part in path)


def _undoubled(value: object) -> object:
    """Return a value with its keys as they were written: only values are expanded."""
    if isinstance(value, dict):
        return {str(key).replace("$$", "$"): _undoubled(inner) for key, inner in value.items()}
    return [_undoubled(inner) for inner in value] if isinstance(value, list) else value


def _line(lines: Mapping[Path, int], path: Path) -> int:
    return next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), 1)


def _toml(source: Source) -> Item:
    try:
        value = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{source.name}: not valid TOML: {error}"
        raise Unreadable(msg) from error
    except RecursionError as error:
        msg = f"{source.name}: nested too deeply"
        raise Unreadable(msg) from error
    return Item(source, value, (), _toml_lines(source.text))


def _toml_lines(text: str) -> dict[Path, int]:
    """Return the lines of tables and keys: tomllib tells none."""
    lines: dict[Path, int] = {(): 1}
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if head := _TABLE.match(line):
            table = _toml_path(head["name"])
            if line.lstrip().startswith("[["):
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines.setdefault(table, number)
        elif pair := _KEY.match(line):
            lines.setdefault((*table, *_toml_path(pair["name"])), number)
    return lines


def _toml_path(name: str) -> Path:
    parts = re.findall(r"\"([^\"]*)\"|'([^']*)'|([^.\s\"']+)", name)
    return tuple("".join(part) for part in parts)
