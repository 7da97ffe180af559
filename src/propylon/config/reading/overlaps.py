"""Find routes that match the same requests: duplicates, routes that can never win, and routes of which neither goes first. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from pydantic import ValidationError

from propylon.config.models.match import MatchConfig
from propylon.config.models.syntax import shape
from propylon.config.models.units import is_true, parse_whole
from propylon.config.reading.problems import Finding, Path

__all__ = ["Matcher", "Named", "matcher_of", "overlaps", "said"]

# Says what a sentence calls the value at a path, which has this name, with its place.
Named = Callable[[Path, str], str]
# In the place of a method; neither can be written as one.
_ALL = "all of them"
_ANY = "any of them"


_ANYTHING = MatchConfig()


class Matcher(NamedTuple):
    """The keys of a raw route that decide which requests it matches, without values of a wrong type."""

    at: int
    name: str
    named: bool
    path: str
    shape: str
    exact: bool
    hosts: frozenset[str]
    methods: frozenset[str]
    priority: int
    match: MatchConfig = _ANYTHING

    @property
    def rank(self) -> tuple[int, ...]:
        """What decides between routes of one place; the greater one goes first."""
        return (self.priority, *self.match.rank)

    def covers(self, other: "Matcher") -> bool:
        """Whether this has all methods of the other."""
        return not self.methods or (bool(other.methods) and self.methods >= other.methods)

    def shares_methods(self, other: "Matcher") -> bool:
        """Whether some method is one of both."""
        return not self.methods or not other.methods or bool(self.methods & other.methods)


def matcher_of(at: int, route: Mapping[str, object]) -> Matcher:
    """Return what a raw route matches, which has a path."""
    path, name = str(route["path"]), route.get("name")
    return Matcher(
        at,
        name if isinstance(name, str) else path,
        isinstance(name, str),
        path,
        shape(path),
        is_true(route.get("exact")),
        frozenset(map(str.lower, _texts(route.get("hosts")))),
        frozenset(_texts(route.get("methods"))),
        _priority(route.get("priority")),
        _match(route.get("match")),
    )


def _match(value: object) -> MatchConfig:
    if not value:
        return _ANYTHING
    try:
        return MatchConfig.model_validate(value)
    except ValidationError:  # reported by the models
        return _ANYTHING


def _priority(value: object) -> int:
    try:
        return parse_whole(value)
    except ValueError:
        return 0


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def overlaps(matchers: list[Matcher], named: Named) -> Iterator[Finding]:
    """Yield a problem for each route that matches what another one does, and cannot go before or after it."""
    alike: defaultdict[tuple[str, bool, str], list[Matcher]] = defaultdict(list)
    for one in matchers:
        for host in one.hosts or {""}:
            alike[one.shape, one.exact, host].append(one)
    for group in alike.values():
        if any(one.match is not _ANYTHING for one in group):
            yield from _by_conditions(group, named)
        elif len(group) > 1:
            yield from _within(group, named)


def _within(group: list[Matcher], named: Named) -> Iterator[Finding]:
    """Look at routes that differ in nothing but methods, priority and other hosts."""
    first: dict[tuple[int, str], int] = {}  # by priority and method, the place of the first
    unlike = len({one.priority for one in group}) > 1
    for at, one in enumerate(group):
        path: Path = ("routes", one.at, "path")
        same = [first[key] for key in _meeting(one) if key in first]
        if same:
            other = group[min(same)]
            yield path, f"duplicate: matches just what {said(other, named)} matches"
        elif unlike and (above := _above(one, group)) is not None:
            yield path, f"unreachable: {said(above, named)} matches the same and goes first"
        for method in (*(one.methods or {_ALL}), _ANY):
            first.setdefault((one.priority, method), at)


def _by_conditions(group: list[Matcher], named: Named) -> Iterator[Finding]:
    """Look at routes that differ in nothing but methods, priority, conditions and other hosts."""
    for at, one in enumerate(group):
        path: Path = ("routes", one.at, "path")
        for other in group[:at]:
            if (
                one.rank == other.rank
                and one.shares_methods(other)
                and one.match.meets(other.match)
            ):
                yield path, _undecided(one, other, said(other, named))
                break
        else:
            above = next((other for other in group if _goes_before(other, one)), None)
            if above is not None:
                msg = "matches all of the same requests and goes first"
                yield path, f"unreachable: {said(above, named)} {msg}"


def _undecided(one: Matcher, other: Matcher, name: str) -> str:
    if one.match.includes(other.match) and other.match.includes(one.match):
        return f"duplicate: matches just what {name} matches"
    return (
        f"matches some of the requests that {name} matches, and neither is more specific;"
        " give one of them another priority"
    )


def _goes_before(other: Matcher, one: Matcher) -> bool:
    """Whether the other takes all requests of a route before it."""
    return (
        other.rank > one.rank
        and other.covers(one)
        and (other.hosts == one.hosts or bool(one.hosts and other.hosts > one.hosts))
        and other.match.includes(one.match)
    )


def _meeting(one: Matcher) -> Iterator[tuple[int, str]]:
    """Yield under what a route that matches some of the same requests has been noted."""
    methods = (*one.methods, _ALL) if one.methods else (_ANY,)
    return ((one.priority, method) for method in methods)


def _above(one: Matcher, group: list[Matcher]) -> Matcher | None:
    """Return the first that takes all requests of a route before it."""
    for other in group:
        # Only where every host of the one is a host of the other is the one out of reach.
        if (
            other.priority > one.priority
            and other.covers(one)
            and (other.hosts == one.hosts or (one.hosts and other.hosts > one.hosts))
        ):
            return other
    return None


def said(route: Matcher, named: Named) -> str:
    """Say which route is meant."""
    return named(("routes", route.at), route.name)
