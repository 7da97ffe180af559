"""Count what happened lately, as far as anybody needs to know. Pure."""

from __future__ import annotations

from collections import deque

__all__ = ["Window"]


class Window:
    """When something happened within the last `length` seconds, at most the last `limit` times."""

    __slots__ = ("_length", "_times")

    def __init__(self, limit: int, length: float) -> None:
        self._length = length
        self._times: deque[float] = deque(maxlen=limit)

    def note(self, now: float) -> bool:
        """Count one more; tell whether the limit is reached."""
        self.count(now)
        self._times.append(now)
        return len(self._times) == self._times.maxlen

    def count(self, now: float) -> int:
        """Return how often it happened; what is exactly `length` seconds old is over."""
        times = self._times
        oldest = now - self._length
        while times and times[0] <= oldest:
            times.popleft()
        return len(times)

    def resized(self, limit: int, length: float) -> Window:
        """Return a window of another size that has seen the same, as far as it is remembered."""
        other = Window(limit, length)
        other._times.extend(self._times)
        return other

    def clear(self) -> None:
        """Forget."""
        self._times.clear()
