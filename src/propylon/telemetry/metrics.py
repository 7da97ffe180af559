"""Count exchanges, for Prometheus.

Counting is one dictionary look-up and a few additions; prometheus-client's own counters take a lock
for each. Its registry asks for the sums only when it is scraped. Labels come from the configuration
and from llhttp's list of methods: what a client sends cannot create a series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Table
from propylon.proxy.route import Route

__all__ = ["Metrics", "Sums"]

# Seconds. A gateway adds well under a millisecond; the services behind it take anything.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LABELS = ("route", "service", "method", "status")
# A count for each bucket and one above them, the seconds, and the bytes of bodies in and out.
_WIDTH = len(_BUCKETS) + 4
_NOWHERE = ("", "")
_Place = tuple[str, str]
_Key = tuple[Route | None, str, int]  # a route of the table in force, a method, a status


class Sums(Protocol):
    """Rows of numbers that add up over the workers, each under its labels: the port that a store fills."""

    def row(self, labels: tuple[str, ...], width: int) -> MutableSequence[float]:
        """Return the row of these labels, the same one each time. The caller adds to its numbers in place."""

    def rows(self) -> Iterable[tuple[tuple[str, ...], Sequence[float]]]:
        """Return all rows with their labels."""


class Metrics(Collector):
    """The sink that counts, and what Prometheus reads."""

    def __init__(self, sums: Sums) -> None:
        """Count in `sums`."""
        self._sums = sums
        # Rows that were looked up already. Several routes may bear one name (one for each host), and a
        # reload makes new ones: they have one row.
        self._rows: dict[_Key, MutableSequence[float]] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def count_in(self, sums: Sums) -> None:
        """Count in other sums from now on."""
        self._sums = sums
        self._rows.clear()

    def __call__(self, exchange: Exchange) -> None:
        """Count the exchange."""
        request = exchange.request
        key = (exchange.route, "" if request is None else request.method, exchange.status)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = self._row(*key)
        seconds = exchange.ended - exchange.began
        row[bisect_left(_BUCKETS, seconds)] += 1
        row[-3] += seconds
        downstream = exchange.downstream
        row[-1] += downstream.bytes_out
        body = downstream.body
        if body is not None:
            row[-2] += body.received

    def _row(self, route: Route | None, method: str, status: int) -> MutableSequence[float]:
        place = _NOWHERE if route is None else (route.name, route.service.name)
        return self._sums.row((*place, method, str(status)), _WIDTH)

    def settle(self, table: Table) -> None:
        """Let go of routes that are not in the table; what was counted for them stays in the sums."""
        present = {None, *table.routes}
        self._rows = {key: row for key, row in self._rows.items() if key[0] in present}

    def collect(self) -> Iterable[Metric]:
        """Return the sums."""
        requests = CounterMetricFamily("propylon_requests", "Exchanges that ended.", labels=_LABELS)
        places: dict[_Place, list[float]] = {}
        for (route, service, method, status), row in self._sums.rows():
            requests.add_metric((route, service, method, status), sum(row[:-3]))
            total = places.setdefault((route, service), [0.0] * _WIDTH)
            places[route, service] = [left + right for left, right in zip(total, row, strict=True)]
        yield requests
        yield from _per_place(places)

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)


def _per_place(places: Mapping[_Place, list[float]]) -> Iterable[Metric]:
    names = ("route", "service")
    received = CounterMetricFamily(
        "propylon_request_body_bytes", "Of request bodies.", labels=names
    )
    sent = CounterMetricFamily("propylon_response_body_bytes", "Of answers' bodies.", labels=names)
    durations = HistogramMetricFamily(
        "propylon_request_duration_seconds",
        "From the head of the request to the end of the answer.",
        labels=names,
    )
    for place, sums in places.items():
        received.add_metric(place, sums[-2])
        sent.add_metric(place, sums[-1])
        durations.add_metric(place, _cumulative(sums[:-3]), sums[-3])
    yield from (received, sent, durations)


def _cumulative(counts: list[float]) -> list[tuple[str, float]]:
    total = 0.0
    buckets = []
    for bound, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=False):
        total += count
        buckets.append((bound, total))
    return buckets
