"""Notice when a file changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

__all__ = ["follow"]

# What an editor writes in several steps is whole by the second look.
_EVERY = 0.5

_Look = tuple[int, int, int] | None


async def follow(path: Path, changed: Callable[[], None], *, every: float = _EVERY) -> None:
    """Call `changed` whenever the file is another one than before, and has been so for a moment.

    Looking is cheaper than it sounds, and works where notifications do not: on network file systems,
    and where a mounted directory is swapped by a symbolic link, as Kubernetes does.
    """
    told = seen = _look(path)
    while True:
        await asyncio.sleep(every)
        now = _look(path)
        if now == seen and now != told and now is not None:
            told = now
            changed()
        seen = now


def _look(path: Path) -> _Look:
    try:
        found = path.stat()
    except OSError:
        return None  # between two names, or gone: the last one stays in force
    return (found.st_ino, found.st_mtime_ns, found.st_size)
