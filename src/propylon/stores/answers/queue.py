"""Bound the bytes of a file: entries stand in a queue, and the oldest leave. All of it happens in transactions of the caller.

An entry that was asked for more often than the newcomer goes to the end of the queue once more (second chance), so that a
scan empties nothing. What is asked for often is known to each worker for itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from propylon.proxy.cache.key import Key
from propylon.stores.answers.record import NAME
from propylon.stores.answers.transaction import (
    NUMBER,
    Database,
    Transaction,
    number_of,
    packed,
)

__all__ = ["IDENT", "VARIANT", "Queue", "Queued", "Room", "Trees", "piece_key"]

IDENT, VARIANT = 16, 8
# In a transaction, how many entries are looked at, and how many of them may stay.
_LOOKED_AT, _SPARED = 64, 16
_SIZE, _SEQUENCE = b"size", b"sequence"
_PIECE_NUMBER = struct.Struct(">I")
_QUEUED = struct.Struct(">QI")  # bytes, and pieces
_PART = struct.Struct(">I")  # bytes of a part of the key


def piece_key(ident: bytes, at: int) -> bytes:
    """Return the key of a piece of a body."""
    return ident + _PIECE_NUMBER.pack(at)


@dataclass(frozen=True, slots=True)
class Trees:
    """What is in the file: records by name and variant, pieces of bodies, the queue, and some numbers."""

    records: Database
    bodies: Database
    queue: Database
    numbers: Database


@dataclass(frozen=True, slots=True)
class Queued:
    """An entry of the queue."""

    size: int
    pieces: int
    place: bytes  # name and variant
    ident: bytes
    key: Key

    def written(self) -> bytes:
        """Return it as bytes."""
        parts = b"".join([_PART.pack(len(part)) + part for part in self.key])
        return _QUEUED.pack(self.size, self.pieces) + self.place + self.ident + parts

    @classmethod
    def read(cls, data: bytes) -> Queued:
        """Read it."""
        size, pieces = _QUEUED.unpack_from(data)
        at = _QUEUED.size
        place, at = data[at : at + NAME + VARIANT], at + NAME + VARIANT
        ident, at = data[at : at + IDENT], at + IDENT
        parts = []
        while at < len(data):
            (length,) = _PART.unpack_from(data, at)
            at += _PART.size
            parts.append(data[at : at + length])
            at += length
        a, b, c, d, e, f = parts
        return cls(size, pieces, place, ident, (a, b, c, d, e, f))


class Room(Enum):
    """Whether there is room for an entry."""

    MADE = "made"
    LACKING = "lacking"  # others have left, and more have to
    REFUSED = "refused"  # those that would have to leave are asked for more often


class Queue:
    """The entries of a file, the oldest first. `popularity` says how often a key was asked for lately."""

    def __init__(
        self,
        trees: Trees,
        capacity: int,
        popularity: Callable[[Key], int],
    ) -> None:
        """Let so many bytes be kept."""
        self.capacity = capacity
        self._trees = trees
        self._popularity = popularity

    def size(self, txn: Transaction) -> int:
        """Return the bytes that are kept."""
        return number_of(txn.get(_SIZE, db=self._trees.numbers))

    def make_room(self, txn: Transaction, newcomer: Queued) -> Room:
        """Let some of the oldest entries leave."""
        needed = self.size(txn) + newcomer.size - self.capacity
        mine, spared = self._popularity(newcomer.key), 0
        for _ in range(_LOOKED_AT):
            oldest = self._oldest(txn) if needed > 0 else None
            if oldest is None:
                return Room.MADE
            number, queued = oldest
            if self._popularity(queued.key) <= mine:
                self.let_go(txn, number, queued)
                needed -= queued.size
            elif spared < _SPARED:
                spared += 1
                self._move_back(txn, number, queued)
            else:
                return Room.REFUSED
        return Room.MADE if needed <= 0 else Room.LACKING

    def _oldest(self, txn: Transaction) -> tuple[bytes, Queued] | None:
        with txn.cursor(self._trees.queue) as cursor:
            return (cursor.key(), Queued.read(cursor.value())) if cursor.first() else None

    def append(self, txn: Transaction, queued: Queued) -> bytes:
        """Put an entry at the end; return its number."""
        number = packed(number_of(txn.get(_SEQUENCE, db=self._trees.numbers)) + 1)
        txn.put(_SEQUENCE, number, db=self._trees.numbers)
        txn.put(number, queued.written(), append=True, db=self._trees.queue)
        self._add(txn, queued.size)
        return number

    def has(self, txn: Transaction, number: bytes) -> bool:
        """Tell whether an entry is still there."""
        return txn.get(number, db=self._trees.queue) is not None

    def _move_back(self, txn: Transaction, number: bytes, queued: Queued) -> None:
        txn.delete(number, db=self._trees.queue)
        self._add(txn, -queued.size)
        last = self.append(txn, queued)
        record = txn.get(queued.place, db=self._trees.records)
        if record is not None and record.startswith(number):
            txn.put(queued.place, last + record[NUMBER:], db=self._trees.records)

    def let_go_of(self, txn: Transaction, number: bytes) -> None:
        """Let an entry go, with its record and its pieces, if it is still there."""
        data = txn.get(number, db=self._trees.queue)
        if data is not None:
            self.let_go(txn, number, Queued.read(data))

    def let_go(self, txn: Transaction, number: bytes, queued: Queued) -> None:
        """Let an entry go, with its record and its pieces."""
        txn.delete(number, db=self._trees.queue)
        self._add(txn, -queued.size)
        for at in range(queued.pieces):
            txn.delete(piece_key(queued.ident, at), db=self._trees.bodies)
        record = txn.get(queued.place, db=self._trees.records)
        if record is not None and record.startswith(number):
            txn.delete(queued.place, db=self._trees.records)

    def _add(self, txn: Transaction, size: int) -> None:
        txn.put(_SIZE, packed(max(0, self.size(txn) + size)), db=self._trees.numbers)
