"""Write the history of the last hour, in the one worker that keeps it, and in each worker what it remembers.

No request waits for it: the sums are read in slices, and what takes longer is done in a thread. Where there is no room, the
history is shorter, and everything else goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from propylon.assembly.watch.changes import ReloadHistory
from propylon.loop.slices import in_slices
from propylon.loop.tasks import spawn_forever
from propylon.telemetry.history import BUCKET, Recorder, Shelf
from propylon.telemetry.metrics import Metrics
from propylon.telemetry.recent import Recent

__all__ = ["RECENT", "Keeper", "KeptShelf", "remembered"]

log = logging.getLogger(__name__)

RECENT = "recent-"
_EVERY = 1.0  # seconds
# Routes that are packed in the loop's own time: a tenth of a millisecond.
_FEW = 64
# What workers remembered that have ended; each leaves up to a hundred kilobytes.
_MOST_RECENT = 32


class KeptShelf(Shelf, Protocol):
    """A shelf that has one keeper among the workers."""

    def keeps(self) -> bool:
        """Tell whether this worker is the keeper; become it if there is none."""

    def close(self) -> None:
        """Let another worker be the keeper."""


class Keeper:
    """What one worker writes to the shelf, for as long as its loop runs."""

    def __init__(
        self,
        shelf: KeptShelf,
        metrics: Metrics,
        recent: Recent,
        reloads: ReloadHistory,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Write to `shelf`; `clock` returns seconds since 1970."""
        self._shelf = shelf
        self._metrics = metrics
        self._recent = recent
        self._reloads = reloads
        self._clock = clock
        self._recorder: Recorder | None = None
        self._bucket = int(clock() // BUCKET)
        self._task: asyncio.Task[None] | None = None
        self._is_full = False

    def start(self) -> None:
        """Write from now on. Needs a running loop."""
        self._task = spawn_forever(self._run())

    def close(self) -> None:
        """Write no more, and let another worker keep the history."""
        if self._task is not None:
            self._task.cancel()
        self.flush()
        self._shelf.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await self.turn()

    async def turn(self) -> None:
        """Do what is due now."""
        self.flush()
        bucket = int(self._clock() // BUCKET)
        if bucket != self._bucket:
            self._bucket = bucket
            if self._shelf.keeps():
                await self._keep()

    def flush(self) -> None:
        """Write what this worker remembers, if that has changed."""
        if not self._recent.changed and not self._reloads.changed:
            return
        self._recent.changed = self._reloads.changed = False
        dump = {**self._recent.dump(), "reloads": self._reloads.dump(), "time": self._clock()}
        self._put({f"{RECENT}{self._recent.source}": lambda: orjson.dumps(dump)})

    async def _keep(self) -> None:
        if self._recorder is None:
            self._recorder = Recorder(self._shelf)
        now = self._clock()
        totals = await in_slices(self._metrics.totals())
        pieces = await in_slices(self._recorder.record(totals, now))
        if len(totals) < _FEW:
            self._store(pieces, now)
        else:
            await asyncio.to_thread(self._store, pieces, now)

    def _store(self, pieces: Mapping[str, Callable[[], bytes]], now: float) -> None:
        self._put(pieces)
        if self._recorder is not None:
            self._recorder.tidy(now)
        old = sorted(name for name in self._shelf.sizes() if name.startswith(RECENT))
        for name in old[:-_MOST_RECENT]:
            self._shelf.drop(name)

    def _put(self, pieces: Mapping[str, Callable[[], bytes]]) -> None:
        try:
            for name, make in pieces.items():
                self._shelf.put(name, make())
        except OSError as error:
            if not self._is_full:
                log.warning("no room for the history of the dashboard: %s", error)
            self._is_full = True
        else:
            self._is_full = False


def remembered(shelf: Shelf) -> list[dict[str, Any]]:
    """Return what all workers remember, those that have ended included."""
    found = []
    for name in shelf.sizes():
        data = shelf.get(name) if name.startswith(RECENT) else None
        if data is not None:
            found.append(orjson.loads(data))
    return found
