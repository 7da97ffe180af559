"""Find where a translated table decides otherwise than the original, and protects less there.

Three things make the tables differ. A pattern that is narrower in the original takes more here (`Route.wide`). A prefix
there may end within a segment, /admin takes /admin-old, and here it does not (`Route.glued`). And where the original
takes the first route that fits, here the most specific one wins.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Route

__all__ = ["first_wins", "keep_before", "review"]

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
    for route in draft.routes:
        if route.wide:
            _review_wide(draft, route)
    for route in draft.routes:
        if route.glued and _guards(route):
            _review_glued(draft, route)


def first_wins(draft: Draft, order: Callable[[Route], Any] | None = None) -> None:
    """Keep the order in which the original tries routes, where ours would decide otherwise.

    The original takes the first route that fits: in the order of the file, or by a sort key of its own. What is never
    reached is taken out, routes alike get a priority, and a route that gets requests of a better protected one is closed.
    """
    kept: list[Route] = []
    for route in sorted(draft.routes, key=order) if order else draft.routes:
        above = next((one for one in kept if _covers(one, route) and _takes_all(one, route)), None)
        if above is not None:
            draft.differs(
                route.at, f"left out: {_name(above)} stands before it and takes all of its requests"
            )
            continue
        for one in kept:
            if _overtakes(route, one) and weaker(route, one):
                route.close(
                    route.at,
                    f"{_name(one)} stands before it and protects some of its requests; here the more specific route decides",
                    "give both the same protection",
                )
                break
        kept.append(route)
    _rank_alike(kept)
    draft.routes[:] = [route for route in draft.routes if any(route is one for one in kept)]


def keep_before(first: Route, second: Route) -> None:
    """Say that the original takes the first route where both fit. If the second wins here, that is told; if it is weaker, it is closed."""
    if not _meet(first, second):
        return
    if _alike(first, second):
        first.keys["priority"] = max(1, int(second.keys.get("priority", 0)) + 1)
    elif _rank(second) > _rank(first):
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
    """Tell whether a route gets requests here that were for one before it."""
    return not _alike(one, route) and _meet(one, route) and _rank(route) > _rank(one)


def _rank(route: Route) -> tuple[object, ...]:
    """Return a sort key: what propylon takes first is the greatest.

    A host before any host; segments from the left, a literal before {name}; then exact before a prefix, and the longer path.
    """
    segments = _segments(route)
    literal = [part[:1] != "{" for part in segments]
    hosts = [str(host) for host in route.keys.get("hosts", ())]
    named = max((1 if "*" in host else 2 for host in hosts), default=0)
    return (named, literal, bool(route.keys.get("exact")), len(segments))


def _rank_alike(routes: list[Route]) -> None:
    """Give routes that differ in methods and conditions alone a priority in their order."""
    groups: list[list[Route]] = []
    for route in routes:
        group = next((one for one in groups if _alike(one[0], route)), None)
        if group is None:
            groups.append([route])
        else:
            group.append(route)
    for group in groups:
        if any(_shares(a, b, "methods") for a, b in combinations(group, 2)):
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


def _review_wide(draft: Draft, route: Route) -> None:
    for other in draft.routes:
        if other is not route and _meet(other, route) and weaker(route, other):
            route.close(
                route.at,
                f"{route.wide}; some of these requests were for {_name(other)}, which is protected otherwise",
                "give both the same protection",
            )
            return


def _review_glued(draft: Draft, route: Route) -> None:
    above = [one for one in draft.routes if one is not route and _is_above(one, route)]
    if not above:
        return
    next_best = max(above, key=lambda one: len(_segments(one)))
    if weaker(next_best, route):
        path = str(route.keys["path"])
        route.lost(
            route.at,
            f"it also protected paths that go on within the segment, such as {path}-x; here they go to"
            f" {_name(next_best)}, which is protected otherwise",
            "add a route for each such path that there is",
        )


def _segments(route: Route) -> list[str]:
    return [part for part in str(route.keys["path"]).split("/") if part]


def _name(route: Route) -> str:
    return f"the route {route.keys['path']} ({route.at.place})"


def _fits(one: list[str], other: list[str]) -> bool:
    """Tell whether some path fits both lists as far as the shorter one goes."""
    return all(a == b or "{" in a[:1] or "{" in b[:1] for a, b in zip(one, other, strict=False))


def _alike(one: Route, other: Route) -> bool:
    """Tell whether two routes stand at the same place of the table, so that priority decides between them."""
    mine, theirs = (
        ["{}" if part[:1] == "{" else part for part in _segments(route)] for route in (one, other)
    )
    return (
        mine == theirs
        and bool(one.keys.get("exact")) == bool(other.keys.get("exact"))
        and _shares(one, other, "hosts")
    )


def _shares(one: Route, other: Route, key: str) -> bool:
    mine, theirs = one.keys.get(key), other.keys.get(key)
    if not mine or not theirs:
        return True
    return bool(set(mine) & set(theirs)) or any("*" in str(item) for item in [*mine, *theirs])


def _meet(one: Route, other: Route) -> bool:
    """Tell whether some request may fit both."""
    mine, theirs = _segments(one), _segments(other)
    deep_enough = (len(mine) >= len(theirs) or not one.keys.get("exact")) and (
        len(theirs) >= len(mine) or not other.keys.get("exact")
    )
    return (
        deep_enough
        and _fits(mine, theirs)
        and _shares(one, other, "methods")
        and _shares(one, other, "hosts")
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
        and _shares(one, other, "methods")
        and _shares(one, other, "hosts")
    )


def _takes_all(one: Route, other: Route) -> bool:
    """Tell whether the first, which covers the second's paths, leaves it no request."""
    for key in ("methods", "hosts"):
        mine, theirs = one.keys.get(key), other.keys.get(key)
        if mine and not (theirs and set(theirs) <= set(mine)):
            return False
    return not one.keys.get("match")
