"""Find where a translated table decides otherwise than the original, and protects less there.

Three things make the tables differ. A pattern that is narrower in the original takes more here (`Route.wide`). A prefix
there may end within a segment, /admin takes /admin-old, and here it does not (`Route.glued`). And where the original
takes the first route that fits, here the most specific one wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain, combinations, product
from operator import itemgetter
from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Route

__all__ = ["first_wins", "keep_before", "review"]

_VARIABLE = "{}"
_GUARDS = (
    "auth",
    "scopes",
    "roles",
    "issuers",
    "clients",
    "forward_auth",
    "basic_auth",
    "rate_limit",
)


def review(draft: Draft) -> None:
    """Close routes that take more than the original's, and report prefixes whose ends were protected."""
    near = _Near(draft.routes)
    for route in draft.routes:
        if route.wide:
            _review_wide(near, route)
    for route in draft.routes:
        if route.glued and _guards(route):
            _review_glued(near, route)


def first_wins(draft: Draft, order: Callable[[Route], Any] | None = None) -> None:
    """Keep the order in which the original tries routes, where ours would decide otherwise.

    The original takes the first route that fits: in the order of the file, or by a sort key of its own. What is never
    reached is taken out, routes alike get a priority, and a route that gets requests of a better protected one is closed.
    """
    kept: list[Route] = []
    near = _Near()
    for route in sorted(draft.routes, key=order) if order else draft.routes:
        before = near.of(route)
        above = next(
            (one for one in before if _covers(one, route) and _takes_all(one, route)), None
        )
        if above is not None:
            draft.differs(
                route.at, f"left out: {_name(above)} stands before it and takes all of its requests"
            )
            continue
        for one in before:
            if _overtakes(route, one) and weaker(route, one):
                route.close(
                    route.at,
                    f"{_name(one)} stands before it and protects some of its requests; here the more specific route decides",
                    "give both the same protection",
                )
                break
        kept.append(route)
        near.add(route)
    _rank_alike(kept)
    staying = set(map(id, kept))
    draft.routes[:] = [route for route in draft.routes if id(route) in staying]


def keep_before(first: Route, second: Route) -> None:
    """Say that the original takes the first route where both fit. If the second wins here, that is told; if it is weaker, it is closed."""
    if not _meet(first, second):
        return
    if _alike(first, second):
        first.keys["priority"] = max(1, int(second.keys.get("priority", 0)) + 1)
    if _overtakes(second, first):
        if weaker(second, first):
            second.close(
                second.at,
                f"{_name(first)} stands before it and protects some of its requests; here the more specific route decides",
                "give both the same protection",
            )
        else:
            second.differs(
                second.at, f"{_name(first)} gets some of its requests in the original; here it does"
            )


def _overtakes(route: Route, one: Route) -> bool:
    """Tell whether a route gets requests here that were for one before it. Between routes alike, priority decides."""
    if not _meet(one, route):
        return False
    mine, theirs = _rank(route), _rank(one)
    return any(
        _hosts_meet(own, other) and (_host_rank(own), mine) > (_host_rank(other), theirs)
        for own, other in product(_hosts(route), _hosts(one))
    )


def _hosts(route: Route) -> list[str]:
    """Return the hosts of a route; an empty one stands for any host."""
    return [str(host).lower() for host in route.keys.get("hosts") or [""]]


def _hosts_meet(one: str, other: str) -> bool:
    """Tell whether some host fits both."""
    if not one or not other or one == other:
        return True
    return (one[:2] == "*." and other.endswith(one[1:])) or (
        other[:2] == "*." and one.endswith(other[1:])
    )


def _host_rank(host: str) -> tuple[int, int]:
    """Return a sort key: a whole name before `*.name`, the longer of these first, then any host."""
    if not host:
        return (0, 0)
    return (1, host.count(".")) if host[:2] == "*." else (2, 0)


def _rank(route: Route) -> tuple[object, ...]:
    """Return a sort key of a path: what propylon takes first is the greatest.

    Segments from the left, a literal before {name}; then exact before a prefix, and the longer path.
    """
    segments = _segments(route)
    literal = [part[:1] != "{" for part in segments]
    return (literal, bool(route.keys.get("exact")), len(segments))


def _rank_alike(routes: list[Route]) -> None:
    """Give routes that differ in methods and conditions alone a priority in their order."""
    groups: defaultdict[object, list[list[Route]]] = defaultdict(list)
    for route in routes:
        at = (_shape(str(route.keys["path"])), bool(route.keys.get("exact")))
        group = next((one for one in groups[at] if _alike(one[0], route)), None)
        if group is None:
            groups[at].append([route])
        else:
            group.append(route)
    for group in chain.from_iterable(groups.values()):
        if any(_share_methods(a, b) for a, b in combinations(group, 2)):
            for place, route in enumerate(reversed(group)):
                route.keys["priority"] = place


def weaker(one: Route, other: Route) -> bool:
    """Tell whether the first route protects less than the second, or otherwise."""
    if one.closed:
        return False
    if other.closed:
        return True
    guards = _guards(one)
    return any(guards.get(key) != value for key, value in _guards(other).items())


def _guards(route: Route) -> dict[str, Any]:
    """Return the keys that protect a route."""
    guards = {key: route.keys[key] for key in _GUARDS if route.keys.get(key)}
    if guards.get("auth") == "none" or (route.opened and "auth" not in guards):
        guards.pop("auth", None)
    else:
        guards.setdefault("auth", "required")
    return {"closed": True} if route.closed else guards


def _review_wide(near: _Near, route: Route) -> None:
    for other in near.of(route):
        if other is not route and _meet(other, route) and weaker(route, other):
            route.close(
                route.at,
                f"{route.wide}; some of these requests were for {_name(other)}, which is protected otherwise",
                "give both the same protection",
            )
            return


def _review_glued(near: _Near, route: Route) -> None:
    above = [one for one in near.of(route) if one is not route and _is_above(one, route)]
    if not above:
        return
    next_best = max(above, key=lambda one: (max(map(_host_rank, _hosts(one))), len(_segments(one))))
    if weaker(next_best, route):
        path = str(route.keys["path"])
        route.lost(
            route.at,
            f"it also protected paths that go on within the segment, such as {path}-x; here they go to"
            f" {_name(next_best)}, which is protected otherwise",
            "add a route for each such path that there is",
        )


def _segments(route: Route) -> tuple[str, ...]:
    return _split(str(route.keys["path"]))


@lru_cache(maxsize=8192)
def _split(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


@lru_cache(maxsize=8192)
def _shape(path: str) -> tuple[str, ...]:
    """Return the segments without the names of variables."""
    return tuple(_VARIABLE if part[:1] == "{" else part for part in _split(path))


class _Near:
    """Routes in a tree of their segments: only those whose paths agree as far as both go can meet."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._root = _Node()
        self._count = 0
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        """Add a route behind the others."""
        node = self._root
        for segment in _shape(str(route.keys["path"])):
            node = node.below.setdefault(segment, _Node())
        node.routes.append((self._count, route))
        self._count += 1

    def of(self, route: Route) -> list[Route]:
        """Return the routes that may meet one, in their order."""
        found: list[tuple[int, Route]] = []
        here = [self._root]
        for segment in _shape(str(route.keys["path"])):
            found += [one for node in here for one in node.routes]
            here = [below for node in here for below in node.fitting(segment)]
        while here:
            node = here.pop()
            found += node.routes
            here += node.below.values()
        return [one for _, one in sorted(found, key=itemgetter(0))]


class _Node:
    """A place in the tree: the routes whose paths end here, with their numbers, and the segments below."""

    def __init__(self) -> None:
        self.routes: list[tuple[int, Route]] = []
        self.below: dict[str, _Node] = {}

    def fitting(self, segment: str) -> list[_Node]:
        """Return the places below that may be meant by a segment."""
        if segment == _VARIABLE:
            return [*self.below.values()]
        return [self.below[one] for one in dict.fromkeys((segment, _VARIABLE)) if one in self.below]


def _name(route: Route) -> str:
    return f"the route {route.keys['path']} ({route.at.place})"


def _fits(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Tell whether some path fits both lists as far as the shorter one goes."""
    return all(a == b or "{" in a[:1] or "{" in b[:1] for a, b in zip(one, other, strict=False))


def _alike(one: Route, other: Route) -> bool:
    """Tell whether two routes stand at the same place of the table, so that priority decides between them."""
    return (
        _shape(str(one.keys["path"])) == _shape(str(other.keys["path"]))
        and bool(one.keys.get("exact")) == bool(other.keys.get("exact"))
        and not {*_hosts(one)}.isdisjoint(_hosts(other))
    )


def _share_methods(one: Route, other: Route) -> bool:
    mine, theirs = one.keys.get("methods"), other.keys.get("methods")
    return not mine or not theirs or not {*mine}.isdisjoint(theirs)


def _share_hosts(one: Route, other: Route) -> bool:
    return any(_hosts_meet(a, b) for a, b in product(_hosts(one), _hosts(other)))


def _meet(one: Route, other: Route) -> bool:
    """Tell whether some request may fit both."""
    mine, theirs = _segments(one), _segments(other)
    deep_enough = (len(mine) >= len(theirs) or not one.keys.get("exact")) and (
        len(theirs) >= len(mine) or not other.keys.get("exact")
    )
    return (
        deep_enough
        and _fits(mine, theirs)
        and _share_methods(one, other)
        and _share_hosts(one, other)
    )


def _is_above(one: Route, other: Route) -> bool:
    """Tell whether the first takes what lies beside the second: it has fewer segments, and all below them."""
    return (
        not one.keys.get("exact")
        and len(_segments(one)) < len(_segments(other))
        and _meet(one, other)
    )


def _covers(one: Route, other: Route) -> bool:
    """Tell whether the first takes paths of the second, which is at least as specific."""
    mine, theirs = _segments(one), _segments(other)
    if one.keys.get("exact") and (len(mine) != len(theirs) or not other.keys.get("exact")):
        return False
    within = all(a == b or a[:1] == "{" for a, b in zip(mine, theirs, strict=False))
    return (
        len(mine) <= len(theirs)
        and within
        and _share_methods(one, other)
        and _share_hosts(one, other)
    )


def _takes_all(one: Route, other: Route) -> bool:
    """Tell whether the first, which covers the second's paths, leaves it no request."""
    for key in ("methods", "hosts"):
        mine, theirs = one.keys.get(key), other.keys.get(key)
        if mine and not (theirs and set(theirs) <= set(mine)):
            return False
    return not one.keys.get("match")
