"""Name an instance, what is known of it, and the rules by which that is judged. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from propylon.upstream.ports import Upstream

__all__ = [
    "Condition",
    "Ejection",
    "HealthRules",
    "Instance",
    "InstanceSnapshot",
    "InstanceState",
    "Source",
    "Status",
]

# starting: no verdict yet, so it is tried; unhealthy: it answers probes, but not well; failed: it
# answers none; stopped: it was removed.
Status = Literal["starting", "healthy", "unhealthy", "failed", "stopped"]
# What a listener is told: ejection is beside the status, and comes and goes without changing it.
Condition = Literal["starting", "healthy", "unhealthy", "failed", "stopped", "ejected"]
Source = Literal["configured", "registered", "dns"]

# An ejection grows up to so many times its first length, as Envoy's: 30 s, and 300 s at the most.
_MAX_MULTIPLIER = 10


class InstanceState:
    """What is known of an instance now. Only its fleet changes it."""

    __slots__ = (
        "decayed_at",
        "ejected_until",
        "ejections",
        "failures",
        "last_check",
        "latency",
        "status",
        "streak",
    )

    def __init__(self) -> None:
        """Know nothing yet: a new instance is tried before its first probe."""
        # By probes
        self.status: Status = "starting"
        self.streak = 0  # of probes in a row: those that went well, or minus those that did not
        self.last_check: float | None = None  # seconds since 1970
        self.latency: float | None = None  # of the last answer to a probe, in seconds
        # By what was asked of it
        self.failures = 0  # in a row
        self.ejections = 0  # the record: how often it was left out lately
        self.ejected_until: float | None = None  # on the fleet's clock; None: it is not left out
        self.decayed_at = 0.0  # when it came back, or when its record was last shortened


@dataclass(frozen=True, slots=True)
class HealthRules:
    """How instances are probed, and how many probes in a row make a verdict. Seconds."""

    healthy_after: int = 1
    unhealthy_after: int = 1
    path: bytes = b"/health"
    interval: float = 30.0
    timeout: float = 1.0

    def verdict(self, state: InstanceState, *, ok: bool, answered: bool) -> Status:
        """Count one more probe; return what the instance is now."""
        state.streak = max(state.streak, 0) + 1 if ok else min(state.streak, 0) - 1
        if ok:
            return "healthy" if state.streak >= self.healthy_after else state.status
        if state.status in ("unhealthy", "failed") or -state.streak >= self.unhealthy_after:
            return "unhealthy" if answered else "failed"
        return state.status


@dataclass(frozen=True, slots=True)
class Ejection:
    """When an instance is left out because what is asked of it fails.

    After `failures` in a row, for `time` seconds (growing while that goes on), and never more than
    `share` of the instances at a time.
    """

    failures: int = 5
    time: float = 30.0
    share: float = 0.5

    def max_ejected(self, instances: int) -> int:
        """Return how many of so many may be left out: never the only one, never the last one."""
        # The share is a percentage: 29 % of 100 is 28.999999999999996 in floating point.
        return max(0, min(int(self.share * instances + 1e-9), instances - 1))

    def eject(self, state: InstanceState, now: float) -> None:
        """Leave the instance out, each further time for longer."""
        state.ejections = min(state.ejections + 1, _MAX_MULTIPLIER)
        state.ejected_until = now + self.time * state.ejections
        state.failures = 0

    def decay(self, state: InstanceState, now: float) -> None:
        """Shorten the record of an instance that works, by one for each `time` it has been back.

        Not by one for each success: an instance that fails every other request has many, too.
        """
        if now - state.decayed_at >= self.time:
            state.ejections -= 1
            state.decayed_at = now


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One `host:port` of a service; `base` is the path in front of what it is asked for."""

    id: str
    host: bytes  # as it goes into the Host header
    base: bytes
    upstream: Upstream
    weight: int = 1
    state: InstanceState = field(default_factory=InstanceState)
    source: Source = "configured"
    metadata: Mapping[str, object] = field(default_factory=dict)
    # Its own rules, where it registered with some; else those of its fleet.
    health: HealthRules | None = None
    # What it is probed over; None: over what everything else is asked over.
    probe: Upstream | None = None


@dataclass(frozen=True, slots=True)
class InstanceSnapshot:
    """An instance as an operator sees it: `last_check` and `ejected_until` in seconds since 1970."""

    id: str
    status: Status
    last_check: float | None
    latency_ms: float | None
    ejected_until: float | None
    failures: int
    weight: int
    source: Source
    metadata: Mapping[str, object]

    @classmethod
    def of(cls, instance: Instance, clock_offset: float) -> InstanceSnapshot:
        """Return what is known now; `ahead` is from the fleet's clock to the seconds since 1970."""
        state = instance.state
        until = state.ejected_until
        return cls(
            id=instance.id,
            status=state.status,
            last_check=state.last_check,
            latency_ms=None if state.latency is None else round(state.latency * 1000, 3),
            ejected_until=None if until is None else until + clock_offset,
            failures=state.failures,
            weight=instance.weight,
            source=instance.source,
            metadata=instance.metadata,
        )
