"""Count the open sockets of each caller, in this worker. Pure."""

from __future__ import annotations

from propylon.proxy import route

__all__ = ["Seats"]


class Seats(route.Seats):
    """How many sockets each key has open. The map holds only keys that have one, so sockets bound it."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, key: str, limit: int) -> bool:
        """Count one more, unless there are `limit` already."""
        taken = self._taken.get(key, 0)
        if taken >= limit:
            return False
        self._taken[key] = taken + 1
        return True

    def give_back(self, key: str) -> None:
        """Count one socket less for this key: it has ended."""
        left = self._taken.get(key, 0) - 1
        if left > 0:
            self._taken[key] = left
        else:
            self._taken.pop(key, None)
