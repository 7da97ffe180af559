"""Let one worker of the machine ask the upstream for a key: locks of a file, which the kernel gives back when a worker dies.

Facts.

- A lock is on one byte of a file, and the file may be empty. A digest of the key chooses the byte.
- Linux has locks of an open file (OFD), elsewhere they are the process's. Both go with the process, even by SIGKILL.
- Nobody is woken when a lock is given back. Who waits asks again, every few milliseconds.

Beside the locks is a table of the keys whose answer was for one client only: nobody waits for those.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

from propylon.proxy.cache.behind import Lease

__all__ = ["Leases"]

_FLOCK = struct.Struct("hhqqi4x")  # as <fcntl.h> has it: type, whence, start, length, process
_OFFSET = 7  # bytes of the digest: an offset is less than 2^63
_SLOTS = 1 << 16
_SLOT = struct.Struct("<I")  # seconds of the clock
_LONE = 10.0  # seconds
_CLOSED = -1


class Leases:
    """The leases of a machine, as one worker has them open. `clock` is monotonic, and the same in all workers."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Open the file, or make it; after the fork, because forked processes would have their locks in common. Raises OSError."""
        self._clock = clock
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(self._file, _SLOTS * _SLOT.size)
            self._lone = mmap.mmap(self._file, _SLOTS * _SLOT.size)
        except OSError:
            os.close(self._file)
            raise

    def take(self, name: bytes) -> Lease | None:
        """Return a lease, or None if another worker has it."""
        offset = int.from_bytes(name[:_OFFSET], "big")
        if not self._locked(fcntl.F_WRLCK, offset):
            return None
        return _Lock(self._release, offset)

    def _release(self, offset: int) -> None:
        self._locked(fcntl.F_UNLCK, offset)

    def _locked(self, kind: int, offset: int) -> bool:
        if self._file == _CLOSED:
            return False
        try:
            if hasattr(fcntl, "F_OFD_SETLK"):
                fcntl.fcntl(
                    self._file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0)
                )
            else:
                how = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
                fcntl.lockf(self._file, how, 1, offset)
        except OSError:
            return False  # another worker has it; or the kernel has no more locks: then nobody need wait
        return True

    def lone(self, name: bytes) -> bool:
        """Tell whether the last answer was for one client only, a short while ago."""
        if self._file == _CLOSED:
            return False
        (until,) = _SLOT.unpack_from(self._lone, self._slot(name))
        return bool(self._clock() < until <= self._clock() + _LONE + 1)

    def note_lone(self, name: bytes) -> None:
        """Note that the last answer was for one client only."""
        if self._file != _CLOSED:
            until = int(self._clock() + _LONE) & 0xFFFFFFFF
            _SLOT.pack_into(self._lone, self._slot(name), until)

    @staticmethod
    def _slot(name: bytes) -> int:
        return int.from_bytes(name[-2:], "big") % _SLOTS * _SLOT.size

    def close(self) -> None:
        """Give back all leases."""
        if self._file != _CLOSED:
            self._lone.close()
            os.close(self._file)
            self._file = _CLOSED


class _Lock(Lease):
    """The lock of one byte."""

    __slots__ = ("_offset", "_release")

    def __init__(self, release: Callable[[int], None], offset: int) -> None:
        self._release: Callable[[int], None] | None = release
        self._offset = offset

    def release(self) -> None:
        """Give the lock back."""
        release, self._release = self._release, None
        if release is not None:
            release(self._offset)
