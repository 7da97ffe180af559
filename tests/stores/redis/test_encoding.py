"""Names of keys, and what is kept of them and of what was spent while Redis was away: all of it bounded."""

from __future__ import annotations

import pytest

from propylon.proxy.limit.rule import MICROSECONDS
from propylon.stores.redis.encoding import Carried, Names, tag_of
from propylon.stores.redis.ledger import Known, Ledger
from propylon.stores.redis.patience import Patience
from tests.stores.limit_stores import bucket, window


def everything(name: bytes) -> bool:
    """Want each key."""
    return bool(name)


def carried(ledger: Ledger) -> list[Carried]:
    """All that is to be carried over."""
    return [*ledger.carried(ledger.take(10**6, everything))]


def test_names_are_told_apart() -> None:
    """Another caller, place, name, number or namespace is another key; another process or another mode is not."""
    names = Names("propylon")
    rules = [bucket(), bucket(name="b"), bucket(place="route:b"), bucket(rate=11), window(20)]
    made = {names.name(rule, key) for rule in rules for key in ("ann", "bob", "", "\udcff")}
    made.add(Names("other").name(rules[0], "ann"))
    assert len(made) == len(rules) * 4 + 1
    assert Names("propylon").name(bucket(shadow=True), "ann") == names.name(bucket(), "ann")


def test_limits_of_a_caller_have_one_hash_tag() -> None:
    """A Cluster keeps all limits of a caller in one slot."""
    names = Names("a:b")
    one, other = (names.name(rule, "ann") for rule in (bucket(), window()))
    assert tag_of(one) == tag_of(other) == names.who("ann")
    assert names.slot("ann") != names.slot("bob")


def test_names_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of callers does not fill the memory, and each keeps its name."""
    monkeypatch.setattr("propylon.stores.redis.encoding._MOST_NAMES", 100)
    monkeypatch.setattr("propylon.stores.redis.encoding._MOST_RULES", 5)
    names, fresh = Names("p"), Names("p")
    for at in range(1000):
        rule = bucket(name=f"n{at % 9}")
        assert names.name(rule, f"k{at}") == fresh.name(bucket(name=f"n{at % 9}"), f"k{at}")
        assert len(names.known(rule)) <= 100


def test_known_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the keys that Redis has spoken of the newest are remembered, and for as long as something is owed."""
    monkeypatch.setattr("propylon.stores.redis.ledger._MOST_KNOWN", 10)
    known, rule = Known(), bucket(1, 10)
    for at in range(100):
        known.note(b"%d" % at, rule, 3 * rule.unit)
    assert known.debt(b"99", 0) == 3 * rule.unit
    assert known.debt(b"99", MICROSECONDS) == 2 * rule.unit
    assert known.debt(b"1", 0) == 0
    assert 10 <= len([*known.owed(0)]) <= 20
    assert [*known.owed(4 * MICROSECONDS)] == []


def test_ledger_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is counted, so that the log can say so."""
    monkeypatch.setattr("propylon.stores.redis.ledger._MOST_KEYS", 10)
    ledger, rule = Ledger(lambda: 0), bucket(1, 10)
    for at in range(15):
        ledger.open(b"%d" % at, rule, 0)
        ledger.add(b"%d" % at, 1)
    assert ledger.dropped == 5
    assert len(carried(ledger)) == 10
    assert carried(ledger) == []


def test_debts_shrink_while_redis_is_away() -> None:
    """What time has paid off is not carried over; what is left is, beside what was known."""
    now = 0
    ledger, rule = Ledger(lambda: now), bucket(1, 10)
    ledger.open(b"a", rule, 5 * rule.unit)
    ledger.add(b"a", 4)
    ledger.add(b"a", -1)
    now = MICROSECONDS
    taken = ledger.take(1, everything)
    assert [*ledger.carried(taken)] == [(rule, b"a", 2 * rule.unit, 4 * rule.unit, 0)]
    ledger.put_back(taken)
    now = 10 * MICROSECONDS
    assert carried(ledger) == []


def test_window_is_carried_over_with_its_moments() -> None:
    """Units of a window keep their age; what was given back, or has left the window, is gone."""
    now = 0
    ledger, rule = Ledger(lambda: now), window(10, 60)
    ledger.open(b"a", rule, 0)
    for at, units in ((0, 2), (30, 3), (40, 1), (41, -2)):
        now = at * MICROSECONDS
        ledger.add(b"a", units)
    now = 61 * MICROSECONDS
    assert carried(ledger) == [(rule, b"a", 2, 0, 31 * MICROSECONDS)]


def test_long_window_keeps_few_moments() -> None:
    """However many units are spent, few moments are kept: the later ones count as the last."""
    now = 0
    ledger, rule = Ledger(lambda: now), window(10_000, 3600)
    ledger.open(b"a", rule, 0)
    for at in range(1000):
        now = at
        ledger.add(b"a", 1)
    found = carried(ledger)
    assert len(found) == 64
    assert sum(own for _, _, own, _, _ in found) == 1000


def test_entry_that_cannot_be_put_back_is_counted() -> None:
    """If a key was spent from again while it was carried over in vain, the newer note stays."""
    ledger, rule = Ledger(lambda: 0), bucket(1, 10)
    ledger.open(b"a", rule, 0)
    ledger.add(b"a", 1)
    taken = ledger.take(1, everything)
    ledger.open(b"a", rule, 0)
    ledger.add(b"a", 2)
    ledger.put_back(taken)
    assert (ledger.dropped, carried(ledger)[0][2]) == (1, 2 * rule.unit)


# Patience


def test_silence_is_over_before_the_timeout() -> None:
    """A server that is silent while the loop turns is given up within the timeout."""
    patience, time = Patience(0.05), 100.0
    patience.begin(time)
    sent = patience.now
    while not patience.is_over(sent):
        time += patience.step
        patience.look(time)
    assert 0.03 < time - 100.0 <= 0.05


def test_busy_loop_is_no_silence() -> None:
    """However long one turn of the loop takes, the answer may lie unread in the socket: it counts as two steps."""
    patience = Patience(0.05)
    patience.begin(0.0)
    patience.look(60.0)
    assert not patience.is_over(0.0)
    patience.look(120.0)
    assert not patience.is_over(0.0)


def test_time_without_calls_does_not_count() -> None:
    """What is sent after a pause has the whole time."""
    patience = Patience(0.05)
    patience.begin(0.0)
    patience.look(0.006)
    patience.begin(1000.0)
    sent = patience.now
    patience.look(1000.006)
    assert not patience.is_over(sent)
