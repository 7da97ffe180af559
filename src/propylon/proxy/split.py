"""Choose the service of each request to a route that is shared out among several (`split`). Pure.

Strategy. A route with `split` is compiled once for each of its services. One of these routes is chosen right behind `match`, so
that all later stages are those of the service: its limits, its cache, its breaker, its timeouts, its instances.

Services take turns by smooth weighted round robin and are not drawn: 5 % are then 5 of each hundred requests of a worker. A
draw comes that near only over tens of thousands of requests.

With `sticky`, a caller stays with the service that its cookie names, whatever its weight is now. Only a caller whose service cannot be
asked is given to another one: for all others the weights hold, and what a service fails to do shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Route
from propylon.proxy.sticky import Cookie
from propylon.services.balance import Rotation
from propylon.services.circuit import State
from propylon.wire.message import Request

__all__ = ["Part", "Shares"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The route to one of the services, and its weight."""

    route: Route
    weight: int

    @property
    def name(self) -> str:
        """The name of the service."""
        return self.route.service.name

    @property
    def can_be_asked(self) -> bool:
        """Whether an instance may be asked, and the breaker is not open."""
        service = self.route.service
        broken = service.breaker is not None and service.breaker.state is State.OPEN
        return bool(service.fleet.candidates()) and not (broken and self.route.circuit)


class Shares:
    """The services of a route, in turn. Fills the port `route.Split`."""

    __slots__ = ("_cookie", "_parts", "_refuses", "_rotation", "_taking")

    def __init__(
        self, parts: Sequence[Part], cookie: Cookie | None = None, *, refuses: bool = False
    ) -> None:
        """Take the parts, of which at least one has a weight. `cookie` keeps callers with their service; None: nothing does.

        `refuses`: a caller whose service cannot be asked is given to no other one.
        """
        self._parts = tuple(parts)
        self._taking = tuple(part for part in parts if part.weight)
        self._cookie = cookie
        self._refuses = refuses
        self._rotation = Rotation[Part]()

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes to the services, in the order of the file."""
        return tuple(part.route for part in self._parts)

    def choose(self, exchange: Exchange, request: Request) -> Route:
        """Return the route to the service that the caller stays with, else to the one whose turn it is."""
        if self._cookie is not None:
            return self._kept(self._cookie, exchange, request).route
        return self._rotation.choose(self._taking).route

    def _kept(self, cookie: Cookie, exchange: Exchange, request: Request) -> Part:
        value = cookie.read(request)
        named = None if value is None else self._named(cookie, value)
        taking = self._taking
        if named is not None and not self._refuses and not named.can_be_asked:
            # Where nobody can be asked, the caller stays where it is: its own service says what is the matter.
            taking = tuple(part for part in taking if part.can_be_asked)
            named = None if taking else named
        chosen = named or self._rotation.choose(taking)
        if value is None or not cookie.is_current(value, chosen.name):
            cookie.put(exchange, chosen.name)
        return chosen

    def _named(self, cookie: Cookie, value: bytes) -> Part | None:
        return next((part for part in self._parts if cookie.names(value, part.name)), None)

    def changed(self, change: Callable[[Route], Route]) -> Shares:
        """Return the same shares of changed routes."""
        parts = [replace(part, route=change(part.route)) for part in self._parts]
        return Shares(parts, self._cookie, refuses=self._refuses)
