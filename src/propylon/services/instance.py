"""Define an instance, its state, and the rules of health checks and ejection. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
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
    "with_known_state",
]

# starting: no verdict yet; the instance is asked, or a deployment would have no instance until the first probe.
# unhealthy: it answers probes badly. failed: it does not answer. stopped: it was removed.
Status = Literal["starting", "healthy", "unhealthy", "failed", "stopped"]
# What listeners are told. An ejection begins and ends without changing the status, and so does a drain by an operator.
Condition = Literal["starting", "healthy", "unhealthy", "failed", "stopped", "ejected", "drained"]
Source = Literal["configured", "registered", "dns", "kubernetes", "docker"]

# The longest ejection, as a multiple of the first: 30 s and 300 s, Envoy's base_ejection_time and
# max_ejection_time.
_MAX_MULTIPLIER = 10


class InstanceState:
    """What the gateway knows of an instance. Only the instance's fleet changes it."""

    __slots__ = (
        "began",
        "decayed_at",
        "drained",
        "ejected_until",
        "ejections",
        "failures",
        "in_flight",
        "last_check",
        "latency",
        "since",
        "status",
        "streak",
    )

    def __init__(self) -> None:
        """Start as a new instance, which is asked before its first probe."""
        # From health checks
        self.status: Status = "starting"
        self.since: float | None = None  # when a probe last changed it: seconds since 1970
        self.streak = 0  # successful probes in a row, or minus the failed ones in a row
        self.last_check: float | None = None  # seconds since 1970
        self.latency: float | None = None  # of the last answered probe, in seconds
        self.drained = False  # by an operator: it gets no new requests
        # When it came, or came back, on the fleet's clock; None: it was there when the fleet began.
        self.began: float | None = None
        # Of the requests that `room` counts: not of all.
        self.in_flight = 0
        # From requests
        self.failures = 0  # in a row
        self.ejections = 0  # grows with each ejection and decays while the instance works
        self.ejected_until: float | None = None  # on the fleet's clock; None: not ejected
        self.decayed_at = 0.0  # when the last ejection ended, or when `ejections` last decayed


@dataclass(frozen=True, slots=True)
class HealthRules:
    """How instances are probed, and how many results in a row make a verdict; times in seconds."""

    # One result decides, as in nginx Plus. HAProxy and Kubernetes want two or three: a choice between fast
    # failover and tolerance of single lost packets, which is the operator's.
    healthy_after: int = 1
    unhealthy_after: int = 1
    # AWS load balancers also probe every 30 s. One second for the answer is Kubernetes' timeoutSeconds: a health
    # endpoint that needs longer is as good as down.
    path: bytes = b"/health"
    interval: float = 30.0
    timeout: float = 1.0
    method: bytes = b"GET"
    host: bytes = b""  # empty: as requests to the instance have it
    headers: bytes = b"\r\nUser-Agent: propylon-health"  # a block
    statuses: Collection[int] = range(200, 300)  # of a healthy instance
    body: re.Pattern[bytes] | None = None  # must match in the answer's body
    tcp: bool = False  # True: a connection is enough, no request is sent

    def verdict(self, state: InstanceState, *, ok: bool, answered: bool) -> Status:
        """Count the result of a probe; return the status that follows from it."""
        state.streak = max(state.streak, 0) + 1 if ok else min(state.streak, 0) - 1
        if ok:
            return "healthy" if state.streak >= self.healthy_after else state.status
        # An instance that is out already changes between unhealthy and failed at once: no request depends on it.
        if state.status in ("unhealthy", "failed") or -state.streak >= self.unhealthy_after:
            return "unhealthy" if answered else "failed"
        return state.status


@dataclass(frozen=True, slots=True)
class Ejection:
    """When an instance is ejected because requests to it fail (outlier detection).

    After `failures` in a row, for `time` seconds the first time and longer each further time. Never more than
    `share` of the instances at once.
    """

    # Five in a row and 30 s are Envoy's defaults (consecutive_5xx, base_ejection_time). Envoy's share is 10 %; of
    # the two or three instances of a small service that would be none.
    failures: int = 5
    time: float = 30.0
    share: float = 0.5

    def max_ejected(self, instances: int) -> int:
        """Return how many of `instances` instances may be ejected at once; at least one always stays."""
        # The share was written as a percentage: 29 % of 100 is 28.999999999999996 in floating point.
        return max(0, min(int(self.share * instances + 1e-9), instances - 1))

    def eject(self, state: InstanceState, now: float) -> None:
        """Eject the instance, each further time for longer."""
        state.ejections = min(state.ejections + 1, _MAX_MULTIPLIER)
        state.ejected_until = now + self.time * state.ejections
        state.failures = 0

    def decay(self, state: InstanceState, now: float) -> None:
        """Lower `ejections` by one for each `time` that a working instance has been back.

        By time, as Envoy does, and not by one for each success: an instance that fails every other request
        has many successes, too.
        """
        if now - state.decayed_at >= self.time:
            state.ejections -= 1
            state.decayed_at = now


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One `host:port` of a service. `base` is the base path of its URL, which precedes each request's path."""

    id: str
    host: bytes  # the value of the Host header
    base: bytes
    upstream: Upstream
    weight: int = 1
    priority: int = 0  # it is asked only while none of a higher one may be
    state: InstanceState = field(default_factory=InstanceState)
    source: Source = "configured"
    metadata: Mapping[str, object] = field(default_factory=dict)
    # Rules of its own, if it registered with a health path; else the fleet's rules apply.
    health: HealthRules | None = None
    # The connections for probes; None: the same as for requests. Probes have their own where they can, so that a
    # pool full of requests does not make a busy instance look dead.
    probe: Upstream | None = None


@dataclass(frozen=True, slots=True)
class InstanceSnapshot:
    """An instance as operators see it; `last_check` and `ejected_until` are seconds since 1970."""

    id: str
    status: Status
    last_check: float | None
    latency_ms: float | None
    ejected_until: float | None
    failures: int
    weight: int
    source: Source
    metadata: Mapping[str, object]
    drained: bool = False
    priority: int = 0
    since: float | None = None  # when a probe last changed the status

    @classmethod
    def of(cls, instance: Instance, clock_offset: float) -> InstanceSnapshot:
        """Return the state now; add `clock_offset` to a time of the fleet's clock for seconds since 1970."""
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
            priority=instance.priority,
            source=instance.source,
            metadata=instance.metadata,
            drained=state.drained,
            since=state.since,
        )


def with_known_state(instance: Instance, old: Instance | None) -> Instance:
    """Return the instance with the state of `old`, the one with its id before; a new state if it had left."""
    if old is not None and instance.state is not old.state:
        return replace(instance, state=old.state)
    if old is None and instance.state.status == "stopped":
        return replace(instance, state=InstanceState())  # it was removed before, and starts afresh
    return instance
