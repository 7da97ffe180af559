"""Compile what else becomes of a route's requests: who answers where its service fails, and who gets copies."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from propylon.compile.fixed import compile_respond
from propylon.config.models.fallback import FallbackConfig
from propylon.config.models.mirror import MirrorConfig
from propylon.proxy.cache.stage import CacheStage
from propylon.proxy.fallback import Fallback, Other
from propylon.proxy.forward import Forward, settle
from propylon.proxy.mirror import Mirror, MirrorRules
from propylon.proxy.route import Forwards, Route
from propylon.services.retry import Retry
from propylon.services.service import Service
from propylon.telemetry.families import FALLBACKS, MIRRORED
from propylon.telemetry.metrics import Metrics

__all__ = ["HOSTS", "DetourCompiler", "Way", "forwarding"]

HOSTS = 64
"""Of a route: so many ways to another service are remembered."""


def forwarding(loop: asyncio.AbstractEventLoop, chance: random.Random, metrics: Metrics) -> Forward:
    """Return what sends requests on, and counts in `metrics`."""
    return Forward(loop.time, time.perf_counter, chance.random, metrics.note_hedge)


@dataclass(frozen=True, slots=True)
class Way:
    """The way to another service: `become` turns a route into one to it, which has none of the stages before `forward`."""

    service: Service
    become: Callable[[Route], Route]
    forward: Forwards


@dataclass(frozen=True, slots=True)
class DetourCompiler:
    """Makes the stages, which count in `metrics`. `clock` counts seconds for durations."""

    metrics: Metrics
    clock: Callable[[], float] = time.perf_counter
    chance: random.Random = field(default_factory=random.Random)

    def mirror(self, written: MirrorConfig, then: Forwards, way: Way) -> Forwards:
        """Return the stage that stands around `then`; `way` leads to the mirror."""
        # A copy is sent once: it may be lost, and must not become the load.
        service = replace(way.service, retry=Retry(attempts=1), hedge=None)

        @lru_cache(maxsize=HOSTS)
        def become(route: Route) -> Route:
            return replace(way.become(route), service=service)

        return Mirror(
            MirrorRules(written.share, written.max_body, written.max_in_flight),
            then,
            way.service,
            become,
            way.forward,
            settle,
            self._mirrored,
            self.clock,
            self.chance.random,
            self.chance.getrandbits,
        )

    def fallback(
        self, written: FallbackConfig, then: Forwards, way: Way | None, cache: Forwards | None
    ) -> Forwards:
        """Return the stage that stands around `then`; `way` leads to the other service, `cache` is the route's, if it has one."""
        return Fallback(
            then,
            written.kinds,
            written.statuses,
            cache.last if written.stored and isinstance(cache, CacheStage) else None,
            None if written.respond is None else compile_respond(written.respond),
            None if way is None else Other(way.become, way.forward),
            settle,
            self._fell_back,
            self.clock,
            basis=(written, None if way is None else way.service),
        )

    def _fell_back(self, route: str, service: str, reason: str, by: str) -> None:
        self.metrics.row(FALLBACKS, route, service, reason, by)[0] += 1

    def _mirrored(self, route: str, service: str, result: str) -> None:
        self.metrics.row(MIRRORED, route, service, result)[0] += 1
