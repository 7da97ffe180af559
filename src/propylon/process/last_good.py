"""Keep the configuration that is in force where a worker that replaces a dead one finds it.

The file may be broken by then. What the gateway began with may be older than what is in force: a route that was
closed since, or a secret that has leaked, must not come back because a worker died.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import replace

from propylon.config.models.schema import RouteConfig
from propylon.config.reading.load import Loaded
from propylon.stores.slot import Slot

__all__ = ["LastGood"]

# Routes that are pickled at a time: a fifth of a millisecond.
_SLICE = 50


class LastGood:
    """The configuration in force, in memory that the workers share."""

    def __init__(self, first: Loaded, slot: Slot | None) -> None:
        """Begin with what the gateway begins with; without a slot it stays at that."""
        self._first = first
        self._slot = slot

    def save(self, loaded: Loaded) -> None:
        """Note what has been put in force. All workers write the same, and none waits for another."""
        if self._slot is not None:
            self._slot.save(_pickled(loaded))

    def load(self) -> Loaded:
        """Return what was noted last, by any of the processes."""
        found = None if self._slot is None else self._slot.load()
        if found is None:
            return self._first
        return _unpickled(found)


def _pickled(loaded: Loaded) -> bytes:
    """Pickle the routes in slices: one call for thousands would hold the interpreter, and with it all requests."""
    routes = loaded.config.routes
    file = io.BytesIO()
    # One pickler writes what many routes share only once.
    pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
    pickler.dump(_with_routes(loaded, ()))
    pickler.dump(len(routes))
    for begin in range(0, len(routes), _SLICE):
        pickler.dump(routes[begin : begin + _SLICE])
    return file.getvalue()


def _unpickled(data: bytes) -> Loaded:
    """Return what `_pickled` wrote."""
    # Written by ourselves, in memory of our own.
    unpickler = pickle.Unpickler(io.BytesIO(data))  # noqa: S301
    loaded: Loaded = unpickler.load()
    routes: list[RouteConfig] = []
    count = unpickler.load()
    while len(routes) < count:
        routes.extend(unpickler.load())
    return _with_routes(loaded, tuple(routes))


def _with_routes(loaded: Loaded, routes: tuple[RouteConfig, ...]) -> Loaded:
    return replace(loaded, config=loaded.config.model_copy(update={"routes": routes}))
