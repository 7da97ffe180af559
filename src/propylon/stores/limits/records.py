"""Keep when buckets are full, in records of a file that workers map into memory.

Facts.

- A word (eight bytes at a multiple of eight) is written by one instruction, and a process is killed between two of them: no
  word is ever half written. `memoryview` writes so; `struct` with a byte order does not.
- Nothing is copied, so a decision of another core costs the transfer of one or two cache lines, and not of whole pages.
- Writing where a full file system has no room kills the process (SIGBUS). So room is reserved before (`posix_fallocate`).

Rules.

1. Records are read and written only by the process that holds the file's lock (`segment`).
2. A record has four words: its handle, the microsecond at which the bucket is full, the ticks of the next one; the last is not
   used, so that no record lies in two cache lines. The ticks are written first. A process that is killed between the two
   leaves a bucket that is less than a microsecond off.
3. A handle is the record's place and a count that never comes again. So whoever remembers the handle of a key finds the
   record of that key, or none: never the record that another key has got since.
4. Free records are a list: the second word of each is the place of the next one. The first place is written last, so a
   process that is killed meanwhile loses one record at most.
"""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not subscriptable before Python 3.14
    Words = memoryview[int]

__all__ = ["FULL", "PLACE", "TICKS", "Records", "reserve_room"]

FULL, TICKS = 1, 2
"""Words of a record, after its handle."""
_PLACE_BITS = 22
PLACE = 2**_PLACE_BITS - 1
"""The bits of a handle that are the record's place: its first word."""

_WORDS = 4
_RECORD = 8 * _WORDS  # bytes
# 23 MB: as many as the index (`segment`) has room for. Together they are less than the 64 MB that Docker gives /dev/shm.
_MOST = 23 * 2**20 // _RECORD
# Records that keys which share may have besides: 1 MB, for 32 limits that have no room at the same time.
_SPARE = 2**20 // _RECORD
_SIZE = (_MOST + _SPARE) * _RECORD
_STEP = 2**16  # bytes that are reserved at once: 10 µs, in which the other workers wait
# Words of the first record, which belongs to no key: places, and the last count.
_FREE, _USED, _COUNT = range(3)
# The count begins anywhere: if the file is replaced, no handle of the old one is right in the new one.
_COUNT_BITS = 41


class Records:
    """The records, open in this process."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._reserved = 0
        try:
            self._reserve(_SPARE * _RECORD)
            if os.fstat(self._file).st_size < _SIZE:
                os.ftruncate(self._file, _SIZE)
            self._map = mmap.mmap(self._file, _SIZE)
        except OSError:
            os.close(self._file)
            raise
        self.words: Words = memoryview(self._map).cast("Q")

    def close(self) -> None:
        """Let go of the memory and the file."""
        self.words.release()
        self._map.close()
        os.close(self._file)

    def place(self, handle: int) -> int:
        """Return the place of a handle's record; 0: it has gone."""
        at = handle & PLACE
        return at if self.words[at] == handle else 0

    def new(self, *, shared: bool = False) -> int:
        """Return the handle of a new record, whose bucket is full since long ago; 0: there is no room.

        There is more room for records that keys share.
        """
        words = self.words
        at = words[_FREE]
        if at:
            words[_FREE] = words[at + FULL]
        else:
            at = words[_USED] or _WORDS
            if not self._has_room(at // _WORDS + (0 if shared else _SPARE)):
                return 0
            words[_USED] = at + _WORDS
        count = words[_COUNT] = (words[_COUNT] or secrets.randbits(_COUNT_BITS)) + 1
        words[at + TICKS] = words[at + FULL] = 0
        handle = words[at] = count << _PLACE_BITS | at
        return handle

    def free(self, handle: int) -> None:
        """Take the record back: nothing of its bucket is spent any more."""
        at = self.place(handle)
        if at:
            words = self.words
            words[at] = 0
            words[at + FULL] = words[_FREE]
            words[_FREE] = at

    def _has_room(self, number: int) -> bool:
        if number >= _MOST + _SPARE:
            return False
        if (number + 1) * _RECORD > self._reserved:
            try:
                self._reserve(max(_STEP, (number + 1) * _RECORD - self._reserved))
            except OSError:  # the file system is full
                return False
        return True

    def _reserve(self, more: int) -> None:
        """Reserve more bytes; another worker may have done so already. Raises OSError."""
        reserve_room(self._file, self._reserved, more)
        self._reserved += more


def reserve_room(file: int, begin: int, size: int) -> None:
    """Make sure that a part of a file can be written. Raises OSError if the file system has no room for it."""
    # Linux and FreeBSD have it. Elsewhere the directory is on a disk, which is not full so easily.
    reserve = getattr(os, "posix_fallocate", None)
    if reserve is not None:
        reserve(file, begin, size)
