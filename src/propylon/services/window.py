"""Count the events of the last seconds, up to a limit. Pure."""

from __future__ import annotations

from collections import deque

__all__ = ["Window"]


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
        """Forget all events."""
        self._times.clear()
