"""Hold the routes that stand on one place of one host, and choose among them. Pure.

They are told apart by method, and where methods overlap by `priority`, then by how specific their conditions are.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache

from propylon.proxy.conditions import Reader, Sent
from propylon.proxy.route import UNPROTECTED, Answers, Pattern, Route
from propylon.proxy.tree import folds
from propylon.wire.handshake import is_handshake, offered
from propylon.wire.message import Request
from propylon.wire.offer import WEBSOCKET

__all__ = ["Leaf", "Place", "place_of", "same"]

_ORDINARY_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


# Subsets of the routes of a place that are remembered: a client that tries out all must not fill the memory.
_NARROWER = 64

# Host, segments, and whether nothing below is meant.
Place = tuple[bytes | None, tuple[bytes | None, ...], bool]


class Leaf:
    """The routes that stand on one place of one host."""

    __slots__ = (
        "_any",
        "_by_method",
        "_narrower",
        "allow",
        "folds",
        "is_open",
        "literal",
        "place",
        "reader",
        "routes",
    )

    def __init__(self, routes: Sequence[Route], *, narrowed: bool = False) -> None:
        """Let the routes of higher priority win their methods; `narrowed`: all conditions are met."""
        self.routes = tuple(sorted(routes, key=_rank))
        self.place = place_of(self.pattern)
        # Whether some upstream reads it otherwise than it is written.
        self.folds = folds(self.pattern)
        self.literal = _literal(self.pattern)
        # TRACE shows a client what others put into its requests: never, whatever is configured.
        self._by_method: dict[str, Route | None] = {"TRACE": None}
        self._any: Route | None = None
        conditions = (
            []
            if narrowed
            else [one for route in self.routes if (one := route.pattern.conditions) is not None]
        )
        # What reads the values by which the routes here are chosen; None: no request has to be looked at.
        self.reader = Reader(conditions) if conditions else None
        self._narrower: dict[tuple[bool, ...], Leaf | None] = {}
        # Whether some requests go on to a less specific place.
        self.is_open = len(conditions) == len(self.routes)
        # Where nothing is known of a request but the method, the routes without conditions speak.
        usual = sorted(self.routes, key=_has_conditions) if conditions else self.routes
        for route in usual:
            if route.pattern.methods is None:
                self._any = route
                break  # nothing of lower priority is reached
            for method in route.pattern.methods:
                self._by_method.setdefault(method, route)
        self.allow = _allow(frozenset(self._by_method), everything=self._any is not None)

    @property
    def pattern(self) -> Pattern:
        """Return a pattern of this place."""
        return self.routes[0].pattern

    def choose(self, method: str) -> Route | None:
        """Return the route for the method, if there is one."""
        return self._by_method.get(method, self._any)

    def asked(self, method: str) -> tuple[Answers | None, Route, bytes]:
        """Return what a preflight for the method meets: the rules of CORS, their route, and the methods that they hold for.

        Where no route has the method, the first route speaks: the page then reads the 405.
        """
        route = self.choose(method) or self.routes[0]
        if all(other.cors == route.cors for other in self.routes):
            return route.cors, route, self.allow
        # A browser remembers the methods. One that has other rules must not be among them.
        usual = _ORDINARY_METHODS if self._any is not None else frozenset()
        methods = frozenset(
            name
            for name in usual.union(self._by_method)
            if (found := self.choose(name)) is not None and found.cors == route.cors
        )
        return route.cors, route, _allow(methods, everything=False)

    def answers(self, method: str) -> list[tuple[Answers | None, Route, bytes]]:
        """Return what `asked` returns, and the same for each route that has other rules and may get the request instead."""
        first = self.asked(method)
        if self.reader is None:
            return [first]
        others = [route for route in self.routes if route.cors != first[0]]
        return [first, *((route.cors, route, self.allow) for route in others)]

    def agrees(self, others: Sequence[Leaf]) -> bool:
        """Return whether a request to one of these places would meet the rules of this one."""
        # Whoever wrote two spellings means both; but a request that leaves this place is no longer spelled as it was meant.
        if self in others and not self.is_open:
            return True
        return bool(others) and all(
            other is self or other.is_unprotected or other.rules == self.rules for other in others
        )

    @property
    def is_unprotected(self) -> bool:
        """Whether only endpoints of the gateway stand here that need no token."""
        return all(route.rules is UNPROTECTED for route in self.routes)

    def narrowed(self, request: Request) -> Leaf | None:
        """Return the place as it is for the request: with the routes whose conditions it meets; None if there are none.

        Raises InvalidRequest for a request that can be read in more than one way.
        """
        if self.reader is None:
            return self
        sent = self.reader.read(request)
        met = tuple([_meets(route, sent) for route in self.routes])
        if met not in self._narrower:
            if len(self._narrower) >= _NARROWER:
                self._narrower.clear()
            chosen = [route for route, meets in zip(self.routes, met, strict=True) if meets]
            self._narrower[met] = Leaf(chosen, narrowed=True) if chosen else None
        return self._narrower[met]

    def unmet(self, route: Route, request: Request) -> str:
        """Say what the request lacks for a route of this place; empty if it lacks nothing. Raises as `narrowed`."""
        conditions = route.pattern.conditions
        if self.reader is None or conditions is None:
            return ""
        missing = conditions.missing(self.reader.read(request))
        return "" if missing is None else str(missing)

    @property
    def rules(self) -> dict[str, object]:
        """The rules by method; "" stands for all methods that are not named."""
        if self.reader is not None:  # whatever a request meets, in order
            return {"": [(route.pattern.methods, route.rules) for route in self.routes]}
        rules = {method: route and route.rules for method, route in self._by_method.items()}
        return {**rules, "": self._any and self._any.rules}

    def choose_upgraded(self, request: Request) -> Route | None:
        """Return the route that takes up the client's offer of another protocol, else the one for the request without it.

        `request.upgrade` becomes the protocol that is taken up, empty if none is. Any other offer is dropped, as RFC 9110, 7.8
        allows. Raises InvalidRequest.
        """
        names, request.upgrade = offered(request), b""
        if WEBSOCKET in names:
            route = self.choose("WEBSOCKET")
            if route is not None and route.sockets is not None and is_handshake(request):
                request.upgrade = WEBSOCKET
                return route
        route = self.choose(request.method)
        if route is not None and route.sockets is not None:
            permitted = route.sockets.upgrades
            request.upgrade = next((name for name in names if name in permitted), b"")
        return route

    @property
    def has_sockets_only(self) -> bool:
        """Whether a GET has to be the handshake of a WebSocket here."""
        return "GET" not in self._by_method and self._by_method.get("WEBSOCKET") is not None

    def holds(self, routes: Sequence[Route]) -> bool:
        """Return whether this leaf holds these very routes."""
        return same(sorted(routes, key=_rank), self.routes)


def place_of(pattern: Pattern) -> Place:
    """Return the place of a pattern."""
    return (pattern.host, pattern.segments, pattern.exact)


def _literal(pattern: Pattern) -> bytes | None:
    """Return the path that the operator wrote; None if any segment may stand in it."""
    literal = [segment for segment in pattern.segments if segment is not None]
    return b"/" + b"/".join(literal) if len(literal) == len(pattern.segments) else None


def _has_conditions(route: Route) -> bool:
    return route.pattern.conditions is not None


def _meets(route: Route, sent: Sent) -> bool:
    conditions = route.pattern.conditions
    return conditions is None or conditions.holds(sent)


def same(some: Sequence[Route], others: Sequence[Route]) -> bool:
    """Return whether these are the very same routes, in the same order."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _rank(route: Route) -> tuple[int, ...]:
    pattern = route.pattern
    if pattern.conditions is None:
        return (-pattern.priority, 0)
    return (-pattern.priority, *[-one for one in pattern.conditions.rank])


@lru_cache(maxsize=256)
def _allow(methods: frozenset[str], *, everything: bool) -> bytes:
    allowed = methods - {"TRACE"}
    if "WEBSOCKET" in allowed:  # to HTTP, a handshake is a GET
        allowed = allowed - {"WEBSOCKET"} | {"GET"}
    return ", ".join(sorted(allowed | _ORDINARY_METHODS if everything else allowed)).encode()
