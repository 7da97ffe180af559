"""Keep the configuration that is in force where a worker that replaces a dead one finds it.

The file may be broken by then. What the gateway began with may be older than what is in force: a route that was
closed since, or a secret that has leaked, must not come back because a worker died.
"""

from __future__ import annotations

import pickle

from propylon.config.reading.load import Loaded
from propylon.stores.slot import Slot

__all__ = ["LastGood"]


class LastGood:
    """The configuration in force, in memory that the workers share."""

    def __init__(self, first: Loaded, slot: Slot | None) -> None:
        """Begin with what the gateway begins with; without a slot it stays at that."""
        self._first = first
        self._slot = slot

    def save(self, loaded: Loaded) -> None:
        """Note what has been put in force. All workers write the same, and none waits for another."""
        if self._slot is not None:
            self._slot.save(pickle.dumps(loaded))

    def load(self) -> Loaded:
        """Return what was noted last, by any of the processes."""
        found = None if self._slot is None else self._slot.load()
        if found is None:
            return self._first
        # Written by ourselves, in memory of our own.
        loaded: Loaded = pickle.loads(found)  # noqa: S301
        return loaded
