"""An instance that came gets a growing share."""

from collections import Counter
from typing import Any

import pytest

from propylon.services.balance import least_connections, random, round_robin
from propylon.services.fleet import Fleet, HealthRules, Instance
from propylon.services.hashing import Rendezvous
from propylon.services.warmup import Warmup
from tests.services.test_fleet import World, named

SECONDS = 30.0


def warm(world: World) -> Warmup:
    """The rule, by the clock of the world."""
    return Warmup(SECONDS, lambda: world.now)


def share(world: World, balance: Any, letter: str, times: int = 600) -> float:
    """The share of an instance at this moment."""
    counts = Counter(balance(world.fleet.candidates()).id for _ in range(times))
    return round(counts[letter] / times, 2)


def weight(world: World, letter: str) -> float:
    """Its weight at this moment."""
    return round(warm(world).weigh(world.one(letter)), 3)


def test_those_that_were_there_have_their_whole_weight() -> None:
    """A start of the gateway is no arrival: there is nobody who could take their part."""
    world = World(3)
    assert [weight(world, letter) for letter in "abc"] == [1, 1, 1]
    assert not warm(world).is_on(world.fleet.instances)


def test_one_that_comes() -> None:
    """A tenth at first, half after half of the time, and the whole from then on."""
    world = World(2)
    world.fleet.add(named("c", weight=2))
    told = [weight(world, "c")]
    for seconds in (2.0, 13.0, 14.0, 1.0, 100.0):
        assert warm(world).is_on(world.fleet.candidates()) is (seconds < 100)
        world.now += seconds
        told.append(weight(world, "c"))
    assert told == [0.2, 0.2, 1.0, 1.933, 2.0, 2.0]
    assert not warm(world).is_on(world.fleet.candidates())
    assert weight(world, "a") == 1


def ill(world: World) -> None:
    """Fails its probes, and is well again."""
    world.check("a", ok=False)
    world.now += 5
    world.check("a", ok=True)


def ejected(world: World) -> None:
    """Fails requests, and its time is over."""
    world.fail("a")
    world.now += 31
    world.fleet.candidates()


def drained(world: World) -> None:
    """An operator takes it out, and puts it back."""
    world.fleet.drain(world.one("a"), drained=True)
    world.fleet.drain(world.one("a"), drained=False)


@pytest.mark.parametrize("happens", [ill, ejected, drained])
def test_one_that_comes_back(happens: Any) -> None:
    """Begins anew, whatever took it out."""
    world = World(3, health=HealthRules())
    happens(world)
    assert [weight(world, letter) for letter in "abc"] == [0.1, 1, 1]


def test_what_is_no_arrival() -> None:
    """A probe that finds it well, a renewed registration, and a reload."""
    world = World(2, health=HealthRules())
    world.check("a", ok=True)
    world.fleet.add(named("a"))
    after = world.make(named("a"), named("b"), named("c"))
    after.carry_over(world.fleet)
    world.fleet = after
    assert [weight(world, letter) for letter in "abc"] == [1, 1, 0.1]
    world.now += 15
    again = world.make(*[named(letter) for letter in "abc"])
    again.carry_over(after)
    world.fleet = again
    assert [weight(world, letter) for letter in "abc"] == [1, 1, 0.5]


def test_the_balance_holds_to_it() -> None:
    """By turns, by draws and by load; and the usual shares when it is warm."""
    world = World(2)
    world.fleet.add(named("c"))
    numbers = iter([at / 601 % 1 for at in range(0, 10_000_000, 197)])
    by_turns, by_draws = round_robin(warm(world)), random(lambda: next(numbers), warm(world))
    for seconds, expected in ((0.0, 0.05), (15.0, 0.2), (15.0, 0.33)):
        world.now += seconds
        assert share(world, by_turns, "c") == pytest.approx(expected, abs=0.011)
        assert share(world, by_draws, "c") == pytest.approx(expected, abs=0.04)


def test_load_counts_ten_times() -> None:
    """One that is new gets a request when the others have ten."""
    world = World(0)
    world.fleet = Fleet((), clock=lambda: world.now, wall=lambda: world.now)
    busy: Any = type("Busy", (), {"busy": 8})()
    world.fleet.replace([Instance("a", b"", b"", busy)])
    world.now += SECONDS
    world.fleet.add(named("b"))
    choose = least_connections(warm(world))
    assert choose(world.fleet.candidates()).id == "a"
    busy.busy = 10
    assert choose(world.fleet.candidates()).id == "b"


def test_keys_move_to_it_in_time() -> None:
    """Those that have moved stay: no key goes there and back."""
    world = World(2)
    world.fleet.add(named("c"))
    rule, moved = warm(world), [set[int]()]
    for _ in range(4):
        found = {
            key
            for key in range(300)
            if Rendezvous().choose(str(key), world.fleet.candidates(), rule.weigh).id == "c"
        }
        assert found > moved[-1]
        moved.append(found)
        world.now += 10
    assert len(moved[1]) < 30
    assert 75 < len(moved[-1]) < 125
