"""Notice when the configuration file changes, or one that it includes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from propylon.config.reading.include import included_files

__all__ = ["Fingerprint", "fingerprint", "follow"]

# What an editor writes in several steps is whole by the second look.
_EVERY = 0.5

_Stat = tuple[int, int, int]
Fingerprint = tuple[object, ...] | None
"""What tells a file, with those that it includes, from what was there before; None where there is none."""


async def follow(
    look: Callable[[], Fingerprint],
    on_change: Callable[[], None],
    first: Fingerprint,
    *,
    every: float = _EVERY,
) -> None:
    """Call `on_change` whenever `look` sees something else than before, and has seen it for a moment.

    `first` was seen before the files were read: what changes meanwhile is a change, too.

    Looking is cheaper than it sounds, and works where notifications do not: on network file systems,
    and where a mounted directory is swapped by a symbolic link, as Kubernetes does.
    """
    told = seen = first
    while True:
        await asyncio.sleep(every)
        now = look()
        if now == seen and now != told and now is not None:
            told = now
            on_change()
        seen = now


def fingerprint(path: Path, patterns: Sequence[str] = ()) -> Fingerprint:
    """Fingerprint at a file, and at those that `patterns` of it match now, without reading them.

    A file that is included and gone is a change: its routes go. The file itself that is gone is none: the last one stays in force.
    """
    own = _stat(path)
    if own is None:
        return None
    return (own, *((str(file), _stat(file)) for file in included_files(path, patterns)))


def _stat(path: Path) -> _Stat | None:
    try:
        found = path.stat()
    except OSError:
        return None  # between two names, or gone
    return (found.st_ino, found.st_mtime_ns, found.st_size)
