"""BREAK: refuse requests to a service that keeps failing (circuit breaker). Pure: both clocks are arguments.

A service that is down gets time to recover, and its clients get their 503 at once instead of after a timeout.
Everything that changes a breaker's state is in this file. `TRANSITIONS` is the whole state machine; the
picture in docs/topics/resilience.md is drawn from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol

from propylon.errors import CircuitOpen, GatewayError, UpstreamError, UpstreamTimeout
from propylon.services.window import Window
from propylon.wire.grammar import date_time

__all__ = [
    "TRANSITIONS",
    "Breaker",
    "Circuit",
    "Event",
    "Listener",
    "Outcome",
    "Permit",
    "Snapshot",
    "State",
    "judge",
]

Clock = Callable[[], float]


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
    OPENED_ELSEWHERE = "another worker's breaker opened"
    CLOSED_ELSEWHERE = "another worker's breaker closed"


# Strategy: no timers. A state whose time is over is left when the breaker is asked next, as of the moment when
# the time was over, so that `opened_at` is right. Ten thousand idle services cost nothing.
# Rule: an exchange counts once, by its outcome after retries. Else the retry setting would move the threshold.
# Rule: an event in a state that has no line for it is a bug of ours (KeyError). CLOSED is the first state.
# Rule: the workers of one machine find out once that a service is down, and once that it is back. What happens
# elsewhere moves a breaker only towards the state that the other one has.
TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.CLOSED: {
        Event.TOO_MANY_FAILURES: State.OPEN,
        Event.OPENED_ELSEWHERE: State.OPEN,
    },
    State.OPEN: {
        Event.RECOVERY_TIMEOUT: State.HALF_OPEN,
        Event.CLOSED_ELSEWHERE: State.CLOSED,
    },
    State.HALF_OPEN: {
        Event.PROBES_SUCCEEDED: State.CLOSED,
        Event.PROBE_FAILED: State.OPEN,
        Event.PROBE_EXPIRED: State.OPEN,
        Event.OPENED_ELSEWHERE: State.OPEN,
        Event.CLOSED_ELSEWHERE: State.CLOSED,
    },
}

# Seconds during which a probe keeps its slot although the client is still sending the body. A client that sends
# a byte now and then (slow POST) must not keep the service closed to all others. Most clients need less; zero
# would let a burst of uploads reach a service that is recovering.
_UPLOAD_GRACE = 1.0

# Called after each transition with the service's name, the old state, the new state and the reason.
Listener = Callable[[str, State, State, Event], None]


class Outcome(Enum):
    """What the end of an exchange says about its service."""

    SUCCESS = 1
    FAILURE = 2
    NEUTRAL = 3  # nothing: the client left or was at fault, or the gateway was


_SUCCESS = Outcome.SUCCESS
_FAILURE = Outcome.FAILURE
# 500: the service is broken. 502 and 504: a gateway behind us found its upstream broken. 503: overloaded.
# 501 and 505 are about the request, so a client could open the breaker with them. A 4xx is the client's fault.
_FAILED = frozenset({500, 502, 503, 504})


def judge(error: GatewayError | None, status: int) -> Outcome:
    """Return the outcome of an exchange: by the error that ended it, else by the upstream's status.

    An error after the response head wins over the status: a 200 whose body breaks off is a failure.
    """
    if error is None:
        if not status:
            return Outcome.NEUTRAL  # the exchange ended before the upstream answered
        return _FAILURE if status in _FAILED else _SUCCESS
    if isinstance(error, UpstreamError | UpstreamTimeout):
        return _FAILURE
    return Outcome.NEUTRAL


@dataclass(frozen=True, slots=True)
class Circuit:
    """The rules of a breaker: times in seconds, the rest in numbers of requests."""

    # 60 s of recovery is resilience4j's default; one probe is Hystrix's and Polly's. half_open_timeout is the
    # lease of a probe: without it (resilience4j's default) a probe that never ends blocks the service forever.
    failure_threshold: int = 5
    failure_window: float = 120.0
    min_throughput: int = 5
    recovery_timeout: float = 60.0
    half_open_timeout: float = 30.0
    probes: int = 1


class RequestBody(Protocol):
    """The body of a request; the breaker asks only whether the client has sent it all."""

    complete: bool


class Permit:
    """The permission to send one request. Each probe has its own; while CLOSED all requests share one."""

    __slots__ = ("body", "counts", "probe")

    def __init__(self, *, probe: bool, counts: bool) -> None:
        """`counts`: successes must be settled too. Else settling failures is enough, which is cheaper."""
        self.probe = probe
        self.counts = counts
        # A probe whose body the client is still sending. While it comes in, the upstream cannot be late.
        self.body: RequestBody | None = None

    @property
    def uploading(self) -> bool:
        """Whether the client is still sending the body of this probe."""
        return self.body is not None and not self.body.complete


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A breaker as `GET {prefix}/circuits` shows it. Times are RFC 3339; None where there is none."""

    service: str
    state: State
    failures: int  # within failure_window, counted up to failure_threshold
    opened_at: str | None
    retry_after: str | None
    probes_in_flight: int


class Breaker:
    """The circuit breaker of one service: `admit` before each request, `settle` after it."""

    __slots__ = (
        "_calls",
        "_circuit",
        "_clock",
        "_failures",
        "_listener",
        "_opened",
        "_probes",
        "_state",
        "_succeeded",
        "_wall",
        "permit",
        "service",
    )

    def __init__(
        self, service: str, circuit: Circuit, *, clock: Clock, wall: Clock, listener: Listener
    ) -> None:
        """Start CLOSED. `clock` is monotonic and decides; `wall` only dates what operators and clients read."""
        self.service = service
        self._circuit = circuit
        self._clock = clock
        self._wall = wall
        self._listener = listener
        self._state = State.CLOSED
        self._failures = Window(circuit.failure_threshold, circuit.failure_window)
        self._calls = _call_window(circuit, self._failures)
        self._opened = 0.0
        # Probes in flight with their start times, the oldest first; and how many probes have succeeded.
        self._probes: dict[Permit, float] = {}
        self._succeeded = 0
        # The permit of all requests while CLOSED, None otherwise (then `admit` decides). The hot path reads
        # this attribute instead of calling `admit`. Each CLOSED period has a new permit, so that a request
        # of an earlier period cannot count in this one.
        self.permit: Permit | None = self._shared_permit()

    # Requests

    def admit(self) -> Permit:
        """Return the permission to send a request. Raises CircuitOpen."""
        permit = self.permit
        if permit is not None:
            return permit
        now = self._clock()
        self._advance(now)
        if self._state is State.OPEN or not (self._has_slot() or self._evict_stalled_probe(now)):
            raise self._refusal(now)
        permit = Permit(probe=True, counts=True)
        self._probes[permit] = now
        return permit

    def settle(self, permit: Permit, outcome: Outcome) -> None:
        """Count the outcome of the request that got `permit`; a permit of an earlier period is ignored."""
        if permit is self.permit:
            if outcome is _FAILURE:
                self._count_failure(self._clock())
            elif self._calls is not None and outcome is _SUCCESS:
                self._calls.note(self._clock())
        elif permit.probe:
            self._settle_probe(permit, outcome, self._clock())

    def forgive(self) -> None:
        """Forget the failures so far, because the instance that caused them has just been ejected.

        Else one broken instance of two would open the breaker of the whole service, although ejection has
        already taken it out and the other one works.
        """
        if self._state is State.CLOSED:
            self._failures.clear()

    def _shared_permit(self) -> Permit:
        return Permit(probe=False, counts=self._calls is not None)

    def _count_failure(self, now: float) -> None:
        # Both windows count the failure, whatever the other one says.
        enough = self._failures.note(now)
        if self._calls is not None:
            enough = self._calls.note(now) and enough
        if enough:
            self._transition(Event.TOO_MANY_FAILURES, now)

    def _evict_stalled_probe(self, now: float) -> bool:
        """Free a slot held by a client that still sends its body after the grace period; tell if there was one.

        The request itself goes on. Its outcome no longer counts.
        """
        # Over the limit after a reload that lowered `probes`: the surplus ends before a new probe starts.
        if len(self._probes) + self._succeeded > self._circuit.probes:
            return False
        for permit, began in self._probes.items():
            if permit.uploading and began + _UPLOAD_GRACE <= now:
                del self._probes[permit]
                return True
        return False

    def _has_slot(self) -> bool:
        return len(self._probes) + self._succeeded < self._circuit.probes

    def _settle_probe(self, permit: Permit, outcome: Outcome, now: float) -> None:
        self._advance(now)
        if self._probes.pop(permit, None) is None:
            return  # a probe of an earlier HALF_OPEN period, or one that is settled already
        if outcome is _FAILURE:
            self._transition(Event.PROBE_FAILED, now)
        elif outcome is _SUCCESS:
            self._succeeded += 1
            self._close_if_proven(now)

    def _close_if_proven(self, now: float) -> None:
        if self._succeeded >= self._circuit.probes:
            self._transition(Event.PROBES_SUCCEEDED, now)

    # Time and state

    def _advance(self, now: float) -> None:
        """Apply the transitions that are due by now."""
        circuit = self._circuit
        while self._probes:
            oldest, began = next(iter(self._probes.items()))
            expired = began + circuit.half_open_timeout
            if expired > now:
                break
            if oldest.body is not None:
                # The client took the time, not the upstream. If the body is complete by now, the upstream's
                # time starts now: the breaker is not told the exact moment. If not, the slot is free again.
                del self._probes[oldest]
                if not oldest.uploading:
                    oldest.body = None
                    self._probes[oldest] = now
                continue
            self._transition(Event.PROBE_EXPIRED, expired)
        if self._state is State.OPEN and self._opened + circuit.recovery_timeout <= now:
            self._transition(Event.RECOVERY_TIMEOUT, now)

    def _transition(self, event: Event, at: float) -> None:
        old = self._state
        new = self._state = TRANSITIONS[old][event]
        self._probes.clear()  # probes in flight belong to the period that ends here
        self._succeeded = 0
        self.permit = None
        if new is State.OPEN:
            self._opened = at
        elif new is State.CLOSED:
            self.permit = self._shared_permit()
            self._failures.clear()
            if self._calls is not None:
                self._calls.clear()
        # Last, when the breaker is consistent again: a listener may read it.
        self._listener(self.service, old, new, event)

    def apply(self, circuit: Circuit) -> None:
        """Go on under the rules of a reloaded configuration without losing the state.

        A reload must not close a breaker: it would send full load to a service that is down.
        CLOSED: failures keep their age; only the next failure can open the breaker. OPEN: the new
        recovery_timeout counts from the moment it opened. HALF_OPEN: the new half_open_timeout applies to
        probes in flight, and probes that succeeded count towards the new number.
        """
        now = self._clock()
        self._advance(now)
        self._circuit = circuit
        known = self._failures if self._calls is None else self._calls
        self._calls = _call_window(circuit, known)
        self._failures = self._failures.resized(circuit.failure_threshold, circuit.failure_window)
        if self.permit is not None:
            self.permit.counts = self._calls is not None  # requests in flight share this permit
        elif self._state is State.HALF_OPEN:
            self._close_if_proven(now)

    # Other workers

    def open_as(self, opened: float) -> None:
        """Open, because the breaker of another worker did at `opened`, on the clock that all of them read."""
        now = self._clock()
        self._advance(now)
        if opened + self._circuit.recovery_timeout <= now:
            return  # the news are old: by now the other one lets probes pass
        if self._state is State.OPEN:
            self._opened = max(self._opened, opened)
        else:
            self._transition(Event.OPENED_ELSEWHERE, opened)

    def close_as(self) -> None:
        """Close, because the probes of another worker succeeded."""
        now = self._clock()
        self._advance(now)
        if self._state is not State.CLOSED:
            self._transition(Event.CLOSED_ELSEWHERE, now)

    @property
    def opened(self) -> float | None:
        """When the breaker opened, on its clock; None unless it is open."""
        return self._opened if self.state is State.OPEN else None

    # For operators

    @property
    def state(self) -> State:
        """The state now, with due transitions applied."""
        self._advance(self._clock())
        return self._state

    def snapshot(self) -> Snapshot:
        """Return the state for operators."""
        now = self._clock()
        self._advance(now)
        state = self._state
        ago = now - self._opened
        return Snapshot(
            service=self.service,
            state=state,
            failures=self._failures.count(now),
            opened_at=None if state is State.CLOSED else date_time(math.floor(self._wall() - ago)),
            retry_after=self._moment_after(self._retry_after(now)) if state is State.OPEN else None,
            probes_in_flight=len(self._probes),
        )

    def _retry_after(self, now: float) -> float:
        """Return the seconds after which a client may try again (Retry-After).

        HALF_OPEN: one second, because a probe may be answered at any moment.
        """
        if self._state is State.HALF_OPEN:
            return 1.0
        return self._opened + self._circuit.recovery_timeout - now

    def _moment_after(self, wait: float) -> str:
        """Return the moment in `wait` seconds, rounded up so that a client is never told to come too early."""
        return date_time(math.ceil(self._wall() + wait))

    def _refusal(self, now: float) -> CircuitOpen:
        # Retry-After is at least 1: zero would invite clients to retry without a pause.
        wait = self._retry_after(now)
        half_open = self._state is State.HALF_OPEN
        return CircuitOpen(
            f'The service "{self.service}" has failed too often; it is given time to recover',
            details={"service": self.service, "retry_after": self._moment_after(wait)},
            headers=((b"Retry-After", b"%d" % max(1, math.ceil(wait))),),
            reason="half open, all probes in flight" if half_open else "open",
        )


def _call_window(circuit: Circuit, seen: Window) -> Window | None:
    """Return the window that counts all calls, or None where min_throughput can make no difference.

    Each failure is also a call. So with min_throughput <= failure_threshold there are always enough calls.
    """
    if circuit.min_throughput <= circuit.failure_threshold:
        return None
    return seen.resized(circuit.min_throughput, circuit.failure_window)
