"""Keep answers where several workers or machines find them: what is the same in each such store.

    Tier (here): keys become names, answers become records, deletions become marks
      └─ Shelves (the port): records and pieces under names, in a file of the machine (`machine`) or in Redis (`stores.redis`)

Strategy of deletions. A store does not look for the answers that a deletion is about: it counts deletions, and notes under
the deletion's mark which one it was. A record knows the last one before its answer was fetched. It is worth nothing if
one of its marks has a later one. So a deletion takes as long for a million answers as for one, and an answer that was
asked for before it and arrives after it is not found either.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from propylon.proxy.cache.behind import UNKNOWN, Behind, Body, Found, Held, Lease
from propylon.proxy.cache.deletion import Deletion, marks_of, tag_marks
from propylon.proxy.cache.filling import JOINED, Budget
from propylon.proxy.cache.key import Key
from propylon.proxy.cache.stored import Stored
from propylon.stores.answers.leases import Leases
from propylon.stores.answers.record import Codec, Garbled, chunks_of, variant_of

__all__ = ["LONGEST", "Entry", "Look", "Shelves", "Tier"]

LONGEST = 86_400.0
"""Seconds: no record stays longer in a store than a mark."""
_GRACE = 600.0  # seconds for which a stale answer is worth to be validated, beside its lifetime
_IDENT = 16
_MOST_TAGS = 64


@dataclass(frozen=True, slots=True)
class Look:
    """What is under a name; `deleted` are the numbers of the last deletions under some marks, `since` that of all."""

    records: Sequence[bytes] = ()
    since: int = UNKNOWN
    deleted: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be kept; `seconds`: how long at most. `key` is for a store that knows keys by how often they are asked for."""

    name: bytes
    variant: bytes
    record: bytes
    seconds: float
    key: Key
    ident: bytes = b""
    pieces: Sequence[bytes] = ()


class Shelves(Protocol):
    """Where records and pieces are. Nothing here fails: what cannot be had is not there."""

    inline: int
    """A body of so many bytes is kept in its record."""
    piece: int
    """Bytes of each piece of any other body."""

    async def look(self, name: bytes, marks: Sequence[bytes]) -> Look:
        """Return the records under a name, and when something was deleted."""

    async def deleted(self, marks: Sequence[bytes]) -> int | None:
        """Return the number of the last deletion under any of the marks; None: it cannot be had."""

    async def body(self, ident: bytes, pieces: int) -> tuple[bytes, ...] | None:
        """Return the pieces of a body; None: not all of them are there."""

    def put(self, entry: Entry, done: Callable[[], None]) -> None:
        """Keep an entry; `done` is called when it can be found, or is not kept."""

    def remove(self, name: bytes, variant: bytes) -> None:
        """Let go of a record."""

    def delete(self, mark: bytes, deletion: Deletion) -> Awaitable[bool]:
        """Note a deletion; False: the store is away, and notes it when it is back."""


class Tier(Behind):
    """A store behind the memories of workers, over shelves."""

    def __init__(
        self,
        shelves: Shelves,
        codec: Codec,
        budget: Budget,
        leases: Leases | None = None,
    ) -> None:
        """Bodies that are on their way to a worker count in `budget`; without `leases` there are no other workers."""
        self._shelves = shelves
        self._codec = codec
        self._budget = budget
        self._leases = leases

    async def look(self, key: Key, route: str) -> Found:
        """Return what is there and was not deleted."""
        name = self._codec.name(key)
        look = await self._shelves.look(name, marks_of(key, route))
        if look.since == UNKNOWN:
            return Found()
        deleted = max(look.deleted, default=0)
        answers = []
        for record in look.records:
            held = await self._good(key, route, name, record, deleted)
            if held is not None:
                answers.append(held)
        answers.sort(key=lambda held: held.stored.born, reverse=True)
        return Found(tuple(answers), look.since)

    async def _good(
        self, key: Key, route: str, name: bytes, record: bytes, deleted: int
    ) -> Held | None:
        """Read a record; None: it is garbage, or of an answer that was deleted."""
        try:
            held, since = self._codec.read(name, record)
        except Garbled:
            return None
        if deleted > since:
            return None
        tags = held.stored.judged.tags
        if tags:
            # Only now it is known which they are.
            last = await self._shelves.deleted(tag_marks(key, route, tags))
            if last is None or last > since:
                return None
        return held

    async def load(self, held: Held) -> Body | None:
        """Return the body; None: it is not there any more, or it is not what it was."""
        if not held.pieces:
            return held.inline
        if self._budget.held + held.length > self._budget.most:
            return None
        self._budget.held += held.length
        try:
            pieces = await self._shelves.body(held.ident, held.pieces)
        finally:
            self._budget.held -= held.length
        if pieces is None or self._codec.digest(pieces) != held.digest:
            return None
        # The length goes to the client as Content-Length: what is longer would be read as the next answer.
        if sum(map(len, pieces)) != held.length:
            return None
        return b"".join(pieces) if held.length <= JOINED else pieces

    def keep(self, key: Key, stored: Stored, since: int, done: Callable[[], None]) -> None:
        """Keep an answer, unless the store was away when it was asked for."""
        seconds = _worth(stored)
        if since == UNKNOWN or seconds <= 0 or len(stored.judged.tags) > _MOST_TAGS:
            done()
            return
        name, ident = self._codec.name(key), b""
        pieces: Sequence[bytes] = ()
        if stored.length > self._shelves.inline:
            pieces, ident = chunks_of(stored.body, self._shelves.piece), os.urandom(_IDENT)
        record = self._codec.written(name, stored, since, ident, len(pieces))
        self._shelves.put(
            Entry(name, variant_of(stored), record, seconds, key, ident, pieces), done
        )

    def drop(self, key: Key, stored: Stored) -> None:
        """Let go of an answer."""
        self._shelves.remove(self._codec.name(key), variant_of(stored))

    def delete(self, deletion: Deletion) -> Awaitable[bool]:
        """Let go of answers, also of those that are fetched now."""
        return self._shelves.delete(deletion.mark, deletion)

    # Among the workers of this machine

    def lease(self, name: bytes) -> Lease | None:
        """Return the right to ask for what is named so; None: another worker has it."""
        return NO_LEASE if self._leases is None else self._leases.take(name)

    def lone(self, name: bytes) -> bool:
        """Tell whether the last answer was for one client only, a short while ago."""
        return self._leases is not None and self._leases.lone(name)

    def note_lone(self, name: bytes) -> None:
        """Note that the answer was for one client only."""
        if self._leases is not None:
            self._leases.note_lone(name)


class _NoLease(Lease):
    """There is nobody else."""

    def release(self) -> None:
        """Nobody waits."""


NO_LEASE = _NoLease()


def _worth(stored: Stored) -> float:
    """Return for how many seconds more an answer may serve, or be worth a validation."""
    judged = stored.judged
    late = max(judged.stale_while_revalidate, judged.stale_if_error)
    if judged.etag or judged.modified:
        late = max(late, _GRACE + judged.lifetime)
    return min(LONGEST, judged.lifetime - judged.age + late)
