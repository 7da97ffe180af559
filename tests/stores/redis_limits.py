"""Limits in a real Redis, with a clock that the case moves: the script reads the time from a key."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from functools import cache

from propylon.proxy.limit.rule import LimitStore, Rule, Spend, Taken
from propylon.stores.limits.memory import MemoryLimits
from propylon.stores.redis.limits import RedisLimits
from propylon.stores.redis.script import Script
from propylon.stores.redis.target import Address, Target
from tests.stores.limit_stores import Clock, Counted
from tests.support import redis

# Where the script asks for the time, and how long it keeps a key: a key must not expire while the case's clock stands.
_TIME, _KEEP = b"redis.call('TIME')", b"'PX', ms)"


@cache
def server(kind: str) -> redis.RedisServer:
    """A server of the kind, for the whole run of this process."""
    made = redis.RedisServer(redis.binaries()[kind])
    atexit.register(made.close)
    made.start()
    return made


def timed_script() -> Script:
    """The script, with the clock of the case."""
    source = Script.source()
    assert _TIME in source
    assert _KEEP in source
    source = source.replace(_TIME, b"redis.call('MGET', 'seconds', 'micros')")
    return Script(source.replace(_KEEP, b"'PX', ms + 600000)"))


class InRedis(Counted):
    """The counts of all gateways that share a server."""

    kind = "redis"

    def __init__(self) -> None:
        super().__init__()
        self.server = server(self.kind)
        self.server.ask("FLUSHALL")
        self._stores: list[RedisLimits] = []

    def store(self) -> LimitStore:
        """Another gateway."""
        return self.runner.run(self._connected())

    async def _connected(self) -> RedisLimits:
        target = Target("server", (Address(*self.server.address),), timeout=5.0)
        made = RedisLimits(
            target,
            MemoryLimits(Clock()),
            loop=self.runner.get_loop(),
            chance=lambda: 0.5,
            script=timed_script(),
        )
        self._stores.append(made)
        self._set_clock()
        made.start()
        await made.tried()
        return made

    def _set_clock(self) -> None:
        seconds, micros = divmod(self.clock.now, 1_000_000)
        self.server.ask("MSET", "seconds", seconds, "micros", micros)

    def decide(self, *spends: Spend, at: LimitStore | None = None) -> list:  # type: ignore[type-arg]
        """The decisions of one request."""
        store = at or self.first
        self._set_clock()
        return super().decide(*spends, at=store)

    def take(self, rule: Rule, key: str, cost: int) -> Taken | None:
        """What the hot path says at the case's time."""
        assert self.first is not None  # it connects before the clock is set
        self._set_clock()
        return super().take(rule, key, cost)

    def charge(self, *spends: Spend, at: LimitStore | None = None) -> None:
        """Charge at the case's time."""
        store = at or self.first
        self._set_clock()
        super().charge(*spends, at=store)

    def decide_at_once(
        self, many: Sequence[tuple[LimitStore, Sequence[Spend]]]
    ) -> list[list]:  # type: ignore[type-arg]
        """The decisions of many requests of one turn."""
        self._set_clock()
        return super().decide_at_once(many)

    def close(self) -> None:
        """Close the connections."""

        async def close() -> None:
            for store in self._stores:
                store.close()

        self.runner.run(close())
        super().close()


class InValkey(InRedis):
    """The same in Valkey."""

    kind = "valkey"
