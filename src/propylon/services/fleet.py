"""Hold the instances of a service and what is known of them. Pure: clocks are arguments.

Instances come and go (a registry, DNS, a reload), fall ill and recover (probes), fail and are left out for
a while (ejection). Whoever forwards sees only the outcome: those that may be asked now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
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
)

__all__ = [
    "Clock",
    "Condition",
    "Ejection",
    "Fleet",
    "HealthRules",
    "Instance",
    "InstanceSnapshot",
    "InstanceState",
    "Listener",
    "Source",
    "Status",
    "Watcher",
]

Clock = Callable[[], float]
# Hears of every change: (service, instance, what it was, what it is, why).
Listener = Callable[[str, Instance, Condition, Condition, str], None]

_DEFAULT_RULES = HealthRules()


class Watcher(Protocol):
    """Whoever probes instances and tells their fleet by `checked`."""

    def watch(self, fleet: Fleet, instance: Instance, rules: HealthRules) -> None:
        """Probe the instance from now on."""

    def forget(self, instance: Instance) -> None:
        """Probe it no more; that it was never probed is no mistake."""


def _no_clock() -> float:
    """Stand in for a clock where nothing is ejected, so that none is needed."""
    return 0.0


class Fleet:
    """The instances of one service; `candidates` are those that may be asked now."""

    __slots__ = (
        "_clock",
        "_ejection",
        "_listener",
        "_members",
        "_wall",
        "_watcher",
        "due",
        "health",
        "instances",
        "name",
        "present",
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
    ) -> None:
        """Start with the instances that were written down.

        `health`: probes govern who is asked; without it they only inform. `clock` is monotonic,
        `wall` counts seconds since 1970.
        """
        if ejection is not None and _no_clock in (clock, wall):
            msg = "ejection needs clocks: without them nobody would come back"
            raise ValueError(msg)
        self.name = name
        self.health = health
        self.instances: tuple[Instance, ...] = tuple(instances)
        self._ejection = ejection
        self._clock = clock
        self._wall = wall
        self._listener = listener
        self._watcher: Watcher | None = None
        # Who may be asked, as long as `due` is None; else ask `candidates`.
        self.present = self.instances
        # By what is known of them: who was replaced by another with its id still stands for that.
        self._members: dict[InstanceState, Instance] = {}
        self.due: float | None = None  # when the next ejection ends; None: nobody is ejected
        self._refresh()

    # On every request's path

    def candidates(self) -> tuple[Instance, ...]:
        """Return the instances that may be asked now; the same tuple as long as nothing changes."""
        if self.due is not None:
            self._readmit()
        return self.present

    def succeeded(self, instance: Instance) -> None:
        """Note that an attempt went well."""
        state = instance.state
        if state.failures or state.ejections:
            self._recover(instance)

    def failed(self, instance: Instance) -> bool:
        """Note that an attempt failed: no connection, a broken answer, a 5xx; tell whether that ejected it."""
        state = instance.state
        member = self._members.get(state)
        if state.ejected_until is not None or member is None:
            return False  # it began before the instance was left out, or removed
        state.failures += 1
        rules = self._ejection
        if rules is None or state.failures < rules.failures:
            return False
        return self._eject(member, rules)

    # What is known

    @property
    def last_check(self) -> float | None:
        """When the newest probe of any instance ended, in seconds since 1970."""
        checks = [instance.state.last_check for instance in self.instances]
        return max((check for check in checks if check is not None), default=None)

    def rules(self, instance: Instance) -> HealthRules | None:
        """Return the rules by which probes govern whether it is asked; None if they do not."""
        return instance.health or self.health

    def find(self, instance_id: str) -> Instance | None:
        """Return the instance with that id."""
        return next((one for one in self.instances if one.id == instance_id), None)

    def snapshot(self) -> tuple[InstanceSnapshot, ...]:
        """Return every instance as an operator sees it."""
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
        """Note how a probe ended: `at` seconds since 1970, `latency` seconds after it began."""
        state = instance.state
        member = self._members.get(state)
        if member is None:
            return  # it was removed meanwhile
        state.last_check = at
        rules = self.rules(member) or _DEFAULT_RULES
        old, new = state.status, rules.verdict(state, ok=ok, answered=answered)
        if answered or new == "failed":
            state.latency = latency if answered else None
        if old != new:
            state.status = new
            self._refresh()
            self._notify(member, old, new, reason)

    # Who is there

    def add(self, instance: Instance) -> None:
        """Take in an instance, in place of one with its id: then what is known of that stays."""
        known = self.find(instance.id)
        if known is None:
            self.replace((*self.instances, instance))
        else:
            self.replace(instance if one is known else one for one in self.instances)

    def remove(self, instance: Instance) -> None:
        """Let an instance go: nobody asks or probes it any more."""
        self.replace(one for one in self.instances if one.id != instance.id)

    def replace(self, instances: Iterable[Instance]) -> None:
        """Let these be all; what is known of those that stay, by their id, stays."""
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
        """Go on where `old`, of the same service, stands: a reload made this one.

        Instances of the sources in `keep` come along, though this fleet was made without them. What
        `old` is told from now on, by exchanges that began before, it ignores.
        """
        watcher = self._watcher or old._watcher
        old.watch(None)
        self.watch(None)
        # What is known is known to both: only one of them may judge by it.
        old._members = {}
        old.due = None
        mine = {instance.id for instance in self.instances}
        kept = [one for one in old.instances if one.source in keep and one.id not in mine]
        self._set_instances((*self.instances, *kept), old.instances)
        self.watch(watcher)

    def watch(self, watcher: Watcher | None) -> None:
        """Have every instance that has rules probed, now and whoever comes; None ends it."""
        if watcher is self._watcher:
            return
        for instance in self.instances:
            self._forget(instance)
        self._watcher = watcher
        for instance in self.instances:
            self._watch(instance)

    def _set_instances(self, instances: Iterable[Instance], known: tuple[Instance, ...]) -> None:
        """Let `instances` be all, and tell who came and who went; `known` were there before."""
        present = set(known)
        gone = {instance.id: instance for instance in known}
        found: list[Instance] = []
        added: list[Instance] = []
        for instance in instances:
            old = gone.pop(instance.id, None)
            found.append(_with_known_state(instance, instance if instance in present else old))
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

    # Ejection

    def _eject(self, instance: Instance, rules: Ejection) -> bool:
        self._readmit()
        state = instance.state
        asked = [one.state for one in self.present]
        # Whoever probes keep away is away already, and the only one left is the breaker's business.
        if state not in asked or len(asked) == 1:
            return False
        if len(self._ejected()) >= rules.max_ejected(len(self.instances)):
            return False
        reason = f"{state.failures} failures in a row"
        rules.eject(state, self._clock())
        self._refresh()
        self._notify(instance, state.status, "ejected", reason)
        return True

    def _recover(self, instance: Instance) -> None:
        state = instance.state
        if state.ejected_until is not None or state not in self._members:
            return  # it began before the instance was left out, or removed
        state.failures = 0
        if self._ejection is None:
            state.ejections = 0  # from before a reload that ended ejection
        elif state.ejections:
            self._ejection.decay(state, self._clock())

    def _readmit(self) -> None:
        """Let everyone back whose time is over."""
        now = self._clock()
        if self.due is None or now < self.due:
            return
        for instance, until in self._ejected():
            if until <= now:
                self._end_ejection(instance, until, "its time is over")

    def _enforce_max_ejected(self) -> None:
        """Let back those whose time ends first, while too many are left out for how many there are."""
        self._refresh()
        allowed = 0 if self._ejection is None else self._ejection.max_ejected(len(self.instances))
        ejected = sorted(self._ejected(), key=lambda one: one[1])
        for instance, _ in ejected[: max(0, len(ejected) - allowed)]:
            self._end_ejection(instance, self._clock(), "too few others are left")

    def _end_ejection(self, instance: Instance, since: float, reason: str) -> None:
        state = instance.state
        state.ejected_until = None
        state.decayed_at = since
        self._refresh()
        self._notify(instance, "ejected", state.status, reason)

    def _ejected(self) -> list[tuple[Instance, float]]:
        """Return who is left out, and until when."""
        return [
            (instance, instance.state.ejected_until)
            for instance in self.instances
            if instance.state.ejected_until is not None
        ]

    # What follows from it all

    def _refresh(self) -> None:
        healthy = tuple(instance for instance in self.instances if self._is_healthy(instance))
        asked = tuple(one for one in healthy if one.state.ejected_until is None)
        # When only those are well that are left out, a bad answer is better than none.
        candidates = asked or healthy
        if candidates != self.present:
            self.present = self.instances if candidates == self.instances else candidates
        self._members = {instance.state: instance for instance in self.instances}
        self.due = min((until for _, until in self._ejected()), default=None)

    def _is_healthy(self, instance: Instance) -> bool:
        return self.rules(instance) is None or instance.state.status in ("starting", "healthy")

    def _notify(self, instance: Instance, old: Condition, new: Condition, reason: str) -> None:
        if self._listener is not None:
            self._listener(self.name, instance, old, new, reason)


def _with_known_state(instance: Instance, old: Instance | None) -> Instance:
    """Return the instance with what is known of it: by `old`, or nothing yet."""
    if old is not None and instance.state is not old.state:
        return replace(instance, state=old.state)
    if old is None and instance.state.status == "stopped":
        return replace(instance, state=InstanceState())  # it was here before, and begins anew
    return instance
