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
2. Records are not part of LMDB's transaction. A handle in the index whose record has gone means that nothing is spent.
3. A log begins with the microsecond from which on it is worth nothing. Each process sweeps: a few keys for each new one, and
   some at intervals.
4. When there is no room, a new key shares one of 1024 counters, as in memory. A key that is in use never leaves.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar, Generic, Protocol, Self, TypeVar, cast

import lmdb

from propylon.proxy.limit.arithmetic import Log, end_of
from propylon.proxy.limit.rule import Rule, storage_key
from propylon.stores.limits.records import FULL, TICKS, Records
from propylon.stores.limits.tables import Keys

__all__ = ["BucketKeys", "LogKeys", "Segment", "Unusable"]

S = TypeVar("S")

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
_SHARED = 1024
_FIRST = struct.Struct("<Q")
_HANDLE = struct.Struct("<Q")  # all of a bucket's value; the value of a log is longer
_PAIR = struct.Struct("<QQ")
_PLACE = struct.Struct("<H")  # of a shared counter
_NOTHING = _PAIR.pack(0, 0)  # for a log without a pair: so its value is longer than a handle
# Of a limit, a process remembers the handles of so many keys. When there are more, it forgets all at once: that is cheaper
# than to know which one was used last.
_HANDLES = 4096

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


class Segment:
    """The files, open in this process. Everything is done in a transaction: `begin`."""

    _open: ClassVar[dict[str, Segment]] = {}

    def __init__(self, path: Path) -> None:
        """Open the files, or make them. Raises Unusable, OSError."""
        self.records = Records(path.with_name(f"{path.name}-records"))
        try:
            self._environment = _opened(path)
        except Unusable:
            self.records.close()
            raise
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._name = str(path)
        self._users = 0  # gateways in this process
        self._reserved = 0
        self._hand = b""
        self.sweep_at = 0
        self._coming = 0  # new keys since the last sweep
        self._has_room = True
        self._made: list[int] = []  # handles of this transaction
        # Whether this transaction has changed the index.
        self.changed = False
        self.transaction: _Transaction | None = None
        # Holds the files alone, until the transaction that it returns is aborted or committed.
        self.hold = cast(
            "Callable[[], _Transaction]", partial(self._environment.begin, None, None, True)
        )
        try:
            self._reserve(_BEGIN)
        except OSError:
            self._close()
            raise

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
            del self._open[self._name]
            self._close()

    def _close(self) -> None:
        self._environment.close()
        self.records.close()
        os.close(self._file)

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Hold the files alone, and change nothing. Raises Unusable."""
        self.transaction = transaction = self.hold()
        try:
            yield
        finally:
            transaction.abort()

    def conclude(self, now: int) -> bool:
        """Keep what the transaction has changed in the index, and sweep; tell that `reserve_ahead` is due. Raises Unusable."""
        is_due = self._coming >= _NEW_AT_ONCE or now >= self.sweep_at
        if is_due:
            self._sweep(now)
        self.open.commit()
        self._made.clear()
        self.changed = False
        return is_due

    def undo(self) -> None:
        """Take back the records that were made for an index that will not know them."""
        for handle in self._made:
            self.records.free(handle)
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
            self._has_room = bool(pages * _PAGE < min(_SIZE, self._reserved - _STEP))
        self._coming += 1
        return self._has_room

    def reserve_ahead(self) -> None:
        """Reserve the next step before it is used; to be called between transactions."""
        used = (self._environment.info()["last_pgno"] + 1) * _PAGE
        while used + _STEP > self._reserved and self._reserved < _MAP:
            try:
                self._reserve(self._reserved + _STEP)
            except OSError:  # the file system is full: new keys share from now on
                return

    def _reserve(self, size: int) -> None:
        # Linux and FreeBSD have it. Elsewhere the directory is on a disk, which is not full so easily.
        reserve = getattr(os, "posix_fallocate", None)
        if reserve is not None:
            reserve(self._file, 0, size)
        self._reserved = size

    # Age

    def _sweep(self, now: int) -> None:
        """Let some keys leave that are worth nothing at a microsecond."""
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
        if len(value) > _HANDLE.size:
            return bool(_FIRST.unpack_from(value)[0] < now)
        handle = _HANDLE.unpack(value)[0]
        at = self.records.place(handle)
        if at and self.records.words[at + FULL] >= now:
            return False
        self.records.free(handle)
        return True


def _opened(path: Path) -> lmdb.Environment:
    return lmdb.open(
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


class _FileKeys(Keys[S], Generic[S]):
    """The keys of one limit in the files."""

    __slots__ = ("_common", "_rule", "_segment")

    def __init__(self, segment: Segment, rule: Rule) -> None:
        """Keep them under the rule's identity."""
        self._segment = segment
        self._rule = rule
        self._common = storage_key(rule.identity, "\n")[: -_PLACE.size]

    def _name(self, key: str) -> bytes:
        """Return the name under which a key is kept."""
        return storage_key(self._rule.identity, key)

    def _shared(self, name: bytes) -> bytes:
        """Return the name of the counter that a key without room shares: any bits of a digest will do."""
        return self._common + _PLACE.pack(_PLACE.unpack_from(name)[0] % _SHARED)


class BucketKeys(_FileKeys[int]):
    """For each key, when its bucket is full."""

    __slots__ = ("_records", "handles")

    def __init__(self, segment: Segment, rule: Rule) -> None:
        """Keep them under the rule's identity."""
        super().__init__(segment, rule)
        self._records = segment.records
        # Those of keys that had a record of their own when this process last looked.
        self.handles: dict[str, int] = {}

    def find(self, key: str) -> int | None:
        """Return what is kept."""
        at = self.place(key)
        if not at:
            return None
        words = self._records.words
        return words[at + FULL] * self._rule.scale + words[at + TICKS]

    def put(
        self, key: str, state: int, now: int  # noqa: ARG002 — the files are swept by transactions
    ) -> None:
        """Keep a state. A new key that has no room shares. Raises Unusable."""
        at = self.place(key) or self._new_place(key)
        words = self._records.words
        full, ticks = divmod(state, self._rule.scale)
        # In this order: see rule 2 of `records`.
        words[at + TICKS] = ticks
        words[at + FULL] = full

    def place(self, key: str) -> int:
        """Return the place of the record that counts for a key, which may be one that it shares; 0: there is none."""
        place = self._records.place
        handle = self.handles.get(key)
        if handle is not None and (at := place(handle)):
            return at
        name = self._name(key)
        handle = self._handle(name)
        if at := place(handle):
            self._remember(key, handle)
            return at
        return place(self._handle(self._shared(name)))

    def _handle(self, name: bytes) -> int:
        value = self._segment.open.get(name)
        return 0 if value is None else int(_HANDLE.unpack(value)[0])

    def _new_place(self, key: str) -> int:
        segment, name = self._segment, self._name(key)
        handle = self._records.new() if segment.come() else 0
        if handle:
            self._remember(key, handle)
        else:
            name = self._shared(name)
            handle = self._records.new(shared=True)
            if not handle:
                msg = "there is no room, not even for a counter that keys share"
                raise Unusable(msg)
        segment.put(name, _HANDLE.pack(handle), made=handle)
        return self._records.place(handle)

    def _remember(self, key: str, handle: int) -> None:
        if len(self.handles) >= _HANDLES:
            self.handles.clear()
        self.handles[key] = handle


class LogKeys(_FileKeys[Log]):
    """For each key, its log."""

    __slots__ = ()

    def find(self, key: str) -> Log | None:
        """Return what is kept."""
        get, name = self._segment.open.get, self._name(key)
        value = get(name) or get(self._shared(name))
        return None if value is None else tuple(_PAIR.iter_unpack(value[_FIRST.size :]))

    def put(
        self, key: str, state: Log, now: int  # noqa: ARG002 — the files are swept by transactions
    ) -> None:
        """Keep a state. A new key that has no room shares."""
        segment, name = self._segment, self._name(key)
        if segment.open.get(name) is None and not segment.come():
            name = self._shared(name)
        dead = end_of(self._rule, state[-1][0]) if state else 0
        pairs = b"".join([_PAIR.pack(*pair) for pair in state])
        segment.put(name, _FIRST.pack(dead) + (pairs or _NOTHING))
