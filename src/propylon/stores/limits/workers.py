"""Count limits together with the other workers of this machine: exactly, and without anything to set up.

Strategy. All decisions that are asked for in one turn of the loop are made in one transaction, because to begin and to
commit one costs as much as several decisions. The answers are given after it is committed: what is not committed has not
been decided.

A worker waits for the file only as long as another one is in its transaction, which is less than a millisecond. Should
the file fail, this worker counts for itself, says so once, and tries again with the next decision.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from propylon.loop.signal import Signal
from propylon.proxy.limit.arithmetic import Log
from propylon.proxy.limit.rule import (
    MICROSECONDS,
    Decision,
    LimitStore,
    Rule,
    Spend,
    Take,
    Taken,
    storage_key,
)
from propylon.stores.limits.memory import MemoryLimits
from propylon.stores.limits.segment import BUCKET, BucketKeys, LogKeys, Segment, Unusable
from propylon.stores.limits.tables import Buckets, Table, Windows, settled

__all__ = ["SharedLimits"]

log = logging.getLogger(__name__)

# Decisions in one transaction: so that no worker holds the file for longer than some hundred microseconds.
_AT_ONCE = 64


class _Way(Protocol):
    """How one kind of question is answered: from the file, or by this worker alone."""

    def shared(self, asked: Any, now: int) -> object:
        """Answer from the file, in a transaction, at a microsecond. Raises Unusable."""

    def alone(self, asked: Any) -> object:
        """Answer without the file."""


# The signal that gets the answer (None: no answer is wanted), how it is found, and what was asked.
_Question = tuple[Signal[Any] | None, _Way, Any]


class SharedLimits(LimitStore):
    """The counts of all workers of one machine."""

    def __init__(
        self,
        segment: Segment,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], int],
    ) -> None:
        """Count in `segment`, by a monotonic clock of nanoseconds that all workers have in common."""
        self._segment = segment
        self._loop = loop
        self._clock = clock
        self._spare = MemoryLimits(clock)
        self._queue: list[_Question] = []
        self._tables: dict[bytes, Table[int] | Table[Log]] = {}
        self._deciding = _Deciding(self.table, self._spare)
        self._charging = _Charging(self.table, self._spare)
        self._failed = False
        self._closed = False

    def decide(self, spends: Sequence[Spend]) -> Awaitable[list[Decision]]:
        """Decide at the end of this turn of the loop."""
        answer: Signal[list[Decision]] = Signal()
        self._ask((answer, self._deciding, spends))
        return answer

    def charge(self, spends: Sequence[Spend]) -> None:
        """Spend at the end of this turn of the loop."""
        self._ask((None, self._charging, spends))

    def taker(self, rule: Rule, cost: int) -> Take | None:
        """Return the hot path of a bucket."""
        spare = self._spare.taker(rule, cost)
        if spare is None:
            return None
        way = _Taking(self._segment, rule, cost, spare)

        def take(key: str) -> Awaitable[Taken]:
            answer: Signal[Taken] = Signal()
            self._ask((answer, way, key))
            return answer

        return take

    def table(self, rule: Rule) -> Table[int] | Table[Log]:
        """Return what decides by a rule."""
        table = self._tables.get(rule.identity)
        if table is None:
            if rule.sliding:
                table = Windows(rule, LogKeys(self._segment, rule))
            else:
                table = Buckets(rule, BucketKeys(self._segment, rule))
            self._tables[rule.identity] = table
        return table

    def close(self) -> None:
        """Use the file no longer; what is still asked is counted by this worker alone."""
        self._flush()
        self._segment.leave()
        self._closed = True

    # What is asked for in a turn

    def _ask(self, question: _Question) -> None:
        if not self._queue:
            self._loop.call_soon(self._flush)
        self._queue.append(question)

    def _flush(self) -> None:
        queue, self._queue = self._queue, []
        for begin in range(0, len(queue), _AT_ONCE):
            part = queue[begin : begin + _AT_ONCE]
            for (answer, _, _), found in zip(part, self._found(part), strict=True):
                if answer is not None:
                    answer.set(found)

    def _found(self, part: list[_Question]) -> list[object]:
        if self._closed:
            return [way.alone(asked) for _, way, asked in part]
        try:
            found = self._shared(part)
        except Unusable as error:
            self._note(error)
            return [way.alone(asked) for _, way, asked in part]
        if self._failed:
            self._note(None)
        return found

    def _shared(self, part: list[_Question]) -> list[object]:
        segment = self._segment
        segment.enter()
        try:
            # Read while the file is held: so the times in it never go back.
            now = self._clock() // 1000
            found = [way.shared(asked, now) for _, way, asked in part]
            due = segment.sweep(now)
            segment.commit()
        finally:
            segment.abort()
        if due:
            segment.reserve_ahead()
        return found

    def _note(self, error: Exception | None) -> None:
        if error is None:
            log.warning("limits are counted together with the other workers again")
        elif not self._failed:
            log.warning(
                "limits are counted by this worker alone, because their file failed: %s", error
            )
        self._failed = error is not None


class _Deciding:
    """All spends of one request."""

    def __init__(
        self, table: Callable[[Rule], Table[int] | Table[Log]], spare: MemoryLimits
    ) -> None:
        self._table = table
        self._spare = spare

    def shared(self, asked: Sequence[Spend], now: int) -> list[Decision]:
        return settled([self._table(spend.rule).look(spend, now) for spend in asked], now)

    def alone(self, asked: Sequence[Spend]) -> list[Decision]:
        return self._spare.decide(asked)


class _Charging(_Deciding):
    """What an answer has cost."""

    def shared(self, asked: Sequence[Spend], now: int) -> list[Decision]:
        for spend in asked:
            self._table(spend.rule).look(spend, now).pay(now)
        return []

    def alone(self, asked: Sequence[Spend]) -> list[Decision]:
        self._spare.charge(asked)
        return []


class _Taking:
    """A single spend of a bucket, for its key: the same as `_Deciding`, written out, because this is the hot path.

    Inlined from `arithmetic`: `debt_at`, `is_ahead`, `lack`, `spent`, `decision`. From `BucketKeys`: `find`, and `put` of
    a key that is there.
    """

    def __init__(self, segment: Segment, rule: Rule, cost: int, spare: Take) -> None:
        self._segment = segment
        self._keys = BucketKeys(segment, rule)
        self._identity = rule.identity
        self._scale, self._unit = rule.scale, rule.unit
        self._capacity, self._deepest = rule.capacity, rule.deepest
        self._needed, self._price = max(cost, 1) * rule.unit, cost * rule.unit
        self._second = rule.scale * MICROSECONDS
        self.alone = spare

    def shared(self, key: str, now: int) -> Taken:
        scale, file = self._scale, self._segment.open
        name = storage_key(self._identity, key)
        value = file.get(name)
        if value is None:
            debt = (self._keys.find(key) or 0) - now * scale
        else:
            moment, ticks = BUCKET.unpack(value)
            debt = (moment - now) * scale + ticks
        if debt < 0:
            debt = 0
        elif debt > self._deepest:
            debt = self._deepest
            self._keys.put(key, now * scale + debt, now)
        lacking = debt + self._needed - self._capacity
        if lacking > 0:
            left = max(self._capacity - debt, 0) // self._unit
            return left, -(-debt // self._second), -(-lacking // self._second)
        debt += self._price
        if value is None:
            self._keys.put(key, now * scale + debt, now)
        else:
            file.put(name, BUCKET.pack(now + debt // scale, debt % scale))
        return (self._capacity - debt) // self._unit, -(-debt // self._second), 0
