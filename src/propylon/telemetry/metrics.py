"""Count exchanges for Prometheus.

Counting an exchange is one look-up in a dict and a few additions. prometheus-client's own counters take a lock for
each increment; here its registry asks for the sums only when it is scraped. Labels come from the configuration and
from llhttp's list of methods, so that no client can create time series with made-up paths or methods.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Table
from propylon.proxy.route import Route

__all__ = ["Metrics"]

# Seconds. The gateway itself adds less than a millisecond, so the buckets start there; a slow report may take 30 s.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LABELS = ("route", "service", "method", "status")
_NO_ROUTE = ("", "")
_RouteLabels = tuple[str, str]
# The route of a key: an object of the table in force, or name and service of a route that a reload removed.
_Key = tuple[Route | _RouteLabels | None, str, int]


class Metrics(Collector):
    """The observer that counts exchanges, and the collector that Prometheus reads."""

    def __init__(self) -> None:
        """Start with all counts at zero."""
        # For each route, method and status: a count for each bucket, one for slower exchanges, the sum of seconds,
        # and the bytes of request and response bodies.
        self._sums: dict[_Key, list[float]] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def __call__(self, exchange: Exchange) -> None:
        """Count an exchange that has ended."""
        request = exchange.request
        key = (exchange.route, "" if request is None else request.method, exchange.status)
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0.0] * (len(_BUCKETS) + 4)
        seconds = exchange.ended - exchange.began
        sums[bisect_left(_BUCKETS, seconds)] += 1
        sums[-3] += seconds
        downstream = exchange.downstream
        sums[-1] += downstream.bytes_out
        body = downstream.body
        if body is not None:
            sums[-2] += body.received

    def settle(self, *tables: Table) -> None:
        """Release the routes that a reload removed; their counts go on under their names.

        A counter that disappears would read as a reset.
        """
        present = {route for table in tables for route in table.routes}
        for key, sums in list(self._sums.items()):
            route, method, status = key
            if isinstance(route, Route) and route not in present:
                del self._sums[key]
                self._add((_labels_of(route), method, status), sums)

    def _add(self, key: _Key, sums: list[float]) -> None:
        known = self._sums.get(key)
        if known is not None:
            sums = [left + right for left, right in zip(known, sums, strict=True)]
        self._sums[key] = sums

    def collect(self) -> Iterable[Metric]:
        """Return the metrics, summed by labels."""
        requests = CounterMetricFamily("propylon_requests", "Exchanges that ended.", labels=_LABELS)
        counts: dict[tuple[str, str, str, str], float] = {}
        by_route: dict[tuple[str, str], list[float]] = {}
        # Routes may share a name (one for each host), and each reload makes new Route objects.
        for (route, method, status), sums in list(self._sums.items()):
            route_labels = _labels_of(route)
            labels = (*route_labels, method, str(status))
            counts[labels] = counts.get(labels, 0) + sum(sums[:-3])
            total = by_route.setdefault(route_labels, [0.0] * len(sums))
            by_route[route_labels] = [left + right for left, right in zip(total, sums, strict=True)]
        for labels, count in counts.items():
            requests.add_metric(labels, count)
        yield requests
        yield from _per_route(by_route)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _labels_of(route: Route | _RouteLabels | None) -> _RouteLabels:
    if isinstance(route, Route):
        return (route.name, route.service.name)
    return route or _NO_ROUTE


def _per_route(by_route: Mapping[tuple[str, str], list[float]]) -> Iterable[Metric]:
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
