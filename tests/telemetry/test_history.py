"""An hour of each route, in buckets: what goes in comes out, whoever keeps it, and it takes a bounded amount of memory."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.loop.slices import at_once
from propylon.stores.shelf import MemoryShelf
from propylon.telemetry import history
from propylon.telemetry.families import DURATION
from propylon.telemetry.history import (
    BUCKET,
    BUCKETS,
    FAILED,
    REFUSED,
    SIZE,
    Recorder,
    checkpoint,
    quantile,
    series,
    total_series,
)
from tests.support.examples import examples

START = 1_800_000_000.0
KEYS = [("orders", "shop"), ("<script>", "shop"), ("", "")]
Numbers = dict[tuple[str, str], list[float]]


def kept(shelf: MemoryShelf, recorder: Recorder, totals: Numbers, now: float) -> None:
    """Let the keeper do what it does every ten seconds."""
    pieces: Mapping[str, Callable[[], bytes]] = at_once(recorder.record(totals, now))
    for name, make in pieces.items():
        shelf.put(name, make())
    recorder.tidy(now)


def counted(**places: int) -> list[float]:
    """A row with requests in some buckets of the durations: `d3=2` are two in the fourth."""
    row = [0.0] * SIZE
    for name, number in places.items():
        row[{"refused": REFUSED, "failed": FAILED}.get(name) or int(name[1:])] += number
    return row


def added(totals: Numbers, more: Numbers) -> Numbers:
    """What the workers have counted by now."""
    found = {key: list(row) for key, row in totals.items()}
    for key, row in more.items():
        old = found.get(key, [0.0] * SIZE)
        found[key] = [a + b for a, b in zip(old, row, strict=True)]
    return found


BUCKETS_OF_WORK = st.lists(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.builds(
            lambda at, number, failed: counted(**{f"d{at}": number, "failed": min(failed, number)}),
            st.integers(0, len(DURATION.buckets)),
            st.integers(1, 10**6),
            st.integers(0, 3),
        ),
    ),
    min_size=1,
    max_size=12,
)


@given(BUCKETS_OF_WORK, st.integers(0, 11))
@examples(60)
def test_what_goes_in_comes_out(work: list[Numbers], dies: int) -> None:
    """Each bucket has what was counted in it, of each route and of all; a new keeper goes on, with a gap of one bucket."""
    shelf = MemoryShelf()
    recorder = Recorder(shelf)
    totals: Numbers = {}
    for at, more in enumerate(work):
        if at == dies and at:
            recorder = Recorder(shelf)
        totals = added(totals, more)
        kept(shelf, recorder, totals, START + (at + 1) * BUCKET)
    now = START + len(work) * BUCKET
    lost = {dies} if dies and any(work[:dies]) else set()
    for route, service in KEYS[:2]:
        found = {int(point[0]): point for point in series(shelf, now, route=route, service=service)}
        for at, more in enumerate(work):
            point = found.get(int(START) + at * BUCKET)
            if at in lost or (route, service) not in more:
                assert point is None
            else:
                row = more[route, service]
                assert point is not None
                assert point[1] == sum(row[: len(DURATION.buckets) + 1])
                assert point[3] == row[FAILED]
    whole = {int(point[0]): point[1] for point in total_series(shelf, now)}
    for at, more in enumerate(work):
        if at not in lost:
            number = sum(sum(row[:REFUSED]) for row in more.values())
            assert whole[int(START) + at * BUCKET] == number


def test_a_service_is_the_sum_of_its_routes() -> None:
    """Its percentiles come from all of their requests."""
    shelf = MemoryShelf()
    totals = {("a", "shop"): counted(d2=3), ("b", "shop"): counted(d8=1), ("c", "x"): counted(d1=9)}
    kept(shelf, Recorder(shelf), totals, START)
    ((_, requests, _, _, p50, _, p99),) = series(shelf, START, service="shop")
    assert requests == 4
    assert p50 is not None
    assert p50 < 0.005
    assert p99 is not None
    assert 0.1 < p99 <= 0.5


def test_the_last_hour_is_what_was_counted_since_the_oldest_checkpoint() -> None:
    """An hour later the first requests are not in it any more, and their buckets are gone."""
    shelf = MemoryShelf()
    recorder = Recorder(shelf)
    totals: Numbers = {KEYS[0]: counted(d0=100)}
    for at in range(BUCKETS + 60):
        kept(shelf, recorder, totals, START + at * BUCKET)
        totals = added(totals, {KEYS[0]: counted(d1=1)})
    now = START + (BUCKETS + 59) * BUCKET
    since, before = checkpoint(shelf, now)
    assert now - since <= 3600 + 300
    assert before[KEYS[0]][0] == 100
    assert len(series(shelf, now, route="orders")) <= BUCKETS
    assert len(total_series(shelf, now)) <= BUCKETS
    assert len(shelf.sizes()) <= BUCKETS + BUCKETS // 30 + 6


def test_what_is_too_much_goes_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shelf has a largest size, whatever the number of routes."""
    monkeypatch.setattr(history, "MOST", 20_000)
    shelf = MemoryShelf()
    recorder = Recorder(shelf)
    totals: Numbers = {}
    more = {(f"route-{n}", "shop"): counted(**{f"d{n % 9}": 1 + n % 7}) for n in range(300)}
    for at in range(40):
        totals = added(totals, more)
        kept(shelf, recorder, totals, START + at * BUCKET)
    buckets = sum(size for name, size in shelf.sizes().items() if name.startswith("history-"))
    assert 0 < buckets < 20_000
    points = series(shelf, START + 39 * BUCKET, route="route-5")
    assert points[-1][0] == int(START) + 38 * BUCKET
    assert len(points) < 40


@pytest.mark.parametrize(
    ("row", "share", "expected"),
    [
        (counted(), 0.5, None),
        (counted(d0=1), 0.5, 0.0005),
        (counted(d0=99, d13=1), 0.5, 0.001 * 50 / 99),
        (counted(d0=1, d14=99), 0.99, 30.0),
        (counted(d5=4), 1.0, 0.05),
    ],
)
def test_a_percentile_is_interpolated(row: Any, share: float, expected: float | None) -> None:
    """Within its bucket; beyond the last bound it is the last bound; without requests there is none."""
    found = quantile(row, share)
    assert found == (None if expected is None else pytest.approx(expected))
