"""Keep idempotency keys in Redis, where gateways on several machines find them."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Callable
from itertools import count

from propylon.loop.signal import Signal
from propylon.proxy.idempotency.ledger import Ledger, LedgerAway
from propylon.stores.redis.commands import Command
from propylon.stores.redis.connection import Reply
from propylon.stores.redis.node import Ask, Node, User
from propylon.stores.redis.nodes import nodes_of, slot_of
from propylon.stores.redis.script import Script
from propylon.stores.redis.target import Target

__all__ = ["RedisLedger"]

_MOST_CALLS = 1000
_MILLISECONDS = 1000


class RedisLedger(Ledger, User):
    """The keys of all gateways that share a Redis."""

    away = "idempotency keys cannot be kept until it is back"
    back = "idempotency keys are kept again"

    def __init__(
        self, target: Target, *, loop: asyncio.AbstractEventLoop, chance: Callable[[], float]
    ) -> None:
        """Connect to nothing before `start`."""
        self.script = Script(Script.source("idempotency.lua"))
        self.nodes = nodes_of(target, self, loop, chance)
        self._begin = f"{target.namespace}:idempotency:".encode()

    def start(self) -> None:
        """Connect in the background."""
        self.nodes.start()

    async def tried(self) -> None:
        """Wait until Redis is in use, or has been tried in vain."""
        await self.nodes.tried()

    def close(self) -> None:
        """Let go of the connections."""
        self.nodes.close()

    async def claim(self, name: bytes, value: bytes, seconds: float) -> bytes | None:
        """Put a value under a name where there is none: None; else return the one that is there. Raises LedgerAway."""
        held = await self._called(name, b"", value, seconds)
        if held == 1:
            return None
        if not isinstance(held, bytes):
            raise LedgerAway
        return held

    async def settle(self, name: bytes, claim: bytes, value: bytes, seconds: float) -> None:
        """Put a value in place of a claim."""
        await self._called(name, claim, value, seconds)

    async def release(self, name: bytes, claim: bytes) -> None:
        """Remove a claim, if it is still there."""
        await self._called(name, claim, b"", 1.0)

    def _called(self, name: bytes, claim: bytes, value: bytes, seconds: float) -> Signal[Reply]:
        key = self._begin + urlsafe_b64encode(name)
        lasts = max(1, int(seconds * _MILLISECONDS))
        command, node = Command(self.script.call([key], claim, value, lasts)), self._node(key)
        if node is None:
            command.fall_back()
        else:
            node.submit(command)
        return command.answered

    def _node(self, key: bytes) -> Node | None:
        node = self.nodes.of(slot_of(key))
        usable = node is not None and node.available and node.waiting <= _MOST_CALLS
        return node if usable else None

    async def probe(self, node: Node, ask: Ask) -> None:
        """Write something, as a request would. Raises Lost and ErrorReply."""
        keys = (self._begin + b"probe-%d" % number for number in count())
        key = next(
            one for one in keys if not self.nodes.clustered or self.nodes.owns(node, slot_of(one))
        )
        await ask(self.script.call([key], b"", b"probe", 1))

    async def come_back(self, node: Node, ask: Ask) -> None:
        """Nothing is owed to it."""
