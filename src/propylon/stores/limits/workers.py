"""Count limits together with the other workers of this machine: exactly, and without anything to set up.

Strategy. Each request is decided at once, in a transaction of its own. To gather the requests of one turn of the loop in
one transaction was tried first, and cost more: a transaction takes two microseconds, but a request that waits for the
end of the turn takes six or more (bench/limits.py), for its signal, its coroutine and its second start.

A worker waits for the file only as long as another one is in its transaction: some microseconds. Should the file fail,
this worker counts for itself, says so once, and tries again with the next decision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from propylon.proxy.limit.arithmetic import Log
from propylon.proxy.limit.rule import (
    MICROSECONDS,
    Decision,
    LocalLimitStore,
    LocalTake,
    Rule,
    Spend,
    Taken,
)
from propylon.stores.limits.memory import MemoryLimits
from propylon.stores.limits.segment import BUCKET, BucketKeys, LogKeys, Segment, Unusable
from propylon.stores.limits.tables import Buckets, Table, Windows, settled

__all__ = ["SharedLimits"]

log = logging.getLogger(__name__)

T = TypeVar("T")

# Of a limit, the names in the file of so many keys are kept: to make one costs a quarter of a transaction. When there are
# more, all of them leave at once: that is cheaper than to know which one was used last.
_NAMES = 4096


class SharedLimits(LocalLimitStore):
    """The counts of all workers of one machine."""

    def __init__(self, segment: Segment, clock: Callable[[], int]) -> None:
        """Count in `segment`, by a monotonic clock of nanoseconds that all workers have in common."""
        self._segment = segment
        self._clock = clock
        self._spare = MemoryLimits(clock)
        self._tables: dict[bytes, Table[int] | Table[Log]] = {}
        self._failed = False
        self._closed = False

    def decide(self, spends: Sequence[Spend]) -> list[Decision]:
        """Decide at once: other workers are waited for, but not the loop."""

        def shared(now: int) -> list[Decision]:
            return settled([self._table(spend.rule).look(spend, now) for spend in spends], now)

        return self._in_transaction(shared, lambda: self._spare.decide(spends))

    def charge(self, spends: Sequence[Spend]) -> None:
        """Spend whatever is left."""

        def shared(now: int) -> None:
            for spend in spends:
                self._table(spend.rule).look(spend, now).pay(now)

        self._in_transaction(shared, lambda: self._spare.charge(spends))

    def taker(self, rule: Rule, cost: int) -> LocalTake | None:
        """Return the hot path of a bucket."""
        spare = self._spare.taker(rule, cost)
        if spare is None:
            return None
        way, clock, segment = _Taking(self._segment, rule, cost), self._clock, self._segment

        def take(key: str) -> Taken:
            # The same as `_in_transaction`, written out: this is on the path of each request.
            if self._closed:
                return spare(key)
            try:
                segment.enter()
                now = clock() // 1000
                taken = way.take(key, now)
                due = segment.is_due(now) and segment.sweep(now)
                segment.commit()
            except Unusable as error:
                self._note(error)
                return spare(key)
            finally:
                segment.abort()
            if due:
                segment.reserve_ahead()
            if self._failed:
                self._note(None)
            return taken

        return take

    def close(self) -> None:
        """Use the file no longer; what is still asked is counted by this worker alone."""
        if not self._closed:
            self._closed = True
            self._segment.leave()

    def _table(self, rule: Rule) -> Table[int] | Table[Log]:
        table = self._tables.get(rule.identity)
        if table is None:
            if rule.sliding:
                table = Windows(rule, LogKeys(self._segment, rule))
            else:
                table = Buckets(rule, BucketKeys(self._segment, rule))
            self._tables[rule.identity] = table
        return table

    def _in_transaction(self, shared: Callable[[int], T], alone: Callable[[], T]) -> T:
        """Answer from the file at a microsecond; without the file, where it fails."""
        if self._closed:
            return alone()
        segment = self._segment
        try:
            segment.enter()
            # Read while the file is held: so the times in it never go back.
            now = self._clock() // 1000
            found = shared(now)
            due = segment.is_due(now) and segment.sweep(now)
            segment.commit()
        except Unusable as error:
            self._note(error)
            return alone()
        finally:
            segment.abort()
        if due:
            segment.reserve_ahead()
        if self._failed:
            self._note(None)
        return found

    def _note(self, error: Exception | None) -> None:
        if error is None:
            log.warning("limits are counted together with the other workers again")
        elif not self._failed:
            log.warning(
                "limits are counted by this worker alone, because their file failed: %s", error
            )
        self._failed = error is not None


class _Taking:
    """A single spend of a bucket for its key, in a transaction.

    Inlined from `arithmetic`: `debt_at`, `is_ahead`, `lack`, `spent`, `decision`. From `BucketKeys`: `find_named`, and
    `put_named` of a name that is there.
    """

    __slots__ = (
        "_capacity",
        "_deepest",
        "_keys",
        "_names",
        "_needed",
        "_price",
        "_scale",
        "_second",
        "_segment",
        "_unit",
    )

    def __init__(self, segment: Segment, rule: Rule, cost: int) -> None:
        self._segment = segment
        self._keys = BucketKeys(segment, rule)
        self._names: dict[str, bytes] = {}
        self._scale, self._unit = rule.scale, rule.unit
        self._capacity, self._deepest = rule.capacity, rule.deepest
        self._needed, self._price = max(cost, 1) * rule.unit, cost * rule.unit
        self._second = rule.scale * MICROSECONDS

    def take(self, key: str, now: int) -> Taken:
        """Decide at a microsecond. Raises Unusable."""
        scale, file = self._scale, self._segment.open
        name = self._names.get(key) or self._name(key)
        value = file.get(name)
        if value is None:
            debt = (self._keys.find_named(name) or 0) - now * scale
        else:
            moment, ticks = BUCKET.unpack(value)
            debt = (moment - now) * scale + ticks
        if debt < 0:
            debt = 0
        elif debt > self._deepest:
            debt = self._deepest
            self._keys.put_named(name, now * scale + debt)
        lacking = debt + self._needed - self._capacity
        if lacking > 0:
            left = max(self._capacity - debt, 0) // self._unit
            return left, -(-debt // self._second), -(-lacking // self._second)
        debt += self._price
        if value is None:
            self._keys.put_named(name, now * scale + debt)
        else:
            file.put(name, BUCKET.pack(now + debt // scale, debt % scale))
        return (self._capacity - debt) // self._unit, -(-debt // self._second), 0

    def _name(self, key: str) -> bytes:
        if len(self._names) >= _NAMES:
            self._names.clear()
        name = self._names[key] = self._keys.name(key)
        return name
