"""Keep idempotency keys in a file of memory that the workers of one machine share (LMDB; see `stores.answers.machine`)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, cast

import lmdb

from propylon.proxy.idempotency.ledger import Ledger, LedgerAway, without_answer
from propylon.stores.answers.transaction import Environment, Transaction, number_of, packed

__all__ = ["MachineLedger", "Unusable"]

log = logging.getLogger(__name__)

Unusable = lmdb.Error

_PAGE = 4096
_BESIDE = 200  # bytes of an entry beside its value
_SWEPT = 16  # keys that are over, with each claim
_MILLISECONDS = 1000
_SIZE = b"size"
_ENDS = struct.Struct(">Q")  # milliseconds of the clock


class MachineLedger(Ledger):
    """The keys of all workers of one machine. `clock` counts seconds, the same ones in all workers."""

    _open: ClassVar[dict[str, MachineLedger]] = {}

    def __init__(self, path: Path, capacity: int, clock: Callable[[], float]) -> None:
        """Open the file, or make it, for so many bytes. Raises Unusable, OSError."""
        self._capacity = capacity
        self._clock = clock
        self._environment = cast(
            "Environment",
            lmdb.open(
                str(path),
                subdir=False,
                map_size=(4 * capacity + 8 * 2**20) // _PAGE * _PAGE,
                max_dbs=3,
                max_readers=1024,
                sync=False,
                metasync=False,
                meminit=False,
                readahead=False,
            ),
        )
        self._environment.reader_check()
        self._values, self._ends, self._numbers = (
            self._environment.open_db(name) for name in (b"values", b"ends", b"numbers")
        )
        self._name = str(path)
        self._users = 0

    @classmethod
    def at(cls, path: Path, capacity: int, clock: Callable[[], float]) -> MachineLedger:
        """Return the file at a path: one process must not open it twice. Raises Unusable, OSError."""
        if (ledger := cls._open.get(str(path))) is None:
            ledger = cls._open[str(path)] = cls(path, capacity, clock)
        ledger._users += 1
        return ledger

    def leave(self) -> None:
        """Use it no longer; the last gateway in this process closes it."""
        self._users -= 1
        if not self._users:
            del self._open[self._name]
            self._environment.close()

    async def claim(self, name: bytes, value: bytes, seconds: float) -> bytes | None:
        """Put a value under a name where there is none: None; else return the one that is there. Raises LedgerAway."""
        try:
            with self._environment.begin(write=True) as txn:
                self._sweep(txn)
                held = txn.get(name, db=self._values)
                if held is not None:
                    return held[_ENDS.size :]
                if self._size(txn) + len(value) + _BESIDE > self._capacity:
                    raise LedgerAway
                self._put(txn, name, value, seconds)
        except Unusable as error:
            log.warning("idempotency keys cannot be kept: %s", error)
            raise LedgerAway from error
        return None

    async def settle(self, name: bytes, claim: bytes, value: bytes, seconds: float) -> None:
        """Put a value in place of a claim."""
        self._replace(name, claim, value, seconds)

    async def release(self, name: bytes, claim: bytes) -> None:
        """Remove a claim, if it is still there."""
        self._replace(name, claim, None, 0.0)

    def _replace(self, name: bytes, claim: bytes, value: bytes | None, seconds: float) -> None:
        try:
            with self._environment.begin(write=True) as txn:
                held = txn.get(name, db=self._values)
                if held is not None and held[_ENDS.size :] != claim:
                    return
                self._remove(txn, name, held)
                if value is not None:
                    # Claims that were let in while there was room may all be settled with long answers.
                    if self._size(txn) + len(value) + _BESIDE > self._capacity:
                        value = without_answer(value)
                    self._put(txn, name, value, seconds)
        except Unusable as error:
            log.warning("idempotency keys cannot be kept: %s", error)

    def _put(self, txn: Transaction, name: bytes, value: bytes, seconds: float) -> None:
        ends = _ENDS.pack(int((self._clock() + seconds) * _MILLISECONDS))
        txn.put(name, ends + value, db=self._values)
        txn.put(ends + name, b"", db=self._ends)
        self._add(txn, len(value) + _BESIDE)

    def _remove(self, txn: Transaction, name: bytes, held: bytes | None) -> None:
        if held is not None:
            txn.delete(name, db=self._values)
            txn.delete(held[: _ENDS.size] + name, db=self._ends)
            self._add(txn, -(len(held) - _ENDS.size + _BESIDE))

    def _sweep(self, txn: Transaction) -> None:
        now = _ENDS.pack(int(self._clock() * _MILLISECONDS))
        for _ in range(_SWEPT):
            with txn.cursor(self._ends) as cursor:
                oldest = cursor.key() if cursor.first() else None
            if oldest is None or oldest[: _ENDS.size] > now:
                return
            name = oldest[_ENDS.size :]
            self._remove(txn, name, txn.get(name, db=self._values))
            txn.delete(oldest, db=self._ends)

    def _size(self, txn: Transaction) -> int:
        return number_of(txn.get(_SIZE, db=self._numbers))

    def _add(self, txn: Transaction, size: int) -> None:
        txn.put(_SIZE, packed(max(0, self._size(txn) + size)), db=self._numbers)
