"""Keep pieces of bytes under names, for the workers of one gateway: files in their directory, or the memory of a single one.

A piece is written whole beside the old one and takes its name, so a reader finds the one or the other. What a worker
wrote stays when it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

__all__ = ["FolderShelf", "MemoryShelf"]

_LOCK = ".keeper"
_PRIVATE = 0o600


class MemoryShelf:
    """The shelf of a worker that has no others."""

    def __init__(self) -> None:
        """Start empty."""
        self._pieces: dict[str, bytes] = {}

    def keeps(self) -> bool:
        """Tell whether this worker is the one that keeps what belongs to all: it is the only one."""
        return True

    def put(self, name: str, data: bytes) -> None:
        """Keep it, in the place of what had the name."""
        self._pieces[name] = data

    def get(self, name: str) -> bytes | None:
        """Return it; None if there is none."""
        return self._pieces.get(name)

    def sizes(self) -> dict[str, int]:
        """Return the names of all pieces, with their bytes."""
        # In one step: a thread may read while the loop writes.
        return {name: len(data) for name, data in self._pieces.copy().items()}

    def drop(self, name: str) -> None:
        """Keep it no longer."""
        self._pieces.pop(name, None)

    def close(self) -> None:
        """Nothing is open."""


class FolderShelf:
    """The shelf of workers that share a directory. They have one keeper: the kernel gives its lock to the next."""

    def __init__(self, folder: Path) -> None:
        """Make the directory if it is not there. Raises OSError."""
        folder.mkdir(0o700, exist_ok=True)
        self._folder = folder
        self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)

    def keeps(self) -> bool:
        """Tell whether this worker is the one that keeps what belongs to all; become it if there is none."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def put(self, name: str, data: bytes) -> None:
        """Keep it, in the place of what had the name. Raises OSError where there is no room."""
        # By this process alone: two workers may put a piece of one name at once.
        new = self._folder / f".{name}-{os.getpid()}"
        try:
            new.write_bytes(data)
            new.replace(self._folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise

    def get(self, name: str) -> bytes | None:
        """Return it; None if there is none."""
        try:
            return (self._folder / name).read_bytes()
        except OSError:  # dropped meanwhile, or the directory was removed under us
            return None

    def sizes(self) -> dict[str, int]:
        """Return the names of all pieces, with their bytes."""
        found: dict[str, int] = {}
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if not entry.name.startswith("."):
                        found[entry.name] = entry.stat().st_size
        return found

    def drop(self, name: str) -> None:
        """Keep it no longer."""
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()

    def close(self) -> None:
        """Let another worker be the keeper."""
        os.close(self._lock)
