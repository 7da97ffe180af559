"""Choose where idempotency keys are kept: where `cache.store` says."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from propylon.assembly.answers import SharedAnswers, caching
from propylon.assembly.components import Components
from propylon.compile.cache import CacheCompiler
from propylon.compile.idempotency import IdempotencyCompiler
from propylon.config.models.cache import CacheMemoryConfig
from propylon.proxy.idempotency.ledger import Ledger
from propylon.proxy.route import Forwards
from propylon.stores.answers.record import Codec
from propylon.stores.idempotency.machine import MachineLedger, Unusable
from propylon.stores.idempotency.memory import MemoryLedger
from propylon.stores.redis.idempotency import RedisLedger
from propylon.stores.redis.target import Target
from propylon.stores.shared import Shared

__all__ = ["answering", "keeping"]

log = logging.getLogger(__name__)

_FILE = "idempotency"  # in the directory that workers share
_MACHINE, _WORKER = 64_000_000, 16_000_000  # bytes


def answering(
    config: CacheMemoryConfig,
    components: Components,
    redis: Target | None,
    forward: Forwards,
    loop: asyncio.AbstractEventLoop,
    chance: random.Random,
) -> tuple[CacheCompiler[SharedAnswers], IdempotencyCompiler]:
    """Return what makes the stages that answer by themselves: of caches, and of idempotency keys."""
    caches = caching(config, components, redis, forward, loop, chance)
    return caches, keeping(config, components.shared, redis, loop, chance, caches.store.closers)


def keeping(
    config: CacheMemoryConfig,
    shared: Shared,
    redis: Target | None,
    loop: asyncio.AbstractEventLoop,
    chance: random.Random,
    closers: list[Callable[[], None]],
) -> IdempotencyCompiler:
    """Return what makes the stages of routes; what is to be closed at the end is added to `closers`."""

    def opened() -> Ledger:
        place = shared.place if shared.has_others else None
        chosen = config.store or ("memory" if place is None else "machine")
        if chosen == "redis" and redis is not None:
            remote = RedisLedger(redis, loop=loop, chance=chance.random)
            remote.start()
            closers.append(remote.close)
            return remote
        if chosen == "machine" and place is not None:
            try:
                ledger = MachineLedger.at(place / _FILE, _MACHINE, loop.time)
            except (Unusable, OSError) as error:
                log.warning("workers do not share idempotency keys: %s/%s: %s", place, _FILE, error)
            else:
                closers.append(ledger.leave)
                return ledger
        return MemoryLedger(_WORKER, loop.time)

    secret = b"" if config.secret is None else config.secret.get_secret_value().encode()
    return IdempotencyCompiler(
        opened, Codec(secret, loop.time, time.time), loop, chance.getrandbits
    )
