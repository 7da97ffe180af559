"""Hold the instances of one service and decide which of them may be asked now. Pure: clocks are arguments.

Instances come and go (registry, DNS, reload). Health checks and ejection (outlier detection) take an instance
out and put it back. The proxy sees only the result: `candidates`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from propylon.services.instance import (
    Condition,
    Ejection,
    HealthRules,
    Instance,
    InstanceSnapshot,
    InstanceState,
    Source,
    Status,
    with_known_state,
)
from propylon.services.usable import ejected, first, most_ejected, usable

__all__ = [
    "ELSEWHERE",
    "Clock",
    "Condition",
    "Ejection",
    "Fleet",
    "HealthRules",
    "Instance",
    "Listener",
    "Source",
    "Status",
    "Watcher",
]

Clock = Callable[[], float]

# Strategy: `candidates` is on the path of every request, so everything is computed when it changes, and a
# request reads one tuple. Only the end of an ejection comes with time: `due` is when the next one is.
#
# Fact: health and ejection are independent. Health is what probes say. Ejection is what real requests say, and
# it sees what a probe cannot: a /health that answers 200 in front of a broken database.
#
# Rule: an `InstanceState` belongs to one fleet, the one that has it in `_members`. A report about any other
# state is late (the instance was removed, or a reload replaced the fleet) and is ignored.

# Called after each change with: service, instance, condition before, condition after, reason.
Listener = Callable[[str, Instance, Condition, Condition, str], None]

_DEFAULT_RULES = HealthRules()
ELSEWHERE = "it failed in another worker"  # the reason of an ejection that is decided there


class Watcher(Protocol):
    """Probes instances and reports the results to their fleet by `checked`."""

    def watch(self, fleet: Fleet, instance: Instance, rules: HealthRules) -> None:
        """Probe the instance every `rules.interval` seconds until `forget`."""

    def forget(self, instance: Instance) -> None:
        """Stop probing the instance. One that was never probed is no error."""


def _no_clock() -> float:
    """Stand in for a clock in fleets without ejection, which need none."""
    return 0.0


class Fleet:
    """The instances of one service; `candidates` returns those that may be asked now."""

    __slots__ = (
        "_clock",
        "_ejection",
        "_listener",
        "_members",
        "_wall",
        "_watcher",
        "due",
        "health",
        "host",
        "instances",
        "name",
        "present",
        "usable",
    )

    def __init__(
        self,
        instances: Iterable[Instance],
        name: str = "",
        *,
        health: HealthRules | None = None,
        ejection: Ejection | None = None,
        clock: Clock = _no_clock,
        wall: Clock = _no_clock,
        listener: Listener | None = None,
        host: bytes | None = None,
    ) -> None:
        """Start with the configured instances.

        `health`: probes decide which instances are asked; None: probes only inform `/health`. `clock` is monotonic, `wall`
        returns seconds since 1970. `host` is the Host that probes send; None or empty: that of the instance.
        """
        if ejection is not None and _no_clock in (clock, wall):
            msg = "ejection needs clocks: without them an ejected instance never comes back"
            raise ValueError(msg)
        self.name = name
        self.host = host
        self.health = health
        self.instances: tuple[Instance, ...] = tuple(instances)
        self._ejection = ejection
        self._clock = clock
        self._wall = wall
        self._listener = listener
        self._watcher: Watcher | None = None
        # The candidates, valid while `due` is None. The hot path reads both attributes to save a call.
        self.present = self.usable = self.instances  # `usable`: of all priorities
        # The current instance for each state. An exchange may report about an older Instance object with the
        # same state (a registration was renewed meanwhile), and means the current one.
        self._members: dict[InstanceState, Instance] = {}
        self.due: float | None = None  # when the next ejection ends; None: no instance is ejected
        self._refresh()

    # Hot path

    def candidates(self) -> tuple[Instance, ...]:
        """Return the instances that may be asked now: the same tuple as long as nothing changes."""
        if self.due is not None:
            self._readmit()
        return self.present

    def untried(self, tried: Collection[Instance]) -> tuple[Instance, ...]:
        """Return the instances for a further attempt: those that were not tried, or the next ones by priority."""
        self._readmit()
        return first(tuple(one for one in self.usable if one not in tried))

    def succeeded(self, instance: Instance) -> None:
        """Count a successful attempt: it ends the row of failures."""
        state = instance.state
        if state.failures or state.ejections:
            self._recover(instance)

    def failed(self, instance: Instance) -> bool:
        """Count a failed attempt (no connection, broken response, 5xx); tell whether it ejected the instance."""
        state = instance.state
        member = self._members.get(state)
        if state.ejected_until is not None or member is None:
            return False  # the attempt began before the instance was ejected or removed
        # Counted without rules, too: operators see the number, and a reload may turn ejection on.
        state.failures += 1
        rules = self._ejection
        if rules is None or state.failures < rules.failures:
            return False
        return self._eject(member, rules)

    # Health checks, and what operators see

    @property
    def last_check(self) -> float | None:
        """When the newest probe of any instance ended, in seconds since 1970; None before the first."""
        checks = [instance.state.last_check for instance in self.instances]
        return max((check for check in checks if check is not None), default=None)

    def rules(self, instance: Instance) -> HealthRules | None:
        """Return the health rules of an instance; None if probes do not decide whether it is asked.

        An instance that registered brings its own path and interval.
        """
        return instance.health or self.health

    def find(self, instance_id: str) -> Instance | None:
        """Return the instance with that id, or None."""
        return next((one for one in self.instances if one.id == instance_id), None)

    def snapshot(self) -> tuple[InstanceSnapshot, ...]:
        """Return the state of every instance for operators."""
        self._readmit()
        clock_offset = self._wall() - self._clock()
        return tuple(InstanceSnapshot.of(instance, clock_offset) for instance in self.instances)

    def checked(
        self,
        instance: Instance,
        *,
        ok: bool,
        answered: bool,
        at: float,
        latency: float,
        reason: str,
    ) -> None:
        """Apply the result of a probe that ended at `at` (seconds since 1970) and took `latency` seconds."""
        state = instance.state
        member = self._members.get(state)
        if member is None:
            return  # the instance was removed while the probe was in flight
        state.last_check = at
        # Without rules probes only inform `/health`, so a single result is shown at once.
        rules = self.rules(member) or _DEFAULT_RULES
        old, new = state.status, rules.verdict(state, ok=ok, answered=answered)
        if answered or new == "failed":
            state.latency = latency if answered else None
        if old != new:
            state.status, state.since = new, at
            self._refresh()
            self._notify(member, old, new, reason)

    # Membership

    def add(self, instance: Instance) -> None:
        """Add an instance. If one has its id already, replace it and keep the state: health, failures."""
        known = self.find(instance.id)
        if known is None:
            self.replace((*self.instances, instance))
        else:
            self.replace(instance if one is known else one for one in self.instances)

    def remove(self, instance: Instance) -> None:
        """Remove an instance: it gets no more requests and no more probes. Requests in flight go on."""
        self.replace(one for one in self.instances if one.id != instance.id)

    def replace(self, instances: Iterable[Instance]) -> None:
        """Set the list of instances. Those that stay, by their id, keep their state."""
        before = self.instances
        self._set_instances(instances, before)
        was, now = set(before), set(self.instances)
        for instance in before:
            if instance not in now:
                self._forget(instance)
        for instance in self.instances:
            if instance not in was:
                self._watch(instance)

    def carry_over(self, old: Fleet, *, keep: Collection[Source] = ()) -> None:
        """Take over the state of `old`, the fleet of the same service before a reload.

        Instances of the sources in `keep` are taken over too, since no configuration lists them. From now on
        `old` ignores what exchanges that began before the reload report.
        """
        # Probes are moved, not doubled: two fleets that probe one instance would double its `streak`.
        watcher = self._watcher or old._watcher
        old.watch(None)
        self.watch(None)
        # Both fleets share the state objects now. Only one may change them, or failures would count twice.
        old._members = {}
        old.due = None
        self.usable = old.usable  # what could be asked before has not come now
        mine = {instance.id for instance in self.instances}
        kept = [one for one in old.instances if one.source in keep and one.id not in mine]
        self._set_instances((*self.instances, *kept), old.instances)
        self.watch(watcher)

    def watch(self, watcher: Watcher | None) -> None:
        """Have all instances that have rules probed by `watcher`, later ones too; None stops all probes."""
        if watcher is self._watcher:
            return
        for instance in self.instances:
            self._forget(instance)
        self._watcher = watcher
        for instance in self.instances:
            self._watch(instance)

    def _set_instances(self, instances: Iterable[Instance], known: tuple[Instance, ...]) -> None:
        """Set the list of instances and notify about arrivals and departures; `known` is the list before."""
        present = set(known)
        gone = {instance.id: instance for instance in known}
        found: list[Instance] = []
        added: list[Instance] = []
        for instance in instances:
            old = gone.pop(instance.id, None)
            found.append(with_known_state(instance, instance if instance in present else old))
            if old is None and instance not in present:
                added.append(found[-1])
        self.instances = tuple(found)
        self._enforce_max_ejected()
        for instance in gone.values():
            self._stop(instance)
        for instance in added:
            self._notify(instance, "stopped", instance.state.status, "added")

    def _stop(self, instance: Instance) -> None:
        state = instance.state
        old, state.status = state.status, "stopped"
        self._notify(instance, old, "stopped", "removed")

    def _watch(self, instance: Instance) -> None:
        rules = self.rules(instance)
        if self._watcher is not None and rules is not None:
            self._watcher.watch(self, instance, rules)

    def _forget(self, instance: Instance) -> None:
        if self._watcher is not None:
            self._watcher.forget(instance)

    def drain(self, instance: Instance, *, drained: bool) -> None:
        """Send an instance no new requests, or send them again: an operator says so. Those in flight, and probes, go on."""
        state = instance.state
        if state.drained != drained:
            state.drained = drained
            self._refresh()
            ends: tuple[Condition, Condition] = (state.status, "drained")
            self._notify(instance, *(ends if drained else ends[::-1]), "an operator says so")

    # Ejection (outlier detection)

    def _eject(self, instance: Instance, rules: Ejection, *, elsewhere: bool = False) -> bool:
        self._readmit()
        state = instance.state
        asked = [one.state for one in self.usable]
        # An unhealthy instance gets no requests already. And the last one that is asked is never ejected:
        # whether to refuse all requests is the breaker's decision.
        if state not in asked or len(asked) == 1:
            return False
        # When many instances fail at once, the cause is likely what they share (a database, the network). Ejecting
        # them all would move the load to the rest and bring those down, too.
        others = [one for one in self.usable if one is not instance]
        if len(ejected(self.instances)) >= most_ejected(rules, self.instances, others):
            return False
        reason = ELSEWHERE if elsewhere else f"{state.failures} failures in a row"
        rules.eject(state, self._clock())
        self._refresh()
        self._notify(instance, state.status, "ejected", reason)
        return True

    def eject_as(self, instance_id: str, until: float) -> None:
        """Eject an instance as another worker did, to the same moment; the last one is never ejected."""
        instance, rules = self.find(instance_id), self._ejection
        if instance is None or rules is None or until <= self._clock():
            return
        if instance.state.ejected_until is None and self._eject(instance, rules, elsewhere=True):
            instance.state.ejected_until = until
            self._refresh()

    def ejections(self) -> tuple[tuple[str, float], ...]:
        """Return the id of each ejected instance, and when its ejection ends on the clock."""
        self._readmit()
        return tuple((instance.id, until) for instance, until in ejected(self.instances))

    def _recover(self, instance: Instance) -> None:
        state = instance.state
        if state.ejected_until is not None or state not in self._members:
            return  # the attempt began before the instance was ejected or removed
        state.failures = 0
        if self._ejection is None:
            state.ejections = 0  # left over from before a reload that turned ejection off
        elif state.ejections:
            self._ejection.decay(state, self._clock())

    def _readmit(self) -> None:
        """End the ejections whose time is over."""
        now = self._clock()
        if self.due is None or now < self.due:
            return
        for instance, until in ejected(self.instances):
            if until <= now:
                self._end_ejection(instance, until, "its time is over")

    def _enforce_max_ejected(self) -> None:
        """End ejections, the shortest remaining first, while more are ejected than the share allows.

        Instances that leave make the share smaller: three of six may be ejected, but only one of two.
        """
        self._refresh()
        allowed = most_ejected(self._ejection, self.instances, self.usable)
        out = sorted(ejected(self.instances), key=lambda one: one[1])
        for instance, _ in out[: max(0, len(out) - allowed)]:
            self._end_ejection(instance, self._clock(), "too few others are left")

    def _end_ejection(self, instance: Instance, since: float, reason: str) -> None:
        state = instance.state
        # The count of ejections stays: an instance that fails again at once is ejected for longer.
        state.ejected_until = None
        state.decayed_at = since
        self._refresh()
        self._notify(instance, "ejected", state.status, reason)

    # Derived state

    def _refresh(self) -> None:
        was = {one.state for one in self.usable}
        self.usable = usable(self.instances, self.rules)
        for one in self.usable:
            if one.state not in was:
                one.state.began = self._clock()
        candidates = first(self.usable)
        # Only a real change makes a new tuple: round robin recognises its candidates by identity.
        if candidates != self.present:
            self.present = self.instances if candidates == self.instances else candidates
        self._members = {instance.state: instance for instance in self.instances}
        self.due = min((until for _, until in ejected(self.instances)), default=None)

    def _notify(self, instance: Instance, old: Condition, new: Condition, reason: str) -> None:
        if self._listener is not None:
            self._listener(self.name, instance, old, new, reason)
