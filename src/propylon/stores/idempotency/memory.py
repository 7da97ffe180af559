"""Keep idempotency keys in the memory of one worker, bounded by bytes."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from propylon.proxy.idempotency.ledger import Ledger, LedgerAway, without_answer

__all__ = ["MemoryLedger"]

_BESIDE = 300  # bytes of Python's objects for an entry
_FEW = 1024  # ends that are kept at least before those of removed entries are looked for


class MemoryLedger(Ledger):
    """The keys of one worker. `clock` counts seconds."""

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        """Keep so many bytes at the most."""
        self.capacity = capacity
        self.size = 0
        self._clock = clock
        self._values: dict[bytes, tuple[float, bytes]] = {}
        self._ends: list[tuple[float, bytes]] = []

    async def claim(self, name: bytes, value: bytes, seconds: float) -> bytes | None:
        """Put a value under a name where there is none: None; else return the one that is there. Raises LedgerAway."""
        self._sweep()
        if (held := self._values.get(name)) is not None:
            return held[1]
        if self.size + len(name) + len(value) + _BESIDE > self.capacity:
            raise LedgerAway
        self._put(name, value, seconds)
        return None

    async def settle(self, name: bytes, claim: bytes, value: bytes, seconds: float) -> None:
        """Put a value in place of a claim."""
        held = self._values.get(name)
        if held is None or held[1] == claim:
            self._remove(name)
            # Claims that were let in while there was room may all be settled with long answers.
            if self.size + len(name) + len(value) + _BESIDE > self.capacity:
                value = without_answer(value)
            self._put(name, value, seconds)

    async def release(self, name: bytes, claim: bytes) -> None:
        """Remove a claim, if it is still there."""
        held = self._values.get(name)
        if held is not None and held[1] == claim:
            self._remove(name)

    def _put(self, name: bytes, value: bytes, seconds: float) -> None:
        ends = self._clock() + seconds
        self._values[name] = ends, value
        heapq.heappush(self._ends, (ends, name))
        if len(self._ends) > 2 * len(self._values) + _FEW:
            self._forget_removed()
        self.size += len(name) + len(value) + _BESIDE

    def _remove(self, name: bytes) -> None:
        held = self._values.pop(name, None)
        if held is not None:
            self.size -= len(name) + len(held[1]) + _BESIDE

    def _sweep(self) -> None:
        """Let go of what is over."""
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            ends, name = heapq.heappop(self._ends)
            held = self._values.get(name)
            if held is not None and held[0] == ends:
                self._remove(name)

    def _forget_removed(self) -> None:
        """Let go of the ends of entries that are gone: claims that are released would pile up until their time."""
        self._ends = [(ends, name) for name, (ends, _) in self._values.items()]
        heapq.heapify(self._ends)
