"""Keep answers in a file of memory that the workers of one machine share (LMDB).

Facts.

- LMDB lets one writer in at a time, in whichever process it is. If that process is killed, the next writer finds what was
  committed before, and nothing else. Readers wait for nobody.
- Pages that a reader may look at are not used again. A reader that was killed seems to look for ever, until somebody checks
  (`reader_check`).
- Pages are written with `pwrite`, not through the map: a full file system is an error then, and not a SIGBUS.

Strategy. A body is cut into pieces, and a transaction writes a megabyte of them at most, so that neither the other workers
nor the loop wait for long. An entry stands in the queue (`queue`) before its pieces are written, and its record comes last:
nobody finds half an answer, and pieces whose worker was killed leave in turn.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import ClassVar, cast

import lmdb

from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn
from propylon.proxy.cache.deletion import EVERYTHING, Deletion
from propylon.proxy.cache.key import Key
from propylon.stores.answers.queue import IDENT, Queue, Queued, Room, Trees, piece_key
from propylon.stores.answers.record import NAME
from propylon.stores.answers.shelves import Entry, Look, Shelves
from propylon.stores.answers.transaction import (
    NUMBER,
    Environment,
    Transaction,
    number_of,
    packed,
)

__all__ = ["MachineShelves", "Unusable"]

log = logging.getLogger(__name__)

Unusable = lmdb.Error

_PAGE = 4096
_INLINE = 16 * 1024
# Eight pages, less the header of the first: LMDB looks for so many in a row.
_PIECE = 8 * _PAGE - 16
_AT_ONCE = 32  # pieces in one transaction
_FULL_LEAF = 1.5  # a leaf of the tree is two thirds full
_ENTRY = 200  # bytes of an entry beside its record: the queue, and the nodes of the trees
_LARGE = 2000  # bytes: a larger value has pages of its own
_MOST_VARIANTS = 16
_MOST_MARKS = 4096
_ROUNDS = 64  # transactions that make room for one entry, at most
_READERS = 1024
# Bytes of the file beside the entries: the trees' own pages, and those that are free.
_BESIDE = 64 * 2**20
_DELETIONS = b"deletions"


class MachineShelves(Shelves):
    """The records of all workers of one machine."""

    inline = _INLINE
    piece = _PIECE
    _open: ClassVar[dict[str, MachineShelves]] = {}

    def __init__(self, path: Path, capacity: int, popularity: Callable[[Key], int]) -> None:
        """Open the file, or make it, for so many bytes. Raises Unusable, OSError.

        `popularity` says how often a key was asked for lately.
        """
        capacity = min(capacity, _room(path) // 4)
        self._environment = cast(
            "Environment",
            lmdb.open(
                str(path),
                subdir=False,
                map_size=(2 * capacity + _BESIDE) // _PAGE * _PAGE,
                max_dbs=5,
                max_readers=_READERS,
                sync=False,  # what is stored is worth nothing after a crash of the machine
                metasync=False,
                meminit=False,
                readahead=False,
            ),
        )
        self._environment.reader_check()
        opened = self._environment.open_db
        self._trees = Trees(
            opened(b"records"), opened(b"bodies"), opened(b"queue"), opened(b"numbers")
        )
        self._marks = opened(b"marks")
        self._queue = Queue(self._trees, capacity, popularity)
        self._name = str(path)
        self._users = 0
        self._failed = False
        self._pending = 0  # bytes that are being written

    @classmethod
    def at(cls, path: Path, capacity: int, popularity: Callable[[Key], int]) -> MachineShelves:
        """Return the file at a path: one process must not open it twice. Raises Unusable, OSError."""
        if (shelves := cls._open.get(str(path))) is None:
            shelves = cls._open[str(path)] = cls(path, capacity, popularity)
        shelves._users += 1
        return shelves

    def leave(self) -> None:
        """Use it no longer; the last gateway in this process closes it."""
        self._users -= 1
        if not self._users:
            del self._open[self._name]
            self._environment.close()

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        with self._environment.begin() as txn:
            return self._queue.size(txn)

    # Looking

    async def look(self, name: bytes, marks: Sequence[bytes]) -> Look:
        """Return the records under a name, and when something was deleted."""
        try:
            with self._environment.begin() as txn:
                records = [record[NUMBER:] for _, record in self._variants(txn, name)]
                since = number_of(txn.get(_DELETIONS, db=self._trees.numbers))
                deleted = [number_of(txn.get(mark, db=self._marks)) for mark in marks]
        except Unusable as error:
            self._note(error)
            return Look()
        return Look(records, since, deleted)

    def _variants(self, txn: Transaction, name: bytes) -> list[tuple[bytes, bytes]]:
        variants = []
        with txn.cursor(self._trees.records) as cursor:
            found = cursor.set_range(name)
            while found and cursor.key().startswith(name):
                variants.append((cursor.key(), cursor.value()))
                found = cursor.next()
        return variants

    async def deleted(self, marks: Sequence[bytes]) -> int | None:
        """Return the number of the last deletion under any of the marks."""
        try:
            with self._environment.begin() as txn:
                return max((number_of(txn.get(mark, db=self._marks)) for mark in marks), default=0)
        except Unusable as error:
            self._note(error)
            return None

    async def body(self, ident: bytes, pieces: int) -> tuple[bytes, ...] | None:
        """Return the pieces of a body; None: it has left meanwhile."""
        try:
            with self._environment.begin() as txn:
                keys = [piece_key(ident, at) for at in range(pieces)]
                found = [txn.get(key, db=self._trees.bodies) for key in keys]
        except Unusable as error:
            self._note(error)
            return None
        whole = tuple([piece for piece in found if piece is not None])
        return whole if len(whole) == pieces else None

    # Keeping

    def put(self, entry: Entry, done: Callable[[], None]) -> None:
        """Keep an entry: at once if it is short, otherwise a megabyte in a turn of the loop."""
        if len(entry.pieces) > _AT_ONCE:
            spawn(self._put_slowly(entry, done))
            return
        try:
            self._put(entry)
        finally:
            done()

    def _put(self, entry: Entry) -> None:
        try:
            number = self._enqueued(entry)
            if number is not None:
                self._write(entry, 0, number)
                self._publish(entry, number)
        except Unusable as error:
            self._note(error)

    async def _put_slowly(self, entry: Entry, done: Callable[[], None]) -> None:
        size = sum(map(len, entry.pieces))
        self._pending += size
        try:
            if self._pending > self._queue.capacity // 4:
                return
            number = self._enqueued(entry)
            if number is None:
                return
            for at in range(0, len(entry.pieces), _AT_ONCE):
                self._write(entry, at, number)
                await asyncio.sleep(0)
            self._publish(entry, number)
        except Unusable as error:
            self._note(error)
        finally:
            self._pending -= size
            done()

    def _enqueued(self, entry: Entry) -> bytes | None:
        """Make room for an entry, and put it into the queue; None: others are asked for more often."""
        size = _cost(entry)
        if size > self._queue.capacity:
            return None
        ident = entry.ident or bytes(IDENT)
        place = entry.name + entry.variant
        queued = Queued(size, len(entry.pieces), place, ident, entry.key)
        for _ in range(_ROUNDS):
            with self._environment.begin(write=True) as txn:
                room = self._queue.make_room(txn, queued)
                if room is Room.MADE:
                    return self._queue.append(txn, queued)
            if room is Room.REFUSED:
                break
        return None

    def _write(self, entry: Entry, at: int, number: bytes) -> None:
        """Write some pieces of a body, as long as the entry is in the queue."""
        if not entry.pieces:
            return
        with self._environment.begin(write=True) as txn:
            if self._queue.has(txn, number):
                for place, piece in enumerate(entry.pieces[at : at + _AT_ONCE], at):
                    txn.put(piece_key(entry.ident, place), piece, db=self._trees.bodies)

    def _publish(self, entry: Entry, number: bytes) -> None:
        """Let the entry be found, in place of the one that the same requests would get."""
        place = entry.name + entry.variant
        with self._environment.begin(write=True) as txn:
            if not self._queue.has(txn, number):
                return  # it has left already
            for old in self._replaced(txn, place):
                self._queue.let_go_of(txn, old)
            txn.put(place, number + entry.record, db=self._trees.records)

    def _replaced(self, txn: Transaction, place: bytes) -> list[bytes]:
        """Return the numbers of the entry that stands at a place, and of the oldest variant if there are many."""
        numbers = {at: data[:NUMBER] for at, data in self._variants(txn, place[:NAME])}
        mine = numbers.pop(place, None)
        gone = [] if mine is None else [mine]
        return [*gone, min(numbers.values())] if len(numbers) >= _MOST_VARIANTS else gone

    def remove(self, name: bytes, variant: bytes) -> None:
        """Let go of a record."""
        try:
            with self._environment.begin(write=True) as txn:
                record = txn.get(name + variant, db=self._trees.records)
                if record is not None:
                    self._queue.let_go_of(txn, record[:NUMBER])
        except Unusable as error:
            self._note(error)

    # Deleting

    def delete(
        self, mark: bytes, deletion: Deletion  # noqa: ARG002 — workers tell each other of it
    ) -> Awaitable[bool]:
        """Note a deletion."""
        done: Signal[bool] = Signal()
        try:
            with self._environment.begin(write=True) as txn:
                number = packed(number_of(txn.get(_DELETIONS, db=self._trees.numbers)) + 1)
                txn.put(_DELETIONS, number, db=self._trees.numbers)
                if txn.stat(self._marks)["entries"] >= _MOST_MARKS:
                    txn.drop(self._marks, delete=False)
                    mark = EVERYTHING
                txn.put(mark, number, db=self._marks)
        except Unusable as error:
            self._note(error)
            done.set(False)
        else:
            done.set(True)
        return done

    def _note(self, error: lmdb.Error) -> None:
        """Say once that the file cannot be used, and look for readers that are dead: they keep pages."""
        if not self._failed:
            self._failed = True
            log.warning("stored answers are not shared by the workers for now: %s", error)
        self._environment.reader_check()


def _cost(entry: Entry) -> int:
    """Return what an entry takes in the file."""
    keys = sum(map(len, entry.key))
    size = _ENTRY + len(entry.record) + keys
    small = size * _FULL_LEAF if len(entry.record) <= _LARGE else _pages(size)
    return int(small) + sum(_pages(len(piece) + 16) for piece in entry.pieces)


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _room(path: Path) -> int:
    """Return the bytes that are free where the file is; a file that is there already counts as free."""
    found = os.statvfs(path.parent)
    mine = path.stat().st_blocks * 512 if path.exists() else 0
    return found.f_bavail * found.f_frsize + mine
