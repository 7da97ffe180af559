"""The neutral model between readers and the writer: services, routes and sections, in the words of propylon.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator

from propylon.commands.imports.parts import UNKNOWN, Part, Route
from propylon.commands.imports.report import At, Finding, Place, Report, Verdict
from propylon.commands.imports.source import Unreadable
from propylon.commands.imports.tree import Item

__all__ = ["Draft"]

_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME = 128
_MOST_ROUTES = 3_000  # all of them are compared with each other


class Draft:
    """What a reader has understood so far."""

    def __init__(self, report: Report) -> None:
        """Begin with nothing."""
        self.report = report
        self.services: dict[str, Part] = {}
        self.routes: list[Route] = []
        self._names: set[str] = set()
        self.sections = Part("section", "", At(Place("", 1), ""), report)

    def service(self, name: str, at: At) -> Part:
        """Return the service of a name; it is made if it is new. Names that propylon does not take are changed."""
        fit = self.service_name(name)
        if fit not in self.services:
            self.services[fit] = Part("service", fit, at, self.report)
            if fit != name:
                self.services[fit].differs(at, f"the service is called {fit}")
        return self.services[fit]

    @staticmethod
    def service_name(name: str) -> str:
        """Return the name that a service gets."""
        fit = _NAME.sub("-", name).strip("-._")[:_LONGEST_NAME]
        return fit or "service"

    def route(self, path: str, at: At, name: str = "") -> Route:
        """Add a route. `name` is for logs and metrics; the path counts when it is empty or taken."""
        keys: dict[str, object] = {"path": path}
        if name and name not in self._names:
            self._names.add(name)
            keys = {"name": name, **keys}
        if len(self.routes) >= _MOST_ROUTES:
            msg = f"{at.place}: more than {_MOST_ROUTES:,} routes; import parts of the file"
            raise Unreadable(msg)
        route = Route("route", name or path, at, self.report, keys)
        self.routes.append(route)
        return route

    def section(
        self, key: str, value: object, at: At, difference: str = "", *, protects: bool = False
    ) -> bool:
        """Set a key outside of services and routes. Return False if this version does not take it."""
        return self.sections.set(key, value, at, difference, protects=protects)

    def differs(self, at: At, how: str) -> None:
        """Report a difference that belongs to no single part."""
        self.report.add(Finding(at, Verdict.DIFFERENT, how))

    def same(self, at: At, into: str) -> None:
        """Report that something is translated, or was the default anyway."""
        self.report.add(Finding(at, Verdict.TRANSLATED, into))

    def lost(self, at: At, why: str, todo: str = "") -> None:
        """Report something that is not translated and belongs to no single part."""
        self.report.add(Finding(at, Verdict.MISSING, why, todo))

    def leftovers(self, item: Item, route: Route | None = None) -> None:
        """Report the keys that no reader asked for. They close the route: nobody knows what they did."""
        for left in item.untaken():
            if route is None:
                self.lost(left.at, UNKNOWN)
            else:
                route.close(left.at, UNKNOWN, "write what it means, and open the route")

    def prune(self) -> None:
        """Take services out that no route uses."""
        used = {name for route in self.routes for name in _services_of(route.keys)}
        for name in [name for name in self.services if name not in used]:
            self.differs(self.services[name].at, f"left out: no route uses the service {name}")
            del self.services[name]


def _services_of(keys: object) -> Iterator[str]:
    """Yield what stands under `service` anywhere in the keys of a route."""
    if isinstance(keys, dict):
        for key, value in keys.items():
            if key == "service" and isinstance(value, str):
                yield value
            else:
                yield from _services_of(value)
    elif isinstance(keys, list | tuple):
        for value in keys:
            yield from _services_of(value)
