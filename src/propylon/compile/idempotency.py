"""Compile `idempotency` of routes: the stage that stands before the cache and the forward stage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from propylon.config.models.schema import RouteConfig
from propylon.proxy.cache.filling import Budget
from propylon.proxy.cache.key import Callers
from propylon.proxy.forward import settle
from propylon.proxy.idempotency.ledger import IdempotencyRules, Ledger, Records
from propylon.proxy.idempotency.stage import Idempotency
from propylon.proxy.route import Forwards

__all__ = ["IdempotencyCompiler"]

# Bytes of all answers that arrive at the same time and are to be kept.
_UNDER_WAY = 16_000_000


@dataclass(slots=True)
class IdempotencyCompiler:
    """Makes the stages of all routes. `opened` opens the ledger when the first route needs it."""

    opened: Callable[[], Ledger]
    records: Records
    loop: asyncio.AbstractEventLoop
    chance: Callable[[int], int]
    _ledger: Ledger | None = None
    _callers: Callers = field(default_factory=Callers)
    _budget: Budget = field(default_factory=lambda: Budget(_UNDER_WAY))

    def before(self, written: RouteConfig, then: Forwards) -> Forwards:
        """Return the stage of a route, before `then`; `then` itself, if the route does not ask for it."""
        asked = written.idempotency
        if asked is None:
            return then
        if self._ledger is None:
            self._ledger = self.opened()
        rules = IdempotencyRules(
            written.name or written.path,
            asked.required,
            asked.ttl,
            asked.on_store_failure == "refuse",
            frozenset(asked.methods),
        )
        return Idempotency(
            rules,
            then,
            self._ledger,
            self.records,
            self._callers,
            self._budget,
            time.perf_counter,
            self.loop.time,
            self.chance,
            settle,
        )
