"""Instances of a lower priority stand by."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from propylon.services.fleet import Ejection, Fleet, HealthRules
from propylon.services.usable import first
from tests.proxy.attempts import AT_ONCE, DOWN, Up, counts, of, told
from tests.services.test_fleet import World, named
from tests.support.examples import examples


def world(*priorities: int, **options: Any) -> World:
    """A fleet with an instance for each."""
    made = World(0, **options)
    some = zip("abcdefghij", priorities, strict=False)
    made.fleet = made.make(*[named(letter, priority=priority) for letter, priority in some])
    return made


def test_the_highest_is_asked() -> None:
    """In the order of the file; and all of them, where none stands by."""
    assert world(0, -1, 0).asked == "ac"
    assert world(5, 5).asked == "ab"
    assert world(-3).asked == "a"


def test_failover_by_health() -> None:
    """The next ones get the requests when the last one of a higher priority is ill, and only as long as it is."""
    ill = world(1, 1, 0, -1, health=HealthRules())
    for letter, asked in (("a", "b"), ("b", "c"), ("c", "d")):
        ill.check(letter, ok=False)
        assert ill.asked == asked
    ill.check("d", ok=False)
    assert ill.asked == ""
    ill.check("c", ok=True)
    assert ill.asked == "c"
    ill.check("a", ok=True)
    assert ill.asked == "a"


def test_failover_by_status() -> None:
    """Ejections may take out all that have somebody to stand in for them, whatever their share."""
    failing = world(0, 0, -1)
    failing.fail("a")
    assert failing.asked == "b"
    failing.fail("b")
    assert (failing.asked, failing.ejected) == ("c", "ab")
    failing.fail("c")  # the last one is the breaker's business
    assert (failing.asked, failing.ejected) == ("c", "ab")
    failing.now += 31
    assert failing.asked == "ab"


def test_the_share_holds_among_equals() -> None:
    """Half of them at the most, as long as nobody stands by that may be asked."""
    failing = world(0, 0, 0, 0, -1, health=HealthRules())
    failing.check("e", ok=False)
    for letter in "abc":
        failing.fail(letter)
    assert (failing.asked, failing.ejected) == ("cd", "ab")


def test_one_that_is_alone_and_has_somebody_to_stand_in() -> None:
    """Is left out, which it would not be without."""
    failing = world(0, -1)
    failing.fail("a")
    assert (failing.asked, failing.ejected) == ("b", "a")


def test_a_stand_in_that_leaves_ends_ejections() -> None:
    """The share holds again."""
    failing = world(0, 0, -1)
    failing.fail("a")
    failing.fail("b")
    failing.fleet.remove(failing.one("c"))
    assert len(failing.ejected) == 1
    assert len(failing.asked) == 1


def test_a_retry_spills_over() -> None:
    """To those that stand by when all others were tried."""
    ups = [Up(DOWN), Up(DOWN), Up()]
    to = of(*ups, retry=AT_ONCE)
    fleet = Fleet([replace(one, priority=-at) for at, one in enumerate(to.instances)])
    assert told(replace(to, fleet=fleet)).status == 200
    assert counts(*ups) == [1, 1, 1]


@given(
    st.lists(
        st.tuples(st.integers(-2, 2), st.booleans(), st.integers(0, 3)), min_size=1, max_size=7
    )
)
@examples(100)
def test_nobody_is_asked_before_a_higher_one(some: list[tuple[int, bool, int]]) -> None:
    """Whatever has happened: those that are asked are the highest of those that may be, and a further attempt goes down in order."""
    at = world(
        *(priority for priority, _, _ in some), health=HealthRules(), ejection=Ejection(2, 30, 1.0)
    )
    for letter, (_, well, failures) in zip("abcdefghij", some, strict=False):
        at.check(letter, ok=well)
        at.fail(letter, failures)
    usable = at.fleet.usable
    assert at.fleet.candidates() == first(usable)
    tried: list[Any] = []
    while left := at.fleet.untried(tried):
        assert {one.priority for one in left} == {
            max(one.priority for one in usable if one not in tried)
        }
        tried.append(left[0])
    assert set(tried) == set(usable)
