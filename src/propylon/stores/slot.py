"""Keep a value where a process that takes a dead one's place finds it: in memory, in no file system.

The value may hold secrets. It is in memory that a process shares with those that it forks, and is gone with the last
of them.

Rule: a value that was saved is found until the next one is saved whole. So there are two halves, each with a number and
a digest: a process writes into the older one. One that is killed in the middle leaves the newer one as it was.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

__all__ = ["Slot"]

_DIGEST = 16
_NUMBER = struct.Struct("!Q")
_Half = tuple[int, bytes | None]  # its number, and what it holds; -1 and None if that is not whole
# All workers save the same after a reload, each within a millisecond or so.
_TRIES = 100
_PAUSE = 0.001


class Slot:
    """A place for one value; to be made before the processes are forked that share it."""

    def __init__(self) -> None:
        # Linux and FreeBSD have it. Elsewhere nothing is ever found.
        make = getattr(os, "memfd_create", None)
        self._halves: tuple[int, ...] = () if make is None else (make("propylon"), make("propylon"))

    def save(self, value: bytes) -> None:
        """Keep a value in the place of the one before."""
        if not self._halves:
            return
        with _alone(self._halves[0]) as alone:
            if alone:  # else one who was stopped in the middle would keep all others from serving
                numbers = [_read(half)[0] for half in self._halves]
                older = numbers.index(min(numbers))
                _write(self._halves[older], max(numbers) + 1, value)

    def load(self) -> bytes | None:
        """Return the value that was saved last, by any of the processes; None if there is none."""
        return max(map(_read, self._halves), key=_number, default=(-1, None))[1]

    def close(self) -> None:
        """Let go of the memory: it is gone with the last process that does."""
        halves, self._halves = self._halves, ()
        for half in halves:
            os.close(half)


def _number(half: _Half) -> int:
    return half[0]


def _read(half: int) -> _Half:
    found = os.pread(half, os.fstat(half).st_size, 0)
    digest, told = found[:_DIGEST], found[_DIGEST:]
    if len(told) < _NUMBER.size or _digest(told) != digest:
        return -1, None
    return _NUMBER.unpack_from(told)[0], told[_NUMBER.size :]


def _write(half: int, number: int, value: bytes) -> None:
    told = _NUMBER.pack(number) + value
    os.ftruncate(half, 0)
    os.pwrite(half, _digest(told) + told, 0)


def _digest(told: bytes) -> bytes:
    return blake2b(told, digest_size=_DIGEST).digest()


@contextmanager
def _alone(half: int) -> Iterator[bool]:
    """Keep the other processes from saving meanwhile; say whether that was possible.

    A lock of the POSIX kind, because it belongs to the process: forked processes share the others.
    """
    locked = any(_try_lock(half) for _ in range(_TRIES))
    try:
        yield locked
    finally:
        if locked:
            fcntl.lockf(half, fcntl.LOCK_UN)


def _try_lock(half: int) -> bool:
    try:
        fcntl.lockf(half, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX lets the system choose
        time.sleep(_PAUSE)
        return False
    return True
