"""Gather what all workers know now, as sections of entries: what a viewer gets first whole, and then what changes of it.

A section is a mapping from a key to an entry that JSON can hold. The totals of the routes are read in slices, at most as
often as their cost allows: a gateway with thousands of routes must not spend its time on being looked at.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Any

from propylon.assembly.census import CIRCUITS, INSTANCES, LIMITS
from propylon.assembly.watch.keeper import remembered
from propylon.loop.slices import in_slices
from propylon.proxy.limit.stage import Limit
from propylon.proxy.route import Route
from propylon.telemetry.history import SIZE, Shelf, Totals, checkpoint, figures, total_series
from propylon.telemetry.metrics import BUILTIN, Metrics
from propylon.telemetry.recent import merged

__all__ = ["WATCHED", "Section", "Sources", "State", "limits_in_use"]

Section = dict[str, Any]
Everywhere = Callable[[str], Awaitable[Sequence[Mapping[str, Any]]]]
"""Returns what all workers say on a subject."""

WATCHED = "watched"
"""The subject of the census on which workers tell how many requests their instances got, while somebody looks."""
_RATE_OVER = 10.0  # seconds over which the rate of requests is taken
# The totals are read again after this many times what it took to read them: a twentieth of a core at most.
_REST = 20.0
_SLICE = 64
_SEPARATOR = "\x00"


@dataclass(frozen=True, slots=True)
class Sources:
    """What the state is gathered from; each is asked when it is needed."""

    metrics: Metrics
    shelf: Shelf
    everywhere: Everywhere
    circuits: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]]
    limits: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]]
    routes: Callable[[], Iterable[Route]]
    figures: Callable[[], Mapping[str, Any]]
    trust: Callable[[], Awaitable[Mapping[str, Section]]]


class State:
    """What a worker shows of all workers."""

    def __init__(self, sources: Sources, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns seconds since 1970."""
        self._sources = sources
        self._clock = clock
        self._seen: deque[tuple[float, Totals]] = deque()
        self._since: tuple[float, Totals] = (clock(), {})
        self._since_read = 0.0
        self._due = 0.0
        self._routes: Section = {}
        self._map: Section = {}
        self._gauges: Mapping[str, float] = {}
        self._hour: list[float | int | None] = []

    async def sections(self) -> dict[str, Section]:
        """Return everything."""
        sources = self._sources
        now = self._clock()
        await self._read_totals(now)
        counted = await sources.everywhere(WATCHED)
        past = remembered(sources.shelf)
        seen = merged(past)
        reloads: Sequence[Mapping[str, Any]] = max(
            (one["reloads"] for one in past), key=len, default=[]
        )
        trust = await sources.trust()
        return {
            "gateway": {
                "all": {
                    **sources.figures(),
                    "skipped": seen["skipped"],
                    "since": self._since[0],
                    "gauges": dict(self._gauges),
                    "hour": self._hour,
                }
            },
            "services": self._services(
                await sources.everywhere(CIRCUITS),
                await sources.everywhere(INSTANCES),
                counted,
            ),
            "map": self._map,
            "routes": self._routes,
            "limits": dict(sources.limits(await sources.everywhere(LIMITS))),
            "callers": {
                _SEPARATOR.join((limit, caller)): [limit, caller, int(count), first, last]
                for limit, caller, count, first, last in seen["callers"]
            },
            "records": {fields["id"]: fields for fields in seen["records"]},
            "reloads": {f"{one['time']:.3f}": one for one in reloads},
            "history": {str(point[0]): point for point in total_series(sources.shelf, now)},
            **trust,
        }

    # Routes

    async def _read_totals(self, now: float) -> None:
        if now < self._due:
            return
        began = time.perf_counter()
        if now - self._since_read >= _RATE_OVER:
            self._since, self._since_read = checkpoint(self._sources.shelf, now), now
        totals, self._gauges = await in_slices(self._sources.metrics.totals_and_gauges())
        self._seen.append((now, totals))
        while len(self._seen) > 1 and now - self._seen[1][0] >= _RATE_OVER:
            self._seen.popleft()
        self._routes = await in_slices(self._rows(now, totals))
        routes = self._sources.routes()
        self._map = await in_slices(_map(routes))
        self._due = now + (time.perf_counter() - began) * _REST

    def _rows(self, now: float, totals: Totals) -> Generator[None, None, Section]:
        begun, before = self._seen[0]
        hour = self._since[1]
        whole = [0.0] * SIZE
        rows: Section = {}
        for at, (key, counts) in enumerate(totals.items()):
            if at % _SLICE == 0:
                yield
            old = hour.get(key)
            within = counts if old is None else [a - b for a, b in zip(counts, old, strict=True)]
            whole = [a + b for a, b in zip(whole, within, strict=True)]
            rates = _rates(counts, before.get(key), now - begun)
            rows[_SEPARATOR.join(key)] = [*rates, *_shown(within)]
        self._hour = _shown(whole)[3:]
        return rows

    # Services

    def _services(
        self,
        circuits: Sequence[Mapping[str, Any]],
        instances: Sequence[Mapping[str, Any]],
        counted: Sequence[Mapping[str, Any]],
    ) -> Section:
        breakers = self._sources.circuits(circuits)
        counts: dict[tuple[str, str], list[int]] = {}
        for part in counted:
            for service, instance, requests, failed in part["instances"]:
                known = counts.setdefault((service, instance), [0, 0])
                known[0] += requests
                known[1] += failed
        found: Section = {}
        for one in self._sources.metrics.services():
            if one.name != BUILTIN:
                found[one.name] = {"circuit": breakers.get(one.name), "instances": {}}
        for part in instances:
            service = found.get(part["service"])
            if service is not None:
                _add_instance(service["instances"], part, counts)
        return found


def _rates(
    counts: Sequence[float], before: Sequence[float] | None, seconds: float
) -> list[float | None]:
    """Return requests, 4xx and 5xx per second; None: not known yet."""
    if seconds <= 0:
        return [None, None, None]
    old = (0, 0, 0) if before is None else figures(before)[:3]
    return [round((a - b) / seconds, 2) for a, b in zip(figures(counts)[:3], old, strict=True)]


def _shown(counts: Sequence[float]) -> list[float | int | None]:
    """Return requests, 4xx, 5xx, and the percentiles in milliseconds."""
    requests, refused, failed, *shares = figures(counts)
    milliseconds = [None if share is None else round(share * 1000, 2) for share in shares]
    return [requests, refused, failed, *milliseconds]


def _add_instance(
    known: Section, part: Mapping[str, Any], counts: Mapping[tuple[str, str], Sequence[int]]
) -> None:
    """Join what workers know of an instance: the newest probe counts, and failures add up."""
    before = known.get(part["id"])
    requests, failed = counts.get((part["service"], part["id"]), (0, 0))
    entry = {**part, "requests": requests, "failed": failed}
    del entry["service"]
    if before is not None:
        if (before["last_check"] or 0.0) > (part["last_check"] or 0.0):
            entry.update(
                {key: before[key] for key in ("status", "since", "last_check", "latency_ms")}
            )
        entry["failures"] += before["failures"]
        ends = [one["ejected_until"] for one in (before, part) if one["ejected_until"] is not None]
        entry["ejected_until"] = max(ends, default=None)
        entry["drained"] = before["drained"] or part["drained"]
    known[part["id"]] = entry


def _map(routes: Iterable[Route]) -> Generator[None, None, Section]:
    """Return what each route matches: route and service, path, methods, host."""
    found: Section = {}
    for at, route in enumerate(routes):
        if at % _SLICE == 0:
            yield
        if route.service.name == BUILTIN:
            continue
        pattern = route.pattern
        path = "/" + "/".join(
            "{}" if one is None else one.decode("ascii") for one in pattern.segments
        )
        methods = sorted(pattern.methods or ())
        found.setdefault(
            _SEPARATOR.join((route.name, route.service.name)),
            [route.name, route.service.name, path, " ".join(methods), pattern.exact],
        )
    return found


def limits_in_use(
    limits: Iterable[tuple[str, Limit]], hit: Collection[str]
) -> Iterator[tuple[str, Limit]]:
    """Yield the limits among those that have refused something, or would have, in some worker: `hit`."""
    return ((route, limit) for route, limit in limits if limit.rule.id in hit)
