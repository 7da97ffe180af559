"""Define the rules of a circuit breaker, its states and what changes them, and how operators see it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["TRANSITIONS", "Circuit", "Event", "Snapshot", "State"]


class State(StrEnum):
    """The states of a circuit breaker: requests pass, are refused, or pass as probes."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Event(StrEnum):
    """What changes the state; the text is the reason that logs and the documentation give."""

    TOO_MANY_FAILURES = "failure_threshold reached within failure_window"
    RECOVERY_TIMEOUT = "recovery_timeout is over"
    PROBES_SUCCEEDED = "all probes succeeded"
    PROBE_FAILED = "a probe failed"
    PROBE_EXPIRED = "a probe took longer than half_open_timeout"
    FORCED = "an operator opened it"
    RESET = "an operator closed it"
    OPENED_ELSEWHERE = "another worker's breaker opened"
    CLOSED_ELSEWHERE = "another worker's breaker closed"

    @property
    def is_elsewhere(self) -> bool:
        """Whether it happened in another worker of the machine, which has told it."""
        return self in (Event.OPENED_ELSEWHERE, Event.CLOSED_ELSEWHERE)


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.CLOSED: {
        Event.TOO_MANY_FAILURES: State.OPEN,
        Event.FORCED: State.OPEN,
        Event.OPENED_ELSEWHERE: State.OPEN,
    },
    State.OPEN: {
        Event.RECOVERY_TIMEOUT: State.HALF_OPEN,
        Event.RESET: State.CLOSED,
        Event.CLOSED_ELSEWHERE: State.CLOSED,
    },
    State.HALF_OPEN: {
        Event.PROBES_SUCCEEDED: State.CLOSED,
        Event.PROBE_FAILED: State.OPEN,
        Event.PROBE_EXPIRED: State.OPEN,
        Event.FORCED: State.OPEN,
        Event.RESET: State.CLOSED,
        Event.OPENED_ELSEWHERE: State.OPEN,
        Event.CLOSED_ELSEWHERE: State.CLOSED,
    },
}


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
    held: bool = field(default=False, compare=False)  # an operator opened it
