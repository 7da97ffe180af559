"""Count exchanges for Prometheus.

Counting an exchange is one look-up in a dict and a few additions. prometheus-client's own counters take a lock for
each increment; here its registry asks for the sums only when it is scraped. Labels come from the configuration and
from llhttp's list of methods, so that no client can create time series with made-up paths or methods.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from propylon.errors import LocalFault
from propylon.proxy.cache.status import COUNTED
from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Table
from propylon.proxy.route import Route

__all__ = ["Metrics", "Row", "Sums"]

# Seconds. The gateway itself adds less than a millisecond, so the buckets start there; a slow report may take 30 s.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LABELS = ("route", "service", "method", "status")
# A count for each bucket and one for slower exchanges, the seconds, and the bytes of request and response bodies.
_WIDTH = len(_BUCKETS) + 4
_NO_ROUTE = ("", "")
# The first label of rows that count exchanges by what the gateway lacked; those of exchanges have four labels.
_FAULT = "local_fault"
# Of a limit, whose row has its id as the only label. shadow: it would have refused the request, if it were enforced.
_DECISIONS = ("allowed", "refused", "shadow")
_OPEN_SOCKETS = "open sockets"  # the first label of rows with the number of a route's sockets
_CACHE = "cache"  # the first label of rows that count what the cache of a route did
_RouteLabels = tuple[str, str]
_Key = tuple[Route | None, str, int]  # a route of the table in force, a method, a status


class Row(Protocol):
    """Numbers that are added to in place."""

    def __getitem__(self, at: int, /) -> float:
        """Return one of them."""

    def __setitem__(self, at: int, value: float, /) -> None:
        """Set one of them."""


class Sums(Protocol):
    """Rows of numbers that add up over the workers, each under its labels: the port that a store fills."""

    def row(self, labels: tuple[str, ...], width: int) -> Row:
        """Return the row of these labels, the same one each time. The caller adds to its numbers in place."""

    def rows(self) -> Iterable[tuple[tuple[str, ...], Sequence[float]]]:
        """Return all rows with their labels."""


class Metrics(Collector):
    """The observer that counts exchanges, and the collector that Prometheus reads."""

    def __init__(self, sums: Sums) -> None:
        """Count in `sums`."""
        self._sums = sums
        # Rows that were looked up already. Routes may share a name (one for each host), and each reload makes new
        # Route objects: they share a row.
        self._rows: dict[_Key, Row] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def count_in(self, sums: Sums) -> None:
        """Count in other sums from now on."""
        self._sums = sums
        self._rows.clear()

    def __call__(self, exchange: Exchange) -> None:
        """Count an exchange that has ended."""
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
        if exchange.error is not None and isinstance(exchange.error, LocalFault):
            self._sums.row((_FAULT, exchange.error.reason), 1)[0] += 1

    def count_socket(self, route: Route, change: int) -> None:
        """Count a socket of a route that was opened (1) or has ended (-1)."""
        self._sums.row((_OPEN_SOCKETS, route.name, route.service.name), 1)[0] += change

    def _row(self, route: Route | None, method: str, status: int) -> Row:
        labels = _NO_ROUTE if route is None else (route.name, route.service.name)
        return self._sums.row((*labels, method, str(status)), _WIDTH)

    def limit(self, limit: str) -> Row:
        """Return how many requests a limit allowed, refused, and would have refused: the same row each time."""
        return self._sums.row((limit,), len(_DECISIONS))

    def cache(self, route: str) -> Row:
        """Return what the cache of a route did, as `COUNTED` has it: the same row each time."""
        return self._sums.row((_CACHE, route), len(COUNTED))

    def settle(self, *tables: Table) -> None:
        """Release the routes that a reload removed; their counts go on under their names.

        A counter that disappears would read as a reset.
        """
        present = {None, *(route for table in tables for route in table.routes)}
        self._rows = {key: row for key, row in self._rows.items() if key[0] in present}

    def collect(self) -> Iterable[Metric]:
        """Return the metrics, summed by labels."""
        requests = CounterMetricFamily("propylon_requests", "Exchanges that ended.", labels=_LABELS)
        faults = CounterMetricFamily(
            "propylon_local_faults",
            "Exchanges that failed because the gateway itself lacked descriptors, ports or buffers.",
            labels=("fault",),
        )
        by_route: dict[_RouteLabels, list[float]] = {}
        limits = CounterMetricFamily(
            "propylon_limit_decisions", "Decisions of rate limits.", labels=("limit", "decision")
        )
        sockets = GaugeMetricFamily(
            "propylon_open_sockets", "Open WebSockets and other tunnels.", labels=_LABELS[:2]
        )
        caches = CounterMetricFamily(
            "propylon_cache", "What the caches of routes did.", labels=("route", "result")
        )
        for labels, row in self._sums.rows():
            if labels[0] == _CACHE and len(labels) < len(_LABELS):
                for result, count in zip(COUNTED, row, strict=True):
                    caches.add_metric((labels[1], result), count)
                continue
            if labels[0] == _OPEN_SOCKETS and len(labels) < len(_LABELS):
                sockets.add_metric(labels[1:], row[0])
                continue
            if len(labels) == 1:
                for decision, count in zip(_DECISIONS, row, strict=True):
                    limits.add_metric((*labels, decision), count)
                continue
            if labels[0] == _FAULT and len(labels) < len(_LABELS):
                faults.add_metric(labels[1:], row[0])
                continue
            route, service, method, status = labels
            requests.add_metric((route, service, method, status), sum(row[:-3]))
            total = by_route.setdefault((route, service), [0.0] * _WIDTH)
            by_route[route, service] = [
                left + right for left, right in zip(total, row, strict=True)
            ]
        yield requests
        yield faults
        yield limits
        yield caches
        yield from _per_route(by_route)
        yield sockets

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _per_route(by_route: Mapping[_RouteLabels, list[float]]) -> Iterable[Metric]:
    names = ("route", "service")
    received = CounterMetricFamily(
        "propylon_request_body_bytes", "Bytes of request bodies.", labels=names
    )
    sent = CounterMetricFamily(
        "propylon_response_body_bytes", "Bytes of response bodies.", labels=names
    )
    durations = HistogramMetricFamily(
        "propylon_request_duration_seconds",
        "From the head of the request to the end of the answer.",
        labels=names,
    )
    for route_labels, sums in by_route.items():
        received.add_metric(route_labels, sums[-2])
        sent.add_metric(route_labels, sums[-1])
        durations.add_metric(route_labels, _cumulative(sums[:-3]), sums[-3])
    yield from (received, sent, durations)


def _cumulative(counts: list[float]) -> list[tuple[str, float]]:
    total = 0.0
    buckets = []
    for bound, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=False):
        total += count
        buckets.append((bound, total))
    return buckets
