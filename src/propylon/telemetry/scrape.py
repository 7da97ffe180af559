"""Turn rows of numbers into what Prometheus reads, a few series at a time.

Fact. The library needs 7 microseconds for a series: 70 ms for ten thousand, in which no request would go on. So each piece of a
family is told to it as a family of its own, and the lines about the family are taken off all but the first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from propylon.proxy.authenticate.outcomes import OUTCOMES
from propylon.proxy.cache.status import COUNTED
from propylon.proxy.check import ANSWER_RESULTS, RESULTS
from propylon.proxy.forward_auth import RESULTS as ASKED
from propylon.telemetry.exemplars import EXEMPLARS, Traces
from propylon.telemetry.families import (
    ANSWER_CHECKS,
    CACHE,
    DURATION,
    FAMILIES,
    FORWARD_AUTH,
    LIMIT_DECISIONS,
    RECEIVED,
    REQUEST_CHECKS,
    REQUESTS,
    SENT,
    TOKEN_VERIFICATIONS,
    Family,
    Kind,
)

__all__ = ["DECISIONS", "EXCHANGES", "Labels", "Samples", "gathered", "written"]

EXCHANGES = "exchanges"
"""With what the key of an exchange's row begins: it counts for several families."""
DECISIONS = ("allowed", "refused", "shadow")
Labels = tuple[str, ...]
Samples = dict[Labels, Sequence[float]]  # of one family, by the values of its labels
# Rows that are read, and series that are written, before the loop gets a turn: half a millisecond each.
_ROWS = 16
_SERIES = 64
# Families of which a row has a number for each value of the last label.
_SPREAD = {
    LIMIT_DECISIONS.name: DECISIONS,
    CACHE.name: COUNTED,
    REQUEST_CHECKS.name: RESULTS,
    FORWARD_AUTH.name: ASKED,
    TOKEN_VERIFICATIONS.name: OUTCOMES,
    ANSWER_CHECKS.name: ANSWER_RESULTS,
}


class _Only(Collector):
    """Some metrics, as the library asks for them."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._metrics


def gathered(
    rows: Iterable[tuple[Labels, Sequence[float]]],
) -> Generator[None, None, tuple[dict[str, Samples], Traces]]:
    """Return the samples of each family, and the traces of requests; rows of the same labels are added up."""
    total: dict[Labels, Sequence[float]] = {}
    for at, (labels, numbers) in enumerate(rows):
        if at % _ROWS == 0:
            yield
        known = total.get(labels)
        total[labels] = (
            # A copy: a row goes on counting while the others are read.
            [*numbers]
            if known is None or len(known) != len(numbers)
            else [one + other for one, other in zip(known, numbers, strict=True)]
        )
    found: dict[str, Samples] = {family.name: {} for family in FAMILIES}
    traces = Traces()
    for at, (labels, numbers) in enumerate(total.items()):
        if at % _ROWS == 0:
            yield
        _add(found, traces, labels, numbers)
    return found, traces


def written(
    found: dict[str, Samples],
    traces: Traces,
    without: frozenset[str],
    encode: Callable[[Collector], bytes],
) -> Generator[None, None, bytes]:
    """Return all families as text, without these labels. `encode` is the library's, of either format."""
    end = encode(_Only())
    said = []
    for family in FAMILIES:
        least, samples = yield from _less(family, found[family.name], without)
        beside = traces if family is DURATION and samples is found[family.name] else None
        about = encode(_Only(_metric(least, {}))).removesuffix(end)
        said.append(about)
        rest = iter(samples.items())
        size = max(1, _SERIES // (len(family.buckets) + 3))  # a histogram's row is as many series
        while part := dict(islice(rest, size)):
            piece = encode(_Only(_metric(least, part, beside)))
            said.append(piece.removeprefix(about).removesuffix(end))
            yield
    return b"".join((*said, end))


def _add(
    found: dict[str, Samples], traces: Traces, labels: Labels, numbers: Sequence[float]
) -> None:
    if labels[0] == EXCHANGES:
        _add_exchanges(found, labels[1:], numbers)
    elif labels[0] == EXEMPLARS:
        traces.add(labels[1:], numbers)
    elif labels[0] in _SPREAD:
        for decision, count in zip(_SPREAD[labels[0]], numbers, strict=True):
            found[labels[0]][*labels[1:], decision] = (count,)
    elif labels[0] in found:
        found[labels[0]][labels[1:]] = numbers


def _add_exchanges(found: dict[str, Samples], labels: Labels, numbers: Sequence[float]) -> None:
    """Add a row of exchanges to the families that it counts for."""
    route = labels[:2]
    *counts, seconds, received, sent = numbers
    found[REQUESTS.name][labels] = (sum(counts),)
    for family, part in (
        (DURATION, (*counts, seconds)),
        (RECEIVED, (received,)),
        (SENT, (sent,)),
    ):
        before = found[family.name].get(route, (0.0,) * len(part))
        found[family.name][route] = [one + other for one, other in zip(before, part, strict=True)]


def _less(
    family: Family, samples: Samples, without: frozenset[str]
) -> Generator[None, None, tuple[Family, Samples]]:
    """Return a family without these labels: what they told apart is added up, or of what is no sum the largest is told."""
    kept = [at for at, label in enumerate(family.labels) if label not in without]
    if len(kept) == len(family.labels):
        return family, samples
    merged: Samples = {}
    join = sum if family.summed else max
    for at, (labels, numbers) in enumerate(samples.items()):
        if at % _ROWS == 0:
            yield
        fewer = tuple(labels[at] for at in kept)
        before = merged.get(fewer)
        merged[fewer] = (
            numbers
            if before is None
            else [join(pair) for pair in zip(before, numbers, strict=True)]
        )
    return replace(family, labels=tuple(family.labels[at] for at in kept)), merged


def _metric(family: Family, samples: Samples, traces: Traces | None = None) -> Metric:
    if family.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.about, labels=family.labels)
        for labels, numbers in samples.items():
            counts = [*_cumulative(family, numbers)]
            # With their traces, where there are some: three parts then, which the library's types know only in part.
            buckets: Any = counts if traces is None else traces.beside(labels, counts)
            histogram.add_metric(labels, buckets, numbers[-1])
        return histogram
    metric: CounterMetricFamily | GaugeMetricFamily
    if family.kind is Kind.COUNTER:
        metric = CounterMetricFamily(family.name, family.about, labels=family.labels)
    else:
        metric = GaugeMetricFamily(family.name, family.about, labels=family.labels)
    for labels, numbers in samples.items():
        metric.add_metric(labels, numbers[0])
    return metric


def _cumulative(family: Family, numbers: Sequence[float]) -> Iterator[tuple[str, float]]:
    total = 0.0
    bounds = (*map(str, family.buckets), "+Inf")
    for bound, count in zip(bounds, numbers, strict=False):
        total += count
        yield bound, total
