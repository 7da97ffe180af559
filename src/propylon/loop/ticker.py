"""Keep deadlines without timers: one coarse tick compares all of them with the clock.

Facts. asyncio keeps timers in a heap. One timer for each request costs more than the routing of the request, and nearly
all of them are cancelled.

Strategy. Setting a deadline stores a float. Every few milliseconds the ticker compares everything that has a deadline
with the clock. A deadline may be late by one tick, which is precise enough for "504 after 5 s".
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

__all__ = ["NEVER", "Expirable", "Ticker"]

NEVER = math.inf


class Expirable(Protocol):
    """An object with a deadline, in seconds of the loop's clock, and a method to call when it has passed."""

    deadline: float

    def expire(self) -> None:
        """Handle the passed deadline; the ticker has set `deadline` to NEVER before the call."""


class Ticker:
    """Call `expire` on every watched object whose deadline has passed."""

    __slots__ = ("_handle", "_interval", "_loop", "_watched", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        """Tick every `interval` seconds of `loop` while at least one object is watched."""
        self._loop = loop
        self._interval = interval
        self._watched: set[Expirable] = set()
        self._handle: asyncio.TimerHandle | None = None
        # The time of the last tick, for callers to whom that is precise enough. nginx caches the
        # time of a turn, too, because a call of the clock for each use costs too much.
        self.now = loop.time()

    def watch(self, thing: Expirable) -> None:
        """Compare the deadline of `thing` on every tick from now on."""
        self._watched.add(thing)
        if self._handle is None:
            self._schedule()

    def forget(self, thing: Expirable) -> None:
        """Stop watching `thing`; a no-op if it is not watched."""
        self._watched.discard(thing)

    def _schedule(self) -> None:
        self.now = self._loop.time()
        self._handle = self._loop.call_later(self._interval, self._tick)

    def _tick(self) -> None:
        self._handle = None
        now = self._loop.time()
        for thing in [thing for thing in self._watched if thing.deadline <= now]:
            # An object that expired earlier in this tick may have ended this one, or given it more
            # time.
            if thing in self._watched and thing.deadline <= now:
                thing.deadline = NEVER
                thing.expire()
        # An object that expired may have called `watch`, which has scheduled the next tick then.
        if self._watched and self._handle is None:
            self._schedule()
