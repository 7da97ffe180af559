"""MATCH: which route a request is for, at a cost that grows with the path, not with the table. Pure.

The most specific route wins: by host; then segment by segment from the left, literal over `{}`;
exact over prefix; the longer. What stands on the very same place is told apart by method, and where
methods overlap by `priority`. A method never falls through to a less specific route: that would
let `DELETE /orders/7` reach what only `GET /orders` was written for.
"""

from __future__ import annotations

import operator
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain

from propylon.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound
from propylon.proxy.route import UNPROTECTED, Answers, Pattern, Route
from propylon.proxy.tree import Tree, folds
from propylon.services.service import Service
from propylon.wire.handshake import is_handshake, offered, upgrade_required
from propylon.wire.message import Request
from propylon.wire.offer import WEBSOCKET
from propylon.wire.spellings import begins_query, fold, is_plain, readings

__all__ = ["Leaf", "Table"]

_ORDINARY_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


# Host, segments, and whether nothing below is meant.
Place = tuple[bytes | None, tuple[bytes | None, ...], bool]


class Leaf:
    """The routes that stand on one place of one host."""

    __slots__ = ("_any", "_by_method", "allow", "folds", "literal", "place", "routes")

    def __init__(self, routes: Sequence[Route]) -> None:
        """Let the routes of higher priority win their methods."""
        self.routes = tuple(sorted(routes, key=_rank))
        self.place = _place(self.pattern)
        # Whether some upstream reads it otherwise than it is written.
        self.folds = folds(self.pattern)
        self.literal = _literal(self.pattern)
        # TRACE shows a client what others put into its requests: never, whatever is configured.
        self._by_method: dict[str, Route | None] = {"TRACE": None}
        self._any: Route | None = None
        for route in self.routes:
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
        if all(other.cors is route.cors for other in self.routes):
            return route.cors, route, self.allow
        # A browser remembers the methods. One that has other rules must not be among them.
        usual = _ORDINARY_METHODS if self._any is not None else frozenset()
        methods = frozenset(
            name
            for name in usual.union(self._by_method)
            if (found := self.choose(name)) is not None and found.cors is route.cors
        )
        return route.cors, route, _allow(methods, everything=False)

    def agrees(self, others: Sequence[Leaf]) -> bool:
        """Return whether a request to one of these places would meet the rules of this one."""
        return self in others or (
            bool(others)
            and all(other.is_unprotected or other.rules == self.rules for other in others)
        )

    @property
    def is_unprotected(self) -> bool:
        """Whether only endpoints of the gateway stand here that anybody may use."""
        return all(route.rules is UNPROTECTED for route in self.routes)

    @property
    def rules(self) -> dict[str, object]:
        """The rules by method; "" stands for all methods that are not named."""
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
        return _same(sorted(routes, key=_rank), self.routes)


def _place(pattern: Pattern) -> Place:
    return (pattern.host, pattern.segments, pattern.exact)


def _literal(pattern: Pattern) -> bytes | None:
    """Return the path that the operator wrote; None if any segment may stand in it."""
    literal = [segment for segment in pattern.segments if segment is not None]
    return b"/" + b"/".join(literal) if len(literal) == len(pattern.segments) else None


def _same(some: Sequence[Route], others: Sequence[Route]) -> bool:
    """Return whether these are the very same routes, in the same order."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _rank(route: Route) -> int:
    return -route.pattern.priority


@lru_cache(maxsize=256)
def _allow(methods: frozenset[str], *, everything: bool) -> bytes:
    allowed = methods - {"TRACE"}
    if "WEBSOCKET" in allowed:  # to HTTP, a handshake is a GET
        allowed = allowed - {"WEBSOCKET"} | {"GET"}
    return ", ".join(sorted(allowed | _ORDINARY_METHODS if everything else allowed)).encode()


# Routes that are planted before the loop gets a turn: a tenth of a millisecond.
_SLICE = 32
# Paths whose place is remembered: a megabyte at the most.
_REMEMBERED = 4096
_REMEMBERED_SIZE = 256


class Table:
    """An immutable snapshot of all routes, and of all services, routed to or not."""

    def __init__(
        self,
        routes: Iterable[Route],
        services: Iterable[Service] = (),
        cors: Answers | None = None,
    ) -> None:
        """Compile the routes; that none is a duplicate has been checked when they were read."""
        self.routes = tuple(routes)
        self.services = tuple(services)
        self.cors = cors
        self.has_own_cors = False  # whether a route has rules of its own
        self._known: dict[object, Leaf] = {}  # by path, or by host and path; bounded
        self._leaves: dict[Place, Leaf] = {}
        for _ in self._plant(None):
            pass

    @classmethod
    def slowly(
        cls,
        routes: Iterable[Route],
        services: Iterable[Service],
        cors: Answers | None,
        before: Table | None = None,
    ) -> Generator[None, None, Table]:
        """Make the same table in slices; share with `before` what has not changed."""
        table = cls((), services, cors)
        table.routes = tuple(routes)
        if before is not None and _same(table.routes, before.routes):
            table._take_over(before)
        else:
            yield from table._plant(before)
        return table

    def _take_over(self, before: Table) -> None:
        """Take the trees of another table, and its remembered paths: all routes are the same."""
        self._known, self._leaves = before._known, before._leaves
        self.has_own_cors = before.has_own_cors
        self._stand(before.trees)

    def _plant(self, before: Table | None) -> Iterator[None]:
        added: list[Leaf] = []
        groups = yield from self._groups()
        for at, (place, group) in enumerate(groups.items()):
            leaf = None if before is None else before.leaf(place)
            if leaf is None or not leaf.holds(group):
                leaf = Leaf(group)
                added.append(leaf)
            self._leaves[leaf.place] = leaf
            if at % _SLICE == 0:
                yield
        removed = [] if before is None else list(before.missing_in(self))
        if before is None or self._is_unlike(before, added, removed):
            yield from self._grow({}, list(self._leaves.values()), [])
        else:
            yield from self._grow(dict(before.trees), added, removed)

    def _groups(self) -> Generator[None, None, dict[Place, list[Route]]]:
        groups: dict[Place, list[Route]] = {}
        for at, route in enumerate(self.routes):
            groups.setdefault(_place(route.pattern), []).append(route)
            self.has_own_cors = self.has_own_cors or route.cors is not None
            if at % _SLICE == 0:
                yield
        return groups

    def _is_unlike(self, before: Table, added: list[Leaf], removed: list[Leaf]) -> bool:
        """Return whether new trees are less work, or the old ones lack the folded half that a new route needs."""
        if len(added) + len(removed) > len(self._leaves) // 2:
            return True
        hosts = {leaf.place[0] for leaf in added if leaf.folds}
        return any(host in before.trees and not before.trees[host].is_parted for host in hosts)

    def _grow(
        self, trees: dict[bytes | None, Tree[Leaf]], added: list[Leaf], removed: list[Leaf]
    ) -> Iterator[None]:
        """Grow trees out of those that stand before; they are not changed."""
        parted = {leaf.place[0] for leaf in added if leaf.folds}
        own: dict[bytes | None, Tree[Leaf]] = {}
        leaving = ((leaf, True) for leaf in removed)
        coming = ((leaf, False) for leaf in added)
        for at, (leaf, leaves) in enumerate(chain(leaving, coming)):
            host = leaf.place[0]
            if (tree := own.get(host)) is None:
                tree = own[host] = trees[host] = Tree(trees.get(host), parted=host in parted)
            change = tree.remove if leaves else tree.add
            change(leaf, leaf.pattern)
            if at % _SLICE == 0:
                yield
        self._stand({host: tree for host, tree in trees.items() if not tree.sent.is_bare})

    def _stand(self, trees: dict[bytes | None, Tree[Leaf]]) -> None:
        self.trees = trees  # by host, as it is written
        self._anywhere = trees.get(None) or Tree()
        hosts = {host: tree for host, tree in trees.items() if host is not None}
        self._hosts = {host: tree for host, tree in hosts.items() if not host.startswith(b"*.")}
        # `*.example.com`, by `example.com`.
        self._below = {host[2:]: tree for host, tree in hosts.items() if host.startswith(b"*.")}
        self._hostless = not hosts

    def leaf(self, place: Place) -> Leaf | None:
        """Return the leaf at a place."""
        return self._leaves.get(place)

    def missing_in(self, after: Table) -> Iterator[Leaf]:
        """Yield the leaves that another table has not."""
        return (leaf for place, leaf in self._leaves.items() if after.leaf(place) is not leaf)

    def parts(self, after: Table) -> Iterator[object]:
        """Yield what a later table does not share, each part before those that it holds, to be dropped in slices."""
        for host, tree in self.trees.items():
            yield from tree.without(after.trees.get(host))
        yield from self.missing_in(after)
        kept = set(map(id, after.routes))
        for route in self.routes:
            if id(route) not in kept:
                yield route

    def match(self, request: Request) -> Route:
        """Return the route for the request.

        Raises NotFound; MethodNotAllowed with `Allow`; UpgradeRequired where only WebSockets are served; InvalidRequest
        for a path that an upstream might read as one of another route.
        """
        leaf = self._known.get(request.path) or self.place(request)
        route = leaf.choose_upgraded(request) if request.upgrade else leaf.choose(request.method)
        if route is None:
            if request.method == "GET" and leaf.has_sockets_only:
                msg = "Only WebSockets are served here"
                raise upgrade_required(msg)
            msg = f"{request.method} is not allowed here"
            raise MethodNotAllowed(
                msg,
                details={"allow": leaf.allow.decode().replace(",", "").split()},
                headers=((b"Allow", leaf.allow),),
            )
        return route

    def cors_lines(self, request: Request) -> bytes:
        """Return the lines for an answer to a request that no route has got: those of the path, else the gateway's."""
        cors = self.cors
        if self.has_own_cors:
            try:
                cors = self.place(request).asked(request.method)[0] or cors
            except GatewayError:
                cors = self.cors
        return b"" if cors is None else cors.block(request)

    def place(self, request: Request) -> Leaf:
        """Return the place that the path leads to, and remember it.

        Raises what `match` raises, but for MethodNotAllowed.
        """
        path = request.path
        key = path if self._hostless else (request.authority, path)
        leaf = self._known.get(key)
        if leaf is not None:
            return leaf
        leaf = self.find(request.authority, path)
        if not is_plain(path) and self.misreading(request.authority, path, leaf) is not None:
            msg = "The path can be read as one of another route"
            raise InvalidRequest(msg)
        if leaf is None:
            msg = "No route matches this path"
            raise NotFound(msg)
        if len(path) <= _REMEMBERED_SIZE:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = leaf
        return leaf

    def find(self, authority: bytes, path: bytes) -> Leaf | None:
        """Return the place that the path leads to, as sent."""
        segments = path.split(b"/")
        if self._hostless:
            found = self._anywhere.sent.walk(segments)
            return found[0] if found else None
        for tree in self._trees(authority):
            if found := tree.sent.walk(segments):
                return found[0]
        return None

    def misreading(
        self, authority: bytes, path: bytes, leaf: Leaf | None
    ) -> tuple[bytes, Leaf | None] | None:
        """Return a reading of the path that leads to other rules than those of `leaf`, and the place that it leads to.

        None if there is no such reading. Raises what `readings` raises.
        """
        found = readings(path, scripts=leaf is None or not _names_script(leaf.pattern))
        # A path that stands in the file letter by letter has the rules that the operator wrote for it.
        if leaf is None or path == leaf.literal:
            return None
        trees = self._trees(authority)
        for reading in found:
            for read in dict.fromkeys((reading, fold(reading))):
                there = _walk(trees, read)
                if not (leaf.agrees(there) or (not there and begins_query(path, reading))):
                    return read, there[0] if there else None
        return None

    def _trees(self, authority: bytes) -> list[Tree[Leaf]]:
        """Return the trees that speak for the host, the most specific one first."""
        trees = []
        if (own := self._hosts.get(authority)) is not None:
            trees.append(own)
        name = authority
        while self._below and name:
            _, _, name = name.partition(b".")
            if (below := self._below.get(name)) is not None:
                trees.append(below)
        return [*trees, self._anywhere]


def _walk(trees: Iterable[Tree[Leaf]], read: bytes) -> Sequence[Leaf]:
    """Return the places that a reading leads to, on the most specific host that has any."""
    segments = read.split(b"/")
    return next((found for tree in trees if (found := tree.folded.walk(segments))), ())


def _names_script(pattern: Pattern) -> bool:
    return any(segment is not None and segment.endswith(b".php") for segment in pattern.segments)
