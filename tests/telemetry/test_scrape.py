"""A scrape in slices is what the library writes in one go, whatever is counted."""

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.exposition import choose_encoder

from propylon.stores.sums import LocalSums
from propylon.telemetry import scrape
from propylon.telemetry.exemplars import Exemplars, Traces
from propylon.telemetry.families import FAMILIES
from propylon.telemetry.metrics import Metrics
from tests.proxy.doubles import route, service

FORMATS = ("", "text/plain;version=1.0.0", "application/openmetrics-text; version=1.0.0")
LABELS = st.text(st.characters(codec="utf-8"), max_size=4)


def in_one_go(found: dict[str, scrape.Samples], traces: Traces, accept: str) -> bytes:
    """All families, told to the library at once."""
    told = [
        scrape._metric(family, found[family.name], traces if family is scrape.DURATION else None)
        for family in FAMILIES
    ]
    return choose_encoder(accept)[0](scrape._Only(*told))


def done(work: Generator[None, None, Any]) -> tuple[Any, int]:
    """What the work returns, and how often it pauses."""
    pauses = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value, pauses
        pauses += 1


@settings(max_examples=30)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(LABELS, LABELS, st.integers(100, 599)), max_size=15),
)
def test_slices_are_the_whole(accept: str, seen: list[tuple[str, str, int]]) -> None:
    """Byte by byte, in each format: label values of any script, exemplars, families without samples."""
    sums = LocalSums()
    exemplars = Exemplars(sums)
    for number, (name, of, status) in enumerate(seen):
        row = sums.row((scrape.EXCHANGES, name, of, "GET", str(status)), 18)
        row[number % 15] += 1
        exemplars.note(route(name, service(name=of)), number / 100, b"%032x" % number)
    (found, traces), _ = done(scrape.gathered(sums.each()))
    text, _ = done(scrape.written(found, traces, frozenset(), choose_encoder(accept)[0]))
    assert text == in_one_go(found, traces, accept)


@pytest.mark.parametrize("without", [frozenset[str](), frozenset({"status"})])
def test_ten_thousand_series_are_written_a_few_at_a_time(without: frozenset[str]) -> None:
    """The loop gets a turn after at most 64 series, and after 16 rows."""
    sums = LocalSums()
    metrics = Metrics(sums)
    metrics.without = without
    for number in range(500):
        for status in ("200", "404"):
            sums.row((scrape.EXCHANGES, f"/{number}", "orders", "GET", status), 18)[0] += 1
    (text, _), pauses = done(metrics.rendering())
    lines = text.count(b"\n")
    assert lines > 9_000
    assert pauses > lines / 64 + 2 * 1000 / 16
