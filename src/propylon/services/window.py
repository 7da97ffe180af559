"""Count the events of the last seconds: of one kind up to a limit, or calls by their result. Pure."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Tally", "Window"]


class Window:
    """The times of the events within the last `length` seconds, of the newest `limit` ones only.

    A sliding window. Fixed windows would lose failures at their edges: four before an edge and four after it
    are eight in one window's time. `limit` bounds the memory, whatever the load.
    """

    __slots__ = ("_length", "_times")

    def __init__(self, limit: int, length: float) -> None:
        self._length = length
        # A full deque drops its oldest entry by itself.
        self._times: deque[float] = deque(maxlen=limit)

    def note(self, now: float) -> bool:
        """Count an event; tell whether `limit` events are within the window."""
        self.count(now)
        self._times.append(now)
        return len(self._times) == self._times.maxlen

    def count(self, now: float) -> int:
        """Return the number of events in the window; an event exactly `length` seconds old is outside."""
        times = self._times
        oldest = now - self._length
        while times and times[0] <= oldest:
            times.popleft()
        return len(times)

    def resized(self, limit: int, length: float) -> Window:
        """Return a window of another size with the same events, as many as both sizes remember."""
        # After a reload to a larger limit, the window fills up with new events only: the dropped ones are lost.
        other = Window(limit, length)
        other._times.extend(self._times)
        return other

    def clear(self) -> None:
        """Forget all events: those from before do not count any more."""
        self._times.clear()


# A tally counts in so many slices of its window, so its memory is bounded whatever the load. Resilience4j's time window
# has a slice for each second, Envoy's and Finagle's windows have ten.
_SLICES = 60


class Tally:
    """How many calls succeeded and how many failed within the last `length` seconds, however many there were.

    Strategy: successes are on the path of every request. So a caller that knows, by a clock of its own, that `until` has
    not come, adds one to `successes` itself. It calls `succeed` only when `until` is over, and sets it anew from `left`.
    """

    __slots__ = ("_before", "_failures", "_length", "_start", "left", "successes", "until")

    def __init__(self, length: float) -> None:
        self._length = length
        # The slices that are over: when each began, its successes and its failures.
        self._before: deque[tuple[float, int, int]] = deque()
        self._start = -math.inf
        self._failures = 0  # in the slice of now, as `successes`
        self.successes = 0
        self.left = 0.0  # seconds until the slice is over, when `succeed` or `fail` was called last
        self.until = -math.inf  # on the clock of the caller that counts by itself

    def succeed(self, now: float) -> None:
        """Count a call that succeeded."""
        self._slice_of(now)
        self.successes += 1

    def fail(self, now: float) -> None:
        """Count a call that failed."""
        self._slice_of(now)
        self._failures += 1

    def counts(self, now: float) -> tuple[int, int]:
        """Return the successes and the failures in the window."""
        self._slice_of(now)
        successes = sum(counted for _, counted, _ in self._before) + self.successes
        return successes, sum(counted for _, _, counted in self._before) + self._failures

    def forgive(self) -> None:
        """Forget the failures, and keep the successes."""
        self._before = deque((start, counted, 0) for start, counted, _ in self._before)
        self._failures = 0

    def resize(self, length: float) -> None:
        """Count within another window from now on; what the old one has forgotten stays forgotten."""
        self._length = length

    def _slice_of(self, now: float) -> None:
        width = self._length / _SLICES
        if now - self._start >= width:
            if self.successes or self._failures:
                self._before.append((self._start, self.successes, self._failures))
            # A slice begins with its first event, so that an event leaves the window on time if it has a slice for
            # itself, and less than a slice too soon if not.
            self._start, self.successes, self._failures = now, 0, 0
        self.left = self._start + width - now
        while self._before and self._before[0][0] <= now - self._length:
            self._before.popleft()
