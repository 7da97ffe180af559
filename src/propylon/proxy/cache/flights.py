"""Let one request ask the upstream while the others that want the same wait for it.

Rules.

1. Who waits gets the answer only if it may be stored for that key, and if it varies by nothing in which the two requests
   differ. Otherwise it asks the upstream itself: an answer with a cookie is for one client.
2. If the client of the first request leaves, the next one that waits takes its place.
3. A key whose answer was for one client only is not waited for again for a while: waiting would only make requests slow.
4. The wait is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from propylon.loop.signal import Signal
from propylon.proxy.cache.filling import Filling
from propylon.proxy.cache.stored import Stored

__all__ = ["Flight", "Flights", "Landed", "Outcome"]

_LONE = 10.0  # seconds
_LONE_KEYS = 4096


class Outcome(Enum):
    """How the wait has ended."""

    SHARED = "shared"  # the answer is there, or its head
    ALONE = "alone"  # it is not for others: each asks for itself
    AGAIN = "again"  # nobody asks any more: one of those that wait has to


@dataclass(frozen=True, slots=True)
class Landed:
    """The end of a flight: with `SHARED` the answer, and its body if that is still arriving."""

    outcome: Outcome
    stored: Stored | None = None
    filling: Filling | None = None


class Timers(Protocol):
    """What the loop does later."""

    def call_soon(self, callback: Callable[[], None], /) -> object:
        """Call back in the next turn."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Cancellable:
        """Call back after so many seconds."""

    def time(self) -> float:
        """Return the loop's time."""


class Cancellable(Protocol):
    """A call that has not happened yet."""

    def cancel(self) -> None:
        """Do not call."""


class Flight:
    """One request to the upstream, and those that wait for its answer."""

    __slots__ = ("_key", "_lone", "_owner", "_timer", "_waiting", "landed")

    def __init__(self, owner: Flights, key: Hashable) -> None:
        self._owner = owner
        self._key = key
        self._waiting: dict[int, Signal[Landed]] = {}
        self._timer: Cancellable | None = None
        self._lone = False
        self.landed: Landed | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wait(self, most: float) -> Signal[Landed]:
        """Return what is set when the answer is there, or when the first one that waits has waited for so many seconds."""

        def abandoned(_: Landed | None) -> None:
            self._waiting.pop(id(signal), None)

        signal: Signal[Landed] = Signal(abandoned)
        self._waiting[id(signal)] = signal
        if self._timer is None:
            self._timer = self._owner.timers.call_later(most, self._expire)
        return signal

    def _expire(self) -> None:
        self.land(Landed(Outcome.ALONE))

    def land(self, landed: Landed, *, lone: bool = False) -> None:
        """Wake those that wait. `lone`: the answer was for one client only.

        While a body is still arriving, others may join: that flight ends with `end`. Any other ends now.
        """
        if self.landed is not None:
            return
        self.landed = landed
        self._lone = lone
        if self._timer is not None:
            self._timer.cancel()
        if landed.filling is None:
            self.end()
        if self._waiting:
            # In the next turn: the first client gets its answer before thousands of others.
            self._owner.timers.call_soon(lambda: self._wake(landed))

    def end(self) -> None:
        """Let the next request for the same begin a flight of its own."""
        self._owner.ended(self._key, self, lone=self._lone)

    def _wake(self, landed: Landed) -> None:
        waiting, self._waiting = self._waiting, {}
        for signal in waiting.values():
            signal.set(landed)
        if landed.filling is not None:
            landed.filling.release()


class Flights:
    """The flights of one worker, by what they are for."""

    __slots__ = ("_lone", "_under_way", "timers")

    def __init__(self, timers: Timers) -> None:
        """Start with none."""
        self.timers = timers
        self._under_way: dict[Hashable, Flight] = {}
        # By the hash of the key: clients choose keys, and long ones. Two that have one hash only wait less for each other.
        self._lone: dict[int, float] = {}

    def under_way(self, key: Hashable) -> Flight | None:
        """Return the flight for a key."""
        return self._under_way.get(key)

    def lone(self, key: Hashable) -> bool:
        """Tell whether the last answer for the key was for one client only, a short while ago."""
        number = hash(key)
        until = self._lone.get(number)
        if until is None:
            return False
        if until < self.timers.time():
            del self._lone[number]
            return False
        return True

    def begin(self, key: Hashable) -> Flight:
        """Begin a flight."""
        flight = self._under_way[key] = Flight(self, key)
        return flight

    def ended(self, key: Hashable, flight: Flight, *, lone: bool) -> None:
        """Note the end of a flight."""
        if self._under_way.get(key) is not flight:
            return
        del self._under_way[key]
        self._lone.pop(hash(key), None)
        if lone:
            if len(self._lone) >= _LONE_KEYS:
                del self._lone[next(iter(self._lone))]
            self._lone[hash(key)] = self.timers.time() + _LONE
