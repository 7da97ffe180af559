"""Keep the stored answers of all workers true: what is deleted in one of them is deleted in the others.

memory of this worker ─── the others' memories (messages)
└── behind: the machine's file, or Redis ─── other machines (its log)
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from propylon.assembly.components import Components
from propylon.compile.cache import CacheCompiler
from propylon.config.models.cache import CacheMemoryConfig
from propylon.errors import ServiceUnavailable
from propylon.proxy.cache.behind import Behind
from propylon.proxy.cache.deletion import Deletion
from propylon.proxy.cache.filling import Budget
from propylon.proxy.cache.key import Target
from propylon.proxy.route import Forwards
from propylon.stores.answers.leases import Leases
from propylon.stores.answers.machine import MachineShelves, Unusable
from propylon.stores.answers.memory import MemoryAnswers
from propylon.stores.answers.record import Codec
from propylon.stores.answers.shelves import Shelves, Tier
from propylon.stores.redis.answers import RedisShelves
from propylon.stores.redis.target import Target as Redis
from propylon.stores.shared import Facts, Shared
from propylon.stores.siblings import MISSED, Message

__all__ = ["SharedAnswers", "caching"]

log = logging.getLogger(__name__)

_TOPIC = "answers"
_FILE, _LEASES = "answers", "leases"  # in the directory that workers share
# Seconds. A worker deletes in the turn of its loop in which it is told; a turn of a busy one takes milliseconds.
_PATIENCE = 1.0


def caching(
    config: CacheMemoryConfig,
    components: Components,
    redis: Redis | None,
    forward: Forwards,
    loop: asyncio.AbstractEventLoop,
    chance: random.Random,
) -> CacheCompiler[SharedAnswers]:
    """Return what makes the caches of routes, over one store for all of them."""
    store = SharedAnswers(config.memory, components.shared.facts)
    opener = _Opener(config, components.shared, redis, store, loop, chance)
    return CacheCompiler(
        store, components.metrics, forward, loop, chance.getrandbits, behind=opener
    )


class _Opener:
    """Opens what stands behind the memory of the worker, when the first route needs it."""

    def __init__(
        self,
        config: CacheMemoryConfig,
        shared: Shared,
        redis: Redis | None,
        store: SharedAnswers,
        loop: asyncio.AbstractEventLoop,
        chance: random.Random,
    ) -> None:
        self._config = config
        self._shared = shared
        self._redis = redis
        self._store = store
        self._loop = loop
        self._chance = chance

    def __call__(self, budget: Budget) -> Behind | None:
        """Return what is behind; None: nothing, or it cannot be used."""
        shelves = self._shelves()
        if shelves is None:
            return None
        secret = self._config.secret
        codec = Codec(
            b"" if secret is None else secret.get_secret_value().encode(),
            self._loop.time,
            time.time,
        )
        tier = Tier(shelves, codec, budget, self._leases())
        self._store.behind = tier
        return tier

    def _shelves(self) -> Shelves | None:
        place = self._shared.place if self._shared.has_others else None
        chosen = self._config.store or ("memory" if place is None else "machine")
        if chosen == "redis" and self._redis is not None:
            remote = RedisShelves(
                self._redis, self._store.heard, loop=self._loop, chance=self._chance.random
            )
            remote.start()
            self._store.closers.append(remote.close)
            return remote
        if chosen != "machine" or place is None:
            return None
        try:
            shelves = MachineShelves.at(place / _FILE, self._config.size, self._store.popularity)
        except (Unusable, OSError) as error:
            log.warning("workers do not share stored answers: %s/%s: %s", place, _FILE, error)
            return None
        self._store.closers.append(shelves.leave)
        return shelves

    def _leases(self) -> Leases | None:
        place = self._shared.place if self._shared.has_others else None
        if place is None:
            return None
        try:
            leases = Leases(place / _LEASES, self._loop.time)
        except OSError as error:
            log.warning("each worker asks for itself: %s/%s: %s", place, _LEASES, error)
            return None
        self._store.closers.append(leases.close)
        return leases


class SharedAnswers(MemoryAnswers):
    """The answers of one worker, which tells the others what it deletes, and does what they tell."""

    def __init__(self, capacity: int, workers: Facts) -> None:
        """Keep so many bytes; `workers` are the others."""
        super().__init__(capacity)
        self.behind: Behind | None = None
        self.closers: list[Callable[[], None]] = []
        self._workers = workers
        self._asked = 0
        self._open: dict[int, _Question] = {}
        workers.hear(_TOPIC, self._hear)

    def invalidate(self, target: Target) -> None:
        """Let go of the answers of one resource, in all workers. What is behind is told by `Invalidation`, which waits for it."""
        deletion = Deletion.of_target(target)
        self.delete(deletion)
        if self._workers.others:
            self._tell({"op": "delete", "chosen": deletion.message})

    async def purge_everywhere(
        self, *, route: str | None = None, path: str | None = None, tag: str | None = None
    ) -> None:
        """Let go of answers behind and in all workers; return when each of them has done it.

        Raises ServiceUnavailable if one of them does not say so in time, or if Redis is away.
        """
        deletion = Deletion.chosen(route=route, path=_bytes(path), tag=_bytes(tag))
        # First: what a worker reads behind after it has deleted must not be what was there before.
        shared = True if self.behind is None else await self.behind.delete(deletion)
        await self._delete_everywhere(deletion)
        if not shared:
            msg = (
                "The answers are deleted on this machine; Redis is away, and other machines will hear"
                " of it when it is back"
            )
            raise ServiceUnavailable(msg)

    async def _delete_everywhere(self, deletion: Deletion) -> None:
        expected = self._workers.others
        self.delete(deletion)
        if not expected:
            return
        self._asked += 1
        number, question = self._asked, _Question(expected)
        self._open[number] = question
        told = {"chosen": deletion.message, "from": self._workers.name, "number": number}
        try:
            self._tell({"op": "delete", **told})
            async with asyncio.timeout(_PATIENCE):
                await question.complete.wait()
        except TimeoutError:
            msg = "Not all workers have said in time that they have deleted the answers; ask again"
            raise ServiceUnavailable(msg) from None
        finally:
            del self._open[number]

    def heard(self, deletion: Deletion) -> None:
        """Delete what another machine has deleted."""
        self.delete(deletion)

    def close(self) -> None:
        """Let go of what is behind."""
        closers, self.closers = self.closers, []
        for close in closers:
            close()

    def _tell(self, message: Message, to: str | None = None) -> None:
        self._workers.tell(_TOPIC, message, to)

    def _hear(self, message: Message) -> None:
        op = message["op"]
        if op == MISSED["op"]:
            self.clear()  # nobody knows what was to be deleted
        elif op == "delete":
            self.delete(Deletion.from_message(message["chosen"]))
            if "from" in message:
                self._tell({"op": "done", "number": message["number"]}, to=message["from"])
        elif (question := self._open.get(message["number"])) is not None:
            question.answered()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("latin-1", "replace")


class _Question:
    """A deletion that the others have not all confirmed yet."""

    def __init__(self, expected: int) -> None:
        self.complete = asyncio.Event()
        self._missing = expected

    def answered(self) -> None:
        """Note that one more has done it."""
        self._missing -= 1
        if self._missing <= 0:
            self.complete.set()
