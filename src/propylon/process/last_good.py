"""Keep the configuration that is in force where a worker that replaces a dead one finds it.

The file may be broken by then. What the gateway began with may be older than what is in force: a route that was
closed since, or a secret that has leaked, must not come back because a worker died.
"""

from __future__ import annotations

import io
import os
import pickle
from dataclasses import replace
from hashlib import blake2b

from propylon.config.models.schema import RouteConfig
from propylon.config.reading.load import Loaded

__all__ = ["LastGood"]

_DIGEST = 16
# Routes that are pickled at a time: a fifth of a millisecond.
_SLICE = 50


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
        data = _pickled(loaded)
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
        return _unpickled(data)


def _pickled(loaded: Loaded) -> bytes:
    """Pickle the routes in slices: one call for thousands would hold the interpreter, and with it all requests."""
    routes = loaded.config.routes
    file = io.BytesIO()
    # One pickler, for what many routes share is written once.
    pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
    pickler.dump(_with(loaded, ()))
    pickler.dump(len(routes))
    for begin in range(0, len(routes), _SLICE):
        pickler.dump(routes[begin : begin + _SLICE])
    return file.getvalue()


def _unpickled(data: bytes) -> Loaded:
    # Written by ourselves, in memory of our own.
    unpickler = pickle.Unpickler(io.BytesIO(data))  # noqa: S301
    loaded: Loaded = unpickler.load()
    routes: list[RouteConfig] = []
    count = unpickler.load()
    while len(routes) < count:
        routes.extend(unpickler.load())
    return _with(loaded, tuple(routes))


def _with(loaded: Loaded, routes: tuple[RouteConfig, ...]) -> Loaded:
    return replace(loaded, config=loaded.config.model_copy(update={"routes": routes}))
