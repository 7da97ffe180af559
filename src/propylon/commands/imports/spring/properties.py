"""The spellings of Spring: keys joined by dots, kebab and camel case, placeholders, and shortcuts such as `Path=/a/**`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from propylon.commands.imports.parts import Variable, merged, nested
from propylon.commands.imports.report import At
from propylon.commands.imports.tree import Item, named, plain

__all__ = ["Step", "below", "steps", "text_of", "unfolded"]

# A dot between keys; one within brackets, as in [/a.b/**], is a part of the key.
_DOT = re.compile(r"\.(?![^\[]*\])")
_PLACEHOLDER = re.compile(r"\$\{(?P<name>[A-Za-z_][\w.-]*)(?::(?P<default>[^{}]*))?\}")


def unfolded(document: Item) -> Item:
    """Return a document with its joined keys taken apart: `spring.cloud: …` is `spring: {cloud: …}`.

    What is written below one key in two ways is put together, as Spring does it.
    """
    lines: dict[tuple[str | int, ...], int] = {}
    value = _unfolded(document, (), lines)
    return Item(document.source, value, (), lines)


def _unfolded(
    item: Item, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]
) -> Any:
    lines.setdefault(path, item.at.place.line)
    if isinstance(item.value, dict):
        made: dict[str, Any] = {}
        for key, inner in item.items():
            parts = _DOT.split(key)
            for end in range(1, len(parts)):
                lines.setdefault((*path, *parts[:end]), inner.at.place.line)
            value = _unfolded(inner, (*path, *parts), lines)
            made = merged(made, nested(parts, value))
        return made
    if isinstance(item.value, list):
        return [
            _unfolded(inner, (*path, number), lines) for number, inner in enumerate(item.each())
        ]
    return item.value


def below(item: Item, *keys: str) -> Item:
    """Return what stands below keys, each in kebab or camel case."""
    found = item
    for key in keys:
        found = named(found, key)
    return found


def text_of(text: str) -> str:
    """Return a text with Spring's placeholders as ours: `${users.url:http://u}` is `${USERS_URL:-http://u}`."""
    if _PLACEHOLDER.search(text) is None:
        return text

    def ours(match: re.Match[str]) -> str:
        name = match["name"].replace(".", "_").replace("-", "").upper()
        return f"${{{name}}}" if match["default"] is None else f"${{{name}:-{match['default']}}}"

    return Variable(_PLACEHOLDER.sub(ours, text))


@dataclass(frozen=True, slots=True)
class Step:
    """A predicate or a filter: its name, its arguments in order, and by name."""

    name: str
    values: list[str]
    at: At
    args: dict[str, Item] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def value(self, position: int, *names: str) -> str:
        """Return an argument by its name, else by its position; empty if it is not there."""
        self.ignore(*names)
        for name in names:
            for key, item in self.args.items():
                if plain(key) == plain(name):
                    return text_of(item.text())
        return text_of(self.values[position]) if position < len(self.values) else ""

    def item(self, *names: str) -> Item | None:
        """Return an argument with what is inside it."""
        self.ignore(*names)
        wanted = {plain(name) for name in names}
        return next((item for key, item in self.args.items() if plain(key) in wanted), None)

    def ignore(self, *names: str) -> None:
        """Let arguments pass, because they were asked for, or say nothing of traffic."""
        self.asked.update(map(plain, names))

    def untaken(self) -> list[Item]:
        """Return the named arguments that nobody asked for."""
        return [item for key, item in self.args.items() if plain(key) not in self.asked]

    def every(self) -> list[str]:
        """Return all arguments in order: those of a list, too."""
        self.ignore(*self.args)
        if self.values:
            return [text_of(value) for value in self.values]
        return [text_of(text) for item in self.args.values() for text in item.texts()]


def steps(items: Item) -> list[Step]:
    """Return the predicates or filters of a list."""
    return [_step(item) for item in items.each()]


def _step(item: Item) -> Step:
    if isinstance(item.value, dict):
        args = dict(item.get("args").items())
        return Step(item.get("name").text(), [], item.at, args)
    name, _, rest = item.text().partition("=")
    values = [part.strip() for part in rest.split(",")] if rest else []
    return Step(name.strip(), values, item.at)
