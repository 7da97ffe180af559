"""Decide by the two algorithms over keys that are kept anywhere: in dicts, or in a file that workers share. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

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
from propylon.proxy.limit.rule import Decision, Rule, Spend

__all__ = ["Buckets", "Keys", "Looked", "Table", "Windows", "settled"]

S = TypeVar("S")


class Keys(Protocol[S]):
    """What is kept of each key of one limit."""

    def find(self, key: str) -> S | None:
        """Return what is kept; None: nothing of it is spent."""

    def put(self, key: str, state: S, now: int) -> None:
        """Keep a state at a microsecond."""


class Table(ABC, Generic[S]):
    """One limit, and its keys."""

    __slots__ = ("keys", "rule")

    def __init__(self, rule: Rule, keys: Keys[S]) -> None:
        """Count by `rule` in `keys`."""
        self.rule = rule
        self.keys = keys

    def look(self, spend: Spend, now: int) -> Looked[S]:
        """Look at what of the spend's key is spent at a microsecond."""
        state = self.at(spend.key, now)
        return Looked(self, spend, state, self.lack(state, spend.cost))

    @abstractmethod
    def at(self, key: str, now: int) -> S:
        """Return what of the key is spent at a microsecond: a debt, or a log."""

    @abstractmethod
    def lack(self, state: S, cost: int) -> int:
        """Return what lacks for a spend: see `arithmetic`."""

    @abstractmethod
    def spend(self, key: str, state: S, cost: int, now: int) -> S:
        """Spend, and return what is spent then."""

    @abstractmethod
    def decision(self, state: S, lacking: int, now: int) -> Decision:
        """Return what is told of this state."""


class Buckets(Table[int]):
    """GCRA. Of each key the tick is kept at which its bucket is full."""

    __slots__ = ()

    def at(self, key: str, now: int) -> int:
        """Return what this key has spent and has not got back yet."""
        full = self.keys.find(key)
        if full is None:
            return 0
        debt = debt_at(self.rule, full, now)
        if is_ahead(self.rule, full, now):
            self.keys.put(key, now * self.rule.scale + debt, now)
        return debt

    def lack(self, state: int, cost: int) -> int:
        """Return the ticks that lack."""
        return lack(self.rule, state, cost)

    def spend(self, key: str, state: int, cost: int, now: int) -> int:
        """Return the new debt."""
        debt = spent(self.rule, state, cost)
        self.keys.put(key, now * self.rule.scale + debt, now)
        return debt

    def decision(
        self, state: int, lacking: int, now: int  # noqa: ARG002 — a debt is one of now
    ) -> Decision:
        """Return what is told of a debt."""
        return decision(self.rule, state, lacking)


class Windows(Table[Log]):
    """Sliding windows. Of each key its log is kept."""

    __slots__ = ()

    def at(self, key: str, now: int) -> Log:
        """Return what this key has spent within the window, and when."""
        kept = self.keys.find(key) or ()
        log = log_at(self.rule, kept, now)
        if is_log_ahead(self.rule, kept, now):
            self.keys.put(key, log, now)
        return log

    def lack(self, state: Log, cost: int) -> int:
        """Return the units that lack."""
        return lack_in(self.rule, state, cost)

    def spend(self, key: str, state: Log, cost: int, now: int) -> Log:
        """Return the new log."""
        log = spent_in(self.rule, state, now, cost)
        self.keys.put(key, log, now)
        return log

    def decision(self, state: Log, lacking: int, now: int) -> Decision:
        """Return what is told of a log."""
        return decision_in(self.rule, state, now, lacking)


@dataclass(slots=True)
class Looked(Generic[S]):
    """A spend, what its key has spent before it, and what lacks for it."""

    table: Table[S]
    spend: Spend
    state: S
    lacking: int

    @property
    def refuses(self) -> bool:
        """Whether the request may not pass because of this spend."""
        return self.lacking > 0 and not self.spend.rule.shadow

    def settle(self, now: int, *, spends: bool) -> Decision:
        """Spend, if the request may; return what is told."""
        if spends and self.lacking <= 0:
            self.pay(now)
        return self.table.decision(self.state, self.lacking, now)

    def pay(self, now: int) -> None:
        """Spend whatever is left."""
        self.state = self.table.spend(self.spend.key, self.state, self.spend.cost, now)


def settled(looked: Sequence[Looked[int] | Looked[Log]], now: int) -> list[Decision]:
    """Spend all spends of one request, or none if an enforced limit refuses; return what is told of each."""
    refuses = any(one.refuses for one in looked)
    return [one.settle(now, spends=not refuses) for one in looked]
