"""How much of limits is remembered in memory, and what a flood of new keys cannot do."""

from __future__ import annotations

from propylon.proxy.limit.in_flight import InFlight
from propylon.proxy.limit.rule import Rule, Spend
from propylon.stores.limits.memory import MemoryLimits
from tests.stores.limit_stores import SECOND, Clock, bucket, window


def store(keys: int = 1_000_000) -> tuple[MemoryLimits, Clock]:
    """A store and its clock."""
    clock = Clock()
    return MemoryLimits(clock, keys=keys), clock


def passes(some: MemoryLimits, rule: Rule, key: str) -> bool:
    """Whether a request passes."""
    return some.decide([Spend(rule, key)])[0].allowed


def test_flood_pushes_out_no_key_in_use() -> None:
    """However many new keys come, what a key has spent stays spent, and no more keys are kept."""
    for rule in (bucket(1, 2, 3600), window(2, 7200)):
        some, _ = store(keys=100)
        assert [passes(some, rule, "mine") for _ in range(3)] == [True, True, False]
        for number in range(20_000):
            passes(some, rule, f"flood-{number}")
            assert number % 1000 or not passes(some, rule, "mine")
        assert some.keys(rule) <= 100 + 1024


def test_new_keys_share_when_there_is_no_room() -> None:
    """Together the new keys of a flood get no more than 1024 budgets."""
    some, _ = store(keys=10)
    rule = bucket(1, 2, 3600)
    assert sum(passes(some, rule, f"flood-{number}") for number in range(20_000)) <= 2 * 1034


def test_keys_leave_as_new_ones_come() -> None:
    """Keys of which nothing is spent any more leave as new ones come: a flood of short lives takes little memory."""
    for rule in (bucket(1, 1), window(1, 1)):
        some, clock = store()
        for number in range(20_000):
            passes(some, rule, f"user-{number}")
            clock.now += SECOND // 1000
        assert some.keys(rule) <= 2 * 1000 + 10


def test_keys_leave_by_themselves() -> None:
    """The memory of a flood comes back with time, also if no new keys come, and also of a limit that is gone."""
    gone, here = bucket(1, 1, name="gone"), bucket(1, 1, name="here")
    some, clock = store()
    for number in range(5000):
        passes(some, gone, f"user-{number}")
        passes(some, here, f"user-{number}")
    for _ in range(60):
        clock.now += SECOND
        passes(some, here, "one")
    assert some.keys(gone) == 0
    assert some.keys(here) <= 1


def test_key_that_shared_gets_no_second_budget() -> None:
    """A key that had to share, and comes back when there is room, has spent what it has spent."""
    some, clock = store(keys=2)
    short, rule = bucket(1, 1, name="b"), bucket(1, 1, 3600, name="b")
    assert passes(some, rule, "one")
    assert passes(some, rule, "two")
    assert passes(some, rule, "three")
    assert not passes(some, rule, "three")
    clock.now += 10 * SECOND
    assert not passes(some, rule, "three")
    assert passes(some, short, "three")


def test_in_flight() -> None:
    """So many of each key are under way; a key without a request takes no memory."""
    some = InFlight(2)
    assert [some.enter("a") for _ in range(3)] == [True, True, False]
    assert some.enter("b")
    assert (len(some), some.total) == (2, 3)
    some.leave("a")
    assert some.enter("a")
    for key in "aab":
        some.leave(key)
    assert (len(some), some.total) == (0, 0)
