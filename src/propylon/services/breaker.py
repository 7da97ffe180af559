"""BREAK: refuse at once what would fail anyway. Pure: both clocks are arguments.

Everything that moves a breaker is in this file, and `TRANSITIONS` is all there is: the picture in
docs/topics/resilience.md is drawn from it. There are no timers. What time brings about is made up for
when somebody next looks, as of the moment at which it was due, so nobody can tell the difference.
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
    """Whether requests pass."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Event(StrEnum):
    """What moves a breaker; the text is the reason that logs and the documentation give."""

    TOO_MANY_FAILURES = "failure_threshold reached within failure_window"
    RECOVERY_TIMEOUT = "recovery_timeout is over"
    PROBES_SUCCEEDED = "all probes succeeded"
    PROBE_FAILED = "a probe failed"
    PROBE_EXPIRED = "a probe took longer than half_open_timeout"


# What is not here does not happen: an event in a state that has no line for it is a bug of ours. A
# breaker begins in the first.
TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.CLOSED: {
        Event.TOO_MANY_FAILURES: State.OPEN,
    },
    State.OPEN: {
        Event.RECOVERY_TIMEOUT: State.HALF_OPEN,
    },
    State.HALF_OPEN: {
        Event.PROBES_SUCCEEDED: State.CLOSED,
        Event.PROBE_FAILED: State.OPEN,
        Event.PROBE_EXPIRED: State.OPEN,
    },
}

# Seconds in which nobody takes a probe's slot, however slowly its client sends. Few clients need longer; and
# a burst of uploads must not all reach an upstream that is to be spared.
_PATIENCE = 1.0

# Called with the service's name, the old state, the new one and why, when the move is complete.
Listener = Callable[[str, State, State, Event], None]


class Outcome(Enum):
    """What an exchange says about its upstream."""

    SUCCESS = 1
    FAILURE = 2
    NEUTRAL = 3  # nothing: the client left, or was at fault


_SUCCESS = Outcome.SUCCESS
_FAILURE = Outcome.FAILURE
# What a service answers that is broken, or whose own upstream is. 501 and 505 are about the request.
_FAILED = frozenset({500, 502, 503, 504})


def judge(error: GatewayError | None, status: int) -> Outcome:
    """Tell an exchange's outcome from the error that ended it, else from the upstream's status."""
    if error is None:
        if not status:
            return Outcome.NEUTRAL  # ended before there was an answer
        return _FAILURE if status in _FAILED else _SUCCESS
    if isinstance(error, UpstreamError | UpstreamTimeout):
        return _FAILURE
    return Outcome.NEUTRAL


@dataclass(frozen=True, slots=True)
class Circuit:
    """The rules of a breaker, in seconds and numbers of requests."""

    failure_threshold: int = 5
    failure_window: float = 120.0
    min_throughput: int = 5
    recovery_timeout: float = 60.0
    half_open_timeout: float = 30.0
    probes: int = 1


class Incoming(Protocol):
    """The body of a request, as far as the breaker has to know it."""

    complete: bool


class Permit:
    """The leave to send one request: a probe has its own, all while CLOSED share one."""

    __slots__ = ("body", "counts", "probe")

    def __init__(self, *, probe: bool, counts: bool) -> None:
        """Say whether the next state depends on this one; and whether a success need be settled."""
        self.probe = probe
        self.counts = counts
        # What the client is still sending, of a probe: as long as it comes in, nobody waits for the upstream.
        self.body: Incoming | None = None

    @property
    def uploading(self) -> bool:
        """Whether it is the client who takes its time."""
        return self.body is not None and not self.body.complete


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A breaker as the operator sees it; times are RFC 3339, None where they mean nothing."""

    service: str
    state: State
    failures: int  # within the window, counted up to the threshold
    opened_at: str | None
    retry_after: str | None
    probes_in_flight: int


class Breaker:
    """The breaker of one service: ask `admit` before each request, tell `settle` how it ended."""

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
        """Begin CLOSED. `clock` is monotonic and decides; `wall` is the time that people are told."""
        self.service = service
        self._circuit = circuit
        self._clock = clock
        self._wall = wall
        self._listener = listener
        self._state = State.CLOSED
        self._failures = Window(circuit.failure_threshold, circuit.failure_window)
        self._calls = _calls(circuit, self._failures)
        self._opened = 0.0
        # Probes in flight, the oldest first, with the time of their start; and how many went well.
        self._probes: dict[Permit, float] = {}
        self._succeeded = 0
        # What passes while CLOSED; None in the other states: `admit` then. A new one each time, so that
        # whoever set out before the breaker opened has no say in what came after.
        self.permit: Permit | None = self._shared()

    # Requests

    def admit(self) -> Permit:
        """Let a request pass. Raises CircuitOpen."""
        permit = self.permit
        if permit is not None:
            return permit
        now = self._clock()
        self._advance(now)
        if self._state is State.OPEN or not (self._has_slot() or self._displaced(now)):
            raise self._refusal(now)
        permit = Permit(probe=True, counts=True)
        self._probes[permit] = now
        return permit

    def settle(self, permit: Permit, outcome: Outcome) -> None:
        """Take note of how the request ended that `permit` was given to."""
        if permit is self.permit:
            if outcome is _FAILURE:
                self._count_failure(self._clock())
            elif self._calls is not None and outcome is _SUCCESS:
                self._calls.note(self._clock())
        elif permit.probe:
            self._settle_probe(permit, outcome, self._clock())

    def forgive(self) -> None:
        """Forget the failures so far: the instance that is to blame was taken out, and others are there.

        Else one sick instance of two would close the service that its ejection has just healed.
        """
        if self._state is State.CLOSED:
            self._failures.clear()

    def _shared(self) -> Permit:
        return Permit(probe=False, counts=self._calls is not None)

    def _count_failure(self, now: float) -> None:
        enough = self._failures.note(now)
        if self._calls is not None:
            enough = self._calls.note(now) and enough
        if enough:
            self._move(Event.TOO_MANY_FAILURES, now)

    def _displaced(self, now: float) -> bool:
        """Take the slot of a probe whose client has still not sent its request.

        Else one that sends a byte now and then would keep a service closed to everybody.
        """
        if len(self._probes) + self._succeeded > self._circuit.probes:
            return False  # a reload wants fewer: nobody takes the place of those that are too many
        for permit, began in self._probes.items():
            if permit.uploading and began + _PATIENCE <= now:
                del self._probes[permit]
                return True
        return False

    def _has_slot(self) -> bool:
        return len(self._probes) + self._succeeded < self._circuit.probes

    def _settle_probe(self, permit: Permit, outcome: Outcome, now: float) -> None:
        self._advance(now)
        if self._probes.pop(permit, None) is None:
            return  # of an earlier spell, or settled already
        if outcome is _FAILURE:
            self._move(Event.PROBE_FAILED, now)
        elif outcome is _SUCCESS:
            self._succeeded += 1
            self._close_if_proven(now)

    def _close_if_proven(self, now: float) -> None:
        if self._succeeded >= self._circuit.probes:
            self._move(Event.PROBES_SUCCEEDED, now)

    # Time and state

    def _advance(self, now: float) -> None:
        """Make up for what time has brought about since somebody last looked."""
        circuit = self._circuit
        while self._probes:
            oldest, began = next(iter(self._probes.items()))
            expired = began + circuit.half_open_timeout
            if expired > now:
                break
            if oldest.body is not None:
                # Its client took the time: the upstream's begins when somebody sees that all is there.
                del self._probes[oldest]
                if not oldest.uploading:
                    oldest.body = None
                    self._probes[oldest] = now
                continue
            self._move(Event.PROBE_EXPIRED, expired)
        if self._state is State.OPEN and self._opened + circuit.recovery_timeout <= now:
            self._move(Event.RECOVERY_TIMEOUT, now)

    def _move(self, event: Event, at: float) -> None:
        old = self._state
        new = self._state = TRANSITIONS[old][event]
        self._probes.clear()  # those still in flight are of an earlier spell from now on
        self._succeeded = 0
        self.permit = None
        if new is State.OPEN:
            self._opened = at
        elif new is State.CLOSED:
            self.permit = self._shared()
            self._failures.clear()
            if self._calls is not None:
                self._calls.clear()
        self._listener(self.service, old, new, event)

    def apply(self, circuit: Circuit) -> None:
        """Go on under other rules, knowing what is known.

        CLOSED: failures keep their age; only the next one can open it. OPEN: the new recovery_timeout
        counts from when it opened. HALF_OPEN: the new half_open_timeout holds for probes in flight,
        and probes that went well count towards the new number.
        """
        now = self._clock()
        self._advance(now)
        self._circuit = circuit
        known = self._failures if self._calls is None else self._calls
        self._calls = _calls(circuit, known)
        self._failures = self._failures.resized(circuit.failure_threshold, circuit.failure_window)
        if self.permit is not None:
            self.permit.counts = self._calls is not None  # those in flight hold the same one
        elif self._state is State.HALF_OPEN:
            self._close_if_proven(now)

    # For people

    @property
    def state(self) -> State:
        """The state now."""
        self._advance(self._clock())
        return self._state

    def snapshot(self) -> Snapshot:
        """Return what there is to see."""
        now = self._clock()
        self._advance(now)
        state = self._state
        ago = now - self._opened
        return Snapshot(
            service=self.service,
            state=state,
            failures=self._failures.count(now),
            opened_at=None if state is State.CLOSED else date_time(math.floor(self._wall() - ago)),
            retry_after=self._told(self._wait(now)) if state is State.OPEN else None,
            probes_in_flight=len(self._probes),
        )

    def _wait(self, now: float) -> float:
        """Return the seconds after which it is worth asking again.

        While probes are in flight that is when one of them is answered: any moment now.
        """
        if self._state is State.HALF_OPEN:
            return 1.0
        return self._opened + self._circuit.recovery_timeout - now

    def _told(self, wait: float) -> str:
        """Render the moment that is so far off, rounded up: whoever comes then is not too early."""
        return date_time(math.ceil(self._wall() + wait))

    def _refusal(self, now: float) -> CircuitOpen:
        wait = self._wait(now)
        half_open = self._state is State.HALF_OPEN
        return CircuitOpen(
            f'The service "{self.service}" has failed too often; it is given time to recover',
            details={"service": self.service, "retry_after": self._told(wait)},
            headers=((b"Retry-After", b"%d" % max(1, math.ceil(wait))),),
            reason="half open, all probes in flight" if half_open else "open",
        )


def _calls(circuit: Circuit, seen: Window) -> Window | None:
    """Return what counts all calls, where that can matter: each failure is a call, too."""
    if circuit.min_throughput <= circuit.failure_threshold:
        return None
    return seen.resized(circuit.min_throughput, circuit.failure_window)
