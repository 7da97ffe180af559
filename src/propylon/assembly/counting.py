"""Choose where limits are counted: in Redis, which gateways share, or on this machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from propylon.compile.redis import UnusableRedis, compile_redis
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError
from propylon.proxy.limit.rule import LimitStore, LocalLimitStore
from propylon.stores.redis.limits import RedisLimits
from propylon.stores.redis.target import Target

__all__ = ["Counting", "redis_of"]

log = logging.getLogger(__name__)

# Seconds. One attempt takes half of it at most, unless `redis.timeout` is long; a start must not hang on Redis.
_WAIT = 1.0


def redis_of(loaded: Loaded) -> Target | None:
    """Return where Redis is; None: there is none. Raises ConfigError for a file of its URL that cannot be used."""
    try:
        return compile_redis(loaded.config.redis)
    except UnusableRedis as error:
        raise ConfigError([loaded.places.problem(("redis", "url"), str(error))]) from error


class Counting:
    """Where limits are counted: `store`."""

    def __init__(
        self,
        target: Target | None,
        local: LocalLimitStore,
        loop: asyncio.AbstractEventLoop,
        chance: Callable[[], float],
    ) -> None:
        """Count in `local` where there is no Redis (`target`), and while it is away."""
        self._redis = None
        self.store: LimitStore = local
        if target is not None:
            self._redis = RedisLimits(target, local, loop=loop, chance=chance)
            self.store = self._redis

    @property
    def connects(self) -> bool:
        """Whether there is a Redis to connect to."""
        return self._redis is not None

    def start(self) -> None:
        """Connect in the background."""
        if self._redis is not None:
            self._redis.start()

    async def connected(self) -> None:
        """Wait for the first attempt to connect, but not for long."""
        if self._redis is not None:
            try:
                async with asyncio.timeout(_WAIT):
                    await self._redis.tried()
            except TimeoutError:
                log.warning("the start goes on without Redis: limits count on this machine")

    def close(self) -> None:
        """Let go of the connections."""
        if self._redis is not None:
            self._redis.close()
