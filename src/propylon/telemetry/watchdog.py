"""Watch a loop from a thread of its own, and tell which code holds it: nothing is done for a request.

The thread looks fifty times a second at what the loop's thread runs. Where that is nothing, the loop waits for events: this is a
beat. Else the thread asks the loop for one. So an idle gateway is never woken: timers of its own on the loop cost each worker 2 %
of a processor (measured). `blocks` judges.

After a moment in which the loop only waited, the thread waits for the loop's next event, too: it looks four times a second until
bytes or a connection arrive. Fifty looks a second cost an idle worker 0.7 % of a processor, four cost 0.1 % (measured). What a
request runs is found as always, for its bytes wake the thread. Code that a timer runs while nothing else happens is found if it
holds the loop for longer than such a pause, or if it computes: then the thread looks often for a while.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
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
# Seconds in which the loop only waits before the thread looks less often, and how long it sleeps then. A gateway with a database
# of tokens reads it once a second: between two reads it is calm for most of the time.
_CALM = 0.2
_DOZE = 0.25
# Seconds for which the thread looks often after it has missed code that computes.
_ALERT = 30.0
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
        self._sleep: _Sleep | None = None
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
        if self._thread is not None and self._sleep is not None:
            self._sleep.end()
            self._thread.join(_CLOSE)
            if not self._thread.is_alive():
                self._sleep.close()
            self._thread = self._sleep = None

    def _begin(self) -> None:
        budget = self._budget
        if budget is None:
            return
        self._beats, self._sleep = Beats(budget, self._clock()), _Sleep(self._loop)
        self._asked = False
        # Called by the loop: the frame below runs it.
        runner = sys._getframe(1)  # noqa: SLF001 — the documented way
        watched = _Thread(threading.get_ident(), threading.get_native_id(), runner)
        self._thread = threading.Thread(
            target=self._watch,
            args=(self._beats, self._sleep, watched),
            name="propylon-watchdog",
            daemon=True,
        )
        self._thread.start()

    def _beat(self) -> None:
        self._beats.beat(self._clock())
        self._asked = False

    # In the thread that looks

    def _watch(self, beats: Beats, sleep: _Sleep, watched: _Thread) -> None:
        watch, rest = Watch(beats.budget), _Rest(sleep, watched, self._clock)
        while not sleep.ended:
            if not rest.until_the_next_look(beats):
                continue
            now, (used, waited) = self._clock(), watched.times()
            waits = watched.waits()
            if waits:
                beats.beat(now)
            elif not self._asked:
                self._ask()
            facts = Facts(now, used, waited, rest.note(now, used, waits=waits))
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


class _Rest:
    """What the thread that looks does between two looks."""

    def __init__(self, sleep: _Sleep, watched: _Thread, clock: Callable[[], float]) -> None:
        self._sleep = sleep
        self._watched = watched
        self._clock = clock
        self._looked, self._used = clock(), watched.times()[0]
        self._calm = 0.0  # the seconds for which every look has met a loop that waits

    def until_the_next_look(self, beats: Beats) -> bool:
        """Sleep, and return whether to look; an event in a calm time is not looked at, but what follows it is."""
        pause = beats.budget / LOOKS
        if self._calm < _CALM or not (self._sleep.hears_events and self._watched.tells_use):
            self._sleep.for_seconds(pause)
            return True
        woken = self._sleep.until_an_event(_DOZE)
        if self._watched.times()[0] - self._used >= pause:
            # It computed, and perhaps let no other thread run: this sleep has told nothing.
            self._calm = -_ALERT
            return True
        # Whatever it runs now has just begun.
        self._looked = self._clock()
        beats.beat(self._looked)
        if woken:
            self._calm = min(self._calm, 0.0)
        return not woken

    def note(self, now: float, used: float, *, waits: bool) -> float:
        """Note what a look has found, and return for how long the thread has slept before it."""
        slept = now - self._looked
        self._calm = self._calm + slept if waits else min(self._calm, 0.0)
        self._looked, self._used = now, used
        return slept


class _Sleep:
    """The sleep of the thread that looks: it ends when its time is over, and for good when it is told to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended = False
        self._told, self._tell = os.pipe()
        self._short, self._long = select.poll(), select.poll()
        self._short.register(self._told, select.POLLIN)
        self._long.register(self._told, select.POLLIN)
        # What the loop waits on can itself be waited on: it is ready when there is an event (epoll(7), "questions and answers").
        events = _events_of(loop)
        self.hears_events = events is not None
        if events is not None:
            self._long.register(events, select.POLLIN)

    def for_seconds(self, seconds: float) -> None:
        """Sleep."""
        self._short.poll(seconds * 1000)

    def until_an_event(self, seconds: float) -> bool:
        """Sleep until the loop has something to do but its timers; return whether it has."""
        return bool(self._long.poll(seconds * 1000))

    def end(self) -> None:
        """Wake the thread, for the last time."""
        self.ended = True
        os.write(self._tell, b".")

    def close(self) -> None:
        """Let go of the pipe, when the thread has ended."""
        os.close(self._told)
        os.close(self._tell)


def _events_of(loop: asyncio.AbstractEventLoop) -> int | None:
    """Return the descriptor on which a loop waits for events, if it has one: neither uvloop nor asyncio has a public name for it."""
    backend = getattr(loop, "_get_backend_id", None)
    selector = getattr(loop, "_selector", None)
    find: Callable[[], int] | None = backend or getattr(selector, "fileno", None)
    return None if find is None else find()


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

    @property
    def tells_use(self) -> bool:
        """Whether the system tells how long it has used a processor."""
        return self._clock is not None

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
