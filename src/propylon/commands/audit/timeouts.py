"""Hold the timeouts against what requests really take. Pure.

Facts. The metric is the time of the whole exchange, body included, and a bucket says no more than its bound: the p99 here is
the bound of the bucket that holds it, so what is said of it is never too little. `first_byte` and `total` end with the head
of the answer. So a whole exchange that is far shorter proves them long, and one that is longer proves nothing: that they are
short is told by the answers 504.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from propylon.commands.audit.catalogue import LONG_TIMEOUT, SHORT_TIMEOUT
from propylon.commands.audit.judging import Seen, Traffic
from propylon.commands.audit.scrape import Observed
from propylon.config.models.schema import RouteConfig
from propylon.config.reading.problems import Doubt, Path

__all__ = ["timeout_findings"]

_FAR = 20  # times
_SHORTEST = 1.0  # seconds; below it nobody waits long
_FULL = 0.8  # of max_duration
_CUT = 0.01  # of the requests
_GATEWAY_TIMEOUT = "504"


@dataclass(slots=True)
class _Group:
    """The routes for which one written timeout, or one default, holds."""

    path: Path
    seconds: float
    buckets: Counter[float] = field(default_factory=Counter)
    cut: int = 0
    keys: set[tuple[str, str]] = field(default_factory=set)

    @property
    def count(self) -> int:
        return self.buckets[inf]

    @property
    def p99(self) -> float:
        """The bound of the bucket that holds it."""
        least = 0.99 * self.count
        return next(bound for bound in sorted(self.buckets) if self.buckets[bound] >= least)


def timeout_findings(traffic: Traffic) -> Iterator[Seen]:
    """Yield timeouts that are far longer than what they guard takes, and those that cut requests."""
    heads = [*_groups(traffic, "first_byte"), *_groups(traffic, "total")]
    whole = list(_groups(traffic, "max_duration"))
    enough = [one for one in heads if one.count >= traffic.least.requests]
    # Of the same routes the shorter one is what a request meets.
    long = [one for one in enough if one.path[-1] == "first_byte" and _is_long(one)]
    found: list[Doubt] = [(one.path, _far(one), LONG_TIMEOUT.id) for one in long]
    judged = [one for one in heads if one.path[-1] == "first_byte"]
    few = sum(one.count < traffic.least.requests for one in judged)
    what = f"timeouts guarded fewer than {traffic.least.requests} requests"
    yield Seen.of(LONG_TIMEOUT, found, few, len(judged), what)
    short: list[Doubt] = [
        (one.path, _cuts(one), SHORT_TIMEOUT.id) for one in enough if _is_short(one)
    ]
    short += [
        (one.path, _is_full(one), SHORT_TIMEOUT.id)
        for one in whole
        if one.count >= traffic.least.requests and one.p99 > _FULL * one.seconds
    ]
    few = sum(one.count < traffic.least.requests for one in (*heads, *whole))
    yield Seen.of(SHORT_TIMEOUT, short, few, len(heads) + len(whole), what)


def _groups(traffic: Traffic, key: str) -> Iterator[_Group]:
    found: dict[Path, _Group] = {}
    targets = [(at, one) for at, route in enumerate(traffic.config.routes) for one in route.targets]
    for at, route in targets:
        path, seconds = _in_force(traffic, at, route, key)
        if seconds is not None:
            group = found.setdefault(path, _Group(path, seconds))
            _add(group, traffic.observed, (route.name, route.service))
    yield from found.values()


def _in_force(traffic: Traffic, at: int, route: RouteConfig, key: str) -> tuple[Path, float | None]:
    own = getattr(route.timeouts, key)
    if own is not None or not route.service:
        return ("routes", at, "timeouts", key), own
    service = traffic.config.services[route.service]
    return ("services", route.service, "timeouts", key), getattr(service.timeouts, key)


def _add(group: _Group, observed: Observed, key: tuple[str, str]) -> None:
    if key in group.keys:
        return  # routes of one name are counted together
    group.keys.add(key)
    group.buckets.update(observed.durations.get(key, ()))
    for asked, count in observed.requests.items():
        if (asked.route, asked.service) == key and asked.status == _GATEWAY_TIMEOUT:
            group.cut += count


def _is_long(group: _Group) -> bool:
    return group.seconds > _SHORTEST and group.seconds > _FAR * group.p99


def _far(group: _Group) -> str:
    return (
        f"is {group.seconds:g}s, and 99 of 100 of {group.count} requests were over within {group.p99:g}s:"
        f" a service that hangs is waited for {group.seconds / group.p99:.0f} times as long"
    )


def _is_short(group: _Group) -> bool:
    return group.cut >= _CUT * group.count and group.p99 >= group.seconds


def _cuts(group: _Group) -> str:
    share = 100 * group.cut / group.count
    return f"is {group.seconds:g}s, and {group.cut} of {group.count} requests ({share:.1f} %) ended with 504"


def _is_full(group: _Group) -> str:
    took = "more than the longest bucket" if group.p99 == inf else f"up to {group.p99:g}s"
    return f"is {group.seconds:g}s, and 99 of 100 of {group.count} requests take {took}"
