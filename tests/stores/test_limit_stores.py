"""One file of cases for every store of limits: the same spends at the same times get the same decisions.

A store is added to `STORES`: a name, and a class that makes stores over one clock (`tests.stores.limit_stores.Counted`).
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.limit.rule import LimitStore, Rule, Spend
from propylon.stores.limits.memory import MemoryLimits
from propylon.stores.limits.segment import Segment
from propylon.stores.limits.workers import SharedLimits
from tests.stores.limit_stores import SECOND, Counted, Model, bucket, window
from tests.stores.redis_limits import InRedis, InValkey
from tests.support.examples import examples
from tests.support.redis import binaries


class InMemory(Counted):
    """The counts of one worker."""

    def store(self) -> LimitStore:
        """The same store each time: there is only one worker."""
        if not hasattr(self, "_only"):
            self._only = MemoryLimits(self.clock)
        return self._only


class InWorkers(Counted):
    """The counts of several workers, each with a store of its own over one file; here all of them in one process."""

    def __init__(self) -> None:
        super().__init__()
        self.stores: list[SharedLimits] = []
        self.folder = tempfile.TemporaryDirectory(
            dir="/dev/shm" if Path("/dev/shm").is_dir() else None
        )

    def store(self) -> LimitStore:
        """Another worker's store."""
        segment = Segment.at(Path(self.folder.name) / "limits")
        self.stores.append(SharedLimits(segment, self.clock))
        return self.stores[-1]

    def close(self) -> None:
        """Remove the file."""
        for store in self.stores:
            store.close()
        super().close()
        self.folder.cleanup()


STORES: dict[str, Callable[[], Counted]] = {"memory": InMemory, "workers": InWorkers}
if "redis" in binaries():
    STORES["redis"] = InRedis
if "valkey" in binaries():
    STORES["valkey"] = InValkey


@pytest.fixture(params=STORES)
def counted(request: pytest.FixtureRequest) -> Iterator[Counted]:
    """Each store in turn."""
    made = STORES[request.param]()
    yield made
    made.close()


def passing(counted: Counted, rule: Rule, times: int, key: str = "a", cost: int = 1) -> int:
    """How many of so many requests pass."""
    return sum(counted.decide(Spend(rule, key, cost))[0].allowed for _ in range(times))


# A bucket


@pytest.mark.parametrize(
    ("rate", "seconds", "burst"), [(10, 1, 20), (1, 1, 1), (10, 60, 10), (1000, 1, 3), (3, 1, 7)]
)
def test_burst_passes_at_once(counted: Counted, rate: int, seconds: int, burst: int) -> None:
    """As many pass at once as the burst, and not one more."""
    assert passing(counted, bucket(rate, burst, seconds), burst + 30) == burst


def test_bucket_fills_at_the_rate(counted: Counted) -> None:
    """After a second as many more pass as the rate says, up to the burst again."""
    rule = bucket(10, 20)
    passing(counted, rule, 20)
    counted.clock.now += SECOND
    assert passing(counted, rule, 30) == 10
    counted.clock.now += SECOND * 35 // 100
    assert passing(counted, rule, 10) == 3
    counted.clock.now += 3600 * SECOND
    assert passing(counted, rule, 50) == 20


def test_decision_says_what_is_left(counted: Counted) -> None:
    """Remaining, reset and retry_after are those after the decision, in whole seconds rounded up."""
    rule = bucket(10, 3, 60)
    told = [tuple(counted.decide(Spend(rule, "a"))[0]) for _ in range(4)]
    assert told == [(True, 2, 6, 0), (True, 1, 12, 0), (True, 0, 18, 0), (False, 0, 18, 6)]
    counted.clock.now += 6 * SECOND
    assert tuple(counted.decide(Spend(rule, "a"))[0]) == (True, 0, 18, 0)


def test_thirds_of_a_microsecond_add_up(counted: Counted) -> None:
    """An interval that is no whole number of microseconds is exact: 3/s lets exactly 3 pass in each second."""
    rule = bucket(3, 3)
    passing(counted, rule, 3)
    for _ in range(30):
        counted.clock.now += SECOND
        assert passing(counted, rule, 5) == 3


def test_refused_spends_nothing(counted: Counted) -> None:
    """A caller that keeps trying gets through as soon as one that waits."""
    rule = bucket(1, 1)
    assert passing(counted, rule, 200) == 1
    counted.clock.now += SECOND
    assert passing(counted, rule, 2) == 1


def test_keys_and_rules_are_counted_apart(counted: Counted) -> None:
    """No key and no limit is refused for what another one spent."""
    rules = (bucket(1, 3), bucket(1, 3, name="other"), bucket(1, 3, place="service:a"))
    for rule in rules:
        assert [passing(counted, rule, 6, key) for key in ("a", "b", "A", "", "ä\n")] == [3] * 5


def test_changed_rate_begins_anew(counted: Counted) -> None:
    """A limit with another number is another limit, whatever its name."""
    passing(counted, bucket(1, 3), 3)
    assert passing(counted, bucket(1, 4), 9) == 4
    assert passing(counted, bucket(1, 3), 9) == 0


# Costs


def test_cost_is_spent(counted: Counted) -> None:
    """A request that costs five spends five; one that costs more than is left is refused and spends nothing."""
    rule = bucket(1, 12)
    assert [counted.decide(Spend(rule, "a", 5))[0].allowed for _ in range(3)] == [True, True, False]
    assert passing(counted, rule, 5) == 2


def test_cost_over_the_burst_never_passes(counted: Counted) -> None:
    """A cost that is more than the whole budget is refused, with a time that is no nonsense."""
    for rule in (bucket(1, 3), window(3, 60)):
        told = counted.decide(Spend(rule, "a", 4))[0]
        assert (told.allowed, told.remaining, told.reset) == (False, 3, 0)
        assert 1 <= told.retry_after <= 60


def test_cost_of_nothing_asks_for_one(counted: Counted) -> None:
    """A cost of 0 passes while one unit is left, and spends none."""
    for rule in (bucket(1, 2), window(2, 60)):
        assert passing(counted, rule, 9, cost=0) == 9
        assert passing(counted, rule, 9) == 2
        assert passing(counted, rule, 9, cost=0) == 0


def test_charge_spends_whatever_is_left(counted: Counted) -> None:
    """What an answer cost is spent, also beyond what is left; the caller waits until it is paid off."""
    rule = bucket(10, 10, charged=True)
    counted.decide(Spend(rule, "a", 0))
    counted.charge(Spend(rule, "a", 25))
    told = counted.decide(Spend(rule, "a", 0))[0]
    assert tuple(told) == (False, 0, 3, 2)
    counted.clock.now += 16 * SECOND // 10
    assert passing(counted, rule, 9) == 1


def test_charge_is_bounded(counted: Counted) -> None:
    """A wrong cost of an upstream does not lock a caller out for longer than eight full budgets take."""
    rule = bucket(1, 10, charged=True)
    counted.charge(Spend(rule, "a", 10**9))
    assert counted.decide(Spend(rule, "a"))[0].retry_after == 71
    counted.clock.now += 71 * SECOND
    assert passing(counted, rule, 3) == 1


def test_charge_gives_back(counted: Counted) -> None:
    """A negative charge gives units back, and never more than were spent."""
    for rule in (bucket(1, 5), window(5, 3600), window(5, 3600, name="b", charged=True)):
        passing(counted, rule, 5)
        counted.charge(Spend(rule, "a", -2))
        assert passing(counted, rule, 5) == 2
        counted.charge(Spend(rule, "a", -99))
        assert passing(counted, rule, 9) == 5


# Several limits at once


def test_nothing_is_spent_if_one_refuses(counted: Counted) -> None:
    """All limits of a request are decided together: the one that would let it pass is not spent."""
    many, few = bucket(1, 10, name="many"), window(2, 60, name="few")
    spends = (Spend(many, "a"), Spend(few, "a"))
    told = [[one.allowed for one in counted.decide(*spends)] for _ in range(5)]
    assert told == [[True, True]] * 2 + [[True, False]] * 3
    assert counted.decide(Spend(many, "a"))[0].remaining == 7


def test_shadow_refuses_nothing(counted: Counted) -> None:
    """A shadow limit says what it would have refused; the others are spent all the same."""
    shadow, real = bucket(1, 1, name="shadow", shadow=True), bucket(1, 3, name="real")
    spends = (Spend(shadow, "a"), Spend(real, "a"))
    told = [[one.allowed for one in counted.decide(*spends)] for _ in range(4)]
    assert told == [[True, True], [False, True], [False, True], [False, False]]


def test_shadow_spends_nothing_where_another_refuses(counted: Counted) -> None:
    """A request that an enforced limit refuses costs nothing, in no budget."""
    shadow, real = bucket(1, 5, name="shadow", shadow=True), bucket(1, 1, name="real")
    for _ in range(4):
        counted.decide(Spend(shadow, "a"), Spend(real, "a"))
    assert counted.decide(Spend(shadow, "a"))[0].remaining == 3


def test_thousand_in_one_turn(counted: Counted) -> None:
    """Of 1000 requests in one turn of the loop, from two workers, exactly the budget passes."""
    rule = bucket(1, 100)
    workers = (counted.store(), counted.store())
    told = counted.decide_at_once([(workers[at % 2], [Spend(rule, "a")]) for at in range(1000)])
    assert sum(one.allowed for [one] in told) == 100


def test_decisions_and_charges_keep_their_order(counted: Counted) -> None:
    """What was charged before a decision, in the same turn of the loop, counts for it."""
    rule = bucket(1, 10, charged=True)
    counted.charge(Spend(rule, "a", 9))
    told = counted.decide_at_once([(counted.first, [Spend(rule, "a")])] * 3)
    assert [one.allowed for [one] in told] == [True, False, False]


# A sliding window


def test_window_lets_the_number_pass(counted: Counted) -> None:
    """The number passes, and what was spent comes back when the window has passed it, and not before."""
    rule = window(3, 60)
    for _ in range(3):
        assert passing(counted, rule, 1) == 1
        counted.clock.now += 10 * SECOND
    assert tuple(counted.decide(Spend(rule, "a"))[0]) == (False, 0, 51, 31)
    counted.clock.now += 30 * SECOND
    assert passing(counted, rule, 1) == 0
    counted.clock.now += 1
    assert passing(counted, rule, 2) == 1


def test_large_window_is_counted_in_parts(counted: Counted) -> None:
    """Above 64 units a caller waits at most a 64th of the window longer, and never gets more than the number."""
    rule = window(1000, 6400)
    assert passing(counted, rule, 1005) == 1000
    counted.clock.now += 6400 * SECOND
    assert passing(counted, rule, 3) == 0
    counted.clock.now += 100 * SECOND
    assert passing(counted, rule, 1005) == 1000


# Clocks


@pytest.mark.parametrize("rule", [bucket(1, 5), window(5, 5)])
def test_clock_set_back(counted: Counted, rule: Rule) -> None:
    """A clock that is set back by years makes nobody wait for longer than the whole budget takes."""
    passing(counted, rule, 5)
    counted.clock.now -= 10**9 * SECOND
    told = counted.decide(Spend(rule, "a"))[0]
    assert (told.allowed, told.remaining) == (False, 0)
    assert 1 <= told.retry_after <= told.reset <= 6
    counted.clock.now += 6 * SECOND
    assert passing(counted, rule, 9) == 5


@pytest.mark.parametrize("rule", [bucket(1, 5), window(5, 5)])
def test_clock_set_forward_and_back(counted: Counted, rule: Rule) -> None:
    """A clock that jumps forth and back gives at most one more budget for each jump."""
    passed = 0
    for jump in (10**6, -(10**6), 10**6, -(10**6)):
        passed += passing(counted, rule, 9)
        counted.clock.now += jump * SECOND
    assert passed <= 15


# Whatever comes


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 333_333, SECOND, 7 * SECOND, 61 * SECOND]),
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.integers(0, 4)),
            min_size=1,
            max_size=3,
            unique_by=lambda spend: spend[0],
        ),
        st.integers(-3, 30),
    ),
    max_size=30,
)
RULES = (
    bucket(3, 5, name="bucket"),
    bucket(7, 4, 60, name="charged", charged=True),
    window(6, 10, name="window"),
    window(70, 64, name="parts", shadow=True),
)


@pytest.mark.parametrize("store", STORES)
@given(steps=STEPS)
@examples(200)
def test_every_store_equals_the_reference(
    store: str, steps: list[tuple[int, list[tuple[int, str, int]], int]]
) -> None:
    """Whatever is spent and charged at whatever time, each store says what the reference says."""
    counted, model = STORES[store](), Model()
    try:
        for pause, spends, charge in steps:
            counted.clock.now += pause
            wanted = [Spend(RULES[at], key, cost) for at, key, cost in spends]
            assert counted.decide(*wanted) == model.decide(counted.clock.now, wanted)
            later = Spend(RULES[1], "a", charge)
            counted.charge(later)
            model.charge(counted.clock.now, later)
    finally:
        counted.close()


@pytest.mark.parametrize("store", STORES)
@given(steps=st.lists(st.tuples(st.integers(0, 2 * SECOND), st.integers(0, 3)), max_size=60))
@examples(200)
def test_hot_path_equals_the_reference(store: str, steps: list[tuple[int, int]]) -> None:
    """What a store offers for routes with one limit says the same as its long way, if it offers it."""
    counted, model, rule = STORES[store](), Model(), bucket(3, 5)
    for pause, cost in steps:
        counted.clock.now += pause
        [told] = model.decide(counted.clock.now, [Spend(rule, "a", cost)])
        if (taken := counted.take(rule, "a", cost)) is not None:
            assert taken == (told.remaining, told.reset, told.retry_after)
    counted.close()


PAUSES = st.lists(st.integers(0, 5 * SECOND), max_size=80)


@given(rate=st.sampled_from([1, 3, 7, 100]), burst=st.integers(1, 12), pauses=PAUSES)
@examples(200)
def test_in_any_window_of_a_bucket(rate: int, burst: int, pauses: list[int]) -> None:
    """Between any two moments no more pass than the burst and what the rate brings meanwhile."""
    counted, rule = InMemory(), bucket(rate, burst)
    passed = times(counted, rule, pauses)
    counted.close()
    for first, begin in enumerate(passed):
        for count, end in enumerate(passed[first:], 1):
            assert count <= burst + rate * (end - begin) / SECOND + 1e-9


@given(amount=st.sampled_from([1, 3, 12, 65, 130]), pauses=PAUSES)
@examples(200)
def test_in_any_window_of_a_sliding_one(amount: int, pauses: list[int]) -> None:
    """In no window, wherever it begins, do more pass than the number."""
    counted, rule = InMemory(), window(amount, 20)
    passed = times(counted, rule, pauses, at_once=1 + amount // 12)
    counted.close()
    for at, begin in enumerate(passed[amount:]):
        assert begin - passed[at] > 20 * SECOND


def times(counted: Counted, rule: Rule, pauses: list[int], at_once: int = 1) -> list[int]:
    """When requests pass that come after these pauses, so many at once."""
    passed = []
    for pause in pauses:
        counted.clock.now += pause
        for _ in range(at_once):
            if counted.decide(Spend(rule, "a"))[0].allowed:
                passed.append(counted.clock.now)
    return passed


@given(st.integers(1, 1000), st.sampled_from([1, 60, 3600]), st.integers(1, 50))
@examples(100)
def test_retry_after_keeps_its_word(rate: int, seconds: int, burst: int) -> None:
    """A client that comes after the seconds that it was told passes."""
    counted, rule = InMemory(), bucket(rate, burst, seconds)
    for _ in range(3):
        while (told := counted.decide(Spend(rule, "a"))[0]).allowed:
            pass
        counted.clock.now += told.retry_after * SECOND
        assert counted.decide(Spend(rule, "a"))[0].allowed
    counted.close()
