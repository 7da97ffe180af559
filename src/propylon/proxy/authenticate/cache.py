"""Cache what was found out about tokens, within bounds. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Cache"]

T = TypeVar("T")


class Cache(Generic[T]):
    """At most `limit` entries with `size` bytes of keys together; the oldest entries are evicted first.

    First in, first out. An LRU would have to move an entry with each request; here reading changes nothing. A
    token that is evicted while in use is verified again, which costs under a millisecond.
    """

    __slots__ = ("_entries", "_key_bytes", "_limit", "_size", "get")

    def __init__(self, limit: int, size: int) -> None:
        """Start empty; `limit` counts entries, `size` bytes of keys."""
        self._limit = limit
        self._size = size
        self._key_bytes = 0
        self._entries: dict[bytes, T] = {}
        # The dict's own method, which saves one call for each request.
        self.get = self._entries.get

    def put(self, key: bytes, value: T) -> None:
        """Store the value; evict the oldest entries until it fits."""
        # A key that is there already becomes the newest: a dict keeps the order of insertion.
        if key in self._entries:
            self.drop(key)
        # Keys are bounded by size, too: a client chooses how long its tokens are.
        while self._entries and (
            len(self._entries) >= self._limit or self._key_bytes + len(key) > self._size
        ):
            self.drop(next(iter(self._entries)))
        self._entries[key] = value
        self._key_bytes += len(key)

    def drop(self, key: bytes) -> None:
        """Remove the entry, if there is one."""
        if key in self._entries:
            del self._entries[key]
            self._key_bytes -= len(key)

    def clear(self) -> None:
        """Remove all entries: what they were derived from has changed."""
        self._entries.clear()
        self._key_bytes = 0

    def __contains__(self, key: bytes) -> bool:
        """Tell whether there is an entry."""
        return key in self._entries

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)
