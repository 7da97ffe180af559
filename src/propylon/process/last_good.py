"""Keep the configuration that is in force where a worker that replaces a dead one finds it.

The file may be broken by then. What the gateway began with may be older than what is in force: a route that was
closed since, or a secret that has leaked, must not come back because a worker died.
"""

from __future__ import annotations

import os
import pickle
from hashlib import blake2b

from propylon.config.reading.load import Loaded

__all__ = ["LastGood"]

_DIGEST = 16


class LastGood:
    """A piece of memory that a process shares with those that it forks; it is in no file system."""

    def __init__(self, first: Loaded) -> None:
        """Begin with what the gateway begins with."""
        self._first = first
        # Linux and FreeBSD have it; elsewhere a replacement goes on as the gateway began.
        make = getattr(os, "memfd_create", None)
        self._memory: int | None = None if make is None else make("propylon")

    def save(self, loaded: Loaded) -> None:
        """Note what has been put in force. All workers write the same, and none waits for another."""
        if self._memory is None:
            return
        data = pickle.dumps(loaded)
        os.ftruncate(self._memory, 0)
        os.pwrite(self._memory, blake2b(data, digest_size=_DIGEST).digest() + data, 0)

    def load(self) -> Loaded:
        """Return what was noted last, by any of the processes."""
        if self._memory is None:
            return self._first
        found = os.pread(self._memory, os.fstat(self._memory).st_size, 0)
        data = found[_DIGEST:]
        # Two that wrote at once may have left a mixture.
        if blake2b(data, digest_size=_DIGEST).digest() != found[:_DIGEST]:
            return self._first
        # Written by ourselves, in memory of our own.
        loaded: Loaded = pickle.loads(data)  # noqa: S301
        return loaded
