"""Count limits in Redis: all requests of one turn of the loop in one write, each decided at once by the script.

    decide ──► queue ── end of the turn ──► one call for 200 requests ──► node ──► answer ──► each waiter
                 │                                                        │
                 └────────────────────── away: alone ◄────────────────────┘

In a Cluster there is one call for each slot, since the keys of a call must be in one. All limits of a caller are; if a request
also has a limit that others share (`key: route`), its parts are decided in two slots at the same time. If one part refuses,
what the other has spent is given back at once. So it never lets too many pass; in the moment between it may refuse another
request that would have passed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import count
from typing import Any

from propylon.errors import ServiceUnavailable
from propylon.loop.signal import Signal
from propylon.proxy.limit.rule import LimitStore, LocalLimitStore, Rule, Spend, Take, Taken
from propylon.stores.redis.alone import Alone, Decisions
from propylon.stores.redis.connection import Reply
from propylon.stores.redis.encoding import (
    CHARGE,
    DECIDE,
    PROBE,
    Carried,
    Names,
    Packer,
    read_decisions,
    tag_of,
)
from propylon.stores.redis.ledger import Known
from propylon.stores.redis.node import Ask, Call, Node, User
from propylon.stores.redis.nodes import nodes_of, slot_of
from propylon.stores.redis.parts import Parts
from propylon.stores.redis.script import Script
from propylon.stores.redis.target import Target

__all__ = ["RedisLimits"]

log = logging.getLogger(__name__)

# Requests in one call: the script holds Redis for a millisecond at most, and others wait that long.
_MOST_REQUESTS = 200
# Calls without an answer, before requests gather for the next one. To wake Redis and to be woken by it costs 30 µs a call,
# and a decision 4: the busier the gateway, the more decisions share a call. An idle one waits for nothing.
_IN_FLIGHT = 2
# Requests that gather, and calls of a Cluster. Within the patience of 50 ms there are fewer; beyond, memory would fill.
_MOST_GATHERED, _MOST_CALLS = 50_000, 1000
# Keys that are carried over in one call, and seconds that all of it may take.
_CARRIED, _CARRYING = 100, 1.0

_Answer = Signal[Decisions]
_Request = tuple[Sequence[Spend], _Answer | Signal[Taken] | None, bool]
"""Spends, and who waits for the decisions; None: they are charged, and no code waits. True: for the short form of one."""


class _LimitCall(Call):
    """One call of the script, for some requests."""

    __slots__ = ("_names", "_requests", "_store", "data")

    def __init__(self, store: RedisLimits, requests: Sequence[_Request], names: Names) -> None:
        packer = Packer(names)
        for spends, waiter, _ in requests:
            packer.add(CHARGE if waiter is None else DECIDE, spends)
        self.data = store.script.call(packer.names, packer.argument())
        self._names = packer.names
        self._requests = requests
        self._store = store

    def answer(self, reply: Reply) -> None:
        self._store.answer(self._requests, self._names, reply)
        self._store.go_on()

    def fall_back(self) -> None:
        for request in self._requests:
            self._store.fall_back(*request)
        self._store.go_on()


class RedisLimits(LimitStore, User):
    """The limits of all gateways that share a Redis; while it is away, those of this machine."""

    away = "limits count on this machine until it is back"
    back = "limits are shared again"

    def __init__(
        self,
        target: Target,
        local: LocalLimitStore,
        *,
        loop: asyncio.AbstractEventLoop,
        chance: Callable[[], float],
        clock: Callable[[], int] = time.monotonic_ns,
        script: Script | None = None,
    ) -> None:
        """Count in `local` before `start`, and while Redis is away; `clock` is monotonic, in nanoseconds."""
        self.script = script or Script()
        self.nodes = nodes_of(target, self, loop, chance)
        self._clock = clock
        self._names = Names(target.namespace)
        self._known = Known()
        self._alone = Alone(local, self._names, self._known, self._now)
        self._loop = loop
        self._queue: list[_Request] = []
        self._flushing = False
        self._since = 0.0  # when the first one in the queue began to wait, by the node's clock
        self._slots: dict[int, list[_Request]] = {}
        self._single = None if self.nodes.clustered else self.nodes.of(0)

    def _now(self) -> int:
        return self._clock() // 1000

    def start(self) -> None:
        """Connect in the background."""
        self.nodes.start()

    async def tried(self) -> None:
        """Wait until Redis is in use, or has been tried in vain."""
        await self.nodes.tried()

    def close(self) -> None:
        """Let go of the connections; what waits is decided without Redis."""
        self._flush()
        self.nodes.close()

    # The port

    def decide(self, spends: Sequence[Spend]) -> Decisions | _Answer:
        """Decide one request: at the end of this turn, or at once while Redis is away.

        Raises ServiceUnavailable for a limit with `on_failure: closed` while it is.
        """
        node = self._single
        if node is None:
            return self._decide_in_cluster(spends)
        if not node.available or len(self._queue) >= _MOST_GATHERED:
            return self._alone.decide(spends)
        waiter: _Answer = Signal()
        self._queue.append((spends, waiter, False))
        self._flush_soon()
        return waiter

    def taker(self, rule: Rule, cost: int) -> Take | None:
        """Return the hot path: one limit, without a Cluster."""
        node = self._single
        if node is None or rule.sliding:
            return None

        def take(key: str) -> Taken | Awaitable[Taken]:
            spends = (Spend(rule, key, cost),)
            waiter: Signal[Taken] = Signal()
            if not node.available or len(self._queue) >= _MOST_GATHERED:
                return _taken(self._alone.decide(spends))
            self._queue.append((spends, waiter, True))
            if not self._flushing:
                self._flush_soon()
            return waiter

        return take

    def charge(self, spends: Sequence[Spend]) -> None:
        """Spend whatever is left, behind all that was asked before."""
        for slot, at in self._slots_of(spends).items():
            part = [spends[place] for place in at]
            if self._is_away(slot):
                self._alone.charge(part)
            else:
                self._enqueue(slot, (part, None, False))

    # One turn of the loop

    def _flush_soon(self) -> None:
        """Send at the end of this turn, or when one of the calls in flight is answered."""
        node = self._single
        if node is not None and len(self._queue) == 1:
            self._since = node.now
        if not self._flushing and (node is None or node.waiting < _IN_FLIGHT):
            self._flushing = True
            self._loop.call_soon(self._flush)

    def go_on(self) -> None:
        """Send what has gathered: a call is over."""
        if self._queue:
            self._flush_soon()

    def _enqueue(self, slot: int, request: _Request) -> None:
        queue = self._queue if self._single else self._slots.setdefault(slot, [])
        queue.append(request)
        self._flush_soon()

    def _flush(self) -> None:
        self._flushing = False
        queue, self._queue = self._queue, []
        if self._single is not None:
            self._send(self._single, [queue], self._since)
            return
        slots, self._slots = self._slots, {}
        by_node: dict[Node | None, list[list[_Request]]] = {}
        for slot, requests in slots.items():
            by_node.setdefault(self.nodes.of(slot), []).append(requests)
        for node, queues in by_node.items():
            self._send(node, queues)

    def _send(
        self, node: Node | None, queues: Iterable[list[_Request]], since: float | None = None
    ) -> None:
        calls = [
            _LimitCall(self, queue[at : at + _MOST_REQUESTS], self._names)
            for queue in queues
            for at in range(0, len(queue), _MOST_REQUESTS)
        ]
        if node is not None and node.available:
            node.submit(*calls, since=since)
        else:
            for one in calls:
                one.fall_back()

    def answer(self, requests: Sequence[_Request], names: Sequence[bytes], reply: Reply) -> None:
        """Hand the decisions of a call to those who wait for them."""
        if not isinstance(reply, list):
            for request in requests:
                self.fall_back(*request)
            return
        self._known.now = self._now()
        decided = read_decisions(requests, names, reply, self._known.note)
        waiter: Any
        for (_, waiter, _), found in zip(requests, decided, strict=True):
            if waiter is not None:
                waiter.set(found)

    def fall_back(
        self,
        spends: Sequence[Spend],
        waiter: Any,
        short: bool,  # noqa: FBT001 — a request
    ) -> None:
        """Decide a request without Redis."""
        if waiter is None:
            self._alone.charge(spends)
            return
        try:
            found = self._alone.decide(spends)
        except ServiceUnavailable as error:
            waiter.fail(error)
            return
        waiter.set(_taken(found) if short else found)

    # A Cluster

    def _slots_of(self, spends: Sequence[Spend]) -> dict[int, list[int]]:
        """Return the places of the spends of each slot."""
        if self._single is not None:
            return {0: [*range(len(spends))]}
        slots: dict[int, list[int]] = {}
        for at, spend in enumerate(spends):
            slots.setdefault(self._names.slot(spend.key), []).append(at)
        return slots

    def _is_away(self, slot: int) -> bool:
        node = self._single or self.nodes.of(slot)
        return node is None or not node.available or node.waiting > _MOST_CALLS

    def _decide_in_cluster(self, spends: Sequence[Spend]) -> Decisions | _Answer:
        slots = self._slots_of(spends)
        if len(slots) == 1:
            return self._decide_in(next(iter(slots)), spends)
        parts = []
        for slot, places in slots.items():
            part = [spends[at] for at in places]
            parts.append((part, self._decide_in(slot, part)))
        return Parts(spends, parts, self.charge).answer

    def _decide_in(self, slot: int, spends: Sequence[Spend]) -> _Answer:
        waiter: _Answer = Signal()
        if self._is_away(slot):
            self.fall_back(spends, waiter, short=False)
        else:
            self._enqueue(slot, (spends, waiter, False))
        return waiter

    # Before a node comes into use

    async def probe(self, node: Node, ask: Ask) -> None:
        """Write something, as a request would. Raises Lost and ErrorReply."""
        await ask(self.script.call([self._names.probe(self._tag(node))], PROBE))

    def _tag(self, node: Node) -> bytes:
        """Return a hash tag of a slot that the node has."""
        tags = (b"%d" % number for number in count())
        return next(tag for tag in tags if self.nodes.owns(node, slot_of(tag)))

    async def come_back(self, node: Node, ask: Ask) -> None:
        """Tell the node what was spent without it, and what it said last if it has forgotten. Raises Lost and ErrorReply."""
        ends = self._loop.time() + _CARRYING
        ledger = self._alone.ledger
        known = [one for one in self._known.owed(self._now()) if self._is_of(node, one[1])]
        for at in range(0, len(known), _CARRIED):
            if self._loop.time() < ends:
                await self._carry(known[at : at + _CARRIED], ask)
        while taken := ledger.take(_CARRIED, lambda name: self._is_of(node, name)):
            if self._loop.time() >= ends:
                ledger.dropped += len(taken)
                continue
            try:
                await self._carry(ledger.carried(taken), ask)
            except BaseException:
                ledger.put_back(taken)
                raise
        dropped, ledger.dropped = ledger.dropped, 0
        if dropped:
            log.warning("redis: what %d keys have spent meanwhile was not carried over", dropped)

    def _is_of(self, node: Node, name: bytes) -> bool:
        return self._single is node or self.nodes.owns(node, slot_of(tag_of(name)))

    async def _carry(self, carried: Iterable[Carried], ask: Ask) -> None:
        """Carry over in one call, or in one for each slot."""
        slots: dict[int, Packer] = {}
        for one in carried:
            slot = 0 if self._single is not None else slot_of(tag_of(one[1]))
            slots.setdefault(slot, Packer(self._names)).carry([one])
        await asyncio.gather(
            *(ask(self.script.call(one.names, one.argument())) for one in slots.values())
        )


def _taken(decisions: Decisions) -> Taken:
    one = decisions[0]
    return one.remaining, one.reset, one.retry_after
