"""Count limits in this process.

Strategy. For each limit there are two dicts of keys, so that old keys can leave at a cost that is the same for each
request. A sweep takes the last key of `_unswept` (`popitem`: the one removal from a dict that never searches) and drops
it if nothing of it is spent any more; else it moves to `_swept`. When `_unswept` is empty, the two change places. Two
keys are swept for each new one, so dead keys are never more than the live ones, and some more at intervals, so that the
memory of a flood comes back.

A key that is in use never leaves. When there is no room, a new key shares one of 1024 counters with others (by its
hash): it gets its budget at most, and a flood of new keys hurts only those that come new during the flood.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from propylon.proxy.limit.arithmetic import (
    Log,
    debt_at,
    decision,
    decision_in,
    is_ahead,
    is_log_ahead,
    lack,
    lack_in,
    log_at,
    spent,
    spent_in,
)
from propylon.proxy.limit.rule import Decision, LimitStore, Rule, Spend

__all__ = ["MemoryLimits"]

# Of one limit. At about 200 bytes each, a limit never takes more than 200 MB. Traefik keeps 65,536; a limit per day
# keeps each of its callers for a while, and a million of them is what a large site has.
_MAX_KEYS = 1_000_000
_SHARED = 1024
# Microseconds between two sweeps of keys that nothing new pushes out, and how many keys each looks at: together less
# than a thousandth of a core.
_SWEEP_EVERY = 100_000
_SWEEP_KEYS = 500

S = TypeVar("S")


class _Table(Generic[S]):
    """The keys of one limit, each with its state."""

    __slots__ = ("_room", "_shared", "_swept", "_unswept", "rule", "sweep_at")

    def __init__(self, rule: Rule, room: int) -> None:
        self.rule = rule
        self.sweep_at = 0
        self._room = room
        self._unswept: dict[str, S] = {}
        self._swept: dict[str, S] = {}
        self._shared: dict[str, S] = {}

    def look(self, spend: Spend, now: int) -> _Looked[S]:
        """Look at what of the spend's key is spent at a microsecond."""
        state = self._at(spend.key, now)
        return _Looked(self, spend, state, self._lack(state, spend.cost))

    # What the algorithm decides

    @abstractmethod
    def _at(self, key: str, now: int) -> S:
        """Return what of the key is spent at a microsecond: a debt, or a log."""

    @abstractmethod
    def _lack(self, state: S, cost: int) -> int:
        """Return what lacks for a spend: see `arithmetic`."""

    @abstractmethod
    def spend(self, key: str, state: S, cost: int, now: int) -> S:
        """Spend, and return what is spent then."""

    @abstractmethod
    def decision(self, state: S, lacking: int, now: int) -> Decision:
        """Return what is told of this state."""

    @abstractmethod
    def _is_dead(self, kept: S, now: int) -> bool:
        """Tell whether nothing of what was kept is spent any more."""

    # What is kept

    def _find(self, key: str) -> S | None:
        state = self._unswept.get(key)
        if state is None and (state := self._swept.get(key)) is None and self._shared:
            state = self._shared.get(_shared(key))
        return state

    def _put(self, key: str, state: S, now: int) -> None:
        """Keep a state. A new key makes room for itself, or shares."""
        if key in self._unswept:
            self._unswept[key] = state
        elif key in self._swept:
            self._swept[key] = state
        else:
            self.sweep(now, 2)
            if len(self._unswept) + len(self._swept) >= self._room:
                self._shared[_shared(key)] = state
            else:
                self._swept[key] = state

    def sweep(self, now: int, keys: int) -> None:
        """Look at so many keys, and drop those of which nothing is spent any more."""
        for _ in range(keys):
            if not self._unswept and not self._turn(now):
                return
            key, state = self._unswept.popitem()
            if not self._is_dead(state, now):
                self._swept[key] = state

    def _turn(self, now: int) -> bool:
        self._unswept, self._swept = self._swept, {}
        if self._shared:
            kept = self._shared.items()
            self._shared = {key: state for key, state in kept if not self._is_dead(state, now)}
        return bool(self._unswept)

    def __len__(self) -> int:
        """Return how many keys are kept, the dead ones included."""
        return len(self._unswept) + len(self._swept) + len(self._shared)


def _shared(key: str) -> str:
    return str(hash(key) % _SHARED)


class _Buckets(_Table[int]):
    """GCRA. Of each key the tick is kept at which its bucket is full."""

    __slots__ = ()

    def _at(self, key: str, now: int) -> int:
        full = self._find(key)
        if full is None:
            return 0
        debt = debt_at(self.rule, full, now)
        if is_ahead(self.rule, full, now):
            self._put(key, now * self.rule.scale + debt, now)
        return debt

    def _lack(self, state: int, cost: int) -> int:
        return lack(self.rule, state, cost)

    def spend(self, key: str, state: int, cost: int, now: int) -> int:
        debt = spent(self.rule, state, cost)
        self._put(key, now * self.rule.scale + debt, now)
        return debt

    def decision(
        self, state: int, lacking: int, now: int  # noqa: ARG002 — a debt is one of now
    ) -> Decision:
        return decision(self.rule, state, lacking)

    def _is_dead(self, kept: int, now: int) -> bool:
        return kept <= now * self.rule.scale


class _Windows(_Table[Log]):
    """Sliding windows. Of each key its log is kept."""

    __slots__ = ()

    def _at(self, key: str, now: int) -> Log:
        kept = self._find(key) or ()
        log = log_at(self.rule, kept, now)
        if is_log_ahead(self.rule, kept, now):
            self._put(key, log, now)
        return log

    def _lack(self, state: Log, cost: int) -> int:
        return lack_in(self.rule, state, cost)

    def spend(self, key: str, state: Log, cost: int, now: int) -> Log:
        log = spent_in(self.rule, state, now, cost)
        self._put(key, log, now)
        return log

    def decision(self, state: Log, lacking: int, now: int) -> Decision:
        return decision_in(self.rule, state, now, lacking)

    def _is_dead(self, kept: Log, now: int) -> bool:
        return not log_at(self.rule, kept[-1:], now)


@dataclass(slots=True)
class _Looked(Generic[S]):
    """A spend, what its key has spent before it, and what lacks for it."""

    table: _Table[S]
    spend: Spend
    state: S
    lacking: int

    @property
    def refuses(self) -> bool:
        return self.lacking > 0 and not self.spend.rule.shadow

    def settle(self, now: int, *, spends: bool) -> Decision:
        """Spend, if the request may; return what is told."""
        if spends and self.lacking <= 0:
            self.pay(now)
        return self.table.decision(self.state, self.lacking, now)

    def pay(self, now: int) -> None:
        """Spend whatever is left."""
        self.state = self.table.spend(self.spend.key, self.state, self.spend.cost, now)


class MemoryLimits(LimitStore):
    """The counts of one worker."""

    def __init__(self, clock: Callable[[], int], *, keys: int = _MAX_KEYS) -> None:
        """Count by a monotonic clock of nanoseconds; keep at most `keys` keys of each limit."""
        self._clock = clock
        self._room = keys
        self._tables: dict[bytes, _Table[int] | _Table[Log]] = {}

    def decide(self, spends: Sequence[Spend]) -> list[Decision]:
        """Decide at once: nothing is waited for."""
        now = self._clock() // 1000
        looked = [self._table(spend.rule, now).look(spend, now) for spend in spends]
        refuses = any(one.refuses for one in looked)
        return [one.settle(now, spends=not refuses) for one in looked]

    def charge(self, spends: Sequence[Spend]) -> None:
        """Spend whatever is left."""
        now = self._clock() // 1000
        for spend in spends:
            self._table(spend.rule, now).look(spend, now).pay(now)

    def keys(self, rule: Rule) -> int:
        """Return how many keys of a limit are kept, those with nothing spent any more included."""
        table = self._tables.get(rule.identity)
        return 0 if table is None else len(table)

    def _table(self, rule: Rule, now: int) -> _Table[int] | _Table[Log]:
        table = self._tables.get(rule.identity)
        if table is None:
            make = _Windows if rule.sliding else _Buckets
            table = self._tables[rule.identity] = make(rule, self._room)
        elif now >= table.sweep_at:
            table.sweep_at = now + _SWEEP_EVERY
            table.sweep(now, _SWEEP_KEYS)
        return table
