"""Choose the service of each request to a route that is shared out among several (`split`). Pure.

Strategy. A route with `split` is compiled once for each of its services. One of these routes is chosen right behind `match`, so
that all later stages are those of the service: its limits, its cache, its breaker, its timeouts, its instances.

Services take turns by smooth weighted round robin and are not drawn: 5 % are then 5 of each hundred requests of a worker. A
draw comes that near only over tens of thousands of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Route
from propylon.services.balance import Rotation
from propylon.wire.message import Request

__all__ = ["Part", "Shares"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The route to one of the services, and its weight."""

    route: Route
    weight: int


class Shares:
    """The services of a route, in turn. Fills the port `route.Split`."""

    __slots__ = ("_parts", "_rotation", "_taking")

    def __init__(self, parts: Sequence[Part]) -> None:
        """Take the parts; at least one has a weight."""
        self._parts = tuple(parts)
        self._taking = tuple(part for part in parts if part.weight)
        self._rotation = Rotation[Part]()

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes to the services, in the order of the file."""
        return tuple(part.route for part in self._parts)

    def choose(self, exchange: Exchange, request: Request) -> Route:  # noqa: ARG002 — as the port
        """Return the route to the service whose turn it is."""
        return self._rotation.choose(self._taking).route

    def changed(self, change: Callable[[Route], Route]) -> Shares:
        """Return the same shares of changed routes."""
        return Shares([replace(part, route=change(part.route)) for part in self._parts])
