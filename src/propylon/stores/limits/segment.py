"""Keep the keys of limits in a file of memory that the workers of one machine share (LMDB).

Facts.

- LMDB lets one writer in at a time, in whichever process it is. Its lock is a robust mutex: if the process that holds it
  is killed, the kernel gives it to the next one, and what the dead one had not committed is as if it never was.
- The file is written through a memory map. Writing into a page for which a full file system has no room kills the
  process (SIGBUS). So the room is reserved before (`posix_fallocate`), a step ahead of what is used.
- LMDB copies a page before it changes it, and uses the old one again two transactions later.

Rules.

1. A process opens the file after it was forked, and once: two of LMDB's environments for one file in one process would
   take each other's locks away.
2. A value begins with the microsecond from which on it is worth nothing. Each process sweeps: a few keys for each new
   one, and some at intervals.
3. When the file has no room, a new key shares one of 1024 counters, as in memory. A key that is in use never leaves.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Generic, Protocol, Self, TypeVar, cast

import lmdb

from propylon.proxy.limit.arithmetic import Log, end_of
from propylon.proxy.limit.rule import Rule, storage_key
from propylon.stores.limits.tables import Keys

__all__ = ["BUCKET", "BucketKeys", "LogKeys", "Segment", "Unusable"]

S = TypeVar("S")

# Bytes. Some 600,000 keys of buckets, or 50,000 full logs; reserved in steps, so a small gateway takes 8 MB.
_SIZE = 64 * 2**20
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
BUCKET = struct.Struct(
    "<QQ"
)  # the microsecond at which the bucket is full, and ticks of the next one
_PAIR = struct.Struct("<QQ")
_PLACE = struct.Struct("<H")  # of a shared counter

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
    """The file, open in this process. Everything is done in a transaction: `begin`."""

    _open: ClassVar[dict[str, Segment]] = {}

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises Unusable, OSError."""
        self._environment = lmdb.open(
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
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._name = str(path)
        self._users = 0  # gateways in this process
        self._reserved = 0
        self._hand = b""
        self._sweep_at = 0
        self._coming = 0  # new keys since the last sweep
        self._has_room = True
        self.transaction: _Transaction | None = None
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
        os.close(self._file)

    def enter(self) -> _Transaction:
        """Hold the file alone until `commit` or `abort`. Raises Unusable."""
        # No context manager: a generator for each would cost more than LMDB's part of the transaction.
        self.transaction = transaction = cast("_Transaction", self._environment.begin(write=True))
        return transaction

    def commit(self) -> None:
        """Do all that was asked since `enter`. Raises Unusable: then nothing is done."""
        transaction, self.transaction = self.open, None
        transaction.commit()

    def abort(self) -> None:
        """Do nothing of it; no error if there is no transaction."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            transaction.abort()

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Hold the file alone: what is done is done whole, or not at all. Raises Unusable."""
        self.enter()
        try:
            yield
            self.commit()
        finally:
            self.abort()

    @property
    def open(self) -> _Transaction:
        """The transaction that has begun."""
        if self.transaction is None:
            msg = "keys are looked at in a transaction only"
            raise RuntimeError(msg)
        return self.transaction

    # Room

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

    def is_due(self, now: int) -> bool:
        """Tell whether `sweep` has something to do: enough new keys have come, or it is time to."""
        return self._coming >= _NEW_AT_ONCE or now >= self._sweep_at

    def sweep(self, now: int) -> bool:
        """Let some keys leave that are worth nothing at a microsecond; tell that `reserve_ahead` is due."""
        keys, self._coming = self._coming * _SWEEP_NEW, 0
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_EVERY
            keys += _SWEEP_KEYS
        with self.open.cursor() as cursor:
            if not cursor.set_range(self._hand):
                cursor.first()
            for _ in range(keys):
                value = cursor.value()
                if not value:
                    break  # behind the last key
                if _FIRST.unpack_from(value)[0] < now:
                    cursor.delete()  # and the cursor is at the next key
                else:
                    cursor.next()
            self._hand = cursor.key()
        return True


class _FileKeys(Keys[S], Generic[S]):
    """The keys of one limit in the file."""

    __slots__ = ("_common", "_identity", "_rule", "_segment")

    def __init__(self, segment: Segment, rule: Rule) -> None:
        """Keep them under the rule's identity."""
        self._segment = segment
        self._rule = rule
        self._identity = rule.identity
        self._common = storage_key(rule.identity, "\n")[: -_PLACE.size]

    def name(self, key: str) -> bytes:
        """Return the name under which a key is kept."""
        return storage_key(self._identity, key)

    def find(self, key: str) -> S | None:
        """Return what is kept."""
        return self.find_named(self.name(key))

    def find_named(self, name: bytes) -> S | None:
        """Return what is kept under a name."""
        get = self._segment.open.get
        value = get(name) or get(self._shared(name))
        return None if value is None else self._decoded(value)

    def put(
        self, key: str, state: S, now: int  # noqa: ARG002 — the file is swept by transactions
    ) -> None:
        """Keep a state. A new key that has no room shares."""
        self.put_named(self.name(key), state)

    def put_named(self, name: bytes, state: S) -> None:
        """Keep a state under a name."""
        segment = self._segment
        if segment.open.get(name) is None and not segment.come():
            name = self._shared(name)
        segment.open.put(name, self._encoded(state))

    def _shared(self, name: bytes) -> bytes:
        """Return the name of the counter that a key without room shares: any bits of a digest will do."""
        return self._common + _PLACE.pack(_PLACE.unpack_from(name)[0] % _SHARED)

    def _decoded(self, value: bytes) -> S:
        raise NotImplementedError

    def _encoded(self, state: S) -> bytes:
        raise NotImplementedError


class BucketKeys(_FileKeys[int]):
    """For each key, when its bucket is full."""

    __slots__ = ()

    def _decoded(self, value: bytes) -> int:
        moment, ticks = BUCKET.unpack(value)
        return int(moment * self._rule.scale + ticks)

    def _encoded(self, state: int) -> bytes:
        return BUCKET.pack(*divmod(state, self._rule.scale))


class LogKeys(_FileKeys[Log]):
    """For each key, its log."""

    __slots__ = ()

    def _decoded(self, value: bytes) -> Log:
        return tuple(_PAIR.iter_unpack(value[_FIRST.size :]))

    def _encoded(self, state: Log) -> bytes:
        dead = end_of(self._rule, state[-1][0]) if state else 0
        return _FIRST.pack(dead) + b"".join([_PAIR.pack(*pair) for pair in state])
