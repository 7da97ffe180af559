"""The spellings of Spring: keys joined by dots, kebab and camel case, placeholders, and shortcuts such as `Path=/a/**`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from propylon.commands.imports.parts import Variable
from propylon.commands.imports.report import At
from propylon.commands.imports.tree import Item, plain

__all__ = ["Step", "below", "steps", "text_of"]

_PLACEHOLDER = re.compile(r"\$\{(?P<name>[A-Za-z_][\w.-]*)(?::(?P<default>[^{}]*))?\}")


def below(item: Item, *keys: str) -> Item:
    """Return what stands below keys, however they are joined: `spring: {cloud.gateway: …}`."""
    if not keys:
        return item
    for end in range(len(keys), 0, -1):
        for name in item.names():
            if plain(name) == plain(".".join(keys[:end])):
                found = below(item.get(name), *keys[end:])
                if found:
                    return found
    return Item(item.source, None, (*item.path, *keys), {item.path: item.at.place.line})


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

    def value(self, position: int, *names: str) -> str:
        """Return an argument by its name, else by its position; empty if it is not there."""
        for name in names:
            for key, item in self.args.items():
                if plain(key) == plain(name):
                    return text_of(item.text())
        return text_of(self.values[position]) if position < len(self.values) else ""

    def item(self, *names: str) -> Item | None:
        """Return an argument with what is inside it."""
        wanted = {plain(name) for name in names}
        return next((item for key, item in self.args.items() if plain(key) in wanted), None)

    def every(self) -> list[str]:
        """Return all arguments in order: those of a list, too."""
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
