"""How often who may: at once, in the long run; and how much is remembered of it."""

import math
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.stores.buckets import Buckets

BEGAN = 12_345.678


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        """The time."""
        return self.now


def buckets(rate: float = 10.0, burst: int = 20, **options: int) -> tuple[Buckets, Clock]:
    """Buckets and their clock."""
    clock = Clock()
    return Buckets(rate, burst, clock, **options), clock


def passing(some: Buckets, key: str, times: int) -> int:
    """How many of so many pass."""
    return sum(some.take(key) == 0.0 for _ in range(times))


# The bucket


@pytest.mark.parametrize(("rate", "burst"), [(10.0, 20), (1.0, 1), (10 / 60, 10), (1000.0, 3)])
def test_so_many_at_once(rate: float, burst: int) -> None:
    """As many as the burst, and not one more."""
    some, _ = buckets(rate, burst)
    assert passing(some, "a", burst + 50) == burst


def test_a_second_later() -> None:
    """As many more as the rate has it, up to the burst again."""
    some, clock = buckets(10.0, 20)
    passing(some, "a", 20)
    clock.now += 1
    assert passing(some, "a", 50) == 10
    clock.now += 0.35
    assert passing(some, "a", 50) == 3
    clock.now += 3600
    assert passing(some, "a", 50) == 20


def test_one_after_the_other() -> None:
    """Whoever keeps to the rate is never refused, however long it goes on."""
    some, clock = buckets(10 / 60, 1)
    for _ in range(500):
        assert some.take("a") == 0.0
        clock.now += 6


def test_how_long_to_wait() -> None:
    """What is missing is exact: not a moment earlier, and then it passes."""
    some, clock = buckets(10 / 60, 10)
    passing(some, "a", 10)
    assert some.take("a") == pytest.approx(6.0)
    clock.now += 5.9
    assert some.take("a") == pytest.approx(0.1)
    clock.now += 0.11
    assert some.take("a") == 0.0
    assert some.take("a") == pytest.approx(5.99)


def test_refusals_cost_nothing() -> None:
    """Whoever hammers at the door is let in as soon as whoever waits."""
    some, clock = buckets(1.0, 1)
    assert some.take("a") == 0.0
    for _ in range(1000):
        assert some.take("a") > 0
    clock.now += 1
    assert some.take("a") == 0.0


def test_each_key_has_its_own() -> None:
    """Nobody is refused for what another one did."""
    some, _ = buckets(1.0, 3)
    assert [passing(some, key, 10) for key in ("a", "b", "A", "")] == [3, 3, 3, 3]


def test_a_clock_that_stands_or_goes_back() -> None:
    """Nobody waits for longer than it takes to fill the bucket."""
    some, clock = buckets(1.0, 3)
    passing(some, "a", 3)
    clock.now -= 1000
    assert some.take("a") <= 1000 + 3
    clock.now += 1001
    assert some.take("a") == 0.0


@given(
    rate=st.sampled_from([0.1, 1.0, 3.0, 7.5, 100.0]),
    burst=st.integers(1, 12),
    pauses=st.lists(st.floats(0, 5), max_size=80),
)
def test_in_any_window(rate: float, burst: int, pauses: list[float]) -> None:
    """Between any two moments no more pass than the burst and what the rate brings meanwhile."""
    some, clock = buckets(rate, burst)
    passed = []
    for pause in pauses:
        clock.now += pause
        if some.take("a") == 0.0:
            passed.append(clock.now)
    for first, begin in enumerate(passed):
        for count, end in enumerate(passed[first:], 1):
            assert count <= burst + rate * (end - begin) + 1e-6


@given(st.floats(0.01, 1000), st.integers(1, 50))
def test_whoever_waits_as_told_is_let_in(rate: float, burst: int) -> None:
    """`Retry-After` keeps its word, whatever the numbers."""
    some, clock = buckets(rate, burst)
    for _ in range(3):
        while (missing := some.take("a")) == 0.0:
            pass
        assert 0 < missing <= 1 / rate + 1e-6
        clock.now += missing
        assert some.take("a") == 0.0


# How much is remembered


def test_memory_is_bounded() -> None:
    """However many there are, no more keys are held; the newest is one of them."""
    some, _ = buckets(1.0, 1, keys=100)
    for number in range(1000):
        assert some.take(str(number)) == 0.0
        assert len(some._arrivals) <= 100
    assert some.take("999") > 0
    assert some.take("950") > 0


def test_the_idle_leave_first() -> None:
    """Whose bucket is full again loses nothing; whoever has to wait goes on waiting."""
    some, clock = buckets(1.0, 1, keys=10)
    for number in range(9):
        some.take(f"idle-{number}")
    clock.now += 0.5
    some.take("busy")
    clock.now += 0.5
    for number in range(9):
        assert some.take(f"new-{number}") == 0.0
        assert len(some._arrivals) <= 10
    assert some.take("busy") > 0
    assert not any(key.startswith("idle") for key in some._arrivals)


def test_the_idle_leave_by_themselves() -> None:
    """What nobody asks for any more is not held until the memory is full."""
    some, clock = buckets(1.0, 1)
    for number in range(1000):
        some.take(str(number))
    clock.now += 2
    for number in range(1000):
        some.take(f"later-{number % 10}")
        clock.now += 1
    assert len(some._arrivals) <= 20


def test_the_oldest_make_room() -> None:
    """While all have to wait, whoever was let in longest ago is forgotten first, not whoever came first."""
    some, clock = buckets(1 / 3600, 5, keys=10)
    for number in range(10):
        some.take(str(number))
    clock.now += 1
    some.take("0")
    some.take("new")
    assert "0" in some._arrivals
    assert "1" not in some._arrivals
    assert len(some._arrivals) <= 10


def test_whoever_is_known_needs_no_room() -> None:
    """A full memory changes nothing for those in it."""
    some, clock = buckets(1.0, 2, keys=10)
    for number in range(10):
        some.take(str(number))
    assert [some.take(str(number)) for number in range(10)] == [0.0] * 10
    clock.now += 0.5
    assert all(some.take(str(number)) > 0 for number in range(10))
    assert len(some._arrivals) == 10


def test_a_flood_of_keys_is_no_work() -> None:
    """While nobody in a full memory is idle, a new key does not have all the others looked at."""

    class Watched(dict[str, float]):
        looked_at = 0

        def items(self) -> Iterable[tuple[str, float]]:  # type: ignore[override]
            for item in super().items():
                Watched.looked_at += 1
                yield item

    keys, more = 200, 1000
    some, _ = buckets(1 / 3600, 10, keys=keys)
    for number in range(keys):
        some.take(f"first-{number}")
    some._arrivals = Watched(some._arrivals)
    for number in range(more):
        assert some.take(f"more-{number}") == 0.0
        assert len(some._arrivals) <= keys
    assert Watched.looked_at <= 10 * more


def test_waits_grow_with_what_was_taken_only() -> None:
    """Refused requests do not move the moment at which the next one passes."""
    some, clock = buckets(1.0, 1)
    some.take("a")
    waits = []
    for _ in range(5):
        waits.append(some.take("a"))
        clock.now += 0.1
    assert all(math.isclose(first - second, 0.1) for first, second in pairwise(waits))
