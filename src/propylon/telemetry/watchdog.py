"""Watch a loop from a thread of its own, and tell which code holds it: nothing is done for a request.

The thread looks fifty times a second at what the loop's thread runs. Where that is nothing, the loop waits for events: this is a
beat. Else the thread asks the loop for one. So an idle gateway is never woken: timers of its own on the loop cost each worker 2 %
of a processor (measured). `blocks` judges.
"""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import orjson

from propylon.telemetry.blocks import LOOKS, Beats, Block, Facts, Watch
from propylon.telemetry.families import LOOP_BLOCKS
from propylon.telemetry.metrics import Metrics
from propylon.telemetry.stacks import stack_of

__all__ = ["Watchdog"]

log = logging.getLogger(__name__)

# Seconds. A start compiles, imports and cleans up: that holds the loop, and no client waits for it yet.
_AFTER = 1.0
# Lines of the log: one for each of so many blocks at once, and then one every so many seconds. The metric counts all.
_AT_ONCE = 5
_EVERY = 10.0
# Values of the label: names come from the team's code, which may make functions as it goes.
_MOST_NAMES = 32
_OTHERS = "others"
_STDERR = 2
_CLOSE = 1.0
# Where a loop of asyncio's own waits for events; uvloop waits in C, below the frame that runs it.
_WAITS = selectors.DefaultSelector.select.__code__
_TURNS = asyncio.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]  # noqa: SLF001 — no public name tells it


class Watchdog:
    """Watches one loop while it runs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch nothing before `apply`."""
        self._loop = loop
        self._metrics = metrics
        self._clock = clock
        self._budget: float | None = None
        self._beats = Beats(1.0, clock())
        self._asked = False  # the loop was asked for a beat, and none has come
        self._timer: asyncio.TimerHandle | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._names: set[str] = set()
        self._left, self._filled = float(_AT_ONCE), clock()
        self._unsaid = 0

    def apply(self, budget: float | None) -> None:
        """Watch with this budget from now on, in seconds; None: do not watch."""
        if budget == self._budget:
            return
        self.close()
        self._budget = budget
        if budget is not None:
            self._timer = self._loop.call_later(_AFTER, self._begin)

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._budget = None
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE)
            self._thread = None

    def _begin(self) -> None:
        budget = self._budget
        if budget is None:
            return
        self._beats, self._stop = Beats(budget, self._clock()), threading.Event()
        self._asked = False
        # Called by the loop: the frame below runs it.
        runner = sys._getframe(1)  # noqa: SLF001 — the documented way
        watched = _Thread(threading.get_ident(), threading.get_native_id(), runner)
        self._thread = threading.Thread(
            target=self._watch,
            args=(self._beats, self._stop, watched),
            name="propylon-watchdog",
            daemon=True,
        )
        self._thread.start()

    def _beat(self) -> None:
        self._beats.beat(self._clock())
        self._asked = False

    # In the thread that looks

    def _watch(self, beats: Beats, stop: threading.Event, watched: _Thread) -> None:
        watch = Watch(beats.budget)
        before = self._clock()
        while not stop.wait(beats.budget / LOOKS):
            now = self._clock()
            if watched.waits():
                beats.beat(now)
            elif not self._asked:
                self._ask()
            facts = Facts(now, *watched.times(), now - before)
            before = now
            block = watch.look(beats, facts, lambda: stack_of(watched.identity))
            if block is not None:
                self._report(block)
        watched.close()

    def _ask(self) -> None:
        self._asked = True
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._beat)

    def _report(self, block: Block) -> None:
        if block.goes_on:
            _say(block)
            return
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, block)

    # On the loop

    def _tell(self, block: Block) -> None:
        where = self._name(block.stack.where)
        self._metrics.row(LOOP_BLOCKS, where)[0] += 1
        if not self._may_say():
            self._unsaid += 1
            return
        said = {"where": where, "seconds": round(block.seconds, 3), "traceback": str(block.stack)}
        if self._unsaid:
            said["unsaid"] = self._unsaid
            self._unsaid = 0
        # The gateway's own work is a matter for its developers: no code of the operator's is to be mended.
        level = logging.INFO if block.stack.is_ours else logging.WARNING
        milliseconds = round(block.seconds * 1000)
        log.log(
            level,
            "the event loop was held for %d ms by %s",
            milliseconds,
            where,
            extra={"fields": said},
        )

    def _name(self, where: str) -> str:
        if where not in self._names and len(self._names) >= _MOST_NAMES:
            return _OTHERS
        self._names.add(where)
        return where

    def _may_say(self) -> bool:
        now = self._clock()
        self._left = min(float(_AT_ONCE), self._left + (now - self._filled) / _EVERY)
        self._filled = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class _Thread:
    """A thread, and the times that the system keeps of it.

    Where the system does not tell them, they are zero: then a machine that is too busy may look like a block.
    """

    def __init__(self, identity: int, native: int, runner: FrameType) -> None:
        self.identity = identity
        self._runner = runner  # the frame that runs the loop
        self._clock: int | None = None
        self._statistics = -1
        with suppress(OSError, AttributeError):
            self._clock = time.pthread_getcpuclockid(identity)
        with suppress(OSError):
            # Linux, Documentation/scheduler/sched-stats.rst.
            place = f"/proc/self/task/{native}/schedstat"
            self._statistics = os.open(place, os.O_RDONLY | os.O_CLOEXEC)

    def waits(self) -> bool:
        """Whether no code runs on the loop: it waits for events."""
        frame = sys._current_frames().get(self.identity)  # noqa: SLF001 — the documented way
        if frame is None or frame is self._runner:
            return frame is not None
        below = frame.f_back
        return frame.f_code is _WAITS and below is not None and below.f_code is _TURNS

    def times(self) -> tuple[float, float]:
        """Return the seconds for which it has used a processor, and for which it has waited for one."""
        used = 0.0 if self._clock is None else time.clock_gettime(self._clock)
        waited = 0.0
        if self._statistics >= 0:
            # Nanoseconds on a processor, nanoseconds of waiting, and how often it got one.
            waited = int(os.pread(self._statistics, 64, 0).split()[1]) / 1e9
        return used, waited

    def close(self) -> None:
        """Let go of what was opened."""
        if self._statistics >= 0:
            os.close(self._statistics)


def _say(block: Block) -> None:
    """Say on standard error that the loop is held and does not come back: the log needs the loop."""
    line = {
        "level": "error",
        "event": f"the event loop has been held for {block.seconds:.0f} s by {block.stack.where}",
        "logger": __name__,
        "traceback": str(block.stack),
    }
    with suppress(OSError):
        os.write(_STDERR, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
