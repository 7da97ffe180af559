"""What the cases about limit stores are run against: each store with a clock that the case moves."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import cast

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
from propylon.proxy.limit.rule import MICROSECONDS, Decision, LimitStore, Rule, Spend, Take, Taken

BEGAN = 1_790_000_000 * MICROSECONDS + 12_345  # what a clock of Redis shows, in microseconds
SECOND = MICROSECONDS


class Clock:
    """A clock that goes on when it is told to, in microseconds; a store calls it for nanoseconds."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> int:
        """The time in nanoseconds."""
        return self.now * 1000


class Counted(ABC):
    """A store, its clock, and a way to get its answers without a loop of one's own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.runner = asyncio.Runner()

    @abstractmethod
    def store(self) -> LimitStore:
        """The store: another one each time, as another worker has it; all share their counts if they can."""

    @property
    def shares(self) -> bool:
        """Whether two stores count together."""
        return True

    def decide(self, *spends: Spend, at: LimitStore | None = None) -> list[Decision]:
        """The decisions of one request."""

        async def ask() -> Sequence[Decision]:
            found = store.decide(spends)
            return await found if isinstance(found, Awaitable) else found

        store = at or self.first
        return list(self.runner.run(ask()))

    def decide_at_once(
        self, many: Sequence[tuple[LimitStore, Sequence[Spend]]]
    ) -> list[list[Decision]]:
        """The decisions of many requests that are asked for in one turn of the loop."""

        async def ask() -> list[list[Decision]]:
            asked = [store.decide(spends) for store, spends in many]
            return [list(await found if isinstance(found, Awaitable) else found) for found in asked]

        return self.runner.run(ask())

    def take(self, rule: Rule, key: str, cost: int) -> Taken | None:
        """What the store's hot path says; None if it has none."""

        async def ask(take: Take) -> Taken:
            found = take(key)
            return await found if isinstance(found, Awaitable) else found

        take = self.first.taker(rule, cost)
        return None if take is None else self.runner.run(ask(take))

    def charge(self, *spends: Spend, at: LimitStore | None = None) -> None:
        """Charge, and wait until the store has taken it: the next decision does."""

        async def pay() -> None:
            (at or self.first).charge(spends)
            await asyncio.sleep(0)

        self.runner.run(pay())

    @property
    def first(self) -> LimitStore:
        """The store of the first worker."""
        if not hasattr(self, "_first"):
            self._first = self.store()
        return self._first

    def close(self) -> None:
        """Let go of what was opened."""
        self.runner.close()


class Model:
    """The reference: `proxy.limit.arithmetic` over two dicts."""

    def __init__(self) -> None:
        self.full: dict[tuple[bytes, str], int] = {}
        self.logs: dict[tuple[bytes, str], Log] = {}

    def decide(self, now: int, spends: Sequence[Spend]) -> list[Decision]:
        """What every store must say."""
        lacking = [self._lack(now, spend) for spend in spends]
        refuses = any(
            over > 0 and not spend.rule.shadow for over, spend in zip(lacking, spends, strict=True)
        )
        told = []
        for over, spend in zip(lacking, spends, strict=True):
            if over <= 0 and not refuses:
                self.charge(now, spend)
            told.append(self._told(now, spend, over))
        return told

    def charge(self, now: int, spend: Spend) -> None:
        """Spend whatever is left."""
        rule, key = spend.rule, (spend.rule.identity, spend.key)
        if rule.sliding:
            self.logs[key] = spent_in(rule, self._log(now, spend), now, spend.cost)
        else:
            debt = spent(rule, self._debt(now, spend), spend.cost)
            self.full[key] = now * rule.scale + debt

    def _lack(self, now: int, spend: Spend) -> int:
        if spend.rule.sliding:
            return lack_in(spend.rule, self._log(now, spend), spend.cost)
        return lack(spend.rule, self._debt(now, spend), spend.cost)

    def _told(self, now: int, spend: Spend, over: int) -> Decision:
        if spend.rule.sliding:
            return decision_in(spend.rule, self._log(now, spend), now, over)
        return decision(spend.rule, self._debt(now, spend), over)

    def _debt(self, now: int, spend: Spend) -> int:
        key = (spend.rule.identity, spend.key)
        debt = debt_at(spend.rule, self.full.get(key, 0), now)
        if is_ahead(spend.rule, self.full.get(key, 0), now):
            self.full[key] = now * spend.rule.scale + debt
        return debt

    def _log(self, now: int, spend: Spend) -> Log:
        key = (spend.rule.identity, spend.key)
        log = log_at(spend.rule, self.logs.get(key, ()), now)
        if is_log_ahead(spend.rule, self.logs.get(key, ()), now):
            self.logs[key] = log
        return log


def bucket(rate: int = 10, burst: int = 20, seconds: int = 1, **more: object) -> Rule:
    """A limit of `rate` in so many seconds, `burst` at once."""
    options = {"place": "route:a", "name": "default", **more}
    return Rule(amount=rate, period=seconds * MICROSECONDS, burst=burst, **cast("dict", options))  # type: ignore[arg-type,type-arg]


def window(amount: int = 10, seconds: int = 60, **more: object) -> Rule:
    """A limit of `amount` in any window of so many seconds."""
    return bucket(amount, amount, seconds, sliding=True, **more)
