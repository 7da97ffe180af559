"""The limit that a service is found to have: under overload, under little load, and when the service changes."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import Overloaded
from propylon.services.concurrency import Bounds, Concurrency
from tests.support.examples import examples

WIDE = Bounds(5, 1000)


@dataclass
class Simulated:
    """A service that works on `width` requests at once, each of them for about `takes` seconds; the others wait in a queue."""

    limit: Concurrency
    width: int
    takes: float
    now: float = 0.0
    chance: Random = field(default_factory=lambda: Random(1))
    answered: list[float] = field(default_factory=list)  # how long each took
    refused: int = 0
    limits: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._free = [self.now] * self.width
        self._busy: list[tuple[float, float]] = []

    def load(self, share: float, seconds: float) -> "Simulated":
        """Let requests come for so long, at a share of what the service could answer; forget those before."""
        rate, until = share * self.width / self.takes, self.now + seconds
        self.answered, self.refused = [], 0
        while self.now < until:
            self.now += self.chance.expovariate(rate)
            self._end(until=self.now)
            self._begin()
            self.limits.add(self.limit.limit)
        return self

    def _begin(self) -> None:
        try:
            self.limit.enter("orders")
        except Overloaded:
            self.refused += 1
            return
        start = max(self.now, heapq.heappop(self._free))
        end = start + self.takes * self.chance.uniform(0.8, 1.2)
        heapq.heappush(self._free, end)
        heapq.heappush(self._busy, (end, self.now))

    def _end(self, until: float) -> None:
        while self._busy and self._busy[0][0] <= until:
            end, began = heapq.heappop(self._busy)
            self.answered.append(end - began)
            self.limit.leave(began, end, sampled=True)

    @property
    def median(self) -> float:
        """How long an answer takes, in units of the work on it."""
        return sorted(self.answered)[len(self.answered) // 2] / self.takes


@examples(40)
@given(
    width=st.sampled_from([4, 10, 30]),
    takes=st.sampled_from([0.05, 0.1, 0.3]),
    share=st.sampled_from([1.5, 3.0, 6.0]),
    seed=st.integers(0, 1000),
)
def test_overload(width: int, takes: float, share: float, seed: int) -> None:
    """The service is busy all the time, and nobody waits for long; the rest is refused at once."""
    service = Simulated(Concurrency(WIDE), width, takes, chance=Random(seed))
    service.load(share, 3 + 100 * takes)
    began = service.now
    service.load(share, 40 * takes)
    could = (service.now - began) * width / takes
    assert len(service.answered) >= 0.85 * could
    assert service.median <= 4.5
    assert width <= 1.25 * max(service.limits)


@examples(40)
@given(
    width=st.sampled_from([10, 30, 100]),
    takes=st.sampled_from([0.05, 0.3]),
    share=st.sampled_from([0.1, 0.4, 0.7]),
    seed=st.integers(0, 1000),
)
def test_little_load(width: int, takes: float, share: float, seed: int) -> None:
    """After a short while nobody is refused, and the limit does not grow for nothing."""
    service = Simulated(Concurrency(WIDE), width, takes, chance=Random(seed))
    service.load(share, 3 + 30 * takes).load(share, 20 * takes)
    assert service.refused <= 15
    assert service.limit.limit <= max(20, 5 * width)


def test_overload_for_long_does_not_become_normal() -> None:
    """The unloaded time is measured again and again, so the limit does not drift (as Gradient2's does)."""
    service = Simulated(Concurrency(WIDE), 10, 0.05)
    early = service.load(3.0, 8.0).limit.limit
    service.load(3.0, 75.0)
    assert service.limit.limit <= 2 * early
    assert service.median <= 3.0


def test_a_service_that_becomes_slower_is_measured_anew() -> None:
    """Four times as slow without a queue: after one measurement, nobody is refused for that."""
    service = Simulated(Concurrency(WIDE), 40, 0.02)
    service.load(0.15, 5.0)
    service.takes *= 4
    service.load(0.6, 40.0).load(0.6, 5.0)
    assert service.refused == 0


@examples(60)
@given(
    st.integers(1, 30), st.integers(0, 200), st.lists(st.floats(0.0, 2.0), min_size=1, max_size=300)
)
def test_the_limit_stays_between_its_bounds(least: int, more: int, times: list[float]) -> None:
    """Whatever is measured; and no more requests are under way than it was when they began."""
    found = Concurrency(Bounds(least, least + more))
    now = 0.0
    for took in times:
        entered = 0
        while entered < 40:
            try:
                found.enter("orders")
            except Overloaded:
                break
            entered += 1
        assert least <= found.limit <= least + more
        now += max(took, 0.03)
        for _ in range(entered):
            found.leave(now - took, now, sampled=True)
        assert found.in_flight == 0


def test_a_refusal_says_when_to_come_again() -> None:
    """503 with a code of its own; the reason is for operators."""
    found = Concurrency(Bounds(1, 1))
    found.enter("orders")
    with pytest.raises(Overloaded) as caught:
        found.enter("orders")
    error = caught.value
    assert (error.status, error.code, error.unsent) == (503, "OVERLOADED", True)
    assert (error.details, error.headers) == ({"service": "orders"}, ((b"Retry-After", b"1"),))
    assert error.reason == "adaptive_concurrency: 1 in flight"
    found.leave(0.0, 1.0, sampled=False)
    found.enter("orders")


def fed(found: Concurrency, took: float, windows: Iterable[float], in_flight: int) -> Any:
    """Let windows end at these times, of answers that took so long."""
    for now in windows:
        begun = min(in_flight, found.limit)
        for _ in range(begun):
            found.enter("orders")
        for _ in range(begun):
            found.leave(now - took, now, sampled=True)
    return found


def test_what_is_known_is_kept_under_other_bounds() -> None:
    """A reload that changes the bounds does not begin anew."""
    before = fed(Concurrency(WIDE), 0.1, (float(at) for at in range(1, 60)), 18)
    assert before.limit > 30
    after = Concurrency(Bounds(5, 25))
    after.take_over(before)
    assert after.limit == 25
    wide = Concurrency(WIDE)
    wide.take_over(before)
    assert wide.limit == before.limit


def test_what_does_not_count_as_a_sample() -> None:
    """Errors that come fast would look like a fast service."""
    found = Concurrency(WIDE)
    for at in range(200):
        for _ in range(15):
            found.enter("orders")
        for _ in range(15):
            found.leave(float(at), at + 0.001, sampled=False)
    assert found.limit == 20
