"""Keep deadlines without timers: one coarse clock looks at everything that has one.

A timer per request costs more than the request's routing. Here setting a deadline is storing a
float; a tick every few milliseconds compares. Precision is one tick, which is what "504 after 5 s"
needs and no more.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

__all__ = ["NEVER", "Perishable", "Ticker"]

NEVER = math.inf


class Perishable(Protocol):
    """Whatever has a deadline, in seconds of the loop's clock, and knows what to do when it passes."""

    deadline: float

    def expire(self) -> None:
        """Act: the deadline has passed. `deadline` is NEVER again when this is called."""


class Ticker:
    """Call `expire` on every watched thing whose deadline has passed."""

    __slots__ = ("_handle", "_interval", "_loop", "_watched", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        """Tick every `interval` seconds while anything is watched."""
        self._loop = loop
        self._interval = interval
        self._watched: set[Perishable] = set()
        self._handle: asyncio.TimerHandle | None = None
        self.now = loop.time()

    def watch(self, thing: Perishable) -> None:
        """Look at `thing` on every tick from now on."""
        self._watched.add(thing)
        if self._handle is None:
            self._schedule()

    def forget(self, thing: Perishable) -> None:
        """Stop looking at `thing`."""
        self._watched.discard(thing)

    def _schedule(self) -> None:
        self.now = self._loop.time()
        self._handle = self._loop.call_later(self._interval, self._tick)

    def _tick(self) -> None:
        self._handle = None
        now = self._loop.time()
        for thing in [thing for thing in self._watched if thing.deadline <= now]:
            # What expired before it in this tick may have ended it, or given it more time.
            if thing in self._watched and thing.deadline <= now:
                thing.deadline = NEVER
                thing.expire()
        if self._watched and self._handle is None:  # whoever expired may have had us watch anew
            self._schedule()
