"""Notice when a file changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

__all__ = ["Fingerprint", "fingerprint", "follow"]

# What an editor writes in several steps is whole by the second look.
_EVERY = 0.5

Fingerprint = tuple[int, int, int] | None
"""What tells a file from the one that was there before; None where there is none."""


async def follow(
    path: Path, on_change: Callable[[], None], first: Fingerprint, *, every: float = _EVERY
) -> None:
    """Call `on_change` whenever the file is another one than before, and has been so for a moment.

    `first` was seen before the file was read: what changes meanwhile is a change, too.

    Looking is cheaper than it sounds, and works where notifications do not: on network file systems,
    and where a mounted directory is swapped by a symbolic link, as Kubernetes does.
    """
    told = seen = first
    while True:
        await asyncio.sleep(every)
        now = fingerprint(path)
        if now == seen and now != told and now is not None:
            told = now
            on_change()
        seen = now


def fingerprint(path: Path) -> Fingerprint:
    """Fingerprint at a file without reading it."""
    try:
        found = path.stat()
    except OSError:
        return None  # between two names, or gone: the last one stays in force
    return (found.st_ino, found.st_mtime_ns, found.st_size)
