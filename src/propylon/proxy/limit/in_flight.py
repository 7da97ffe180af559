"""Count the requests of one key that are on their way at the same time. Pure.

Each worker counts for itself: a count that workers share would have to be cleaned up after each of them that dies, and
until then the caller could do less than it may. With N workers a caller may have up to N times the number in flight.
"""

from __future__ import annotations

__all__ = ["InFlight"]


class InFlight:
    """The requests in flight, by key, in this worker."""

    __slots__ = ("_counts", "most")

    def __init__(self, most: int) -> None:
        """Allow `most` for each key."""
        self.most = most
        self._counts: dict[str, int] = {}

    def enter(self, key: str) -> bool:
        """Count one more; return False, and count nothing, if that would be too many."""
        count = self._counts.get(key, 0)
        if count >= self.most:
            return False
        self._counts[key] = count + 1
        return True

    def leave(self, key: str) -> None:
        """Count one less: a request that entered has ended. A key without a request takes no memory."""
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]

    def __len__(self) -> int:
        """Return how many keys have a request in flight."""
        return len(self._counts)

    @property
    def total(self) -> int:
        """How many requests are in flight."""
        return sum(self._counts.values())
