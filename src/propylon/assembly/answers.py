"""Keep the stored answers of all workers true: what is deleted in one of them is deleted in the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from propylon.assembly.components import Components
from propylon.compile.cache import CacheCompiler
from propylon.config.models.schema import GatewayConfig
from propylon.errors import ServiceUnavailable
from propylon.proxy.cache.key import Target
from propylon.proxy.route import Forwards
from propylon.stores.answers import MemoryAnswers
from propylon.stores.shared import Facts
from propylon.stores.siblings import MISSED, Message

__all__ = ["SharedAnswers", "caching"]

_TOPIC = "answers"
# Seconds. A worker deletes in the turn of its loop in which it is told; a turn of a busy one takes milliseconds.
_PATIENCE = 1.0


def caching(
    config: GatewayConfig,
    components: Components,
    forward: Forwards,
    loop: asyncio.AbstractEventLoop,
    chance: Callable[[int], int],
) -> CacheCompiler[SharedAnswers]:
    """Return what makes the caches of routes, over one store for all of them."""
    store = SharedAnswers(config.cache.memory, components.shared.facts)
    return CacheCompiler(store, components.metrics, forward, loop, chance)


class SharedAnswers(MemoryAnswers):
    """The answers of one worker, which tells the others what it deletes, and does what they tell."""

    def __init__(self, capacity: int, workers: Facts) -> None:
        """Keep so many bytes; `workers` are the others."""
        super().__init__(capacity)
        self._workers = workers
        self._asked = 0
        self._open: dict[int, _Question] = {}
        workers.hear(_TOPIC, self._hear)

    def invalidate(self, target: Target) -> None:
        """Let go of the answers of one resource, here and everywhere."""
        super().invalidate(target)
        if self._workers.others:
            self._tell({"op": "invalidate", "target": [part.decode("latin-1") for part in target]})

    async def purge_everywhere(self, **chosen: Any) -> None:
        """Let go of answers in all workers; return when each of them has done it.

        Raises ServiceUnavailable if one of them does not say so in time.
        """
        expected = self._workers.others
        self.purge(**_bytes_of(chosen))
        if not expected:
            return
        self._asked += 1
        number, question = self._asked, _Question(expected)
        self._open[number] = question
        try:
            self._tell(
                {"op": "purge", "chosen": chosen, "from": self._workers.name, "number": number}
            )
            async with asyncio.timeout(_PATIENCE):
                await question.complete.wait()
        except TimeoutError:
            msg = "Not all workers have said in time that they have deleted the answers; ask again"
            raise ServiceUnavailable(msg) from None
        finally:
            del self._open[number]

    def _tell(self, message: Message, to: str | None = None) -> None:
        self._workers.tell(_TOPIC, message, to)

    def _hear(self, message: Message) -> None:
        op = message["op"]
        if op == MISSED["op"]:
            self.clear()  # nobody knows what was to be deleted
        elif op == "invalidate":
            host, path, query = (part.encode("latin-1") for part in message["target"])
            super().invalidate((host, path, query))
        elif op == "purge":
            self.purge(**_bytes_of(message["chosen"]))
            self._tell({"op": "done", "number": message["number"]}, to=message["from"])
        elif (question := self._open.get(message["number"])) is not None:
            question.answered()


def _bytes_of(chosen: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be deleted as the store knows it: a route by its name, paths and tags as bytes."""
    return {
        name: value.encode("latin-1", "replace") if name != "route" else value
        for name, value in chosen.items()
        if value is not None
    }


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
