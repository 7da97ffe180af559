"""Stores of several gateways on one loop, in front of real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from propylon.proxy.limit.rule import Decision, Spend
from propylon.stores.limits.memory import MemoryLimits
from propylon.stores.redis.limits import RedisLimits
from propylon.stores.redis.target import Address, Target
from tests.stores.redis.scripted import until
from tests.support.redis import RedisServer

__all__ = ["PATIENT", "all_of", "at", "gateways", "in_use", "passing"]

# Seconds, in cases about what a server answers and not about how soon: the machine may be busy.
PATIENT = 5.0


@asynccontextmanager
async def gateways(
    target: Target, count: int = 2, *, waits: bool = True
) -> AsyncIterator[Sequence[RedisLimits]]:
    """Stores of so many gateways, each on a machine of its own."""
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            local = MemoryLimits(time.monotonic_ns)
            store = RedisLimits(target, local, loop=loop, chance=lambda: 0.5)
            stack.callback(store.close)
            store.start()
            made.append(store)
        for store in made:
            await store.tried()
            if waits:
                await until(lambda store=store: in_use(store))  # type: ignore[misc]
        yield made
    await asyncio.sleep(0)


def at(server: RedisServer, **options: Any) -> Target:
    """Where a server is."""
    options = {"timeout": PATIENT, **options}
    return Target("server", (Address(*server.address),), **options)


def in_use(store: RedisLimits) -> bool:
    """Whether all its servers are in use."""
    nodes = [*store.nodes.all()]
    return bool(nodes) and all(node.available for node in nodes)


async def all_of(asked: Sequence[list[Decision] | Awaitable[list[Decision]]]) -> int:
    """How many of the requests pass."""
    told = [await one if isinstance(one, Awaitable) else one for one in asked]
    return sum(all(decision.allowed for decision in one) for one in told)


async def passing(store: RedisLimits, spend: Spend, times: int) -> int:
    """How many of so many requests pass."""
    return await all_of([store.decide([spend]) for _ in range(times)])
