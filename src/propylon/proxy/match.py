"""MATCH: which route a request is for, at a cost that grows with the path, not with the table. Pure.

The most specific route wins: by host; then segment by segment from the left, literal over `{}`;
exact over prefix; the longer. What stands on the very same place is told apart by method, and where
methods overlap by `priority`. A method never falls through to a less specific route: that would
let `DELETE /orders/7` reach what only `GET /orders` was written for.
"""

from __future__ import annotations

import operator
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from propylon.errors import InvalidRequest, MethodNotAllowed, NotFound
from propylon.proxy.route import Pattern, Route
from propylon.services.service import Service
from propylon.wire.message import Request, Response
from propylon.wire.target import careless, is_plain

__all__ = ["Answers", "Leaf", "Table"]


_ORDINARY_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Routes that are compiled, planted or let go of before the loop gets a turn: a tenth of a millisecond.
_SLICE = 32


class Leaf:
    """The routes that stand on one place of one host."""

    __slots__ = ("_any", "_by_method", "allow", "routes")

    def __init__(self, routes: Sequence[Route]) -> None:
        """Let the routes of higher priority win their methods."""
        self.routes = tuple(sorted(routes, key=_rank))
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

    def choose(self, method: str) -> Route | None:
        """Return the route for the method, if there is one."""
        return self._by_method.get(method, self._any)

    def holds(self, routes: Sequence[Route]) -> bool:
        """Return whether this leaf holds these very routes."""
        return _same(sorted(routes, key=_rank), self.routes)


def _same(some: Sequence[Route], others: Sequence[Route]) -> bool:
    """Return whether these are the very same routes, in the same order."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _rank(route: Route) -> int:
    return -route.pattern.priority


@lru_cache(maxsize=256)
def _allow(methods: frozenset[str], *, everything: bool) -> bytes:
    allowed = methods - {"WEBSOCKET", "TRACE"}
    return ", ".join(sorted(allowed | _ORDINARY_METHODS if everything else allowed)).encode()


# Of all nodes that have nothing below them, most of a large tree.
_NOTHING: dict[bytes, _Node] = {}


@dataclass(slots=True, eq=False)
class _Node:
    """A place in the tree of segments."""

    literal: dict[bytes, _Node] = field(default_factory=lambda: _NOTHING)
    wildcard: _Node | None = None
    exact: tuple[Leaf, ...] = ()
    prefix: tuple[Leaf, ...] = ()

    def walk(self, segments: list[bytes]) -> tuple[Leaf, ...]:
        """Return what `find` returns; a step a segment as long as no wildcard stands in the way."""
        node = self
        deepest = self.prefix
        depth = 1
        for segment in segments[1:]:
            if node.wildcard is not None:
                return node.find(segments, depth) or deepest
            child = node.literal.get(segment)
            if child is None:
                return deepest
            node = child
            depth += 1
            if node.prefix:
                deepest = node.prefix
        return node.exact or deepest

    def grow(self, segments: Iterable[bytes | None]) -> _Node:
        """Return the node at the end of the segments, which exists from now on."""
        node = self
        for segment in segments:
            if segment is None:
                node.wildcard = node = node.wildcard or _Node()
                continue
            if (child := node.literal.get(segment)) is None:
                if node.literal is _NOTHING:
                    node.literal = {}
                child = node.literal[segment] = _Node()
            node = child
        return node

    def find(self, segments: list[bytes], depth: int) -> tuple[Leaf, ...]:
        """Return the leaves of the most specific place for the segments from `depth` on."""
        if depth == len(segments):
            return self.exact or self.prefix
        segment = segments[depth]
        node = self.literal.get(segment)
        if node is not None and (found := node.find(segments, depth + 1)):
            return found
        if (
            self.wildcard is not None
            and segment
            and (found := self.wildcard.find(segments, depth + 1))
        ):
            return found
        return self.prefix

    def put(self, leaf: Leaf, *, exact: bool) -> None:
        """Put the leaf at this node."""
        if exact:
            self.exact = (*self.exact, leaf)
        else:
            self.prefix = (*self.prefix, leaf)

    def below(self) -> Iterator[_Node]:
        """Yield the nodes one segment below this one."""
        yield from self.literal.values()
        if self.wildcard is not None:
            yield self.wildcard


class _Tree:
    """The nodes of one host: by segments as written, and as a careless reader folds them."""

    __slots__ = ("folded", "sent")

    def __init__(self) -> None:
        # Most segments are folded into themselves: as long as all are, one tree is both.
        self.sent = self.folded = _Node()

    def add(self, pattern: Pattern, leaf: Leaf) -> None:
        """Plant the leaf in both trees."""
        self.sent.grow(pattern.segments).put(leaf, exact=pattern.exact)
        if self.folded is not self.sent:
            self.folded.grow(_folded(pattern)).put(leaf, exact=pattern.exact)

    def part(self) -> None:
        """Make a second tree for folded segments; before the first leaf is added."""
        if self.folded is self.sent:
            self.folded = _Node()


def _folded(pattern: Pattern) -> Iterator[bytes | None]:
    for segment in pattern.segments:
        yield segment if segment is None else careless(b"/" + segment)[1:]


def _folds(pattern: Pattern) -> bool:
    """Return whether a careless reader would read one of the segments otherwise than it is written."""
    return not is_plain(b"/" + b"/".join([segment or b"-" for segment in pattern.segments]))


# Paths whose place is remembered: a megabyte at the most.
_REMEMBERED = 4096
_REMEMBERED_SIZE = 256


class Answers(Protocol):
    """What says which web pages may read an answer (see `cors`)."""

    def block(self, request: Request) -> bytes:
        """Return the lines for any answer to the request."""

    def is_preflight(self, request: Request) -> bool:
        """Whether a browser asks if it may ask."""

    def preflight(self, request: Request, allow: bytes) -> Response:
        """Answer a preflight; `allow` are the methods of the routes on that path."""


_Place = tuple[bytes | None, tuple[bytes | None, ...], bool]


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
        self._hosts: dict[bytes, _Tree] = {}
        self._below: dict[bytes, _Tree] = {}  # `*.example.com`, by `example.com`
        self._anywhere = _Tree()
        self._leaves: dict[_Place, Leaf] = {}
        self._known: dict[bytes, Leaf] = {}  # by path; bounded
        for _ in self._plant(None):
            pass
        self._hostless = not self._hosts and not self._below

    @classmethod
    def slowly(
        cls,
        routes: Iterable[Route],
        services: Iterable[Service],
        cors: Answers | None,
        before: Table | None = None,
    ) -> Generator[None, None, Table]:
        """Make the same table in slices; reuse the leaves of `before` that have not changed."""
        table = cls((), services, cors)
        table.routes = tuple(routes)
        if before is not None and _same(table.routes, before.routes):
            table._take_over(before)
            return table
        yield from table._plant(before)
        table._hostless = not table._hosts and not table._below
        return table

    def _take_over(self, before: Table) -> None:
        """Take the trees of `before`, and its remembered paths: all routes are the same."""
        self._hosts, self._below, self._anywhere = before._hosts, before._below, before._anywhere
        self._leaves, self._known, self._hostless = before._leaves, before._known, before._hostless

    def _plant(self, before: Table | None) -> Iterator[None]:
        places: dict[_Place, list[Route]] = {}
        for at, route in enumerate(self.routes):
            pattern = route.pattern
            place = (pattern.host, pattern.segments, pattern.exact)
            if (alike := places.get(place)) is None:
                places[place] = [route]
                if _folds(pattern):
                    self._tree(pattern.host).part()
            else:
                alike.append(route)
            if at % _SLICE == 0:
                yield
        for at, (place, group) in enumerate(places.items()):
            leaf = None if before is None else before.leaf(place)
            if leaf is None or not leaf.holds(group):
                leaf = Leaf(group)
            self._leaves[place] = leaf
            self._tree(place[0]).add(group[0].pattern, leaf)
            if at % _SLICE == 0:
                yield

    def leaf(self, place: _Place) -> Leaf | None:
        """Return the leaf at a place."""
        return self._leaves.get(place)

    def parts(self) -> Iterator[object]:
        """Yield the parts of the table, each before the parts that it holds, so that they can be dropped in slices."""
        nodes = [
            node
            for tree in (*self._hosts.values(), *self._below.values(), self._anywhere)
            for node in dict.fromkeys((tree.sent, tree.folded))
        ]
        while nodes:
            node = nodes.pop()
            yield node
            nodes.extend(node.below())
        yield from self._leaves.values()
        yield from self.routes

    def _tree(self, host: bytes | None) -> _Tree:
        if host is None:
            return self._anywhere
        if host.startswith(b"*."):
            return self._below.setdefault(host[2:], _Tree())
        return self._hosts.setdefault(host, _Tree())

    def match(self, request: Request) -> Route:
        """Return the route for the request.

        Raises NotFound; MethodNotAllowed with `Allow`; InvalidRequest for a path that an upstream
        might read as one of another route.
        """
        leaf = self._known.get(request.path) or self.place(request)
        route = leaf.choose(request.method)
        if route is None:
            msg = f"{request.method} is not allowed here"
            raise MethodNotAllowed(
                msg,
                details={"allow": leaf.allow.decode().replace(",", "").split()},
                headers=((b"Allow", leaf.allow),),
            )
        return route

    def place(self, request: Request) -> Leaf:
        """Return the place that the path leads to; remember it, if hosts do not matter.

        Raises what `match` raises, but for MethodNotAllowed.
        """
        path = request.path
        leaf = self._known.get(path)
        if leaf is not None:
            return leaf
        leaf = self.find(request.authority, path)
        if not is_plain(path):
            self._refuse_ambiguous(request, leaf)
        if leaf is None:
            msg = "No route matches this path"
            raise NotFound(msg)
        if self._hostless and len(path) <= _REMEMBERED_SIZE:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[path] = leaf
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

    def _refuse_ambiguous(self, request: Request, leaf: Leaf | None) -> None:
        read = careless(request.path)
        if leaf is None:
            return
        for tree in self._trees(request.authority):
            if found := tree.folded.walk(read.split(b"/")):
                if leaf in found:
                    return
                break
        msg = "The path can be read as one of another route"
        raise InvalidRequest(msg)

    def _trees(self, authority: bytes) -> list[_Tree]:
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
