"""Hold all servers, and know which one has a key: a single one, or the masters of a Cluster.

In a Cluster a key is in one of 16,384 slots, by the CRC16 of what stands between `{` and `}` in it. Which master has which
slots is asked when the gateway starts, whenever an answer says that it has changed (MOVED), and while a master is away.
"""

from __future__ import annotations

import asyncio
import binascii
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from propylon.loop.tasks import spawn_forever
from propylon.stores.redis.connection import ErrorReply, Lost
from propylon.stores.redis.node import Call, Node, User
from propylon.stores.redis.target import Address, Target
from propylon.stores.redis.topology import (
    Fixed,
    Range,
    SentinelFinder,
    find_ranges,
)

__all__ = ["Cluster", "Nodes", "OneNode", "nodes_of", "slot_of"]

log = logging.getLogger(__name__)

_SLOTS = 16384
# Seconds between two questions who has which slots: while all is well, and while it is not.
_REFRESH, _HURRY = 10.0, 0.5
_MOVED = re.compile(r"(MOVED|ASK) ([0-9]{1,5}) (.*):([0-9]{1,5})")
_ASKING = b"*1\r\n$6\r\nASKING\r\n"


def slot_of(tag: bytes) -> int:
    """Return the slot of the keys with this hash tag (CRC16-CCITT, the Cluster's specification)."""
    return binascii.crc_hqx(tag, 0) % _SLOTS


class Nodes(Protocol):
    """The servers that share the keys among them: one, or the masters of a cluster."""

    clustered: bool
    """Whether the keys of one call must be in one slot."""

    def of(self, slot: int) -> Node | None:
        """Return the node that has the keys of a slot; None: it is not known yet."""

    def owns(self, node: Node, slot: int) -> bool:
        """Tell whether a node has the keys of a slot."""

    def all(self) -> Iterable[Node]:
        """Return every node that is known."""

    def start(self) -> None:
        """Connect."""

    async def tried(self) -> None:
        """Wait until each node is in use, or has been tried in vain."""

    def close(self) -> None:
        """Let go of all connections."""


class OneNode(Nodes):
    """A single server: a fixed one, or the master that Sentinels name."""

    clustered = False

    def __init__(self, make: Callable[[], Node]) -> None:
        """Make the node."""
        self._node = make()

    def of(self, slot: int) -> Node:  # noqa: ARG002 — it has them all
        """Return the node."""
        return self._node

    def owns(self, node: Node, slot: int) -> bool:  # noqa: ARG002 — it has them all
        """It has all keys."""
        return True

    def all(self) -> Sequence[Node]:
        """Return the node."""
        return (self._node,)

    def start(self) -> None:
        """Connect."""
        self._node.start()

    async def tried(self) -> None:
        """Wait for the first attempt."""
        await self._node.tried.wait()

    def close(self) -> None:
        """Let go of the connection."""
        self._node.close()


class Cluster(Nodes):
    """The masters of a Cluster."""

    clustered = True

    def __init__(self, target: Target, make: Callable[[Address], Node]) -> None:
        """Ask the addresses of the target at first, later the nodes that they have named."""
        self._target = target
        self._make = make
        self._by_address: dict[Address, Node] = {}
        self._by_slot: list[Node | None] = [None] * _SLOTS
        self._stale = asyncio.Event()
        self._known = asyncio.Event()
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    def of(self, slot: int) -> Node | None:
        """Return the master of a slot."""
        return self._by_slot[slot]

    def owns(self, node: Node, slot: int) -> bool:
        """Tell whether a node is the master of a slot; one without any slots need not be."""
        return self._by_slot[slot] is node or node not in self._by_slot

    def all(self) -> Iterable[Node]:
        """Return the masters."""
        return self._by_address.values()

    def start(self) -> None:
        """Find the masters in the background, and connect to them."""
        self._task = spawn_forever(self._keep())

    async def tried(self) -> None:
        """Wait for the first attempts."""
        await self._known.wait()
        for node in tuple(self._by_address.values()):
            await node.tried.wait()

    def close(self) -> None:
        """Let go of all connections."""
        if self._task is not None:
            self._task.cancel()
        for node in self._by_address.values():
            node.close()

    # Who has what

    async def _keep(self) -> None:
        while True:
            await self._refresh()
            self._known.set()
            well = not self._failing and all(node.available for node in self._by_address.values())
            await asyncio.sleep(_HURRY)  # however often a Cluster says MOVED while it moves slots
            if well:
                try:
                    async with asyncio.timeout(_REFRESH):
                        await self._stale.wait()
                except TimeoutError:
                    continue
                finally:
                    self._stale.clear()

    async def _refresh(self) -> None:
        target = self._target
        known = (node.address for node in self._by_address.values() if node.available)
        asked = (*(address for address in known if address is not None), *target.addresses)
        try:
            self.apply(await find_ranges(asked, target.login, target.tls, target.patience))
        except Lost as error:
            if not self._failing:
                log.warning("redis: %s", error)
            self._failing = True
        else:
            self._failing = False

    def apply(self, ranges: Iterable[Range]) -> None:
        """Take in who has which slots; connect to new masters, and let go of those that are none any more."""
        by_slot: list[Node | None] = [None] * _SLOTS
        for first, last, address in ranges:
            node = self._node(address)
            for slot in range(first, min(last, _SLOTS - 1) + 1):
                by_slot[slot] = node
        self._by_slot = by_slot
        in_use = set(by_slot)
        for address, node in tuple(self._by_address.items()):
            if node not in in_use:
                del self._by_address[address]
                node.close()

    def _node(self, address: Address) -> Node:
        node = self._by_address.get(address)
        if node is None:
            node = self._by_address[address] = self._make(address)
            node.start()
        return node

    def redirect(self, call: Call, error: ErrorReply) -> bool:
        """Send a call to the master that the error names."""
        if error.code == "TRYAGAIN":  # a slot is being moved, and one of its keys has gone already
            call.fall_back()
            return True
        match = _MOVED.fullmatch(str(error))
        if match is None:
            return False
        kind, slot, host, port = match.groups()
        node = self._by_address.get(Address(host, int(port)))
        if kind == "MOVED":
            self._stale.set()
            self._by_slot[int(slot) % _SLOTS] = node
        if node is None or not node.available:
            call.fall_back()
        else:
            node.submit(call, first=_ASKING if kind == "ASK" else b"")
        return True


def nodes_of(
    target: Target,
    user: User,
    loop: asyncio.AbstractEventLoop,
    chance: Callable[[], float],
) -> Nodes:
    """Return the servers of a target; nothing is connected yet."""
    if target.kind == "cluster":

        def make(address: Address) -> Node:
            return Node(
                target, Fixed(address), user, redirect=cluster.redirect, loop=loop, chance=chance
            )

        cluster = Cluster(target, make)
        return cluster
    sentinel = target.kind == "sentinel"
    finder = SentinelFinder(target) if sentinel else Fixed(target.addresses[0])
    return OneNode(lambda: Node(target, finder, user, redirect=_nowhere, loop=loop, chance=chance))


def _nowhere(call: Call, error: ErrorReply) -> bool:  # noqa: ARG001 — there is no other server
    return False
