"""Read what `/metrics` says: how often each route was asked, how long it took, what limits and caches did. Pure.

The text may be a saved file of anybody's: what does not fit is refused, and no name is trusted to be one of the file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from propylon.telemetry.families import (
    CACHE,
    CONFIG_SUCCESS,
    DURATION,
    LIMIT_DECISIONS,
    REQUESTS,
    SOCKETS,
)

__all__ = ["Asked", "NoMetrics", "Observed", "read"]

Key = tuple[str, str]
"""A route and a service, by their names."""


class NoMetrics(Exception):
    """The text is not what a gateway answers at /metrics; the message says why, for the operator."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests of one route that ended alike."""

    route: str
    service: str
    method: str
    status: str


@dataclass(slots=True)
class Observed:
    """What a gateway has counted since it started.

    - `requests`: how many ended how.
    - `durations`: of each route, how many took at most so many seconds.
    - `limits`, `caches`: how often which decision was made, or which result there was.
    - `open`: how many sockets of a route are open.
    - `configured`: when the configuration was put into force, in seconds since 1970; 0: unknown.
    """

    requests: Counter[Asked] = field(default_factory=Counter)
    durations: dict[Key, Counter[float]] = field(default_factory=lambda: defaultdict(Counter))
    limits: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    caches: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    open: Counter[Key] = field(default_factory=Counter)
    configured: float = 0.0

    @property
    def total(self) -> int:
        """All requests that led to a route."""
        return sum(count for asked, count in self.requests.items() if asked.route)


def read(text: str) -> Observed:
    """Return what the text of `/metrics` says. Raises NoMetrics."""
    observed = Observed()
    known = False
    try:
        for family, sample in _samples(text):
            known = known or family.startswith("propylon_")
            if taker := _TAKERS.get(family):
                taker(observed, sample)
    except (ValueError, KeyError, IndexError) as error:
        msg = "is no text of metrics, or a part of one"
        raise NoMetrics(msg) from error
    if not known:
        msg = "has none of the gateway's metrics"
        raise NoMetrics(msg)
    return observed


def _samples(text: str) -> Iterator[tuple[str, Sample]]:
    # Only OpenMetrics ends so, and has to.
    parse = openmetrics if text.rstrip().endswith("# EOF") else text_string_to_metric_families
    families: Iterable[Metric] = parse(text)
    for family in families:
        for sample in family.samples:
            if not 0 <= sample.value < inf:
                msg = f"{sample.name} is {sample.value}"
                raise ValueError(msg)
            yield family.name, sample


def _take_request(observed: Observed, sample: Sample) -> None:
    labels = sample.labels
    asked = Asked(labels["route"], labels["service"], labels["method"], labels["status"])
    observed.requests[asked] += int(sample.value)


def _take_duration(observed: Observed, sample: Sample) -> None:
    if sample.name.endswith("_bucket"):
        key = sample.labels["route"], sample.labels["service"]
        observed.durations[key][float(sample.labels["le"])] += int(sample.value)


def _take_limit(observed: Observed, sample: Sample) -> None:
    observed.limits[sample.labels["limit"]][sample.labels["decision"]] += int(sample.value)


def _take_cache(observed: Observed, sample: Sample) -> None:
    observed.caches[sample.labels["route"]][sample.labels["result"]] += int(sample.value)


def _take_open(observed: Observed, sample: Sample) -> None:
    observed.open[sample.labels["route"], sample.labels["service"]] += int(sample.value)


def _take_configured(observed: Observed, sample: Sample) -> None:
    observed.configured = max(observed.configured, sample.value)


_TAKERS: Mapping[str, Callable[[Observed, Sample], None]] = {
    REQUESTS.name: _take_request,
    DURATION.name: _take_duration,
    LIMIT_DECISIONS.name: _take_limit,
    CACHE.name: _take_cache,
    SOCKETS.name: _take_open,
    CONFIG_SUCCESS.name: _take_configured,
}
