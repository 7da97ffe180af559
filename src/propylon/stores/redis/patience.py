"""Tell for how long a server has been silent, not counting what the gateway itself was late for. Pure.

Facts. A loop that is busy for 60 ms has not read the answer that came after one. uvloop runs timers before it reads
sockets, so a plain timer would then fire although the answer is there, and every gateway under full load would leave a
Redis that is well.

Strategy. The time of this clock passes in small steps, each of them a turn of the loop in which sockets were read. A long
turn counts as two steps, whatever it took.
"""

from __future__ import annotations

__all__ = ["Patience"]

# Steps in the whole patience: fine enough that a request waits for little longer, and 160 timers a second at most.
_STEPS = 8
_LONGEST_STEP = 2


class Patience:
    """A clock that goes on only while the loop turns."""

    __slots__ = ("_last", "_timeout", "now", "step")

    def __init__(self, timeout: float) -> None:
        """`timeout` is the patience in seconds; `step` is how often to look."""
        self.step = timeout / _STEPS
        self.now = 0.0
        self._timeout = timeout
        self._last = 0.0

    def begin(self, time: float) -> None:
        """Go on from here: for a while nothing was waited for."""
        self._last = time

    def look(self, time: float) -> None:
        """Note a turn of the loop."""
        self.now += min(time - self._last, _LONGEST_STEP * self.step)
        self._last = time

    def is_over(self, since: float) -> bool:
        """Tell whether what was sent at `since` (of `now`) has waited for too long."""
        # One step less: the next look would be too late.
        return self.now - since >= self._timeout - self.step
