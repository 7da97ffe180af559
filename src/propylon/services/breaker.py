"""BREAK: refuse requests to a service that keeps failing (circuit breaker). Pure: both clocks are arguments.

A service that is down gets time to recover, and its clients get their 503 at once instead of after a timeout.
Everything that changes a breaker's state is in this file. `circuit.TRANSITIONS` is the whole state machine; the
picture in docs/topics/resilience.md is drawn from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from propylon.errors import CircuitOpen
from propylon.services.circuit import TRANSITIONS, Circuit, Event, Snapshot, State
from propylon.services.outcome import Outcome, judge
from propylon.services.window import Tally, Window
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


# Strategy: no timers. A state whose time is over is left when the breaker is asked next, as of the moment when
# the time was over, so that `opened_at` is right. Ten thousand idle services cost nothing.
# Rule: an exchange counts once, by its outcome after retries. Else the retry setting would move the threshold.
# Rule: an event in a state that has no line for it is a bug of ours (KeyError). CLOSED is the first state.
# Rule: the workers of one machine find out once that a service is down, and once that it is back. What happens
# elsewhere moves a breaker only towards the state that the other one has.

# Seconds during which a probe keeps its slot although the client is still sending the body. A client that sends
# a byte now and then (slow POST) must not keep the service closed to all others. Most clients need less; zero
# would let a burst of uploads reach a service that is recovering.
_UPLOAD_GRACE = 1.0

# Called after each transition with the service's name, the old state, the new state and the reason.
Listener = Callable[[str, State, State, Event], None]


_SUCCESS = Outcome.SUCCESS
_FAILURE = Outcome.FAILURE
# The share was written as a percentage: 7 % of 100 is 7.000000000000001 in floating point.
_EPSILON = 1e-9


class RequestBody(Protocol):
    """The body of a request; the breaker asks only whether the client has sent it all."""

    complete: bool


class Permit:
    """The permission to send one request. Each probe has its own; while CLOSED all requests share one."""

    __slots__ = ("body", "probe", "tally")

    def __init__(self, *, tally: Tally | None = None) -> None:
        """`tally` counts the calls of a CLOSED period; a probe has none, and is always settled."""
        self.probe = tally is None
        self.tally = tally
        # A probe whose body the client is still sending. While it comes in, the upstream cannot be late.
        self.body: RequestBody | None = None

    @property
    def uploading(self) -> bool:
        """Whether the client is still sending the body of this probe."""
        return self.body is not None and not self.body.complete


class Breaker:
    """The circuit breaker of one service: `admit` before each request, `settle` after it."""

    __slots__ = (
        "_circuit",
        "_clock",
        "_failures",
        "_held",
        "_listener",
        "_opened",
        "_probes",
        "_state",
        "_succeeded",
        "_tally",
        "_wall",
        "_why",
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
        self._tally = Tally(circuit.failure_window)
        self._opened = 0.0
        self._why = ""
        self._held = False  # an operator has opened it: it stays open until an operator closes it
        # Probes in flight with their start times, the oldest first; and how many probes have succeeded.
        self._probes: dict[Permit, float] = {}
        self._succeeded = 0
        # The permit of all requests while CLOSED, None otherwise (then `admit` decides). The hot path reads
        # this attribute instead of calling `admit`. Each CLOSED period has a new permit, so that a request
        # of an earlier period cannot count in this one.
        self.permit: Permit | None = Permit(tally=self._tally)

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
        permit = Permit()
        self._probes[permit] = now
        return permit

    def settle(self, permit: Permit, outcome: Outcome, cause: str = "") -> None:
        """Count the outcome of the request that got `permit`; a permit of an earlier period is ignored.

        `cause` says to operators what the failure was.
        """
        if permit is self.permit:
            if outcome is _FAILURE:
                self._count_failure(self._clock(), cause)
            elif outcome is _SUCCESS:
                self._tally.succeed(self._clock())
        elif permit.probe:
            self._settle_probe(permit, outcome, self._clock(), cause)

    def forgive(self) -> None:
        """Forget the failures so far, because the instance that caused them has just been ejected.

        Else one broken instance of two would open the breaker of the whole service, although ejection has
        already taken it out and the other one works.
        """
        if self._state is State.CLOSED:
            self._failures.clear()
            self._tally.forgive()

    def _count_failure(self, now: float, cause: str) -> None:
        # Both count the failure, whatever the other one says.
        enough = self._failures.note(now)
        self._tally.fail(now)
        if not enough:
            return
        calls, failures = self._counts(now)
        circuit = self._circuit
        if calls >= circuit.min_throughput and failures + _EPSILON >= circuit.failure_rate * calls:
            self._why = (
                f"{failures} of {calls} calls failed within {circuit.failure_window:g} s"
                + (f", the last one with {cause}" if cause else "")
            )
            self._transition(Event.TOO_MANY_FAILURES, now)

    def _counts(self, now: float) -> tuple[int, int]:
        """Return the calls and the failures within the window."""
        successes, counted = self._tally.counts(now)
        # The tally forgets by slices, the window to the moment: a failure at the edge must count.
        failures = max(counted, self._failures.count(now))
        return successes + failures, failures

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

    def _settle_probe(self, permit: Permit, outcome: Outcome, now: float, cause: str) -> None:
        self._advance(now)
        if self._probes.pop(permit, None) is None:
            return  # a probe of an earlier HALF_OPEN period, or one that is settled already
        if outcome is _FAILURE:
            self._why = f"a probe failed with {cause}" if cause else "a probe failed"
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
            self._why = f"a probe was not answered within {circuit.half_open_timeout:g} s"
            self._transition(Event.PROBE_EXPIRED, expired)
        due = self._opened + circuit.recovery_timeout <= now
        if self._state is State.OPEN and due and not self._held:
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
            # A new tally: requests of an earlier period add to the old one.
            self._tally = Tally(self._circuit.failure_window)
            self.permit = Permit(tally=self._tally)
            self._failures.clear()
            self._held = False
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
        self._tally.resize(circuit.failure_window)
        self._failures = self._failures.resized(circuit.failure_threshold, circuit.failure_window)
        if self._state is State.HALF_OPEN:
            self._close_if_proven(now)

    # Operators

    def force_open(self, why: str) -> None:
        """Open, and stay open until `reset`: an operator says so."""
        now = self._clock()
        self._advance(now)
        self._held, self._why = True, why
        if self._state is not State.OPEN:
            self._transition(Event.FORCED, now)

    def reset(self) -> None:
        """Close with clean counters, because an operator says so."""
        now = self._clock()
        self._advance(now)
        if self._state is State.CLOSED:
            self._failures.clear()
            self._tally.forgive()
        else:
            self._transition(Event.RESET, now)

    # Other workers

    def open_as(self, opened: float, why: str, *, held: bool = False) -> None:
        """Open, because the breaker of another worker did at `opened`, on the clock that all of them read.

        `held`: an operator opened it.
        """
        now = self._clock()
        self._advance(now)
        if opened + self._circuit.recovery_timeout <= now and not held:
            return  # the news are old: by now the other one lets probes pass
        if self._held and not held:
            return
        self._held, self._why = held, why
        if self._state is State.OPEN:
            self._opened = max(self._opened, opened)
        else:
            self._transition(Event.OPENED_ELSEWHERE, opened)

    def close_as(self, *, reset: bool = False) -> None:
        """Close, because the probes of another worker succeeded, or an operator has `reset` it there."""
        now = self._clock()
        self._advance(now)
        # A probe that ended elsewhere while the operator opened it here does not close it.
        if self._state is not State.CLOSED and (reset or not self._held):
            self._transition(Event.CLOSED_ELSEWHERE, now)

    @property
    def trip(self) -> tuple[float, str, bool] | None:
        """When the breaker opened, on its clock, why, and whether an operator did it; None unless it is open."""
        return (self._opened, self._why, self._held) if self.state is State.OPEN else None

    # For operators

    @property
    def circuit(self) -> Circuit:
        """The rules in force."""
        return self._circuit

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
        calls, failures = self._counts(now)
        return Snapshot(
            service=self.service,
            state=state,
            failures=failures,
            opened_at=None if state is State.CLOSED else date_time(math.floor(self._wall() - ago)),
            retry_after=(
                self._moment_after(self._retry_after(now))
                if state is State.OPEN and not self._held
                else None
            ),
            probes_in_flight=len(self._probes),
            calls=calls,
            reason=None if state is State.CLOSED else self._why,
            held=self._held,
        )

    def _retry_after(self, now: float) -> float:
        """Return the seconds after which a client may try again (Retry-After).

        HALF_OPEN: one second, because a probe may be answered at any moment.
        """
        if self._state is State.HALF_OPEN:
            return 1.0
        if self._held:  # until when, nobody knows
            return self._circuit.recovery_timeout
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
