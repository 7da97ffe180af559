"""Count limits in this process.

Strategy. For each limit there are two dicts of keys, so that old keys can leave at a cost that is the same for each
request. A sweep takes the last key of `unswept` (`popitem`: the one removal from a dict that never searches) and drops
it if nothing of it is spent any more; else it moves to `swept`. When `unswept` is empty, the two change places. Two
keys are swept for each new one, so dead keys are never more than the live ones, and some more at intervals, so that the
memory of a flood comes back.

A key that is in use never leaves. When there is no room, a new key shares one of 1024 counters with others (by its
hash): it gets its budget at most, and a flood of new keys hurts only those that come new during the flood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Generic, TypeVar

from propylon.proxy.limit.arithmetic import Log, log_at
from propylon.proxy.limit.rule import (
    MICROSECONDS,
    Decision,
    LocalLimitStore,
    LocalTake,
    Rule,
    Spend,
    Taken,
)
from propylon.stores.limits.tables import Buckets, Keys, Table, Windows, settled

__all__ = ["MemoryLimits"]

# Of one limit. Measured (bench/limits.py --callers): 140 to 165 bytes for a bucket's key. Traefik keeps 65,536; a limit per day
# keeps each of its callers for a while, and a million of them is what a large site has.
_MAX_KEYS = 1_000_000
_SHARED = 1024
# Microseconds between two sweeps of keys that nothing new pushes out, and how many keys each looks at: together less
# than a thousandth of a core.
_SWEEP_EVERY = 100_000
_SWEEP_KEYS = 500

S = TypeVar("S")


class _Dicts(Keys[S], Generic[S]):
    """The keys of one limit, in two dicts."""

    __slots__ = ("_is_dead", "_room", "_shared", "swept", "unswept")

    def __init__(self, is_dead: Callable[[S, int], bool], room: int) -> None:
        """`is_dead` tells whether nothing of a state is spent any more at a microsecond."""
        self._is_dead = is_dead
        self._room = room
        self.unswept: dict[str, S] = {}
        self.swept: dict[str, S] = {}
        self._shared: dict[str, S] = {}

    def find(self, key: str) -> S | None:
        """Return what is kept."""
        state = self.unswept.get(key)
        if state is None and (state := self.swept.get(key)) is None and self._shared:
            state = self._shared.get(_shared(key))
        return state

    def put(self, key: str, state: S, now: int) -> None:
        """Keep a state. A new key makes room for itself, or shares."""
        if key in self.unswept:
            self.unswept[key] = state
        elif key in self.swept:
            self.swept[key] = state
        else:
            self.sweep(now, 2)
            if len(self.unswept) + len(self.swept) >= self._room:
                self._shared[_shared(key)] = state
            else:
                self.swept[key] = state

    def sweep(self, now: int, keys: int) -> None:
        """Look at so many keys, and drop those of which nothing is spent any more."""
        for _ in range(keys):
            if not self.unswept and not self._turn(now):
                return
            key, state = self.unswept.popitem()
            if not self._is_dead(state, now):
                self.swept[key] = state

    def _turn(self, now: int) -> bool:
        self.unswept, self.swept = self.swept, {}
        if self._shared:
            kept = self._shared.items()
            self._shared = {key: state for key, state in kept if not self._is_dead(state, now)}
        return bool(self.unswept)

    def __len__(self) -> int:
        """Return how many keys are kept, the dead ones included."""
        return len(self.unswept) + len(self.swept) + len(self._shared)


def _shared(key: str) -> str:
    return str(hash(key) % _SHARED)


class MemoryLimits(LocalLimitStore):
    """The counts of one worker."""

    def __init__(self, clock: Callable[[], int], *, keys: int = _MAX_KEYS) -> None:
        """Count by a monotonic clock of nanoseconds; keep at most `keys` keys of each limit."""
        self._clock = clock
        self._room = keys
        self._sweep_at = 0
        self._tables: dict[bytes, Table[int] | Table[Log]] = {}
        self._kept: dict[bytes, _Dicts[int] | _Dicts[Log]] = {}
        self._buckets: dict[bytes, _Dicts[int]] = {}
        self._next: Iterator[bytes] = cycle(())

    def decide(self, spends: Sequence[Spend]) -> list[Decision]:
        """Decide at once: nothing is waited for."""
        now = self._clock() // 1000
        if now >= self._sweep_at:
            self._sweep(now)
        return settled([self._table(spend.rule).look(spend, now) for spend in spends], now)

    def charge(self, spends: Sequence[Spend]) -> None:
        """Spend whatever is left."""
        now = self._clock() // 1000
        for spend in spends:
            self._table(spend.rule).look(spend, now).pay(now)

    def keys(self, rule: Rule) -> int:
        """Return how many keys of a limit are kept, those with nothing spent any more included."""
        return len(self._kept.get(rule.identity, ()))

    def taker(self, rule: Rule, cost: int) -> LocalTake | None:
        """Return the hot path of a bucket."""
        if rule.sliding:
            return None
        self._table(rule)
        return self._taker(rule, cost, self._buckets[rule.identity])

    def _taker(self, rule: Rule, cost: int, kept: _Dicts[int]) -> LocalTake:
        """Return the same as `decide` for a single spend, written out.

        Inlined from `arithmetic`: `debt_at`, `is_ahead`, `lack`, `spent`, `decision`. From `_Dicts`: `find`, and
        `put` of a key that is there.
        """
        clock, scale, unit = self._clock, rule.scale, rule.unit
        capacity, deepest = rule.capacity, rule.deepest
        needed, price, second = max(cost, 1) * unit, cost * unit, scale * MICROSECONDS

        def take(key: str) -> Taken:
            now = clock() // 1000
            if now >= self._sweep_at:
                self._sweep(now)
            base = now * scale
            keys = kept.unswept
            full = keys.get(key)
            if full is None:
                keys = kept.swept
                full = keys.get(key)
                if full is None:
                    full = kept.find(key) or 0
            debt = full - base
            if debt < 0:
                debt = 0
            elif debt > deepest:
                debt = deepest
                kept.put(key, base + debt, now)
            lacking = debt + needed - capacity
            if lacking > 0:
                left = max(capacity - debt, 0) // unit
                return left, -(-debt // second), -(-lacking // second)
            debt += price
            if key in keys:
                keys[key] = base + debt
            else:
                kept.put(key, base + debt, now)
            return (capacity - debt) // unit, -(-debt // second), 0

        return take

    def _table(self, rule: Rule) -> Table[int] | Table[Log]:
        table = self._tables.get(rule.identity)
        return self._make(rule) if table is None else table

    def _make(self, rule: Rule) -> Table[int] | Table[Log]:
        table: Table[int] | Table[Log]
        identity = rule.identity
        if rule.sliding:
            logs = _Dicts[Log](lambda log, now: not log_at(rule, log[-1:], now), self._room)
            table, self._kept[identity] = Windows(rule, logs), logs
        else:
            ticks = _Dicts[int](lambda full, now: full <= now * rule.scale, self._room)
            table, self._kept[identity] = Buckets(rule, ticks), ticks
            self._buckets[identity] = ticks
        self._tables[identity] = table
        self._next = cycle(tuple(self._kept))
        return table

    def _sweep(self, now: int) -> None:
        """Look at some keys of one limit, because it is time to; also of those that a reload has taken out."""
        self._sweep_at = now + _SWEEP_EVERY
        for identity in self._next:
            self._kept[identity].sweep(now, _SWEEP_KEYS)
            break
