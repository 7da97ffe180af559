"""Define the rules of a circuit breaker, its states, and how operators see it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Circuit", "Snapshot", "State"]


class State(StrEnum):
    """The states of a circuit breaker: requests pass, are refused, or pass as probes."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, slots=True)
class Circuit:
    """The rules of a breaker: times in seconds, `failure_rate` from 0 to 1, the rest in numbers of requests."""

    # 60 s of recovery is resilience4j's default; one probe is Hystrix's and Polly's. half_open_timeout is the
    # lease of a probe: without it (resilience4j's default) a probe that never ends blocks the service forever.
    # failure_rate: 50 % is the default of Resilience4j and of Hystrix. Without a share, a client that finds one bad
    # input could keep the service closed to all others with five requests a minute.
    failure_threshold: int = 5
    failure_rate: float = 0.5
    failure_window: float = 120.0
    min_throughput: int = 5
    recovery_timeout: float = 60.0
    half_open_timeout: float = 30.0
    probes: int = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A breaker as `GET {prefix}/circuits` shows it. Times are RFC 3339; None where there is none."""

    service: str
    state: State
    failures: int  # within failure_window
    opened_at: str | None
    retry_after: str | None
    probes_in_flight: int
    # Two snapshots of one state are equal, whatever led there.
    calls: int = field(default=0, compare=False)  # within failure_window
    reason: str | None = field(default=None, compare=False)  # why it opened; None while closed
