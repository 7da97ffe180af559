"""Find conflicts between parts of a configuration: unknown services, duplicate names, colliding routes. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from propylon.config.models.endpoints import all_paths
from propylon.config.models.schema import BUILTIN_SERVICE, with_defaults
from propylon.config.models.spelling import did_you_mean
from propylon.config.models.syntax import prefix_of, shape
from propylon.config.models.units import is_true, parse_whole
from propylon.config.reading.credentials import credential_findings
from propylon.config.reading.issuers import issuer_findings
from propylon.config.reading.problems import Finding, Path

__all__ = ["cross_check"]


@dataclass(frozen=True, slots=True)
class _Matcher:
    """The keys of a raw route that decide which requests it matches, without values of a wrong type."""

    at: int
    name: str
    named: bool
    path: str
    exact: bool
    hosts: frozenset[str]
    methods: frozenset[str]
    priority: int

    def covers(self, other: "_Matcher") -> bool:
        return not self.methods or (bool(other.methods) and self.methods >= other.methods)

    def meets(self, other: "_Matcher") -> bool:
        return not self.methods or not other.methods or bool(self.methods & other.methods)


def cross_check(written: object, line_of: Callable[[Path], int | None]) -> Iterator[Finding]:
    """Yield every conflict in a raw configuration, whether it is valid otherwise or not."""
    yield from credential_findings(written)
    yield from issuer_findings(written)
    whole = with_defaults(written)
    if not isinstance(whole, dict) or not isinstance(whole.get("routes"), list):
        return
    raw = {at: route for at, route in enumerate(whole["routes"]) if isinstance(route, dict)}
    yield from _dangling(raw, whole.get("services"))
    yield from _reserved(whole.get("services"))
    matchers = [_matcher(at, r) for at, r in raw.items() if isinstance(r.get("path"), str)]
    yield from _same_names(matchers, line_of)
    yield from _own_paths(matchers, whole.get("prefix"))
    yield from _overlaps(matchers, line_of)


def _dangling(routes: Mapping[int, dict[str, object]], services: object) -> Iterator[Finding]:
    known = services if isinstance(services, dict) else {}
    for at, route in routes.items():
        service = route.get("service")
        if isinstance(service, str) and service not in known:
            hint = did_you_mean(service, known)
            yield ("routes", at, "service"), f'no service "{service}"{hint}'


def _reserved(services: object) -> Iterator[Finding]:
    if isinstance(services, dict) and BUILTIN_SERVICE in services:
        msg = f'"{BUILTIN_SERVICE}" is what logs and metrics call the gateway itself'
        yield ("services", BUILTIN_SERVICE), msg


def _matcher(at: int, route: Mapping[str, object]) -> _Matcher:
    path, name = str(route["path"]), route.get("name")
    return _Matcher(
        at,
        name if isinstance(name, str) else path,
        isinstance(name, str),
        path,
        is_true(route.get("exact")),
        frozenset(host.lower() for host in _texts(route.get("hosts"))),
        frozenset(_texts(route.get("methods"))),
        _priority(route.get("priority")),
    )


def _priority(value: object) -> int:
    try:
        return parse_whole(value)
    except ValueError:
        return 0


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _same_names(
    matchers: list[_Matcher], line_of: Callable[[Path], int | None]
) -> Iterator[Finding]:
    first: dict[str, _Matcher] = {}
    for one in matchers:
        other = first.setdefault(one.name, one)
        # Routes without a name of their own share the path's: one path, disjoint methods.
        if other is not one and (one.named or other.named):
            yield (
                ("routes", one.at, "name"),
                f'the name "{one.name}" is taken by {_said(other, line_of)}',
            )


def _own_paths(matchers: list[_Matcher], prefix: object) -> Iterator[Finding]:
    own = all_paths(prefix_of(prefix))
    for one in matchers:
        if shape(one.path) in own:
            yield (
                ("routes", one.at, "path"),
                f"{one.path} is the path of one of the gateway's own endpoints",
            )


def _overlaps(matchers: list[_Matcher], line_of: Callable[[Path], int | None]) -> Iterator[Finding]:
    alike: defaultdict[tuple[str, bool, str], list[_Matcher]] = defaultdict(list)
    for one in matchers:
        for host in one.hosts or {""}:
            alike[shape(one.path), one.exact, host].append(one)
    for group in alike.values():
        for at, one in enumerate(group):
            yield from _against(one, group[:at], group[at + 1 :], line_of)


def _against(
    one: _Matcher,
    before: list[_Matcher],
    after: list[_Matcher],
    line_of: Callable[[Path], int | None],
) -> Iterator[Finding]:
    path: Path = ("routes", one.at, "path")
    for other in before:
        if other.priority == one.priority and other.meets(one):
            yield path, f"duplicate: matches just what {_said(other, line_of)} matches"
            return
    for other in (*before, *after):
        # Only where every host of the one is a host of the other is the one out of reach.
        if (
            other.priority > one.priority
            and other.covers(one)
            and (other.hosts == one.hosts or (one.hosts and other.hosts > one.hosts))
        ):
            yield path, f"unreachable: {_said(other, line_of)} matches the same and goes first"
            return


def _said(route: _Matcher, line_of: Callable[[Path], int | None]) -> str:
    line = line_of(("routes", route.at))
    return f'routes[{route.at}] "{route.name}"' + (f" (line {line})" if line else "")
