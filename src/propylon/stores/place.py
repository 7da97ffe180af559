"""Keep a directory that the processes of one gateway share; remove it when the last of them has gone.

Facts.

- A directory is in use while a process holds its lock. The kernel gives the lock back when the process ends, even by
  SIGKILL. So no number of a process decides: it may be in use again by a process that has nothing to do with it, and
  another container counts its processes from 1, too.
- Forked processes have the lock of the process that forked them.

Rules.

1. We make, lock and remove only directories of our own names, below a base (`/dev/shm`, or what the operator named).
   A base is never removed.
2. A name holds a process or a port, and the moment or a digest: an operator sees whose it is, and no two are alike.
3. The last process that leaves a directory removes it. What a process left that was killed is removed by
   the next one that comes to the same base.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

__all__ = [
    "Place",
    "UnsafeDirectory",
    "check_base",
    "enter",
    "lack_of_room",
    "private_bases",
    "unique_name",
]

# A process or a port; the moment (nanoseconds) or a digest.
_OURS = re.compile(r"propylon-[0-9]{1,10}-[0-9a-f]{16}")
_PRIVATE = 0o700
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Another process may remove the directory between our making and our locking it: it needs milliseconds.
_TRIES = 50
_PAUSE = 0.005
# Bytes: a quarter of what Docker gives /dev/shm unless it is told otherwise (64 MB).
_ROOM = 16 * 2**20


class UnsafeDirectory(OSError):
    """Others could write into the directory; the message says what to write instead."""


class Place:
    """A directory that this process uses, with others or alone."""

    def __init__(self, path: Path, lock: int) -> None:
        """Take the path, and the descriptor that holds the lock."""
        self.path = path
        self._lock = lock

    def at(self, name: str) -> Path:
        """Return a path of a file in it that is short enough for a socket: the kernel takes 107 bytes."""
        short = Path(f"/proc/self/fd/{self._lock}")
        return short / name if short.is_dir() else self.path / name

    def leave(self) -> None:
        """Use it no longer; remove it if no other process uses it."""
        with suppress(OSError):
            _remove_unused(self.path, self._lock)
        os.close(self._lock)


def unique_name() -> str:
    """Return a name that no other file of ours has: this process and this moment."""
    return f"{os.getpid()}-{time.time_ns():016x}"


def private_bases(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield where a directory that the operator did not name is tried, the best first: in memory."""
    yield Path("/dev/shm")  # noqa: S108 — what we make in it is ours alone: see `enter`
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"])
    with suppress(OSError):  # no directory for temporary files at all
        yield Path(tempfile.gettempdir())


def check_base(base: Path) -> None:
    """Accept a directory that the operator named; one that is not there will be made.

    Raises UnsafeDirectory where another user could replace what is in it.
    """
    try:
        found = base.stat()
    except OSError:
        return  # `enter` makes it, or says why it cannot
    own = f'write "{base / "propylon"}", which the gateway makes for itself'
    if not stat.S_ISDIR(found.st_mode):
        msg = f'"{base}" is no directory; write one, such as /run/propylon'
        raise UnsafeDirectory(msg)
    if found.st_uid != os.geteuid():
        msg = f'"{base}" belongs to another user (uid {found.st_uid}); {own}'
        raise UnsafeDirectory(msg)
    if found.st_mode & _OTHERS_WRITE:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        msg = f'others may write into "{base}" (mode {mode}); chmod go-w it, or {own}'
        raise UnsafeDirectory(msg)


def enter(base: Path, name: str) -> Place:
    """Use the directory of that name below a base; make it where there is none. Raises OSError."""
    base.mkdir(_PRIVATE, parents=True, exist_ok=True)
    _sweep(base)
    path = base / f"propylon-{name}"
    for _ in range(_TRIES):
        lock = _opened(path)
        if lock is not None:
            return Place(path, lock)
        time.sleep(_PAUSE)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))


def lack_of_room(place: Place) -> str | None:
    """Say that there is little room, if so, what it means, and what to do about it."""
    found = os.statvfs(place.path)
    free = found.f_bavail * found.f_frsize
    if free >= _ROOM:
        return None
    return (
        f"{place.path.parent} has {free // 2**20} MB free: what the workers share may not fit into it, and then each"
        " counts for itself; give it more room (docker run --shm-size), or name another directory in server.state_dir"
    )


def _opened(path: Path) -> int | None:
    """Make, open and lock a directory; None if another process removes it meanwhile. Raises OSError."""
    with suppress(FileExistsError):
        path.mkdir(_PRIVATE)
    try:
        lock = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        if _locked(path, lock):
            return lock
    except OSError:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _locked(path: Path, lock: int) -> bool:
    if os.fstat(lock).st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _is_at(path, lock)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sweep(base: Path) -> None:
    """Remove what processes left that were killed."""
    for name in os.listdir(base):  # noqa: PTH208 — names are what the pattern is for
        if _OURS.fullmatch(name) is None:
            continue
        with suppress(OSError):  # gone by now, or not ours
            lock = os.open(base / name, _DIRECTORY)
            try:
                _remove_unused(base / name, lock)
            finally:
                os.close(lock)


def _remove_unused(path: Path, lock: int) -> None:
    """Remove a directory unless another process uses it. Raises OSError if one does."""
    if os.fstat(lock).st_uid == os.geteuid():
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, lock):
            shutil.rmtree(path, ignore_errors=True)
