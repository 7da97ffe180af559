"""Whatever happens to a fleet, in whatever order: what must hold afterwards."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from propylon.services.fleet import Ejection, Fleet, HealthRules, Instance
from tests.proxy.doubles import Asked
from tests.support.examples import examples

IDS = st.sampled_from("abc")
RULES = st.sampled_from([HealthRules(), HealthRules(2, 1), HealthRules(1, 2), None])
WHICH = st.integers(0, 5)
EJECTIONS = st.sampled_from(
    [Ejection(failures, 30.0, share) for failures in (1, 2) for share in (1.0, 0.5, 0.34)]
)
LONGEST = 300.0  # ten times the first


def instance(letter: str, rules: HealthRules | None = None) -> Instance:
    """An instance."""
    upstream: Any = Asked()
    return Instance(letter, letter.encode(), b"", upstream, health=rules)


class Life(RuleBasedStateMachine):
    """A fleet to which things happen, and what it said of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.watched: set[Instance] = set()
        self.told: dict[str, str] = {}  # what the listener heard last of each status
        self.out: set[str] = set()  # whom the listener heard to be ejected
        self.strangers: list[Instance] = []  # those that were there once

    @initialize(ids=st.sets(IDS, min_size=2), rules=RULES, ejection=EJECTIONS)
    def begin(self, ids: set[str], rules: HealthRules | None, ejection: Ejection) -> None:
        """Start."""
        self.told = dict.fromkeys(ids, "starting")
        self.fleet = self.make([instance(letter) for letter in sorted(ids)], rules, ejection)
        self.fleet.watch(self)

    def make(
        self, instances: list[Instance], rules: HealthRules | None, ejection: Ejection
    ) -> Fleet:
        """A fleet by the same clock."""
        self.ejection = ejection
        return Fleet(
            instances,
            health=rules,
            ejection=ejection,
            clock=lambda: self.now,
            wall=lambda: self.now,
            listener=self.hear,
        )

    # What the fleet calls

    def watch(self, fleet: Fleet, instance: Instance, rules: HealthRules) -> None:
        """Note it."""
        assert instance not in self.watched
        self.watched.add(instance)

    def forget(self, instance: Instance) -> None:
        """Strike it out."""
        self.watched.discard(instance)

    def hear(self, service: str, instance: Instance, old: str, new: str, reason: str) -> None:
        """Follow every change: each begins where the last one ended."""
        assert reason
        assert old != new
        assert instance in self.fleet.instances or new == "stopped"
        letter = instance.id
        if new == "ejected":
            assert letter not in self.out
            assert old == self.told[letter]
            assert self.is_well(instance)
            assert all(one.state.ejected_until is None for one in self.fleet.present)
            self.out.add(letter)
        elif old == "ejected":
            assert new == self.told[letter]
            self.out.remove(letter)
        else:
            assert old == self.told.get(letter, "stopped")
            self.told[letter] = new
            if new == "stopped":
                del self.told[letter]
                self.out.discard(letter)

    # What happens

    def some(self, which: int) -> Instance | None:
        """One of those that are there, or sometimes of those that were."""
        found = self.fleet.instances if which or not self.strangers else self.strangers[-1:]
        return found[which % len(found)] if found else None

    @rule(which=WHICH, times=st.integers(1, 3))
    def fail(self, which: int, times: int) -> None:
        """Attempts fail."""
        found = self.some(which)
        for _ in range(times if found else 0):
            self.fleet.failed(found)  # type: ignore[arg-type]

    @rule(which=WHICH)
    def succeed(self, which: int) -> None:
        """An attempt goes well; nobody can have failed in a row then."""
        found = self.some(which)
        if found is not None:
            self.fleet.succeeded(found)
            assert found.state.failures == 0 or found in self.strangers

    @rule(which=WHICH, ok=st.booleans(), answered=st.booleans(), times=st.integers(1, 2))
    def check(self, which: int, ok: bool, answered: bool, times: int) -> None:
        """Probes end."""
        found = self.some(which)
        for _ in range(times if found else 0):
            self.fleet.checked(
                found,  # type: ignore[arg-type]
                ok=ok,
                answered=ok or answered,
                at=self.now,
                latency=0.001,
                reason="a probe",
            )

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 86400.0 * 365]))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds

    @rule(letter=IDS, rules=RULES)
    def add(self, letter: str, rules: HealthRules | None) -> None:
        """Somebody comes, or comes again."""
        old = self.fleet.find(letter)
        self.fleet.add(instance(letter, rules))
        new = self.fleet.find(letter)
        assert new is not None
        if old is not None:
            assert new.state is old.state
            self.strangers.append(old)

    @rule(which=WHICH)
    def remove(self, which: int) -> None:
        """Somebody goes."""
        found = self.some(which)
        if found is not None:
            self.fleet.remove(found)
            self.strangers.append(found)
            assert self.fleet.find(found.id) is None

    @rule(ids=st.sampled_from(["ab", "ba", "abc", "cb", ""]), rules=RULES, ejection=EJECTIONS)
    def reload(self, ids: str, rules: HealthRules | None, ejection: Ejection) -> None:
        """A new file."""
        old = self.fleet
        self.strangers += old.instances
        self.fleet = self.make([instance(letter) for letter in ids], rules, ejection)
        self.fleet.carry_over(old)
        assert [one.id for one in self.fleet.instances] == list(ids)

    # What holds

    @invariant()
    def everybody_asked_is_there_and_well(self) -> None:
        """In the order of the instances, nobody twice."""
        asked = self.fleet.candidates()
        assert asked is self.fleet.candidates()
        assert asked == tuple(one for one in self.fleet.instances if one in asked)
        assert all(map(self.is_well, asked))

    @invariant()
    def somebody_is_asked_while_somebody_is_well(self) -> None:
        """Or not known to be ill."""
        well = any(map(self.is_well, self.fleet.instances))
        assert bool(self.fleet.candidates()) == well

    @invariant()
    def who_is_well_and_not_ejected_is_asked(self) -> None:
        """Nobody is forgotten."""
        asked = self.fleet.candidates()
        for one in self.fleet.instances:
            if self.is_well(one) and one.state.ejected_until is None:
                assert one in asked

    @invariant()
    def never_more_than_the_share_is_ejected(self) -> None:
        """Nor everybody; and each for a time that ends."""
        self.fleet.candidates()
        states = [one.state for one in self.fleet.instances]
        ends = [state.ejected_until for state in states if state.ejected_until is not None]
        assert len(ends) <= self.ejection.share * len(states)
        assert not ends or len(ends) < len(states)
        assert all(self.now < end <= self.now + LONGEST for end in ends)
        assert all(0 <= state.ejections <= 10 for state in states)

    @invariant()
    def everything_ejected_comes_back(self) -> None:
        """By itself, a long time later; the machine's own time does not move."""
        if any(one.state.ejected_until is not None for one in self.fleet.instances):
            assert self.fleet.due is not None
        else:
            assert self.fleet.due is None

    @invariant()
    def nothing_is_known_of_who_is_gone(self) -> None:
        """No state, no probe, nothing told."""
        fleet = self.fleet
        assert fleet._members == {one.state: one for one in fleet.instances}
        assert self.watched == {one for one in fleet.instances if fleet.rules(one) is not None}
        assert self.told == {one.id: one.state.status for one in fleet.instances}
        assert self.out == {
            one.id for one in fleet.instances if one.state.ejected_until is not None
        }

    def is_well(self, one: Instance) -> bool:
        """Whether probes have nothing against it."""
        return self.fleet.rules(one) is None or one.state.status in ("starting", "healthy")

    def teardown(self) -> None:
        """Nothing holds for ever: without further failures, everybody is back."""
        if hasattr(self, "fleet"):
            self.now += LONGEST
            self.fleet.candidates()
            assert all(one.state.ejected_until is None for one in self.fleet.instances)


TestLife = Life.TestCase
TestLife.settings = examples(100, stateful_step_count=30)
