"""Make one document of the gateway's own API and of what its routes show. Pure.

The document is joined from JSON texts, in slices. A component is in it if something that is shown refers to it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from propylon.documents.published import REFERENCE, Published
from propylon.documents.unique import Unique

__all__ = ["Collected", "Merged", "Scheme"]

# The version that pages and generators know best; 3.1.1 only explains it better.
_VERSION = "3.1.0"
_SLICE = 32
_PIECE = 128 * 1024  # characters


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to send a token: its name, and what OpenAPI says of it.

    `token_path`: it is the OAuth2 password flow, at this path of the gateway; the scopes are filled in.
    """

    name: str
    written: Mapping[str, Any]
    token_path: str = ""


class Collected:
    """The operations of all services, each with an id of its own, whoever is shown which of them.

    OpenAPI has one operation for a path and a method, and paths that differ only in the names of their parameters are one.
    Routes on different hosts may have several: the first one is shown, and `hidden` has each other one behind it.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.operations: list[Published] = []
        self.hidden: list[tuple[Published, Published]] = []
        self._names = Unique()
        self._first: dict[tuple[str, str], Published] = {}

    def add(self, one: Published) -> None:
        """Take up an operation."""
        name = self._names.free(one.id)
        one = one if name == one.id else replace(one, id=name)
        self.operations.append(one)
        first = self._first.setdefault((one.shape, one.method), one)
        if first is not one:
            self.hidden.append((first, one))


@dataclass(frozen=True, slots=True)
class Merged:
    """All that can be shown: immutable, made anew when a document or the configuration changes."""

    info: Mapping[str, Any]
    schemes: tuple[Scheme, ...]
    operations: tuple[Published, ...]
    components: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def text(
        self, permits: Callable[[Published], bool] | None, root: str
    ) -> Generator[None, None, tuple[bytes, ...]]:
        """Return the document, in pieces, with the operations that `permits` lets through; None: all.

        `root` is the path under which the gateway is mounted.
        """
        shown: list[Published] = []
        for at, one in enumerate(self.operations):
            if permits is None or permits(one):
                shown.append(one)
            if at % _SLICE == 0:
                yield
        items = yield from self._paths(shown)
        sections = yield from self._components(items.values())
        schemes = yield from self._schemes(shown, root)
        used = dict.fromkeys(one.tag for one in shown)
        tags = [{"name": tag, "description": self.tags.get(tag, "")} for tag in used]
        head = {
            "openapi": _VERSION,
            "info": self.info,
            "servers": [{"url": root or "/"}],
            "tags": tags,
        }
        text = _Text()
        text.add(_json(head)[:-1] + ',"paths":')
        yield from text.members(items)
        text.add(',"components":{')
        if schemes:
            text.add('"securitySchemes":' + _json(schemes))
        for at, (section, texts) in enumerate(sorted(sections.items())):
            text.add(f'{"," if at or schemes else ""}{_json(section)}:')
            yield from text.members(texts)
        text.add("}}")
        return text.pieces()

    def _paths(self, shown: Iterable[Published]) -> Generator[None, None, dict[str, str]]:
        names: dict[str, str] = {}  # by shape
        items: dict[str, str] = {}
        methods: set[tuple[str, str]] = set()
        schemes = [scheme.name for scheme in self.schemes]
        for one in shown:
            path = names.setdefault(one.shape, one.path)
            method = one.method.lower()
            if (path, method) not in methods:  # two routes on different hosts: the first is shown
                methods.add((path, method))
                text = f'"{method}":{one.text(path, schemes)}'
                items[path] = f"{items[path][:-1]},{text}}}" if path in items else f"{{{text}}}"
            yield
        return items

    def _components(self, texts: Iterable[str]) -> Generator[None, None, dict[str, dict[str, str]]]:
        parts: dict[str, dict[str, str]] = {}
        seen: set[str] = set()
        waiting = [*texts]
        while waiting:
            for name in REFERENCE.findall(waiting.pop()):
                if name not in seen and name in self.components:
                    seen.add(name)
                    text = self.components[name]
                    section, _, short = name.partition("/")
                    parts.setdefault(section, {})[short] = text
                    waiting.append(text)
            yield
        return parts

    def _schemes(
        self, shown: Iterable[Published], root: str
    ) -> Generator[None, None, dict[str, Any]]:
        names: set[str] = set()
        for at, one in enumerate(shown):
            names.update(*one.callers.alternatives)
            if at % _SLICE == 0:
                yield
        found = {}
        for scheme in self.schemes:
            written = dict(scheme.written)
            if scheme.token_path:
                url = root + scheme.token_path
                scopes = dict.fromkeys(sorted(names), "")
                flow = {"tokenUrl": url, "refreshUrl": url, "scopes": scopes}
                written["flows"] = {"password": flow}
            found[scheme.name] = written
        return found


class _Text:
    """A text that is written bit by bit, and kept in pieces: to join twenty megabytes takes as long as ten requests."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._bits: list[str] = []
        self._size = 0

    def add(self, bit: str) -> None:
        """Write something."""
        self._bits.append(bit)
        self._size += len(bit)
        if self._size >= _PIECE:
            self._cut()

    def _cut(self) -> None:
        self._pieces.append("".join(self._bits).encode())
        self._bits, self._size = [], 0

    def members(self, members: dict[str, str]) -> Iterator[None]:
        """Write a JSON object of these members, which are JSON texts by their names; they are used up."""
        before = "{"
        for name in [*members]:
            self.add(f"{before}{_json(name)}:{members.pop(name)}")
            before = ","
            yield
        self.add("}" if before == "," else "{}")

    def pieces(self) -> tuple[bytes, ...]:
        """Return all of it."""
        self._cut()
        return tuple(self._pieces)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
