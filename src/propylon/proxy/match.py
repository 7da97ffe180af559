"""MATCH: which route a request is for, at a cost that grows with the path, not with the table. Pure.

The most specific route wins: by host; then segment by segment from the left, literal over `{}`;
exact over prefix; the longer. What stands on the very same place is told apart by method, and where
methods overlap by `priority`. A method never falls through to a less specific route: that would
let `DELETE /orders/7` reach what only `GET /orders` was written for.

A route may have conditions besides. What stands on the very same place goes by `priority` first, then by how specific its
conditions are. A route whose conditions a request does not meet is as if it were not there: the request goes to the next
one of the place, and then to the next place. A place without such routes never asks.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain

from propylon.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound
from propylon.proxy.leaf import Leaf, Place, place_of, same
from propylon.proxy.route import Answers, Pattern, Route
from propylon.proxy.tree import Tree
from propylon.services.service import Service
from propylon.wire.handshake import upgrade_required
from propylon.wire.message import Request
from propylon.wire.spellings import begins_query, fold, is_plain, readings

__all__ = ["Leaf", "Table"]

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
        # In the same way, where routes have conditions: the places to be tried.
        self._chains: dict[object, tuple[Leaf, ...]] = {}
        self._leaves: dict[Place, Leaf] = {}
        for _ in self._plant(None):
            pass

    @property
    def every_route(self) -> Iterator[Route]:
        """The routes that requests get: where one has several services, its route to each of them."""
        return chain.from_iterable(route.parts for route in self.routes)

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
        if before is not None and same(table.routes, before.routes):
            table._reuse(before)
        else:
            yield from table._plant(before)
        return table

    def _reuse(self, before: Table) -> None:
        """Take the trees of another table, and its remembered paths: all routes are the same."""
        self._known, self._leaves = before._known, before._leaves
        self._chains = before._chains
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
            groups.setdefault(place_of(route.pattern), []).append(route)
            self.has_own_cors = self.has_own_cors or route.cors is not None
            if at % _SLICE == 0:
                yield
        return groups

    def _is_unlike(self, before: Table, added: list[Leaf], removed: list[Leaf]) -> bool:
        """Return whether new trees are less work, or one of them is to have a folded half and the old one has none.

        The same the other way round: without a route that needs the folded half, requests would go through both for ever.
        """
        if len(added) + len(removed) > len(self._leaves) // 2:
            return True
        hosts = {leaf.place[0] for leaf in added if leaf.folds}
        if any(host in before.trees and not before.trees[host].is_parted for host in hosts):
            return True
        hosts = {leaf.place[0] for leaf in removed if leaf.folds}
        staying = (
            [leaf for leaf in self._leaves.values() if leaf.place[0] in hosts] if hosts else ()
        )
        folded = {leaf.place[0] for leaf in staying if leaf.folds}
        return any(leaf.place[0] not in folded for leaf in staying)

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

    def asked(self, request: Request, method: str) -> tuple[Answers | None, Route, bytes]:
        """Return what a preflight for the method meets; see `Leaf.asked`. Raises what `place` raises.

        It has none of the headers and cookies of the request that will follow. So where routes have conditions, the first
        place speaks that does not permit the page, if there is one.
        """
        key = request.path if self._hostless else (request.authority, request.path)
        leaf = self._known.get(key) or self._look_up(request)
        if leaf.reader is None:
            return leaf.asked(method)
        places = self.places(request.authority, request.path)
        answers = [answer for place in places for answer in place.answers(method)]
        if len(answers) > 1:
            for answer in answers:
                cors = answer[0] or self.cors
                if cors is None or not cors.permits(request):
                    return answer
        return answers[0]

    def place(self, request: Request) -> Leaf:
        """Return the place that the path leads to, and remember it; one with the routes whose conditions are met.

        Raises what `match` raises, but for MethodNotAllowed.
        """
        path = request.path
        key = path if self._hostless else (request.authority, path)
        leaf = self._known.get(key)
        if leaf is not None:
            return leaf
        places = self._chains.get(key)
        if places is None:
            leaf = self._look_up(request)
            if leaf.reader is None:
                if len(path) <= _REMEMBERED_SIZE:
                    if len(self._known) >= _REMEMBERED:
                        self._known.clear()
                    self._known[key] = leaf
                return leaf
            places = self.places(request.authority, path)
            if len(path) <= _REMEMBERED_SIZE:
                if len(self._chains) >= _REMEMBERED:
                    self._chains.clear()
                self._chains[key] = places
        return self.chosen(places, request)

    def _look_up(self, request: Request) -> Leaf:
        """Return the most specific place that the path leads to. Raises NotFound and InvalidRequest."""
        authority, path = request.authority, request.path
        if self._hostless:  # inlined from `find`
            found = self._anywhere.sent.walk(path.split(b"/"))
            leaf = found[0] if found else None
        else:
            leaf = self.find(authority, path)
        if not is_plain(path) and self.misreading(authority, path, leaf) is not None:
            msg = "The path can be read as one of another route"
            raise InvalidRequest(msg)
        if leaf is None:
            msg = "No route matches this path"
            raise NotFound(msg)
        return leaf

    def chosen(self, places: Iterable[Leaf], request: Request) -> Leaf:
        """Return the first of the places that has a route for the request. Raises NotFound and InvalidRequest."""
        for place in places:
            if (leaf := place.narrowed(request)) is not None:
                return leaf
        msg = "No route matches this request"
        raise NotFound(msg)

    def places(self, authority: bytes, path: bytes) -> tuple[Leaf, ...]:
        """Return the place that the path leads to, as sent, and those that follow while conditions may not be met."""
        segments, places = path.split(b"/"), []
        for tree in self._trees(authority):
            for found in tree.sent.every(segments):
                places.append(found[0])
                if not found[0].is_open:
                    return tuple(places)
        return tuple(places)

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
        if leaf is None or (path == leaf.literal and not leaf.is_open):
            return None
        trees = self._trees(authority)
        sent = self.places(authority, path) if leaf.is_open else (leaf,)
        for reading in found:
            for read in dict.fromkeys((reading, fold(reading))):
                there = _walk(trees, read)
                if not (_agree(sent, there) or (not there[0] and begins_query(path, reading))):
                    return read, there[0][0] if there[0] else None
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


def _walk(trees: Sequence[Tree[Leaf]], read: bytes) -> list[Sequence[Leaf]]:
    """Return the places that a reading leads to, on the most specific host that has any, and those that follow them."""
    segments = read.split(b"/")
    found = next((found for tree in trees if (found := tree.folded.walk(segments))), ())
    if not any(leaf.is_open for leaf in found):
        return [found]
    every: list[Sequence[Leaf]] = []
    for found in chain.from_iterable(tree.folded.every(segments) for tree in trees):
        every.append(found)
        if not any(leaf.is_open for leaf in found):
            break
    return every


def _agree(sent: Sequence[Leaf], read: Sequence[Sequence[Leaf]]) -> bool:
    """Return whether a request would meet the same rules, whichever conditions it meets."""
    return len(sent) == len(read) and all(map(Leaf.agrees, sent, read))


def _names_script(pattern: Pattern) -> bool:
    return any(segment is not None and segment.endswith(b".php") for segment in pattern.segments)
