"""Count limits together with the other workers of this machine: exactly, and without anything to set up.

Strategy. Each request is decided at once, while this worker holds the files alone. To gather the requests of one turn of the
loop was tried first, and cost more: to hold the files takes half a microsecond, but a request that waits for the end of the turn
takes six or more (bench/limits.py), for its signal, its coroutine and its second start.

A worker waits for the files only as long as another one holds them: a microsecond or two. Should they fail,
this worker counts for itself, says so once, and tries again with the next decision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
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
from propylon.stores.limits.keys import BucketKeys, LogKeys
from propylon.stores.limits.memory import MemoryLimits
from propylon.stores.limits.records import FULL, PLACE, TICKS
from propylon.stores.limits.segment import Segment, Unusable
from propylon.stores.limits.tables import Buckets, Table, Windows, settled

__all__ = ["SharedLimits"]

log = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")


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
        return self._holding(self._decide, self._spare.decide, spends)

    def _decide(self, spends: Sequence[Spend], now: int) -> list[Decision]:
        return settled([self._table(spend.rule).look(spend, now) for spend in spends], now)

    def charge(self, spends: Sequence[Spend]) -> None:
        """Spend whatever is left."""
        self._holding(self._charge, self._spare.charge, spends)

    def _charge(self, spends: Sequence[Spend], now: int) -> None:
        for spend in spends:
            self._table(spend.rule).look(spend, now).pay(now)

    def taker(self, rule: Rule, cost: int) -> LocalTake | None:
        """Return the hot path of a bucket."""
        spare = self._spare.taker(rule, cost)
        if spare is None:
            return None
        return partial(self._holding, _taking(self._segment, rule, cost), spare)

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

    def _holding(self, work: Callable[[A, int], T], alone: Callable[[A], T], asked: A) -> T:
        """Answer what is asked while the files are held, at a microsecond; without the files, where they fail."""
        if self._closed:
            return alone(asked)
        segment = self._segment
        try:
            segment.transaction = transaction = segment.hold()
        except Unusable as error:
            self._note(error)
            return alone(asked)
        try:
            # Read while the files are held: so the times in them never go back.
            now = self._clock() // 1000
            found = work(asked, now)
            is_due = (segment.changed or now >= segment.sweep_at) and segment.conclude(now)
        except Unusable as error:
            segment.undo()
            self._note(error)
            return alone(asked)
        finally:
            transaction.abort()
        if is_due:
            segment.attend()
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


def _taking(segment: Segment, rule: Rule, cost: int) -> Callable[[str, int], Taken]:
    """Return what decides a single spend of a bucket for a key at a microsecond, while the files are held.

    Inlined from `arithmetic`: `debt_at`, `is_ahead`, `lack`, `spent`, `decision`. From `BucketKeys`: `find`, and `put`, of
    a key whose handle is remembered.
    """
    keys = BucketKeys(segment, rule)
    handles = keys.handles
    scale, unit, capacity, deepest = rule.scale, rule.unit, rule.capacity, rule.deepest
    needed, price, second = max(cost, 1) * unit, cost * unit, scale * MICROSECONDS
    has_ticks = scale > 1  # else the second word is always 0

    def take(key: str, now: int) -> Taken:
        words = segment.records.words
        handle = handles.get(key, 0)
        at = handle & PLACE
        if (words[at] == handle and at) or (at := keys.place(key)):
            debt = words[at + FULL] - now
            if has_ticks:
                debt = debt * scale + words[at + TICKS]
        else:
            debt = 0
        if debt < 0:
            debt = 0
        elif debt > deepest:
            debt = deepest
            keys.put(key, now * scale + debt, now)
        lacking = debt + needed - capacity
        if lacking > 0:
            left = max(capacity - debt, 0) // unit
            return left, -(-debt // second), -(-lacking // second)
        debt += price
        if not at:
            keys.put(key, now * scale + debt, now)
        elif has_ticks:
            # In this order: see rule 2 of `records`.
            words[at + TICKS] = debt % scale
            words[at + FULL] = now + debt // scale
        else:
            words[at + FULL] = now + debt
        return (capacity - debt) // unit, -(-debt // second), 0

    return take
