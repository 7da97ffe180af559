"""The instances of a service: who may be asked, and how that changes."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from propylon.services.fleet import ELSEWHERE, Ejection, Fleet, HealthRules, Instance, Status
from tests.proxy.doubles import Asked

WALL = 1_000_000.0  # how far the wall clock is ahead of the other one
Change = tuple[str, str, str, str]


@dataclass
class World:
    """A fleet with a clock that is moved by hand, and everything that its listener heard."""

    count: int = 4
    health: HealthRules | None = None
    ejection: Ejection | None = field(default_factory=lambda: Ejection(3, 30.0, 0.5))
    now: float = 100.0
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fleet = self.make(*[named(letter) for letter in "abcdefghij"[: self.count]])

    def make(self, *instances: Instance) -> Fleet:
        """Another fleet by the same clock."""
        return Fleet(
            instances,
            "orders",
            health=self.health,
            ejection=self.ejection,
            clock=lambda: self.now,
            wall=lambda: WALL + self.now,
            listener=self.hear,
        )

    def hear(self, service: str, instance: Instance, old: str, new: str, reason: str) -> None:
        """Keep a change."""
        assert service == "orders"
        self.changes.append((instance.id, old, new, reason))

    def one(self, letter: str) -> Instance:
        """The instance with that name."""
        found = self.fleet.find(letter)
        assert found is not None
        return found

    def fail(self, letter: str, times: int = 3) -> None:
        """Have so many attempts fail."""
        for _ in range(times):
            self.fleet.failed(self.one(letter))

    def check(
        self, letter: str, *, ok: bool, answered: bool = True, latency: float = 0.002
    ) -> None:
        """Have a probe end."""
        self.fleet.checked(
            self.one(letter),
            ok=ok,
            answered=answered,
            at=WALL + self.now,
            latency=latency,
            reason="well" if ok else "not well",
        )

    @property
    def asked(self) -> str:
        """Who may be asked."""
        return "".join(instance.id for instance in self.fleet.candidates())

    @property
    def ejected(self) -> str:
        """Who is left out."""
        return "".join(one.id for one in self.fleet.snapshot() if one.ejected_until is not None)


def named(letter: str, **options: Any) -> Instance:
    """An instance."""
    upstream: Any = Asked()
    return Instance(letter, letter.encode(), b"", upstream, **options)


# Who is there


def test_all_may_be_asked_at_first() -> None:
    """Before the first probe everybody is tried, in the order of the file."""
    world = World(3, health=HealthRules())
    assert world.asked == "abc"
    assert world.fleet.last_check is None
    assert [one.status for one in world.fleet.snapshot()] == ["starting"] * 3
    assert world.changes == []


def test_a_fleet_of_nobody() -> None:
    """Nobody may be asked, and nothing is known."""
    fleet = Fleet(())
    assert (fleet.candidates(), fleet.last_check, fleet.snapshot()) == ((), None, ())


def test_the_same_tuple_as_long_as_nothing_changes() -> None:
    """Whoever balances may remember it."""
    world = World(health=HealthRules())
    before = world.fleet.candidates()
    assert before is world.fleet.instances
    world.check("a", ok=True)
    world.fail("b", 2)
    assert world.fleet.candidates() is before
    world.fail("b", 1)
    assert world.fleet.candidates() is world.fleet.candidates()
    world.now += 30
    assert world.fleet.candidates() is before


def test_ejection_needs_clocks() -> None:
    """A fleet that could never let anybody back is refused."""
    with pytest.raises(ValueError, match="clocks"):
        Fleet((), ejection=Ejection())
    with pytest.raises(ValueError, match="clocks"):
        Fleet((), ejection=Ejection(), clock=lambda: 0.0)


def test_added_and_removed() -> None:
    """Who comes is asked, who goes is not; listeners hear of both."""
    world = World(1)
    b = named("b", source="registered")
    world.fleet.add(b)
    assert world.asked == "ab"
    world.fleet.remove(b)
    world.fleet.remove(b)
    assert world.asked == "a"
    assert b.state.status == "stopped"
    assert world.changes == [
        ("b", "stopped", "starting", "added"),
        ("b", "starting", "stopped", "removed"),
    ]


def test_the_same_again_is_not_doubled() -> None:
    """An instance with a known id takes that one's place; what is known of it stays."""
    world = World(3, health=HealthRules())
    world.check("b", ok=False)
    again = named("b", weight=7)
    world.fleet.add(again)
    assert [one.id for one in world.fleet.instances] == ["a", "b", "c"]
    assert world.one("b").weight == 7
    assert world.one("b").upstream is again.upstream
    assert world.one("b").state.status == "unhealthy"
    assert world.asked == "ac"
    assert [change[2] for change in world.changes] == ["unhealthy"]


def test_who_comes_back_begins_anew() -> None:
    """The very object that was removed may be added again: of its past nothing is known."""
    world = World(2, health=HealthRules())
    b = world.one("b")
    world.check("b", ok=False)
    world.fleet.remove(b)
    world.fleet.add(b)
    assert world.one("b").state.status == "starting"
    assert world.one("b").state is not b.state
    assert world.asked == "ab"


def test_all_replaced() -> None:
    """Those that stay keep what is known of them, whatever else about them has changed."""
    world = World(3, health=HealthRules())
    for letter in "abc":
        world.check(letter, ok=letter != "b")
    old = world.one("b")
    world.fleet.replace([named("d"), named("b"), world.one("a")])
    assert world.asked == "da"
    assert world.one("b").state is old.state
    assert world.changes[3:] == [
        ("c", "healthy", "stopped", "removed"),
        ("d", "stopped", "starting", "added"),
    ]


def test_two_with_one_id_stay_two() -> None:
    """The file may name one address under two base paths: each has a state of its own."""
    world = World(0)
    fleet = world.make(named("a"), named("a"), named("b"))
    states = [one.state for one in fleet.instances]
    fleet.add(named("c"))
    assert [one.state for one in fleet.instances][:3] == states
    assert world.changes == [("c", "stopped", "starting", "added")]
    assert len(set(states)) == 3
    fleet.replace([named("a"), named("a")])
    assert len({one.state for one in fleet.instances}) == 2


@pytest.mark.parametrize("tell", ["succeeded", "failed", "checked"])
def test_news_of_who_is_gone_changes_nothing(tell: str) -> None:
    """An exchange or a probe may end after its instance was removed."""
    world = World(4)
    d = world.one("d")
    world.fail("d", 2)
    world.fleet.remove(d)
    changes = list(world.changes)
    if tell == "checked":
        world.fleet.checked(d, ok=True, answered=True, at=1.0, latency=1.0, reason="")
    else:
        getattr(world.fleet, tell)(d)
    assert (d.state.failures, d.state.status, d.state.last_check) == (2, "stopped", None)
    assert (world.asked, world.changes) == ("abc", changes)


# Probes


@pytest.mark.parametrize(
    ("rules", "probes", "status"),
    [
        (HealthRules(1, 1), "+", "healthy"),
        (HealthRules(1, 1), "-", "unhealthy"),
        (HealthRules(1, 1), "0", "failed"),
        (HealthRules(1, 1), "+-+", "healthy"),
        (HealthRules(1, 1), "-0", "failed"),
        (HealthRules(1, 1), "0-", "unhealthy"),
        (HealthRules(2, 1), "+", "starting"),
        (HealthRules(2, 1), "++", "healthy"),
        (HealthRules(2, 1), "-+", "unhealthy"),
        (HealthRules(2, 1), "-++", "healthy"),
        (HealthRules(2, 1), "-+-+", "unhealthy"),
        (HealthRules(1, 3), "--", "starting"),
        (HealthRules(1, 3), "---", "unhealthy"),
        (HealthRules(1, 3), "--+--", "healthy"),
        (HealthRules(1, 3), "+-0-", "unhealthy"),
        (HealthRules(1, 3), "+--0", "failed"),
        (HealthRules(2, 3), "---+0", "failed"),
        (HealthRules(3, 3), "++-++", "starting"),
    ],
)
def test_verdicts(rules: HealthRules, probes: str, status: Status) -> None:
    """`healthy_after` in a row are healthy, `unhealthy_after` are not; which of the two, says the last."""
    world = World(2, health=rules)
    for probe in probes:
        world.check("a", ok=probe == "+", answered=probe != "0")
    assert world.one("a").state.status == status
    assert ("a" in world.asked) == (status in ("starting", "healthy"))


def test_without_rules_probes_only_inform() -> None:
    """The status is there to be seen, and everybody is asked all the same."""
    world = World(2)
    world.check("a", ok=False)
    world.check("b", ok=False, answered=False)
    assert [one.status for one in world.fleet.snapshot()] == ["unhealthy", "failed"]
    assert world.asked == "ab"
    assert world.fleet.rules(world.one("a")) is None


def test_an_instance_with_rules_of_its_own() -> None:
    """One that registered with a check is judged by that, whatever its fleet does."""
    world = World(1)
    world.fleet.add(named("r", health=HealthRules(unhealthy_after=2)))
    for _ in range(2):
        assert world.asked == "ar"
        world.check("a", ok=False)
        world.check("r", ok=False)
    assert world.asked == "a"


def test_nobody_is_well() -> None:
    """Nobody may be asked, and since when is known."""
    world = World(2, health=HealthRules())
    world.check("a", ok=False)
    world.now += 5
    world.check("b", ok=False, answered=False)
    assert world.asked == ""
    assert world.fleet.last_check == WALL + 105
    world.now += 5
    world.check("a", ok=True)
    assert world.asked == "a"


def test_listeners_hear_of_verdicts() -> None:
    """Once for each change, with the reason; not for each probe."""
    world = World(1, health=HealthRules())
    for ok in (True, True, False, False, True):
        world.check("a", ok=ok)
    assert world.changes == [
        ("a", "starting", "healthy", "well"),
        ("a", "healthy", "unhealthy", "not well"),
        ("a", "unhealthy", "healthy", "well"),
    ]


def test_latency_is_that_of_the_last_answer() -> None:
    """One silence below the threshold does not make it unknown; a failed instance has none."""
    world = World(1, health=HealthRules(unhealthy_after=2))
    world.check("a", ok=True, latency=0.0123456)
    world.check("a", ok=False, answered=False, latency=1.0)
    assert world.fleet.snapshot()[0].latency_ms == 12.346
    world.check("a", ok=False, answered=False, latency=1.0)
    assert world.fleet.snapshot()[0].latency_ms is None


# Ejection


def test_failures_in_a_row_eject() -> None:
    """The third in a row; a success in between begins the row anew."""
    world = World(4)
    world.fail("a", 2)
    world.fleet.succeeded(world.one("a"))
    world.fail("a", 2)
    assert world.asked == "abcd"
    world.fail("a", 1)
    assert (world.asked, world.ejected) == ("bcd", "a")
    assert world.changes == [("a", "starting", "ejected", "3 failures in a row")]


def test_it_comes_back_by_itself() -> None:
    """When the time is over, with nothing asked of it; its row of failures begins anew."""
    world = World(4)
    world.fail("a")
    world.now += 29.9
    assert world.asked == "bcd"
    world.now += 0.1
    assert world.asked == "abcd"
    assert world.changes[1:] == [("a", "ejected", "starting", "its time is over")]
    world.fail("a", 2)
    assert world.asked == "abcd"


def test_the_time_grows_up_to_ten_times() -> None:
    """30 s, 60 s, 90 s … and never more than 300 s."""
    world = World(4)
    lasted = []
    for _ in range(12):
        world.fail("a")
        until = world.fleet.snapshot()[0].ejected_until
        assert until is not None
        lasted.append(until - WALL - world.now)
        world.now = until - WALL
        assert world.asked == "abcd"
    assert lasted == [30.0 * times for times in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10)]


def test_successes_shorten_the_record_as_time_goes_by() -> None:
    """By one for each 30 s that it works; a thousand successes in a moment are one."""
    world = World(4)
    for _ in range(3):
        world.fail("a")
        world.now += 90
        assert world.asked == "abcd"
    a = world.one("a")
    back = a.state.decayed_at
    for _ in range(1000):
        world.fleet.succeeded(a)
    assert a.state.ejections == 3
    for seconds, record in ((29.9, 3), (30.0, 2), (59.9, 2), (60.0, 1), (90.0, 0), (200.0, 0)):
        world.now = back + seconds
        world.fleet.succeeded(a)
        assert (seconds, a.state.ejections) == (seconds, record)


def test_late_news_does_not_touch_an_ejection() -> None:
    """Attempts that began before end while it is left out: they count neither for nor against it."""
    world = World(4)
    world.fail("a")
    world.fail("a", 10)
    world.fleet.succeeded(world.one("a"))
    assert world.one("a").state.failures == 0
    world.now += 30
    assert world.asked == "abcd"
    assert world.one("a").state.ejections == 1


@pytest.mark.parametrize(
    ("count", "share", "most"),
    [
        (1, 0.5, 0),
        (1, 1.0, 0),
        (2, 0.5, 1),
        (2, 0.49, 0),
        (2, 1.0, 1),
        (3, 0.5, 1),
        (4, 0.5, 2),
        (10, 0.1, 1),
        (9, 0.1, 0),
        (10, 0.7, 7),
        (10, 0.0, 0),
        (10, 1.0, 9),
    ],
)
def test_never_more_than_the_share(count: int, share: float, most: int) -> None:
    """Nor the only one, nor the last one: that is the breaker's business."""
    world = World(count, ejection=Ejection(1, 30.0, share))
    for instance in world.fleet.instances:
        world.fleet.failed(instance)
        world.fleet.failed(instance)
    assert len(world.ejected) == most
    assert len(world.asked) == count - most


def test_percentages_are_exact() -> None:
    """29 % of a hundred are 29, though not in floating point."""
    assert Ejection(share=0.29).max_ejected(100) == 29


def test_who_found_no_room_is_ejected_by_its_next_failure() -> None:
    """As soon as somebody else has come back."""
    world = World(2)
    world.fail("a")
    world.fail("b", 5)
    assert (world.asked, world.ejected) == ("b", "a")
    world.now += 30
    world.fail("b", 1)
    assert (world.asked, world.ejected) == ("a", "b")


def test_the_only_one_that_is_well_is_not_ejected() -> None:
    """Though the share would allow it: somebody has to be asked."""
    world = World(4, health=HealthRules())
    for letter in "abc":
        world.check(letter, ok=False)
    world.fail("d", 9)
    assert (world.asked, world.ejected) == ("d", "")


def test_who_is_ill_is_not_ejected() -> None:
    """Nobody asks it anyway, and the share is for those who are asked."""
    world = World(4, health=HealthRules())
    world.check("a", ok=False)
    world.fail("a", 9)
    world.fail("b")
    world.fail("c")
    assert (world.asked, world.ejected) == ("d", "bc")


def test_ejected_ones_are_asked_before_nobody_is() -> None:
    """When all the others have fallen ill, an ejected instance still counts as there."""
    world = World(2, health=HealthRules())
    world.fail("a")
    world.check("b", ok=False)
    assert (world.asked, world.ejected) == ("a", "a")
    world.check("b", ok=True)
    assert world.asked == "b"
    world.check("a", ok=False)
    world.check("b", ok=False)
    assert world.asked == ""


def test_a_good_probe_ends_no_ejection() -> None:
    """A health check asks for one small path; what failed was everything else."""
    world = World(2, health=HealthRules())
    world.fail("a")
    world.check("a", ok=True)
    assert world.asked == "b"
    world.now += 30
    assert world.asked == "ab"
    assert world.changes[-1] == ("a", "ejected", "healthy", "its time is over")


def test_the_share_holds_when_others_go() -> None:
    """Who would come back first comes back at once."""
    world = World(4)
    world.fail("a")
    world.now += 1
    world.fail("b")
    world.fleet.remove(world.one("d"))
    assert (world.asked, world.ejected) == ("ac", "b")
    assert world.changes[-2:] == [
        ("a", "ejected", "starting", "too few others are left"),
        ("d", "starting", "stopped", "removed"),
    ]
    world.fleet.remove(world.one("c"))
    world.fleet.remove(world.one("a"))
    assert (world.asked, world.ejected) == ("b", "")


def test_who_is_removed_while_ejected_takes_no_room() -> None:
    """Somebody else may be left out instead."""
    world = World(4, ejection=Ejection(3, 30.0, 0.34))
    world.fail("a")
    world.fleet.remove(world.one("a"))
    world.fail("b")
    assert world.ejected == "b"


def test_without_ejection_failures_are_only_counted() -> None:
    """For whoever wants to see them."""
    fleet = Fleet((named("a"), named("b")))
    for _ in range(100):
        fleet.failed(fleet.instances[0])
    assert fleet.candidates() is fleet.instances
    assert fleet.snapshot()[0].failures == 100
    fleet.succeeded(fleet.instances[0])
    assert fleet.snapshot()[0].failures == 0


# What an operator sees


def test_snapshot() -> None:
    """Times as the rest of the world counts them."""
    world = World(2, health=HealthRules())
    world.fleet.add(named("r", weight=3, source="registered", metadata={"zone": "a"}))
    world.check("r", ok=True)
    world.fail("r")
    world.now += 10
    found = world.fleet.snapshot()[-1]
    assert (found.id, found.status, found.failures, found.weight) == ("r", "healthy", 0, 3)
    assert (found.source, found.metadata) == ("registered", {"zone": "a"})
    assert (found.last_check, found.latency_ms) == (WALL + 100, 2.0)
    assert found.ejected_until == WALL + 130


def test_snapshot_of_who_is_back() -> None:
    """Whose time is over is back, though nobody has asked meanwhile."""
    world = World(2)
    world.fail("a")
    world.now += 30
    assert world.fleet.snapshot()[0].ejected_until is None


# A reload


class Watching:
    """A watcher that writes down whom it watches."""

    def __init__(self) -> None:
        self.watched: dict[Instance, tuple[Fleet, HealthRules]] = {}
        self.begun = 0

    def watch(self, fleet: Fleet, instance: Instance, rules: HealthRules) -> None:
        """Note it."""
        assert instance not in self.watched
        self.watched[instance] = (fleet, rules)
        self.begun += 1

    def forget(self, instance: Instance) -> None:
        """Strike it out."""
        self.watched.pop(instance, None)

    @property
    def ids(self) -> str:
        """Who is watched."""
        return "".join(sorted(instance.id for instance in self.watched))


def test_watched_are_those_with_rules() -> None:
    """From the start, when they come, and no longer when they go."""
    watcher = Watching()
    world = World(2)
    world.fleet.watch(watcher)
    assert watcher.ids == ""
    rules = HealthRules(path=b"/up")
    world.fleet.add(named("r", health=rules))
    assert watcher.watched == {world.one("r"): (world.fleet, rules)}
    world.fleet.add(again := named("r", health=HealthRules()))
    assert [one.upstream for one in watcher.watched] == [again.upstream]
    world.fleet.remove(world.one("r"))
    assert watcher.ids == ""


def test_watching_ends() -> None:
    """For all of them."""
    watcher = Watching()
    world = World(2, health=HealthRules())
    world.fleet.watch(watcher)
    world.fleet.watch(watcher)
    assert (watcher.ids, watcher.begun) == ("ab", 2)  # nothing began anew
    world.fleet.watch(None)
    assert watcher.ids == ""
    world.fleet.add(named("c"))
    assert watcher.ids == ""


def test_a_reload_keeps_what_is_known() -> None:
    """By id, though the instances are others; who is gone is stopped, and registered ones stay."""
    watcher = Watching()
    world = World(3, health=HealthRules())
    old = world.fleet
    old.watch(watcher)
    old.add(named("r", source="registered"))
    old.add(named("s", source="dns"))
    world.check("b", ok=False)
    world.fail("c")
    world.changes.clear()
    new = world.make(named("b"), named("c"), named("d"))
    new.carry_over(old, keep=["registered"])
    world.fleet = new
    assert (world.asked, world.ejected) == ("dr", "c")
    assert {fleet for fleet, _ in watcher.watched.values()} == {new}
    assert watcher.ids == "bcdr"
    assert world.changes == [
        ("a", "starting", "stopped", "removed"),
        ("s", "starting", "stopped", "removed"),
        ("d", "stopped", "starting", "added"),
    ]
    world.now += 30
    assert world.asked == "cdr"


@pytest.mark.parametrize("first", ["old", "new", "both"])
def test_a_reload_keeps_everybody_watched(first: str) -> None:
    """Whichever fleet was watched before: all are probed once, for the new one."""
    watcher = Watching()
    world = World(2, health=HealthRules())
    old = world.fleet
    old.add(named("r", source="registered"))
    new = world.make(named("a"), named("d"))
    for name, fleet in (("old", old), ("new", new)):
        if first in (name, "both"):
            fleet.watch(watcher)
    new.carry_over(old, keep=["registered"])
    assert set(watcher.watched) == set(new.instances)
    assert {fleet for fleet, _ in watcher.watched.values()} == {new}
    assert watcher.ids == "adr"


def test_after_a_reload_the_old_fleet_judges_no_more() -> None:
    """Exchanges that began before still use it; nothing they tell it moves what is known by now."""
    world = World(4)
    old, c = world.fleet, world.one("c")
    world.fail("a")
    world.fail("c", 2)
    new = world.make(*[named(letter) for letter in "abcd"])
    new.carry_over(old)
    world.changes.clear()
    world.now += 30
    assert "".join(one.id for one in old.candidates()) == "bcd"
    old.failed(c)
    old.succeeded(c)
    old.checked(c, ok=False, answered=True, at=1.0, latency=1.0, reason="")
    assert (c.state.failures, world.changes) == (2, [])
    world.fleet = new
    assert world.asked == "abcd"
    world.fail("c", 1)
    assert world.ejected == "c"


def test_a_reload_may_end_ejection() -> None:
    """Everybody is back at once, and nobody's record costs anything any more."""
    world = World(4)
    world.fail("a")
    new = Fleet([named(letter) for letter in "abcd"])
    new.carry_over(world.fleet)
    assert len(new.candidates()) == 4
    a = new.instances[0]
    assert a.state.ejections == 1
    new.succeeded(a)
    assert a.state.ejections == 0


# Other workers


def test_an_instance_is_ejected_as_elsewhere() -> None:
    """To the same moment; what is told a second time changes nothing."""
    world = World()
    world.fleet.eject_as("a", world.now + 7)
    assert world.asked == "bcd"
    assert world.fleet.ejections() == (("a", world.now + 7),)
    assert world.changes == [("a", "starting", "ejected", ELSEWHERE)]
    world.fleet.eject_as("a", world.now + 50)
    world.now += 7
    assert world.asked == "abcd"


@pytest.mark.parametrize(
    ("count", "known", "until"),
    [(1, "a", 107.0), (4, "nobody", 107.0), (4, "a", 100.0), (4, "a", 99.0)],
    ids=["the last one", "not here", "over", "long over"],
)
def test_what_would_not_be_ejected_here_is_not(count: int, known: str, until: float) -> None:
    """Another worker may know other instances, and its news may be late."""
    world = World(count)
    world.fleet.eject_as(known, until)
    assert world.fleet.ejections() == ()
    assert world.changes == []


def test_no_more_than_the_share_is_ejected_as_elsewhere() -> None:
    """Half of them: each worker holds to the rule for all that it ejects."""
    world = World(4)
    for letter in "abcd":
        world.fleet.eject_as(letter, world.now + 7)
    assert [one for one, _ in world.fleet.ejections()] == ["a", "b"]


def test_without_rules_nothing_is_ejected() -> None:
    """A reload has turned ejection off here, and not there yet."""
    world = World(ejection=None)
    world.fleet.eject_as("a", world.now + 7)
    assert world.asked == "abcd"
