"""A service and a route of the draft: their keys, and the remarks that stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from propylon.commands.imports.known import Kind, refusal
from propylon.commands.imports.report import At, Finding, Report, Verdict
from propylon.commands.imports.tree import Item

__all__ = ["UNKNOWN", "Part", "Route", "Variable", "merged", "nested"]

UNKNOWN = "the importer does not know this key"
"""Why a key is not translated that no reader asked for."""

# A WebSocket is opened with GET, and is a method of its own here.
_OPENS = "GET"


class Variable(str):
    """A text with references such as `${NAME:-default}` that are written as they stand."""

    __slots__ = ()


def nested(keys: list[str], value: object) -> dict[str, Any]:
    """Return a mapping for keys one inside the other: `timeouts`, `connect` is `{timeouts: {connect: …}}`."""
    first, *rest = keys
    return {first: nested(rest, value) if rest else value}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings in one, with what is inside them; the second wins."""
    both = dict(one)
    for key, value in other.items():
        inner = both.get(key)
        both[key] = (
            merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
        )
    return both


def _has_variables(value: object) -> bool:
    if isinstance(value, dict):
        return any(_has_variables(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(_has_variables(inner) for inner in value)
    return isinstance(value, Variable)


@dataclass(slots=True)
class Part:
    """A service, or the sections outside of services and routes."""

    kind: Kind
    name: str
    at: At
    report: Report
    keys: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)  # comments above it

    def set(
        self, key: str, value: object, at: At, difference: str = "", *, protects: bool = False
    ) -> bool:
        """Translate: write a value under a dotted key. Return False if this version does not take it.

        What was there under the same key is replaced; mappings are merged.
        """
        first = key.partition(".")[0]
        keys = merged(self.keys, nested(key.split("."), value))
        why = "" if _has_variables(keys[first]) else refusal(self.kind, first, keys[first])
        if why:
            self.lost(at, why, protects=protects)
            return False
        self.keys = keys
        if difference:
            self.differs(at, difference)
        else:
            self.same(at, self._named(key))
        return True

    def put(self, key: str, value: object) -> None:
        """Write a value without a line in the report: it follows from another one."""
        self.keys = merged(self.keys, nested(key.split("."), value))

    def same(self, at: At, into: str) -> None:
        """Report that something is translated."""
        self.report.add(Finding(at, Verdict.TRANSLATED, into))

    def differs(self, at: At, how: str) -> None:
        """Report a difference that makes nothing weaker, and write it beside the part."""
        self.report.add(Finding(at, Verdict.DIFFERENT, how))
        self._remark(f"{at.what}: {how}")

    def report_only(self, at: At, how: str) -> None:
        """Report a difference without a remark beside the part: it is the same for all of them."""
        self.report.add(Finding(at, Verdict.DIFFERENT, how))

    def lost(self, at: At, why: str, todo: str = "", *, protects: bool = False) -> None:
        """Report that something is not translated, and write it beside the part."""
        self.report.add(
            Finding(at, Verdict.MISSING, why, todo, self._shut(why) if protects else "")
        )
        self._remark(f"NOT translated: {at.what}: {why}" + (f" To do: {todo}." if todo else ""))

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def _shut(self, why: str) -> str:  # noqa: ARG002 — a route does something with it
        """Close the part, if it can be; return its name for the report."""
        return ""

    def _named(self, key: str) -> str:
        return f"services.{self.name}.{key}" if self.kind == "service" else key


@dataclass(slots=True)
class Route(Part):
    """A route. While `closed` says why, it is written with a fixed answer 503 in place of its service."""

    closed: str = ""
    opened: bool = False
    wide: str = ""  # what it takes more than the original's pattern; see `overlap`
    glued: bool = False  # the original's prefix also took paths that go on within its last segment

    def open(self) -> None:
        """Say that the original asks for no token here, and that all of it was read."""
        self.opened = True

    def close(self, at: At, why: str, todo: str = "") -> None:
        """Close the route, because something that protected it is not translated."""
        self.lost(at, why, todo, protects=True)

    def close_untaken(self, item: Item) -> None:
        """Close the route for each key of an item that no reader asked for: nobody knows what it did."""
        for left in item.untaken():
            self.close(left.at, UNKNOWN, "write what it means")

    def methods(self, names: list[str], at: At, *, websockets: bool = True) -> None:
        """Set the methods; where the original opens WebSockets by GET, so does the route."""
        wanted = list(dict.fromkeys(name.upper() for name in names))
        if websockets and _OPENS in wanted:
            wanted.append("WEBSOCKET")
        self.set("methods", wanted, at, protects=True)

    def _shut(self, why: str) -> str:
        self.closed = self.closed or why
        return str(self.keys.get("path", self.name))

    def _named(self, key: str) -> str:
        return f"routes: {self.name}: {key}"
