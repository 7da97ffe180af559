"""Say why every other route lost, by asking the matcher about each of them alone. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from propylon.commands.offline import Entry
from propylon.errors import InvalidRequest
from propylon.proxy.match import Leaf, Table
from propylon.proxy.route import Route
from propylon.wire.message import Request
from propylon.wire.target import careless, is_plain

__all__ = ["Loss", "losses", "misreading"]

Why = Literal["host", "path", "less specific", "method", "priority", "refused"]


@dataclass(frozen=True, slots=True)
class Loss:
    """A route that did not get the request, and why not."""

    entry: Entry
    why: Why
    text: str


def losses(
    entries: list[Entry], table: Table, request: Request, winner: Route | None
) -> list[Loss]:
    """Return a loss for each entry that is not the winner's, the near ones first."""
    reached = table.find(request.authority, request.path)
    found = [
        _loss(entry, request, reached, winner) for entry in entries if entry.route is not winner
    ]
    return sorted(found, key=lambda loss: loss.why == "path")


def _loss(entry: Entry, request: Request, reached: Leaf | None, winner: Route | None) -> Loss:
    route = entry.route
    if not _leads(route, request):
        anywhere = replace(route, pattern=replace(route.pattern, host=None))
        if _leads(anywhere, request):
            host = (route.pattern.host or b"").decode()
            return Loss(entry, "host", f"it is for {host}, not {request.authority.decode()}")
        return Loss(entry, "path", "its path does not match")
    if reached is None or route not in reached.routes:
        better = f'"{reached.routes[0].name}"' if reached is not None else "another route"
        return Loss(entry, "less specific", f"{better} matches more specifically")
    if Leaf((route,)).choose(request.method) is None:
        taken = ", ".join(sorted(route.pattern.methods or ())) or "all that are safe to pass"
        return Loss(entry, "method", f"it takes {taken}, not {request.method}")
    if winner is None:
        return Loss(entry, "refused", "it would match, but the request is refused")
    priorities = f"priority {route.pattern.priority} against {winner.pattern.priority}"
    return Loss(entry, "priority", priorities)


def _leads(route: Route, request: Request) -> bool:
    return Table((route,)).find(request.authority, request.path) is not None


def misreading(table: Table, request: Request) -> str:
    """Say how a careless upstream would read the path, and whose path that is; empty if as sent."""
    if is_plain(request.path):
        return ""
    try:
        read = careless(request.path)
    except InvalidRequest:
        return ""
    leaf = table.find(request.authority, read)
    whose = f'the path of route "{leaf.routes[0].name}"' if leaf is not None else "no route's path"
    return f"read carelessly it is {read.decode()}: {whose}"
