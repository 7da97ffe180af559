"""Remember what was found out about a credential, within bounds. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Cache"]

T = TypeVar("T")


class Cache(Generic[T]):
    """The newest entries, at most `limit` of them and `size` bytes of keys; the oldest leave first."""

    __slots__ = ("_entries", "_key_bytes", "_limit", "_size", "get")

    def __init__(self, limit: int, size: int) -> None:
        """Start empty."""
        self._limit = limit
        self._size = size
        self._key_bytes = 0
        self._entries: dict[bytes, T] = {}
        # The dict's own method: one call less for every request.
        self.get = self._entries.get

    def put(self, key: bytes, value: T) -> None:
        """Remember; make room first."""
        if key in self._entries:
            self.drop(key)
        while self._entries and (
            len(self._entries) >= self._limit or self._key_bytes + len(key) > self._size
        ):
            self.drop(next(iter(self._entries)))
        self._entries[key] = value
        self._key_bytes += len(key)

    def drop(self, key: bytes) -> None:
        """Forget one entry, if it is there."""
        if key in self._entries:
            del self._entries[key]
            self._key_bytes -= len(key)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._key_bytes = 0

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self._entries)
