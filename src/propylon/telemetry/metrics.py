"""Count exchanges, for Prometheus.

Counting is two dictionary look-ups and a few additions; prometheus-client's own counters take a lock
for each. Its registry asks for the sums only when it is scraped. Labels come from the configuration
and from llhttp's list of methods: what a client sends cannot create a series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from propylon.proxy.exchange import Exchange

__all__ = ["Metrics"]

# Seconds. A gateway adds well under a millisecond; the services behind it take anything.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LABELS = ("route", "service", "method", "status")
_NONE = ("", "")


class Metrics(Collector):
    """The sink that counts, and what Prometheus reads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Measure durations by `clock`, the one that exchanges began by."""
        self._clock = clock
        self._requests: dict[tuple[str, str, str, int], int] = {}
        # By route and service: a count for each bucket and one above them, then the sum.
        self._durations: dict[tuple[str, str], list[float]] = {}
        self._bytes: dict[tuple[str, str], list[int]] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def __call__(self, exchange: Exchange) -> None:
        """Count the exchange."""
        route = exchange.route
        request = exchange.request
        place = _NONE if route is None else (route.name, route.service.name)
        key = (*place, request.method if request is not None else "", exchange.status)
        self._requests[key] = self._requests.get(key, 0) + 1
        durations = self._durations.get(place)
        if durations is None:
            durations = self._durations[place] = [0.0] * (len(_BUCKETS) + 2)
            self._bytes[place] = [0, 0]
        seconds = self._clock() - exchange.began
        durations[bisect_left(_BUCKETS, seconds)] += 1
        durations[-1] += seconds
        sizes = self._bytes[place]
        body = exchange.downstream.body
        if body is not None:
            sizes[0] += body.received
        sizes[1] += exchange.downstream.bytes_out

    def collect(self) -> Iterable[Metric]:
        """Return the sums."""
        requests = CounterMetricFamily("propylon_requests", "Exchanges that ended.", labels=_LABELS)
        for (route, service, method, status), count in list(self._requests.items()):
            requests.add_metric((route, service, method, str(status)), count)
        yield requests
        yield from self._sizes()
        durations = HistogramMetricFamily(
            "propylon_request_duration_seconds",
            "From the head of the request to the end of the answer.",
            labels=("route", "service"),
        )
        for place, counts in list(self._durations.items()):
            durations.add_metric(place, _cumulative(counts), counts[-1])
        yield durations

    def _sizes(self) -> Iterable[Metric]:
        received = CounterMetricFamily(
            "propylon_request_body_bytes", "Of request bodies.", labels=("route", "service")
        )
        sent = CounterMetricFamily(
            "propylon_response_body_bytes", "Of answers' bodies.", labels=("route", "service")
        )
        for place, (bytes_in, bytes_out) in list(self._bytes.items()):
            received.add_metric(place, bytes_in)
            sent.add_metric(place, bytes_out)
        yield received
        yield sent

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)


def _cumulative(counts: list[float]) -> list[tuple[str, float]]:
    total = 0.0
    buckets = []
    for bound, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=False):
        total += count
        buckets.append((bound, total))
    return buckets
