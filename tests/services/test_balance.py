"""Choosing an instance."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.services.balance import least_connections, random, round_robin
from propylon.services.service import Balance, Instance


@dataclass
class Busy:
    """An upstream that has so much in hand."""

    busy: int


def instances(*busy: int, weights: Sequence[int] = ()) -> tuple[Instance, ...]:
    """One for each number, called a, b, c, ..."""
    made: list[Any] = [Busy(count) for count in busy]
    return tuple(
        Instance(chr(97 + at), b"", b"", upstream, weight=weights[at] if weights else 1)
        for at, upstream in enumerate(made)
    )


def heavy(*weights: int) -> tuple[Instance, ...]:
    """Idle ones of these weights."""
    return instances(*(0 for _ in weights), weights=weights)


def chosen(choose: Balance, candidates: Sequence[Instance], times: int) -> str:
    """The names of those that are chosen."""
    return "".join(choose(candidates).id for _ in range(times))


# Round robin


def test_round_robin_takes_turns() -> None:
    """Ten requests to two instances are five each, one after the other."""
    assert chosen(round_robin(), instances(0, 0), 10) == "ababababab"


def test_round_robin_interleaves_the_heavy() -> None:
    """Five of seven go to the one that weighs five, and never five in a row."""
    assert chosen(round_robin(), heavy(5, 1, 1), 21) == "aabacaa" * 3


@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 1, 1)])
def test_a_turn_costs_little_while_nothing_changes(weights: tuple[int, ...]) -> None:
    """Candidates that stay the same are summed up once, not for each request."""

    class Watched(tuple[Instance, ...]):
        __slots__ = ()
        looks = 0

        def __iter__(self) -> Iterator[Instance]:
            Watched.looks += 1
            return super().__iter__()

    choose, candidates = round_robin(), Watched(heavy(*weights))
    chosen(choose, candidates, 7)
    looks = Watched.looks
    chosen(choose, candidates, 700)
    assert Watched.looks == looks > 0


def test_weights_are_relative() -> None:
    """Three and three is one and one."""
    assert chosen(round_robin(), heavy(3, 3), 6) == "ababab"


def test_second_attempts_do_not_cost_others_their_turn() -> None:
    """With one that always fails, the other two bear the retries equally."""
    choose, three = round_robin(), instances(0, 0, 0)
    seen: Counter[str] = Counter()
    for _ in range(30):
        first = choose(three)
        seen[first.id] += 1
        if first.id == "a":
            seen[choose(tuple(other for other in three if other is not first)).id] += 1
    assert seen == {"a": 10, "b": 15, "c": 15}


def test_those_that_remain_share_equally() -> None:
    """When one falls ill the others take turns, and when it is back it is one of three again."""
    choose, three = round_robin(), instances(0, 0, 0)
    assert chosen(choose, three, 4) == "abca"
    assert Counter(chosen(choose, three[1:], 10)) == {"b": 5, "c": 5}
    assert Counter(chosen(choose, three, 30)) == {"a": 10, "b": 10, "c": 10}


def test_one_that_returns_is_not_flooded() -> None:
    """What it missed while it was away is not made up for."""
    choose, three = round_robin(), instances(0, 0, 0)
    for _ in range(100):
        choose(tuple(three[1:]))
    assert Counter(chosen(choose, list(three), 6)) == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("balance", [round_robin, least_connections])
@pytest.mark.parametrize("busy", [(0, 0, 0), (0, 5, 0)], ids=["idle", "busy"])
@pytest.mark.parametrize("calls", [1, 10], ids=["passing", "staying"])
def test_nothing_is_kept_of_those_that_are_gone(
    balance: Callable[[], Balance], busy: tuple[int, ...], calls: int
) -> None:
    """Generations of instances come and go, and none but the last is held on to."""
    choose = balance()
    gone = []
    for _ in range(20):
        generation = instances(*busy, weights=(1, 2, 1))
        gone.extend(weakref.ref(one.upstream) for one in generation)
        for _ in range(calls):
            choose(generation)
    del generation
    latest = instances(*busy, weights=(1, 2, 1))
    for _ in range(300):
        choose(latest)
    # No garbage is collected first: one reference is one too many, and so is a circle of them.
    assert [reference for reference in gone if reference() is not None] == []


WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=6)


@given(weights=WEIGHTS, rounds=st.integers(1, 200))
def test_shares_are_proportional_to_weights(weights: list[int], rounds: int) -> None:
    """At no time is an instance two requests ahead of what its weight says, or behind."""
    choose, candidates = round_robin(), heavy(*weights)
    seen = Counter(choose(candidates) for _ in range(rounds))
    fair = [Fraction(weight * rounds, sum(weights)) for weight in weights]
    assert max(abs(seen[one] - due) for one, due in zip(candidates, fair, strict=True)) < 2


@given(weights=st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_a_whole_cycle_is_exact(weights: list[int]) -> None:
    """After as many choices as the weights add up to, each was chosen as often as it weighs."""
    choose, candidates = round_robin(), heavy(*weights)
    for _ in range(3):
        seen = Counter(choose(candidates) for _ in range(sum(weights)))
        assert [seen[instance] for instance in candidates] == weights


@given(
    weights=WEIGHTS,
    calls=st.lists(st.tuples(st.booleans(), st.integers(1, 63)), max_size=200),
)
def test_changing_candidates_are_treated_fairly(
    weights: list[int], calls: list[tuple[bool, int]]
) -> None:
    """Whoever is left out when, each is chosen as often as its shares of the calls add up to."""
    choose, everybody = round_robin(), heavy(*weights)
    fair: dict[Instance, Fraction] = dict.fromkeys(everybody, Fraction(0))
    seen: Counter[Instance] = Counter()
    for all_present, present in calls:
        some = [one for at, one in enumerate(everybody) if present >> at & 1]
        candidates = everybody if all_present or not some else some
        seen[choose(candidates)] += 1
        total = sum(one.weight for one in candidates)
        for one in candidates:
            fair[one] += Fraction(one.weight, total)
    assert max(abs(seen[one] - fair[one]) for one in everybody) < 3


# Random


def test_random_draws_by_weight() -> None:
    """What chance says, the ends of its range included; heavy ones have more of the range."""
    three = heavy(2, 1, 1)
    for first, name in ((0.0, "a"), (0.49, "a"), (0.5, "b"), (0.75, "c"), (0.999999, "c")):
        chances = iter((first, 0.0))
        assert random(lambda draws=chances: next(draws))(three).id == name


def test_random_takes_the_less_busy_of_two() -> None:
    """The second one drawn is another one, and wins if it has less in hand."""
    three = instances(5, 1, 0)
    for first, second, name in ((0.0, 0.0, "b"), (0.0, 0.9, "c"), (0.4, 0.0, "b"), (0.4, 0.9, "c")):
        chances = iter((first, second))
        assert random(lambda draws=chances: next(draws))(three).id == name


def test_random_measures_by_weight() -> None:
    """Six in hand are less for one that weighs four than two for one that weighs one."""
    for draw in (0.0, 0.99):
        assert random(lambda draw=draw: draw)(instances(6, 2, weights=(4, 1))).id == "a"


def test_random_takes_the_only_one() -> None:
    """There is no second one to draw."""
    assert random(lambda: 0.5)(instances(7)).id == "a"


def test_random_never_takes_the_busiest() -> None:
    """Of two different ones the busier is left, so the busiest of all never gets more."""
    draws = [at / 10 for at in range(10)]
    four = instances(1, 1, 9, 1)
    pairs = ((first, second) for first in draws for second in draws)
    found = {random(iter(pair).__next__)(four).id for pair in pairs}
    assert found == {"a", "b", "d"}


@given(
    weights=WEIGHTS,
    draws=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)
def test_random_takes_a_candidate(weights: list[int], draws: tuple[float, float]) -> None:
    """Whatever chance says, and whatever rounding does to it."""
    candidates = heavy(*weights)
    assert random(iter(draws).__next__)(candidates) in candidates


# Least connections


def test_least_connections_takes_the_idlest() -> None:
    """Whoever has least in hand, wherever it stands."""
    choose = least_connections()
    assert {choose(instances(3, 1, 2)).id for _ in range(6)} == {"b"}


def test_least_connections_takes_turns_among_equals() -> None:
    """Else the first would get all that a quiet service is asked; and a busy one between is no gap."""
    choose, three = least_connections(), instances(0, 5, 0)
    assert chosen(choose, three, 6) == "acacac"
    assert chosen(least_connections(), instances(1, 1), 10) == "ababababab"


def test_least_connections_measures_by_weight() -> None:
    """One that weighs four may have three more in hand before another one is asked."""
    choose = least_connections()
    assert choose(instances(2, 0, weights=(4, 1))).id == "a"
    assert choose(instances(4, 0, weights=(4, 1))).id == "b"


def test_least_connections_ties_follow_the_weights() -> None:
    """Where both would be equally busy, the heavy one is asked more often."""
    assert Counter(chosen(least_connections(), instances(5, 1, weights=(3, 1)), 8)) == {
        "a": 6,
        "b": 2,
    }


@given(weights=st.lists(st.integers(1, 5), min_size=1, max_size=4), requests=st.integers(1, 60))
def test_least_connections_fills_by_weight(weights: list[int], requests: int) -> None:
    """When nothing ever ends, what each has in hand grows with its weight."""
    choose, candidates = least_connections(), heavy(*weights)
    for _ in range(requests):
        upstream: Any = choose(candidates).upstream
        upstream.busy += 1
    loads = [Fraction(one.upstream.busy, one.weight) for one in candidates]
    after = [Fraction(one.upstream.busy + 1, one.weight) for one in candidates]
    assert max(loads) <= min(after)
