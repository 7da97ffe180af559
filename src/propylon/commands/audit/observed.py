"""Hold a configuration against what its gateway has counted: routes, limits, breakers, caches. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from propylon.commands.audit.catalogue import (
    BREAKER_WITHOUT_TRAFFIC,
    CACHE_WITHOUT_HITS,
    LIMIT_NEVER_REACHED,
    OBSERVED,
    OTHER_CONFIGURATION,
    ROUTE_NEVER_HIT,
)
from propylon.commands.audit.judging import Seen, Traffic, Unseen
from propylon.commands.audit.timeouts import timeout_findings
from propylon.compile.limits import labels_of_limits
from propylon.config.models.schema import BUILTIN_SERVICE, RouteConfig
from propylon.config.reading.problems import Doubt, Path
from propylon.config.reading.rules import Rule

__all__ = ["not_observed", "observed_findings"]

_ENOUGH = 10  # times the least requests, before a limit that refuses nothing says anything
_BURST = 4  # traffic comes in bursts: so many times the average may fall into one window
_HITS = 0.01
_WEBSOCKET = "WEBSOCKET"
_FROM_CACHE = ("hit", "stale", "revalidated", "coalesced")


def observed_findings(traffic: Traffic) -> Iterator[Seen]:
    """Yield what each rule about traffic finds, and what it cannot judge."""
    yield from timeout_findings(traffic)
    yield _never_hit(traffic)
    yield _never_reached(traffic)
    yield _cannot_open(traffic)
    yield _never_from_cache(traffic)
    yield _unknown_routes(traffic)


def not_observed(why: str) -> Seen:
    """Return that no rule about traffic could be judged."""
    return Seen(unseen=tuple(Unseen(rule.id, why) for rule in OBSERVED))


def _too_young(traffic: Traffic, rule: Rule) -> Seen | None:
    """Return that there is too little to say that something did not happen; None where there is enough."""
    least = traffic.least
    if traffic.total < least.requests:
        return Seen(unseen=(Unseen(rule.id, f"{traffic.total} of {least.requests} requests"),))
    if why := traffic.youth:
        return Seen(unseen=(Unseen(rule.id, why),))
    return None


def _never_hit(traffic: Traffic) -> Seen:
    if (unseen := _too_young(traffic, ROUTE_NEVER_HIT)) is not None:
        return unseen
    methods: dict[tuple[str, str], set[str]] = {}
    for asked, count in traffic.observed.requests.items():
        if count:
            methods.setdefault((asked.route, asked.service), set()).add(asked.method)
    found: list[Doubt] = []
    for at, route in enumerate(traffic.config.routes):
        keys = [(route.name, name) for name in route.counted]
        seen = set[str]().union(*(methods.get(key, ()) for key in keys))
        if not _is_hit(route, seen) and not any(traffic.observed.open[key] for key in keys):
            msg = f'"{route.name}" had none of {traffic.total} requests'
            found.append((("routes", at), msg, ROUTE_NEVER_HIT.id))
    return Seen(tuple(found))


def _is_hit(route: RouteConfig, seen: set[str]) -> bool:
    # A WebSocket is counted as the GET that it begins with, or as CONNECT.
    if not route.methods or _WEBSOCKET in route.methods:
        return bool(seen)
    return bool(seen.intersection(route.methods))


def _never_reached(traffic: Traffic) -> Seen:
    least = _ENOUGH * traffic.least.requests
    limits = list(_limits(traffic))
    found: list[Doubt] = []
    few = 0
    for path, label in limits:
        decisions = traffic.observed.limits.get(label, Counter())
        if decisions["allowed"] + decisions["refused"] + decisions["shadow"] < least:
            few += 1
        elif not decisions["refused"] and not decisions["shadow"]:
            msg = f"has allowed {decisions['allowed']} requests and refused none"
            found.append((path, msg, LIMIT_NEVER_REACHED.id))
    what = f"limits made fewer than {least} decisions"
    return Seen.of(LIMIT_NEVER_REACHED, found, few, len(limits), what)


def _limits(traffic: Traffic) -> Iterator[tuple[Path, str]]:
    """Yield each limit of the file once, with the label that it has in the metrics."""
    seen: set[str] = set()
    for path, label in labels_of_limits(traffic.config):
        if label not in seen:
            seen.add(label)
            yield path, label


def _cannot_open(traffic: Traffic) -> Seen:
    if why := traffic.youth:
        return Seen(unseen=(Unseen(BREAKER_WITHOUT_TRAFFIC.id, why),))
    age = max(1.0, traffic.age)
    found: list[Doubt] = []
    none = 0
    guarded = {name for route in traffic.config.routes if route.circuit for name in route.services}
    for name in sorted(guarded):
        circuit = traffic.config.services[name].circuit
        requests = traffic.of_service(name)
        none += not requests
        # Counted since the start, which was before the reload: the true average is lower still.
        within = requests / age * circuit.failure_window
        needed = max(circuit.failure_threshold, circuit.min_throughput)
        if requests and within * _BURST < needed:
            msg = f"needs {needed} requests within {circuit.failure_window:g}s, and the service gets {within:.2g} on average"
            found.append((("services", name, "circuit"), msg, BREAKER_WITHOUT_TRAFFIC.id))
    what = "services had no request"
    return Seen.of(BREAKER_WITHOUT_TRAFFIC, found, none, len(guarded), what)


def _never_from_cache(traffic: Traffic) -> Seen:
    found: list[Doubt] = []
    few = cached = 0
    for at, route in enumerate(traffic.config.routes):
        if not route.cache:
            continue
        cached += 1
        results = traffic.observed.caches.get(route.name, Counter())
        asked = sum(results[one] for one in (*_FROM_CACHE, "miss"))
        hits = sum(results[one] for one in _FROM_CACHE)
        if asked < traffic.least.requests:
            few += 1
        elif hits < _HITS * asked:
            msg = f"has answered {hits} of {asked} requests"
            found.append((("routes", at, "cache"), msg, CACHE_WITHOUT_HITS.id))
    what = f"caches were asked fewer than {traffic.least.requests} times"
    return Seen.of(CACHE_WITHOUT_HITS, found, few, cached, what)


def _unknown_routes(traffic: Traffic) -> Seen:
    known = {(route.name, name) for route in traffic.config.routes for name in route.counted}
    others = sorted(
        {
            asked.route
            for asked, count in traffic.observed.requests.items()
            if count and asked.route and asked.service != BUILTIN_SERVICE
            if (asked.route, asked.service) not in known
        }
    )
    if not others:
        return Seen()
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    msg = f"the gateway has counted requests of routes that are not here: {shown}"
    return Seen(((("routes",), msg, OTHER_CONFIGURATION.id),))
