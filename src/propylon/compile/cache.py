"""Compile the caches of routes: the stage of each, and what tells two configurations of a route apart.

Stages are remembered by their rules: a route keeps its stage over a reload that does not touch it. Stored answers are in
the store, under the route's place, and stay as long as the place does.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from propylon.compile.changes import names_of_caller
from propylon.config.models.cache import CacheConfig
from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.proxy.authenticate.claims import MISSING, claim_at
from propylon.proxy.cache.background import Background
from propylon.proxy.cache.behind import Behind
from propylon.proxy.cache.fetching import Fetcher
from propylon.proxy.cache.filling import Budget
from propylon.proxy.cache.flights import Flights
from propylon.proxy.cache.invalidation import Invalidation
from propylon.proxy.cache.key import Callers
from propylon.proxy.cache.rules import CacheRules
from propylon.proxy.cache.sharing import Sharing
from propylon.proxy.cache.stage import CacheStage
from propylon.proxy.cache.store import AnswerStore
from propylon.proxy.counts import Counts
from propylon.proxy.forward import settle
from propylon.proxy.principal import Principal
from propylon.proxy.route import Forwards

__all__ = ["CacheCompiler", "CacheTallies", "cache_rules"]

S = TypeVar("S", bound=AnswerStore)

_STATUSES = frozenset({200, 203, 301, 308})
_PLACE = 16  # bytes
# Bytes of all bodies that arrive at the same time and are kept: a client can ask for many, and read none.
_UNDER_WAY = 64_000_000
# What an answer does not depend on. Every other key does, also one that a later version adds.
_OF_ROUTE = {
    "timeouts",
    "rate_limit",
    "circuit",
    "max_body",
    "websocket",
    "priority",
    "privacy",
    "compress",
    "decompress",
}
_OF_SERVICE = {
    "timeouts",
    "retry",
    "circuit",
    "health",
    "ejection",
    "balance",
    "sticky",
    "slow_start",
    "max_in_flight",
    "queue",
    "rate_limit",
}


class CacheTallies(Protocol):
    """Where the caches are counted: `telemetry.metrics.Metrics` fills it."""

    def cache(self, route: str) -> Counts:
        """Return what the cache of a route did: the same row each time."""


def cache_rules(
    config: GatewayConfig, route: RouteConfig, claims: frozenset[bytes] = frozenset()
) -> CacheRules | None:
    """Return the rules of a route's cache; None: it has none, and its requests are not coalesced.

    `claims` are the headers that carry claims, `reduced`.
    """
    written = route.cache or None
    if written is None and not route.coalesce:
        return None
    chosen = written or CacheConfig()
    return CacheRules(
        place=_place(config, route),
        route=route.name or route.path,
        stores=written is not None,
        ttl=chosen.ttl,
        respect=chosen.respect,
        vary=tuple(sorted({name.lower().encode("ascii") for name in chosen.vary})),
        by=chosen.by.removeprefix("claim:"),
        claim=chosen.by.startswith("claim:"),
        max_object=chosen.max_object,
        stale_while_revalidate=chosen.stale_while_revalidate,
        stale_if_error=chosen.stale_if_error,
        methods=frozenset(chosen.methods),
        statuses=_STATUSES | frozenset(chosen.statuses),
        ignored=_ignored(chosen.ignore_query),
        wait=chosen.wait,
        claims=claims,
        depends=names_of_caller(route),
    )


def _place(config: GatewayConfig, route: RouteConfig) -> bytes:
    service = config.services[route.service]
    digest = blake2b(digest_size=_PLACE)
    digest.update(route.model_dump_json(exclude=_OF_ROUTE).encode())
    digest.update(service.model_dump_json(exclude=_OF_SERVICE).encode())
    digest.update(repr(config.server.public_url).encode())
    return digest.digest()


def _ignored(names: tuple[str, ...]) -> re.Pattern[bytes] | None:
    if not names:
        return None
    patterns = [re.escape(name).replace(r"\*", "[^=]*") for name in names]
    return re.compile("|".join(patterns).encode("ascii"))


@dataclass(slots=True)
class CacheCompiler(Generic[S]):
    """Makes the cache stages of all routes, for one configuration after the other."""

    store: S
    tallies: CacheTallies
    forward: Forwards
    loop: asyncio.AbstractEventLoop
    chance: Callable[[int], int]
    wall: Callable[[], float] = time.time
    behind: Callable[[Budget], Behind | None] = lambda _: None  # opens it, when it is needed
    _stages: WeakValueDictionary[CacheRules, CacheStage] = field(
        default_factory=WeakValueDictionary
    )
    _cached: tuple[GatewayConfig | None, tuple[tuple[str, ...], ...]] = (None, ())
    _parts: _Shared | None = None

    def forward_of(
        self, config: GatewayConfig, route: RouteConfig, claims: frozenset[bytes]
    ) -> Forwards:
        """Return the forward stage of a route, with a cache before it if it has one."""
        rules = cache_rules(config, route, claims)
        if rules is not None:
            if (known := self._stages.get(rules)) is None:
                known = self._stages[rules] = self._stage(rules, self._shared())
            return known
        if self._among(config, route):
            return self._shared().invalidation
        return self.forward

    def _shared(self) -> _Shared:
        if self._parts is None:
            clock, budget = self.loop.time, Budget(_UNDER_WAY)
            behind = self.behind(budget)
            self._parts = _Shared(
                Flights(self.loop),
                Invalidation(self.forward, self.store, behind),
                Background(time.perf_counter, self.chance, settle),
                clock,
                budget,
                behind,
            )
        return self._parts

    def _stage(self, rules: CacheRules, shared: _Shared) -> CacheStage:
        tally = self.tallies.cache(rules.route)
        # What is only coalesced is stored nowhere.
        behind = shared.behind if rules.stores else None
        fetcher = Fetcher(
            rules,
            self.forward,
            self.store,
            shared.budget,
            tally,
            shared.clock,
            self.wall,
            settle,
            behind,
        )
        return CacheStage(
            rules,
            self.store,
            shared.flights,
            Callers(partial(_claim, rules.by) if rules.claim else None),
            fetcher,
            shared.invalidation,
            tally,
            shared.clock,
            self.wall,
            shared.background,
            (
                None
                if behind is None
                else Sharing(rules, self.store, behind, self.loop, shared.clock)
            ),
        )

    def _among(self, config: GatewayConfig, route: RouteConfig) -> bool:
        """Tell whether requests of a route without a cache may change what one with a cache has stored."""
        if self._cached[0] is not config:
            cached = [_steps(one.path) for one in config.routes if one.cache]
            self._cached = (config, tuple(cached))
        if not self._cached[1] or set(route.methods or ("POST",)) <= {"GET", "HEAD", "OPTIONS"}:
            return False
        mine = _steps(route.path)
        return any(_overlap(mine, other) for other in self._cached[1])


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all stages have in common."""

    flights: Flights
    invalidation: Invalidation
    background: Background
    clock: Callable[[], float]
    budget: Budget
    behind: Behind | None


def _claim(name: str, principal: Principal) -> object:
    value = claim_at(principal.claims, name)
    return None if value is MISSING else value


def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/")) if path.strip("/") else ()


def _overlap(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    """Tell whether a path may lie below both."""
    return all(
        a == b or a.startswith("{") or b.startswith("{") for a, b in zip(left, right, strict=False)
    )
