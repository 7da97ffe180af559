"""Keep sums in files that all workers of a gateway map into memory, so that each can tell the sums of all.

Strategy. Each worker adds to rows in files of its own, and reads those of the others: no lock, no message, no call of the
system while it counts.

Facts.

- A file is some worker's while that worker holds its lock; the kernel gives the lock back when the process ends, even by
  SIGKILL.
- What was added stays in the file when the process dies: it is the kernel's memory, not the process's.
- A number of eight bytes at a multiple of eight is never read half written (x86-64 and ARM64).

Rules.

1. A worker that begins takes over the files of a dead one and goes on adding to its rows. So a sum never falls while the
   gateway runs, and the number of files does not grow with the workers that die.
2. A row is written before the length that makes it visible.
3. Where there is no room for a file, the worker counts for itself. Counting never fails.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import re
import struct
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from propylon.stores.sums import LocalSums

if TYPE_CHECKING:  # not subscriptable before Python 3.14
    Row = memoryview[float] | list[float]

__all__ = ["SharedSums"]

log = logging.getLogger(__name__)

Labels = tuple[str, ...]

_NAME = re.compile(r"sums-[0-9a-f]{32}")
# Bytes. A row of the requests takes about 200: a thousand rows a file.
_SIZE = 2**18
_USED = struct.Struct("=Q")  # at the beginning: how many bytes are used
_HEAD = struct.Struct("=II")  # of a row: the bytes of its labels, and how many numbers follow
_ALIGNED = 8


class SharedSums:
    """The sums of all workers that use a directory; this one adds to its own."""

    def __init__(self, folder: Path, size: int = _SIZE) -> None:
        """Take over what dead workers left in the directory. Raises OSError if it cannot be used."""
        self._folder = folder
        self._size = size
        self._rows: dict[Labels, Row] = {}
        self._files: list[_File] = []
        # What this worker counts where there is no room for a file.
        self._rest = LocalSums()
        self._is_full = False
        for path in _paths(folder):
            taken = _File.taken_over(path)
            if taken is not None:
                self._files.append(taken)
                self._rows.update(taken.rows())

    def row(self, labels: Labels, width: int) -> Row:
        """Return this worker's row of these labels, the same one each time; it starts with zeros."""
        row = self._rows.get(labels)
        if row is None:
            row = self._rows[labels] = self._new_row(labels, width)
        return row

    def rows(self) -> Iterable[tuple[Labels, list[float]]]:
        """Return all rows of all workers, those of the same labels added up."""
        total: dict[Labels, list[float]] = {}
        for labels, numbers in self.each():
            known = total.get(labels)
            if known is None or len(known) != len(numbers):
                total[labels] = numbers
            else:
                total[labels] = [one + other for one, other in zip(known, numbers, strict=True)]
        return total.items()

    def own(self) -> Iterable[tuple[Labels, Row]]:
        """Return the rows of this worker, those that it took over from a dead one included."""
        return list(self._rows.items())

    def close(self) -> None:
        """Leave the files to others: what this worker counted goes on counting."""
        for file in self._files:
            file.close()
        self._files.clear()

    def each(self) -> Iterator[tuple[Labels, list[float]]]:
        """Return the rows of all workers one after the other: not added up, so whoever reads may pause between two."""
        mine = {file.path for file in self._files}
        for file in [*self._files]:
            for labels, row in file.rows():
                yield labels, [*row]
        for path in _paths(self._folder):
            if path not in mine:
                yield from _read(path)
        for labels, rest in self._rest.rows():
            yield labels, [*rest]

    def _new_row(self, labels: Labels, width: int) -> Row:
        written = orjson.dumps(labels)
        try:
            file = self._with_room(_size_of(written, width))
        except OSError as error:
            if not self._is_full:
                self._is_full = True
                log.warning("no room for sums of all workers, so each counts for itself: %s", error)
            return self._rest.row(labels, width)
        return file.add(written, width)

    def _with_room(self, needed: int) -> _File:
        if self._files and self._files[-1].room >= needed:
            return self._files[-1]
        if needed > self._size - _USED.size:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        file = _File.created(self._folder / f"sums-{uuid.uuid4().hex}", self._size)
        self._files.append(file)
        return file


class _File:
    """A file that this worker holds and adds rows to."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Map the file behind a descriptor, whose lock this process holds."""
        self.path = path
        self._descriptor = descriptor
        size = os.fstat(descriptor).st_size
        self._memory = memoryview(mmap.mmap(descriptor, size))
        self._used: int = max(_USED.size, _USED.unpack_from(self._memory)[0])

    @classmethod
    def created(cls, path: Path, size: int) -> _File:
        """Make a file of zeros. Raises OSError if there is no room for it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Reserved now: a page that cannot be had later would end the process with SIGBUS.
            os.posix_fallocate(descriptor, 0, size)
            return cls(path, descriptor)
        except OSError:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise

    @classmethod
    def taken_over(cls, path: Path) -> _File | None:
        """Take over the file of a worker that has ended; None if it has not, or has left nothing to go on with."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_size > _USED.size:
                return cls(path, descriptor)
        except BlockingIOError:
            pass  # its worker lives
        os.close(descriptor)
        return None

    @property
    def room(self) -> int:
        """How many bytes are not used."""
        return self._memory.nbytes - self._used

    def add(self, labels: bytes, width: int) -> memoryview[float]:
        """Add a row of zeros, and return it. There must be room for it."""
        begin = self._used
        _HEAD.pack_into(self._memory, begin, len(labels), width)
        self._memory[begin + _HEAD.size : begin + _HEAD.size + len(labels)] = labels
        self._used += _size_of(labels, width)
        _USED.pack_into(self._memory, 0, self._used)
        return self._numbers(self._used - width * _ALIGNED, width)

    def rows(self) -> Iterator[tuple[Labels, memoryview[float]]]:
        """Return the rows in it, to add to."""
        for labels, begin, width in _walk(self._memory, self._used):
            yield labels, self._numbers(begin, width)

    def close(self) -> None:
        """Give up the lock. The memory goes when no row of it is used any more."""
        # Unlocked by name: the map has a copy of the descriptor, and lives as long as a row of it is used.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)

    def _numbers(self, begin: int, width: int) -> memoryview[float]:
        return self._memory[begin : begin + width * _ALIGNED].cast("d")


def _paths(folder: Path) -> list[Path]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 — names are what the pattern is for
    except FileNotFoundError:  # removed under us: what this worker counted, it still knows
        return []
    return [folder / name for name in sorted(names) if _NAME.fullmatch(name)]


def _read(path: Path) -> Iterator[tuple[Labels, list[float]]]:
    """Read the rows of a file, while other workers may add to it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        head = os.pread(descriptor, _USED.size, 0)
        if len(head) < _USED.size:
            return  # it is being made
        found = os.pread(descriptor, _USED.unpack(head)[0], 0)
    finally:
        os.close(descriptor)
    memory = memoryview(found)
    for labels, begin, width in _walk(memory, len(found)):
        numbers: memoryview[float] = memory[begin : begin + width * _ALIGNED].cast("d")
        yield labels, [*numbers]


def _walk(memory: memoryview, used: int) -> Iterator[tuple[Labels, int, int]]:
    """Yield labels, the place of the numbers, and how many there are, for each row."""
    at = _USED.size
    while at + _HEAD.size <= used:
        length, width = _HEAD.unpack_from(memory, at)
        labels = tuple(orjson.loads(memory[at + _HEAD.size : at + _HEAD.size + length]))
        at += _size_of_length(length, width)
        yield labels, at - width * _ALIGNED, width


def _size_of(labels: bytes, width: int) -> int:
    return _size_of_length(len(labels), width)


def _size_of_length(length: int, width: int) -> int:
    """Return the bytes of a row; its numbers begin at a multiple of eight."""
    return _HEAD.size + -(-length // _ALIGNED) * _ALIGNED + width * _ALIGNED
