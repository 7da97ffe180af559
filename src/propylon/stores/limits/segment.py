"""Keep the keys of limits in memory that the workers of one machine share: an index (LMDB), and records beside it.

Facts.

- LMDB lets one writer in at a time, in whichever process it is. Its lock is a robust mutex: if the process that holds it
  is killed, the kernel gives it to the next one, and what the dead one had not committed is as if it never was. To take the
  lock and give it back without a change costs 0.2 µs.
- LMDB copies a page before it changes it, and uses the old one again two transactions later. That is 2 µs, and more if
  another core had the page last.
- The file is written through a memory map. Writing into a page for which a full file system has no room kills the
  process (SIGBUS). So the room is reserved before (`posix_fallocate`), a step ahead of what is used.

Strategy. What changes with each request, when a bucket is full, is in a record of fixed size (`records`). The index has the
handle of each key's record, and changes only when a key comes or leaves. A worker remembers the handles of its keys, so a
decision of a known key takes LMDB's lock, reads and writes one record, and gives the lock back. The log of a sliding
window has no fixed size; it stands in the index itself.

Rules.

1. A process opens the files after it was forked, and once: two of LMDB's environments for one file in one process would
   take each other's locks away.
2. Deleted files are still good for all workers that have them open. A worker that comes then makes others, and the rest
   follow.
3. Records are not part of LMDB's transaction. A handle in the index whose record has gone means that nothing is spent.
4. A log begins with the microsecond from which on it is worth nothing. Each process sweeps: a few keys for each new one, and
   some at intervals.
5. When there is no room, a new key shares one of 1024 counters, as in memory. A key that is in use never leaves.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol, Self, cast

import lmdb

from propylon.stores.limits.records import FULL, Records, reserve_room

__all__ = ["FIRST", "HANDLE", "Segment", "Unusable"]

log = logging.getLogger(__name__)

# Bytes of the index. Some 750,000 keys of buckets (50 bytes each), or 27,000 full logs; reserved in steps, so a small gateway
# takes 8 MB.
_SIZE = 36 * 2**20
_BEGIN = 8 * 2**20
# A transaction of `workers.SharedLimits` that sweeps changes some 150 pages, and those of the two before it are not free again.
_STEP = 4 * 2**20
_PAGE = 4096
# The map is larger than what is used: LMDB must never find it full, because then it could not even delete.
_MAP = 2 * _SIZE
# Keys that a transaction looks at because of their age: for each new one, and at intervals (microseconds).
_SWEEP_NEW = 3
# Old keys are swept, and room is looked for, once for so many new keys: each of the two costs as much as a new key.
_NEW_AT_ONCE = 8
_SWEEP_EVERY = 250_000
_SWEEP_KEYS = 200
FIRST = struct.Struct("<Q")
HANDLE = struct.Struct("<Q")  # all of a bucket's value; the value of a log is longer

Unusable = lmdb.Error


class _Cursor(Protocol):
    def key(self) -> bytes: ...
    def value(self) -> bytes: ...
    def first(self) -> bool: ...
    def next(self) -> bool: ...
    def delete(self) -> bool: ...
    def set_range(self, key: bytes) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...


class _Transaction(Protocol):
    """What is used of LMDB's transaction; its own types allow for buffers, which we do not ask for."""

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes) -> bool: ...
    def cursor(self) -> _Cursor: ...
    def stat(self) -> dict[str, int]: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...


class _Files:
    """The index and the records, as they are open together."""

    def __init__(self, path: Path) -> None:
        """Open them, or make them. Raises Unusable, OSError."""
        with _alone(path):
            paths = (path, _beside(path, "lock"), _beside(path, "records"))
            if not all(each.exists() for each in paths):
                # What is left of files that somebody deleted does not belong to the new ones.
                for each in paths:
                    each.unlink(missing_ok=True)
            self.records = Records(paths[-1])
            try:
                self._open(path)
            except (Unusable, OSError):
                self.records.close()
                raise

    def _open(self, path: Path) -> None:
        self.index = lmdb.open(
            str(path),
            subdir=False,
            map_size=_MAP,
            writemap=True,
            # Counts are worth nothing after a crash of the machine.
            sync=False,
            metasync=False,
            meminit=False,
            readahead=False,
        )
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.reserved = 0
        try:
            self._reserve(_BEGIN)
        except OSError:
            self._close()
            raise

    def close(self) -> None:
        """Let go of them."""
        self._close()
        self.records.close()

    def _close(self) -> None:
        self.index.close()
        os.close(self._file)

    def are_replaced(self) -> bool:
        """Tell whether others have taken their place. If they were only deleted, all workers still have them open."""
        try:
            found = self._path.stat()
        except OSError:
            return False
        return not os.path.samestat(found, os.fstat(self._file))

    def reserve_ahead(self) -> None:
        """Reserve the next step before it is used."""
        used = (self.index.info()["last_pgno"] + 1) * _PAGE
        while used + _STEP > self.reserved and self.reserved < _MAP:
            try:
                self._reserve(self.reserved + _STEP)
            except OSError:  # the file system is full: new keys share from now on
                return

    def _reserve(self, size: int) -> None:
        reserve_room(self._file, 0, size)
        self.reserved = size


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}-{what}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Open and make files while no other worker does. Raises OSError."""
    gate = os.open(_beside(path, "gate"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield
    finally:
        os.close(gate)


class Segment:
    """The files, open in this process. Everything is done in a transaction: `begin`."""

    _open: ClassVar[dict[str, Segment]] = {}

    def __init__(self, path: Path) -> None:
        """Open the files, or make them. Raises Unusable, OSError."""
        self._path = path
        self._users = 0  # gateways in this process
        self._hand = b""
        self.sweep_at = 0
        self._coming = 0  # new keys since the last sweep
        self._has_room = True
        self._made: list[int] = []  # handles of this transaction
        self._lost: list[int] = []  # handles that the index does not know, because it failed
        # Whether this transaction has changed the index.
        self.changed = False
        self.transaction: _Transaction | None = None
        self._turn_to(_Files(path))

    def _turn_to(self, files: _Files) -> None:
        self._files = files
        self.records = files.records
        # Holds the files alone, until the transaction that it returns is aborted or committed.
        self.hold = cast("Callable[[], _Transaction]", partial(files.index.begin, None, None, True))

    @classmethod
    def at(cls, path: Path) -> Segment:
        """Return the file at a path, the same object for all gateways in this process. Raises Unusable, OSError."""
        if (segment := cls._open.get(str(path))) is None:
            segment = cls._open[str(path)] = cls(path)
        segment._users += 1
        return segment

    def leave(self) -> None:
        """Use it no longer; the last gateway in this process closes it."""
        self._users -= 1
        if not self._users:
            del self._open[str(self._path)]
            self._files.close()

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Hold the files alone, and change nothing. Raises Unusable."""
        self.transaction = transaction = self.hold()
        try:
            yield
        finally:
            transaction.abort()

    def conclude(self, now: int) -> bool:
        """Keep what the transaction has changed in the index, and sweep; tell that `attend` is due. Raises Unusable."""
        is_due = self._coming >= _NEW_AT_ONCE or now >= self.sweep_at
        if is_due:
            self._sweep(now)
        self.open.commit()
        self._made.clear()
        self.changed = False
        return is_due

    def undo(self) -> None:
        """Note which records were made for an index that will not know them: the next sweep frees them."""
        # Not now: an index that failed has let go of the lock.
        self._lost += self._made
        self._made.clear()
        self.changed = False

    @property
    def open(self) -> _Transaction:
        """The transaction that has begun."""
        if self.transaction is None:
            msg = "keys are looked at in a transaction only"
            raise RuntimeError(msg)
        return self.transaction

    # Room

    def put(self, name: bytes, value: bytes, made: int = 0) -> None:
        """Change the index; `made` is the handle of a record that was made for it."""
        self.changed = True
        if made:
            self._made.append(made)
        self.open.put(name, value)

    def come(self) -> bool:
        """Note a new key; tell whether there is room for it."""
        if self._coming % _NEW_AT_ONCE == 0:
            found = self.open.stat()
            pages = found["leaf_pages"] + found["branch_pages"] + found["overflow_pages"]
            self._has_room = bool(pages * _PAGE < min(_SIZE, self._files.reserved - _STEP))
        self._coming += 1
        return self._has_room

    def attend(self) -> None:
        """Do what is due now and then, between transactions: reserve room, and look whether the files are still those."""
        self._files.reserve_ahead()
        if self._files.are_replaced():
            # Where the new ones cannot be opened, the old ones are still good.
            with suppress(Unusable, OSError):
                self._follow()

    def _follow(self) -> None:
        """Turn to the files that another worker has made, because these were deleted."""
        files = _Files(self._path)
        self._files.close()
        self._turn_to(files)
        log.warning(
            "the files of limits, %s*, were deleted while the gateway runs: all budgets are full again",
            self._path,
        )

    # Age

    def _sweep(self, now: int) -> None:
        """Let some keys leave that are worth nothing at a microsecond."""
        while self._lost:
            self.records.free(self._lost.pop())
        keys, self._coming = self._coming * _SWEEP_NEW, 0
        if now >= self.sweep_at:
            self.sweep_at = now + _SWEEP_EVERY
            keys += _SWEEP_KEYS
        with self.open.cursor() as cursor:
            if not cursor.set_range(self._hand):
                cursor.first()
            for _ in range(keys):
                value = cursor.value()
                if not value:
                    break  # behind the last key
                if self._is_dead(value, now):
                    cursor.delete()  # and the cursor is at the next key
                else:
                    cursor.next()
            self._hand = cursor.key()

    def _is_dead(self, value: bytes, now: int) -> bool:
        """Tell whether nothing of a key is spent any more; then its record is free."""
        if len(value) > HANDLE.size:
            return bool(FIRST.unpack_from(value)[0] < now)
        handle = HANDLE.unpack(value)[0]
        at = self.records.place(handle)
        if at and self.records.words[at + FULL] >= now:
            return False
        self.records.free(handle)
        return True
