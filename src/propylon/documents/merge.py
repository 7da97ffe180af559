"""Make one document of the gateway's own API and of what its routes show. Pure.

The document is joined from JSON texts, in slices. A component is in it if something that is shown refers to it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from propylon.documents.published import REFERENCE, Published

__all__ = ["Merged", "Scheme"]

# The version that pages and generators know best; 3.1.1 only explains it better.
_VERSION = "3.1.0"
_SLICE = 32


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to send a token: its name, and what OpenAPI says of it.

    `token_path`: it is the OAuth2 password flow, at this path of the gateway; the scopes are filled in.
    """

    name: str
    written: Mapping[str, Any]
    token_path: str = ""


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
    ) -> Generator[None, None, bytes]:
        """Return the document with the operations that `permits` lets through; None: all.

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
        text = [_json(head)[:-1].encode(), b',"paths":']
        yield from _write(text, items)
        text.append(b',"components":{')
        if schemes:
            text.append(b'"securitySchemes":' + _json(schemes).encode())
        for at, (section, texts) in enumerate(sorted(sections.items())):
            text.append(f'{"," if at or schemes else ""}{_json(section)}:'.encode())
            yield from _write(text, texts)
        text.append(b"}}")
        return b"".join(text)

    def _paths(self, shown: Iterable[Published]) -> Generator[None, None, dict[str, str]]:
        names: dict[str, str] = {}  # by shape
        items: dict[str, str] = {}
        taken: set[str] = set()
        methods: set[tuple[str, str]] = set()
        schemes = [scheme.name for scheme in self.schemes]
        for at, one in enumerate(shown):
            path = names.setdefault(one.shape, one.path)
            method = one.method.lower()
            if (path, method) not in methods:  # two routes on different hosts: the first is shown
                methods.add((path, method))
                text = f'"{method}":{one.text(path, _unique(one.id, taken), schemes)}'
                items[path] = f"{items[path][:-1]},{text}}}" if path in items else f"{{{text}}}"
            if at % _SLICE == 0:
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


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate


def _write(text: list[bytes], members: Mapping[str, str]) -> Iterator[None]:
    """Append a JSON object of these members, which are JSON texts by their names."""
    before = "{"
    for at, (name, member) in enumerate(members.items()):
        text.append(f"{before}{_json(name)}:{member}".encode())
        before = ","
        if at % _SLICE == 0:
            yield
    text.append(b"}" if members else b"{}")


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
