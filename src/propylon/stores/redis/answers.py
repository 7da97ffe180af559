"""Keep answers in Redis, where gateways on several machines find them.

    look ───► HGETALL of the records, MGET of the marks ───► node ───► Redis
    put ────► the pieces, a few at a time, then the record
    delete ─► a mark, and a line of the log that all gateways read twice in a second

Rules.

1. Nothing here fails, and nothing waits for longer than the node's patience (`redis.timeout`): while Redis is away there is
   nothing in it, and nothing is kept. Deletions of that time are carried over when it is back, before it is used again.
2. A key has digests only. What is under one is read by `stores.answers.record`, which believes nothing.
3. A connection of its own: a body of a megabyte must not hold up a decision of a limit.
"""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

import orjson

from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn, spawn_forever
from propylon.proxy.cache.deletion import EVERYTHING, Deletion
from propylon.stores.answers.shelves import LONGEST, Entry, Look, Shelves
from propylon.stores.redis.commands import Command
from propylon.stores.redis.connection import Reply, pack
from propylon.stores.redis.node import Ask, Node, User
from propylon.stores.redis.nodes import nodes_of, slot_of
from propylon.stores.redis.script import Script
from propylon.stores.redis.target import Target

__all__ = ["RedisShelves"]

_INLINE, _PIECE = 16 * 1024, 64 * 1024
# Pieces that are on their way at the same time: a megabyte in a second must do, or a slow network would look like an absence.
_AT_ONCE = 2
_MOST_VARIANTS = 16
# Calls without an answer, beyond which the store counts as away, and bytes that are being written.
_MOST_CALLS = 1000
_MOST_PENDING = 16_000_000
_MARK_SECONDS = int(LONGEST) + 3600
_LOG = 1000  # lines
_LARGEST = 2**63 - 1  # number of a deletion: as Redis counts
_MOST_OWED = 1000
# Seconds between two looks at the log. Others are to know within a second.
_POLL = 0.4


class RedisShelves(Shelves, User):
    """The records of all gateways that share a Redis. `heard` is called with deletions of other gateways."""

    inline = _INLINE
    piece = _PIECE
    away = "answers are not shared until it is back"
    back = "answers are shared again"

    def __init__(
        self,
        target: Target,
        heard: Callable[[Deletion], None],
        *,
        loop: asyncio.AbstractEventLoop,
        chance: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Connect to nothing before `start`."""
        self.script = Script(Script.source("answers.lua"))
        self.nodes = nodes_of(target, self, loop, chance)
        self._heard = heard
        self._wall = wall
        self._begin = f"{target.namespace}:cache:".encode()
        # One hash tag: the script needs all three of them.
        self._common = f"{target.namespace}:{{cache}}:".encode()
        self._slot = slot_of(b"cache")
        self._owed: deque[tuple[bytes, Deletion]] = deque()
        self._pending = 0
        self._last: int | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect in the background, and hear of deletions."""
        self.nodes.start()
        self._task = spawn_forever(self._follow())

    async def tried(self) -> None:
        """Wait until Redis is in use, or has been tried in vain."""
        await self.nodes.tried()

    def close(self) -> None:
        """Let go of the connections."""
        if self._task is not None:
            self._task.cancel()
        self.nodes.close()

    # Names

    def _name(self, name: bytes) -> bytes:
        return self._begin + urlsafe_b64encode(name)

    def _mark(self, mark: bytes) -> bytes:
        return self._common + b"mark:" + urlsafe_b64encode(mark)

    def _node(self, key: bytes) -> Node | None:
        slot = self._slot if key.startswith(self._common) else slot_of(key)
        node = self.nodes.of(slot)
        if node is None or not node.available or node.waiting > _MOST_CALLS:
            return None
        return node

    def _sent(self, key: bytes, data: bytes) -> Signal[Reply]:
        command, node = Command(data), self._node(key)
        if node is None:
            command.fall_back()
        else:
            node.submit(command)
        return command.answered

    # Looking

    async def look(self, name: bytes, marks: Sequence[bytes]) -> Look:
        """Return the records under a name, and when something was deleted."""
        key = self._name(name)
        numbers = self._numbers(marks)
        records = await self._sent(key, pack("HGETALL", key))
        deleted = _read_numbers(await numbers, len(marks) + 1)
        if not isinstance(records, list) or deleted is None:
            return Look()
        return Look(
            [one for one in records[1::2] if isinstance(one, bytes)], deleted[0], deleted[1:]
        )

    async def deleted(self, marks: Sequence[bytes]) -> int | None:
        """Return the number of the last deletion under any of the marks."""
        numbers = _read_numbers(await self._numbers(marks), len(marks) + 1)
        return None if numbers is None else max(numbers[1:])

    def _numbers(self, marks: Sequence[bytes]) -> Signal[Reply]:
        last = self._common + b"last"
        return self._sent(last, pack("MGET", last, *map(self._mark, marks)))

    async def body(self, ident: bytes, pieces: int) -> tuple[bytes, ...] | None:
        """Return the pieces of a body; None: not all of them are there."""
        whole: list[bytes] = []
        for at in range(0, pieces, _AT_ONCE):
            asked = [self._piece(ident, place) for place in range(at, min(at + _AT_ONCE, pieces))]
            for answered in [self._sent(key, pack("GET", key)) for key in asked]:
                piece = await answered
                if not isinstance(piece, bytes):
                    return None
                whole.append(piece)
        return tuple(whole)

    def _piece(self, ident: bytes, at: int) -> bytes:
        return self._begin + urlsafe_b64encode(ident) + b":%d" % at

    # Keeping

    def put(self, entry: Entry, done: Callable[[], None]) -> None:
        """Keep an entry: `done` is called when Redis has it, or does not take it."""
        size = len(entry.record) + sum(map(len, entry.pieces))
        if self._pending + size > _MOST_PENDING:
            done()
            return
        self._pending += size
        spawn(self._put(entry, size, done))

    async def _put(self, entry: Entry, size: int, done: Callable[[], None]) -> None:
        try:
            seconds = max(1, int(entry.seconds))
            for at in range(0, len(entry.pieces), _AT_ONCE):
                if not await self._put_pieces(entry, at, seconds + 1):
                    return
            key = self._name(entry.name)
            await self._sent(
                key,
                self.script.call(
                    [key], b"put", entry.variant, entry.record, seconds, _MOST_VARIANTS
                ),
            )
        finally:
            self._pending -= size
            done()

    async def _put_pieces(self, entry: Entry, at: int, seconds: int) -> bool:
        sent = []
        for place, piece in enumerate(entry.pieces[at : at + _AT_ONCE], at):
            key = self._piece(entry.ident, place)
            sent.append(self._sent(key, pack("SET", key, piece, "EX", seconds)))
        # All of them: a signal has to be awaited.
        return all([await answered is not None for answered in sent])

    def remove(self, name: bytes, variant: bytes) -> None:
        """Let go of a record; its pieces go when their time is over."""
        key = self._name(name)
        self._sent(key, pack("HDEL", key, variant))

    # Deleting

    def delete(self, mark: bytes, deletion: Deletion) -> Awaitable[bool]:
        """Note a deletion."""
        done: Signal[bool] = Signal()

        def answered(signal: Signal[Reply]) -> None:
            if signal.result() is None:
                self._owe(mark, deletion)
            done.set(signal.result() is not None)

        sent = self._sent(self._common, self._deletion(mark, deletion))
        if sent.done:
            answered(sent)
        else:
            sent.attach(answered)
        return done

    def _deletion(self, mark: bytes, deletion: Deletion) -> bytes:
        keys = [self._common + b"last", self._common + b"log", self._mark(mark)]
        message = orjson.dumps(deletion.message)
        now = int(self._wall() * 1_000_000)
        return self.script.call(keys, b"delete", message, now, _MARK_SECONDS, _LOG)

    def _owe(self, mark: bytes, deletion: Deletion) -> None:
        self._owed.append((mark, deletion))
        if len(self._owed) > _MOST_OWED:
            self._owed.clear()
            self._owed.append((EVERYTHING, Deletion()))

    async def probe(self, node: Node, ask: Ask) -> None:
        """Write something, as a request would. Raises Lost and ErrorReply."""
        tags = (b"probe-%d" % number for number in count())
        key = next(
            self._begin + tag
            for tag in tags
            if not self.nodes.clustered or self.nodes.owns(node, slot_of(self._begin + tag))
        )
        await ask(self.script.call([key], b"put", b"probe", b"", 1, _MOST_VARIANTS))

    async def come_back(self, node: Node, ask: Ask) -> None:
        """Tell of the deletions that were made without it. Raises Lost and ErrorReply."""
        if self.nodes.clustered and not self.nodes.owns(node, self._slot):
            return
        while self._owed:
            await ask(self._deletion(*self._owed[0]))
            self._owed.popleft()

    # What other gateways delete

    async def _follow(self) -> None:
        while True:
            await self._read_log()
            await asyncio.sleep(_POLL)

    async def _read_log(self) -> None:
        last, log = self._common + b"last", self._common + b"log"
        sent = self._sent(last, pack("GET", last))
        begin = "-inf" if self._last is None else f"({self._last}"
        lines = await self._sent(log, pack("ZRANGEBYSCORE", log, begin, "+inf", "LIMIT", 0, _LOG))
        number = _read_numbers([await sent], 1)
        if number is None or not isinstance(lines, list):
            return  # it is away
        known, self._last = self._last, number[0]
        missed = known is None or number[0] < known or len(lines) >= _LOG
        if missed or (number[0] != known and not lines):
            self._heard(Deletion())
            return
        for line in lines:
            self._heard(_read_line(line))


def _read_numbers(reply: Reply, expected: int) -> list[int] | None:
    """Return numbers, 0 for what is not there; None for what is no answer, or not ours."""
    if not isinstance(reply, list) or len(reply) != expected:
        return None
    try:
        numbers = [0 if one is None else int(one) for one in reply]
    except (TypeError, ValueError):
        return None
    # Records hold them in 64 bits: a number that is not ours must not fail a request.
    return numbers if all(0 <= one <= _LARGEST for one in numbers) else None


def _read_line(line: object) -> Deletion:
    """Return the deletion of a line; what cannot be read deletes everything: it may have been anything."""
    try:
        message = line.partition(b" ")[2] if isinstance(line, bytes) else b""
        return Deletion.from_message(orjson.loads(message))
    except (ValueError, KeyError, TypeError):
        return Deletion()
