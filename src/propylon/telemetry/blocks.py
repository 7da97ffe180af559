"""Judge whether code has held the event loop for too long. Pure: clocks, counters and stacks are arguments.

Facts. A beat comes with each look of another thread, by itself where the loop waits for events; while code holds it, none comes.
But beats also stay away when nobody is to blame: the machine slept, the process was stopped (SIGSTOP, a debugger, a frozen
container), or the scheduler gave the processor to others.

Rules.

1. Time that the loop's thread has waited for a processor is not its own, and does not count (`waited`; Linux tells it).
2. Where the thread that looks has itself slept for far too long, everything stood still. Then only processor time that the
   loop's thread has really used in between counts: a regular expression that lets no other thread run is caught so.
3. A stack is taken as soon as half of the budget is over, and with each further look. Code that holds the loop for a whole
   budget is caught at least once, and of several callbacks that follow each other the one that is met most often is named.
4. A block is reported when it has ended, once, with its length; one that does not end is reported after a while, once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from propylon.telemetry.stacks import Stack

__all__ = ["LOOKS", "Beats", "Block", "Facts", "Watch"]

# In a budget: a block is met by two looks at least, and measured to the time between two of them, which is that between beats.
LOOKS = 2.5
# A look that comes so much later than planned, in looks: the whole process stood still. A thread that waits for a busy
# interpreter is late by a few milliseconds.
_OVERSLEPT = 3.0
_MOST_STACKS = 16
# Seconds after which a block that goes on is reported: the loop may never run again.
STUCK = 5.0


class Beats:
    """The beats of a loop, as its own thread writes them.

    `late` is the last interval that was longer than the budget: the number of the beat before it, and its seconds.
    """

    __slots__ = ("at", "budget", "late", "number")

    def __init__(self, budget: float, now: float) -> None:
        self.budget = budget
        self.number = 0
        self.at = now
        self.late = (-1, 0.0)

    def beat(self, now: float) -> None:
        """Note that the loop runs."""
        gap = now - self.at
        if gap > self.budget:
            self.late = (self.number, gap)
        self.at = now
        self.number += 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the loop's thread at a look, in seconds: the time, and since its birth what it used and waited.

    `slept` is how long the thread that looks has slept since the last look.
    """

    now: float
    used: float
    waited: float
    slept: float


@dataclass(frozen=True, slots=True)
class Block:
    """A block: how long it has held the loop, in seconds, where, and whether it goes on."""

    seconds: float
    stack: Stack
    goes_on: bool = False


@dataclass(slots=True)
class Watch:
    """What is known of the present interval between two beats."""

    budget: float
    _number: int = -1
    _base: Facts = Facts(0.0, 0.0, 0.0, 0.0)
    _last: Facts = Facts(0.0, 0.0, 0.0, 0.0)
    _stacks: list[Stack] = field(default_factory=list)
    _stood_still: bool = False
    _told: bool = False

    def look(self, beats: Beats, facts: Facts, stack: Callable[[], Stack]) -> Block | None:
        """Return the block that has just ended, or that does not end; None if there is none to report."""
        number, at, late = beats.number, beats.at, beats.late
        overslept = facts.slept > _OVERSLEPT * self.budget / LOOKS
        self._stood_still |= overslept
        block = None
        if number != self._number:
            block = self._ended(late, facts)
            self._begin(number, stood_still=overslept)
        self._last = facts
        age = facts.now - at
        if age >= self.budget / 2 and len(self._stacks) < _MOST_STACKS:
            self._stacks.append(stack())
        if age < STUCK or self._told or self._held(age, facts) < STUCK:
            return block
        self._told = True
        return Block(age, self._usual(), goes_on=True)

    def _begin(self, number: int, *, stood_still: bool) -> None:
        """Begin an interval. It is counted from the look before: its first beat has come since then."""
        self._number, self._base = number, self._last
        self._stacks.clear()
        self._stood_still, self._told = stood_still, False

    def _ended(self, late: tuple[int, float], facts: Facts) -> Block | None:
        """Return the block of the interval that is over, if it was one."""
        before, gap = late
        if before != self._number or not self._stacks:
            return None
        held = self._held(gap, facts)
        return Block(held, self._usual()) if held > self.budget else None

    def _held(self, seconds: float, facts: Facts) -> float:
        """Return for how much of an interval the loop's thread itself is to blame."""
        if self._stood_still:
            return min(seconds, facts.used - self._base.used)
        # A beat is due within a part of the interval: that much may have passed before anything held the loop.
        return seconds - (facts.waited - self._base.waited) - self.budget / LOOKS

    def _usual(self) -> Stack:
        return Counter(self._stacks).most_common(1)[0][0]
