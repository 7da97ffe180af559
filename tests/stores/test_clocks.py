"""A clock that was set: what it deletes would be lost for good, so it deletes nothing."""

import logging
from collections.abc import Callable

import pytest

from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Kind, Revocation
from propylon.proxy.principal import Principal
from propylon.stores.clocks import MARGIN, ClockWatch, elapsed
from tests.stores.kept import HOUR, NOON, Clock, Kept

Start = Callable[[], Kept]


def is_revoked(kept: Kept) -> bool:
    """What the hot path says of the token."""
    verified = Verified(Principal("ann"), NOON + 1800, NOON, "one")
    return kept.memory.revoked(verified, lambda: "")


def live(kept: Kept, seconds: float) -> None:
    """Let time pass, with a login and the housekeeping at its end."""
    kept.wait(seconds)
    kept.run(kept.grants.begin("bob", frozenset(), f"b{kept.monotonic.now}", NOON))
    kept.run(kept.journal.catch_up())
    kept.run(kept.pruning.prune())


@pytest.mark.parametrize("step", [3 * HOUR, 40 * 86400.0, 400 * 86400.0])
def test_a_clock_that_goes_ahead_and_back(worker: Start, step: float) -> None:
    """A revoked token is refused after it, in the worker that lived through it and in one that starts then."""
    kept = worker()
    kept.run(kept.journal.revoke(Revocation(Kind.ID, "one", NOON + 1800)))
    kept.clock.now += step
    live(kept, 1200.0)
    live(kept, 3700.0)
    kept.clock.now -= step + 4900.0
    assert is_revoked(kept)
    restarted = worker()
    restarted.run(restarted.journal.catch_up())
    assert is_revoked(restarted)


def test_a_start_with_a_clock_that_is_ahead(worker: Start) -> None:
    """A machine that starts with a wrong clock deletes nothing before NTP has set it."""
    kept = worker()
    kept.run(kept.journal.revoke(Revocation(Kind.ID, "one", NOON + 1800)))
    kept.clock.now += 40 * 86400
    restarted = worker()
    live(restarted, 60.0)
    kept.clock.now -= 40 * 86400 + 60
    assert is_revoked(restarted)
    live(restarted, 1200.0)
    again = worker()
    again.run(again.journal.catch_up())
    assert is_revoked(again)


class Clocks:
    """A watch over two clocks."""

    def __init__(self) -> None:
        self.wall, self.monotonic = Clock(), Clock(0.0)
        self.watch = ClockWatch(self.wall, self.monotonic)

    def after(self, seconds: float, step: float = 0.0) -> bool:
        """Whether the clocks agree after some time, and a step of the wall clock."""
        self.monotonic.now += seconds
        self.wall.now += seconds + step
        return self.watch.agrees()


@pytest.fixture
def clocks() -> Clocks:
    """A watch that believes the clock."""
    return Clocks()


def test_small_steps_are_no_matter(clocks: Clocks) -> None:
    """NTP corrects by seconds."""
    assert all(clocks.after(3600.0, step) for step in (0.0, 5.0, -30.0, 10.0))


def test_it_says_so_once(clocks: Clocks, caplog: pytest.LogCaptureFixture) -> None:
    """The operator reads when the clock was set, by how much, and when it is right again."""
    caplog.set_level(logging.WARNING)
    answers = [clocks.after(1.0, step) for step in (0.0, 7200.0, 0.0, 0.0, -7200.0, 0.0)]
    assert answers == [True, False, False, False, True, True]
    assert [record.getMessage() for record in caplog.records] == [
        "the clock was set by +7200 s: nothing that has expired is deleted for now",
        "the clock is as it was before it was set: what has expired is deleted again",
    ]


def test_a_clock_that_was_set_right_is_believed_in_the_end(clocks: Clocks) -> None:
    """Else nothing would ever be deleted again; each further step begins the wait anew."""
    assert not clocks.after(1.0, 7200.0)
    assert not clocks.after(MARGIN - 1.0)
    assert not clocks.after(1.0, 7200.0)
    assert not clocks.after(MARGIN - 1.0)
    assert clocks.after(2.0)
    assert clocks.after(1.0)


def test_the_time_that_passes() -> None:
    """It never goes back."""
    assert elapsed() <= elapsed()
