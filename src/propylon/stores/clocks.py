"""Tell whether the wall clock goes on as time does, so that nothing is deleted by a clock that was set. Pure.

Strategy. Expired facts are kept for MARGIN more, which covers a clock that is wrong by hours. A clock that is wrong by
more is noticed: time that has passed by the monotonic clock must have passed by the wall clock. As long as the two
disagree, nothing is deleted. A clock that was set right stays as it is: after TRUSTED_AFTER the gateway believes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["MARGIN", "ClockWatch", "elapsed"]

log = logging.getLogger(__name__)

# Seconds for which what has expired is kept: more than a wrong time zone makes (at most 26 hours between two of them).
MARGIN = 2 * 86400.0
# Seconds. NTP corrects small differences little by little, and steps over larger ones (ntpd: 128 ms).
_TOLERANCE = 60.0
# Seconds until a clock that was set is believed. As long as the margin: an operator who set it wrongly has noticed by then.
_TRUSTED_AFTER = MARGIN


def elapsed() -> float:
    """Return seconds that have passed since some moment, those in which the machine slept included."""
    # Linux stops CLOCK_MONOTONIC while the machine sleeps; then the wall clock would seem to have been set.
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class ClockWatch:
    """Compares the wall clock with a monotonic one."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        """Believe the wall clock as it is now. Both return seconds; `wall` since 1970."""
        self._wall = wall
        self._monotonic = monotonic
        self._believed = wall() - monotonic()
        self._set_to = self._believed
        self._set_at: float | None = None  # None: the clocks agree

    def agrees(self) -> bool:
        """Tell whether the wall clock was not set, or was set long ago. Logs when the answer changes."""
        now = self._monotonic()
        offset = self._wall() - now
        if abs(offset - self._believed) <= _TOLERANCE:
            if self._set_at is not None:
                log.warning(
                    "the clock is as it was before it was set: what has expired is deleted again"
                )
                self._set_at = None
            return True
        if self._set_at is None or abs(offset - self._set_to) > _TOLERANCE:
            log.warning(
                "the clock was set by %+.0f s: nothing that has expired is deleted for now",
                offset - self._believed,
            )
            self._set_at, self._set_to = now, offset
        if now - self._set_at < _TRUSTED_AFTER:
            return False
        log.warning("the clock that was set is believed now: what has expired is deleted again")
        self._believed, self._set_at = offset, None
        return True
