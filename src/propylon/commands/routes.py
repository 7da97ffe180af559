"""Show the compiled routing table: what each route matches, its service, its rules."""

from __future__ import annotations

from typing import Any

from propylon.commands.offline import Entry, entries, preference
from propylon.config.reading.load import Loaded
from propylon.upstream.ports import Answer, Outgoing, Sink

__all__ = ["COLUMNS", "as_data", "rows"]

COLUMNS = ("host", "path", "methods", "service", "auth", "path sent", "total", "max body", "name")
_UNITS = ((10**9, "GB"), (2**20, "MiB"), (10**6, "MB"), (2**10, "KiB"), (10**3, "kB"))


class _Unreachable:
    """Stands in for every instance: the table is only shown, so nothing is sent."""

    busy = 0

    async def send(self, outgoing: Outgoing, sink: Sink) -> Answer:
        """Raise NotImplementedError: nothing may be sent."""
        raise NotImplementedError


def as_data(loaded: Loaded) -> list[dict[str, Any]]:
    """Return the table for JSON, the routes that matching prefers first."""
    return [_fields(entry) for entry in _sorted(loaded)]


def rows(loaded: Loaded) -> list[tuple[str, ...]]:
    """Return the table as texts, one for each of COLUMNS, in the same order."""
    return [_texts(entry) for entry in _sorted(loaded)]


def _sorted(loaded: Loaded) -> list[Entry]:
    unsorted = entries(loaded, _Unreachable())
    return sorted(unsorted, key=lambda entry: preference(entry.route.pattern))


def _fields(entry: Entry) -> dict[str, Any]:
    route = entry.route
    pattern, timeouts = route.pattern, route.timeouts
    return {
        "name": route.name,
        "host": pattern.host.decode() if pattern.host is not None else None,
        "path": entry.path,
        "exact": pattern.exact,
        "methods": sorted(pattern.methods) if pattern.methods is not None else None,
        "priority": pattern.priority,
        "service": route.service.name,
        "instances": [instance.id for instance in route.service.instances],
        "auth": entry.auth,
        "issuers": entry.issuers,
        "claims": entry.claims,
        "strip_prefix": route.rewrite is not None and not route.rewrite.text,
        "rewrite": (route.rewrite and route.rewrite.text) or None,
        "timeouts": {
            "connect": timeouts.connect,
            "first_byte": timeouts.first_byte,
            "idle": timeouts.idle,
            "total": timeouts.total,
            "max_duration": (
                None if timeouts.max_duration == float("inf") else timeouts.max_duration
            ),
        },
        "max_body": route.max_body,
        "own": route.service.builtin,
        "place": entry.place,
    }


def _texts(entry: Entry) -> tuple[str, ...]:
    route = entry.route
    pattern = route.pattern
    return (
        pattern.host.decode() if pattern.host is not None else "any",
        entry.path if pattern.exact else entry.path.rstrip("/") + "[/...]",
        " ".join(sorted(pattern.methods)) if pattern.methods is not None else "all",
        route.service.name,
        entry.auth,
        entry.target,
        f"{route.timeouts.total:g}s",
        _size(route.max_body),
        (
            f"on {route.listener}"
            if route.listener
            else "" if route.name == entry.path else route.name
        ),
    )


def _size(size: int) -> str:
    """Return a size with the largest unit that divides it, such as 10MB."""
    for unit, name in _UNITS:
        if size >= unit and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size}B"
