"""Every store of answers behind one face: the memory of a worker, the file of a machine, Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from propylon.proxy.cache.behind import UNKNOWN
from propylon.proxy.cache.deletion import Deletion
from propylon.proxy.cache.filling import Budget
from propylon.proxy.cache.key import Key
from propylon.proxy.cache.stored import Stored
from propylon.stores.answers.leases import Leases
from propylon.stores.answers.machine import MachineShelves
from propylon.stores.answers.memory import MemoryAnswers
from propylon.stores.answers.record import Codec
from propylon.stores.answers.shelves import Shelves, Tier
from propylon.stores.redis.answers import RedisShelves
from tests.stores.redis.stores import at
from tests.support.redis import RedisServer

__all__ = ["KINDS", "ROUTE", "SHARED", "InMemory", "Shared", "Worker", "in_use", "machine", "redis"]

SHARED = ("machine", "redis")
KINDS = ("memory", *SHARED)
ROUTE = "r"


class Worker(Protocol):
    """One worker at a store."""

    def since(self, key: Key) -> int:
        """Return what `keep` has to know: taken before the upstream is asked."""

    def keep(self, key: Key, stored: Stored, since: int) -> None:
        """Keep an answer."""

    def get(self, key: Key) -> list[Stored]:
        """Return what is there, the newest first."""

    def drop(self, key: Key, stored: Stored) -> None:
        """Let go of an answer."""

    def delete(self, deletion: Deletion) -> None:
        """Let go of answers."""


class InMemory(Worker):
    """The memory of a worker."""

    def __init__(self) -> None:
        self.store = MemoryAnswers(10_000_000)

    def since(self, key: Key) -> int:
        """Return the key's generation."""
        return self.store.generation(key)

    def keep(self, key: Key, stored: Stored, since: int) -> None:
        """Keep an answer."""
        self.store.put(key, stored, since)

    def get(self, key: Key) -> list[Stored]:
        """Return what is there."""
        return [*self.store.get(key)]

    def drop(self, key: Key, stored: Stored) -> None:
        """Let go of an answer."""
        self.store.drop(key, stored)

    def delete(self, deletion: Deletion) -> None:
        """Let go of answers."""
        self.store.delete(deletion)


class Shared(Worker):
    """A worker at a store that others share."""

    def __init__(
        self,
        runner: asyncio.Runner,
        shelves: Shelves,
        *,
        secret: bytes = b"",
        budget: int = 100_000_000,
        leases: Leases | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._runner = runner
        self.shelves = shelves
        self.budget = Budget(budget)
        self.codec = Codec(secret, clock, wall)
        self.tier = Tier(shelves, self.codec, self.budget, leases)

    def since(self, key: Key) -> int:
        """Return the number of the last deletion."""
        return self._runner.run(self.tier.look(key, ROUTE)).since

    def keep(self, key: Key, stored: Stored, since: int) -> None:
        """Keep an answer, and wait until it is kept."""
        self._runner.run(self._keep(key, stored, since))

    async def _keep(self, key: Key, stored: Stored, since: int) -> None:
        done = asyncio.Event()
        self.tier.keep(key, stored, since, done.set)
        await done.wait()

    def get(self, key: Key) -> list[Stored]:
        """Return what is there, whole."""
        return self._runner.run(self._get(key))

    async def _get(self, key: Key) -> list[Stored]:
        found = await self.tier.look(key, ROUTE)
        assert found.since != UNKNOWN
        whole = []
        for held in found.answers:
            body = await self.tier.load(held)
            if body is not None:
                held.stored.complete(body, held.length)
                whole.append(held.stored)
        return whole

    def drop(self, key: Key, stored: Stored) -> None:
        """Let go of an answer."""

        async def drop() -> None:
            self.tier.drop(key, stored)

        self._runner.run(drop())

    def delete(self, deletion: Deletion) -> None:
        """Let go of answers."""

        async def delete() -> None:
            assert await self.tier.delete(deletion)

        self._runner.run(delete())


@contextmanager
def machine(
    path: Path, capacity: int = 64_000_000, popularity: Callable[[Key], int] = lambda _: 0
) -> Iterator[MachineShelves]:
    """The file of a machine."""
    shelves = MachineShelves.at(path, capacity, popularity)
    try:
        yield shelves
    finally:
        shelves.leave()


@contextmanager
def redis(
    runner: asyncio.Runner,
    server: RedisServer,
    heard: Callable[[Deletion], None] = lambda _: None,
    *,
    count: int = 1,
    **options: object,
) -> Iterator[list[RedisShelves]]:
    """Shelves of so many gateways."""

    async def opened() -> list[RedisShelves]:
        loop = asyncio.get_running_loop()
        made = []
        for _ in range(count):
            made.append(RedisShelves(at(server, **options), heard, loop=loop, chance=lambda: 0.5))
            made[-1].start()
        for one in made:
            await one.tried()
        return made

    async def closed() -> None:
        await asyncio.sleep(0.01)

    with ExitStack() as stack:
        stack.callback(lambda: runner.run(closed()))
        made = runner.run(opened())
        for one in made:
            stack.callback(one.close)
        yield made


def in_use(shelves: RedisShelves) -> bool:
    """Whether all its servers are in use."""
    nodes = [*shelves.nodes.all()]
    return bool(nodes) and all(node.available for node in nodes)
