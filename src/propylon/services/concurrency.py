"""LIMIT CONCURRENCY: find out how many requests a service can work on at once, and refuse those beyond. Pure.

Strategy. A service that is full does not answer more requests a second, it only answers later: each request waits for
others. So the time to the head of an answer says whether there is a queue. Like Netflix' Gradient2 and Envoy's adaptive
concurrency, the limit follows the gradient of two times: that of an unloaded service, and that of the last window.

    gradient = 1.5 · unloaded / now, between 0.5 and 1         limit ← limit · gradient + √limit

While the answers come in time, the limit grows by its square root; where they take longer than half again as long as
unloaded, it shrinks. Under overload it settles where they take about twice as long.

Facts. Gradient2 takes a long average for the unloaded time, and drifts: after minutes of overload, slow is normal. Envoy
measures it once a minute with three requests at a time, and refuses nearly all others meanwhile. Here it is measured only
while answers are late, twice a minute at the most, and with a quarter of the limit: where the limit holds, about half of the
requests at the service wait, so a quarter of them find no queue. That takes as long as ten answers.

Rules.

1. Nothing is measured in a hurry: a window has at least ten answers, and a tenth of a second.
2. The limit does not grow while hardly half of it is used: such a window says nothing about a higher one. It measures the
   unloaded time instead.
3. What is measured is the time to the head of an answer below 500, and that of a timeout. An error that comes fast says
   nothing about the load.
4. Each worker finds its own limit, for the requests that it sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from propylon.errors import Overloaded

__all__ = ["Bounds", "Concurrency"]

_START = 20.0  # Gradient2's
_WINDOW = 0.1  # seconds, as in Envoy
_ENOUGH = 10  # answers
_MOST = 250  # answers of a window that are kept: more say nothing new
_TOLERANCE = 1.5  # Gradient2's: a service may be half again as slow before the limit shrinks
_SHARPEST = 0.5  # Envoy and Gradient2: a limit is never less than half of the one before
_SMOOTHING = 0.5  # of each step, so that one odd window does little
_PROBE_EVERY = 30.0  # seconds between two measurements of the unloaded time under load
_PROBE_SHARE = 0.25  # of the limit, meanwhile
_RETRY_AFTER = ((b"Retry-After", b"1"),)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which numbers the limit stays."""

    least: int
    most: int


class Concurrency:
    """The limit of one service: `enter` before a request is sent, `leave` when the head of its answer is there."""

    __slots__ = (
        "_bounds",
        "_ends",
        "_limit",
        "_next_probe",
        "_peak",
        "_restore",
        "_samples",
        "_since",
        "_unloaded",
        "in_flight",
    )

    def __init__(self, bounds: Bounds) -> None:
        """Start with a limit of twenty, if the bounds allow it."""
        self._bounds = bounds
        self._limit = min(max(_START, bounds.least), bounds.most)
        self.in_flight = 0
        self._peak = 0  # most in flight within the window
        self._samples: list[float] = []
        self._since = 0.0  # samples of requests that were sent earlier do not count
        self._ends = 0.0
        self._unloaded: float | None = None
        self._next_probe = 0.0
        self._restore: float | None = (
            None  # the limit before a measurement under load; None: there is none now
        )

    @property
    def limit(self) -> int:
        """How many requests may wait for their answers now."""
        return int(self._limit)

    def take_over(self, before: Concurrency) -> None:
        """Go on with what another one has found out, which had other bounds."""
        found = before._limit if before._restore is None else before._restore
        self._limit = min(max(found, self._bounds.least), self._bounds.most)
        self._unloaded = before._unloaded

    def enter(self, service: str) -> None:
        """Count a request that is sent. Raises Overloaded if there are as many as the limit."""
        if self.in_flight >= int(self._limit):
            msg = f'The service "{service}" has as many requests as it can work on'
            raise Overloaded(
                msg,
                details={"service": service},
                headers=_RETRY_AFTER,
                reason=f"adaptive_concurrency: {self.in_flight} in flight",
            )
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)

    def leave(self, began: float, now: float, *, sampled: bool) -> None:
        """Count a request that is answered, or has failed; `sampled`: its time tells of the load."""
        self.in_flight -= 1
        if not sampled or began < self._since:
            return
        if len(self._samples) < _MOST:
            self._samples.append(now - began)
        if now >= self._ends and len(self._samples) >= _ENOUGH:
            self._close(sorted(self._samples)[len(self._samples) // 2], now)

    def _close(self, took: float, now: float) -> None:
        """Judge a window in which half of the answers took at most so long; begin the next one."""
        if self._restore is not None:
            self._unloaded, self._limit, self._restore = took, self._restore, None
            self._next_probe = now + _PROBE_EVERY
        elif 2 * self._peak <= self._limit:
            known = self._unloaded
            self._unloaded = took if known is None else known + _SMOOTHING * (took - known)
        elif self._unloaded is None:
            self._measure(now)  # there may be a queue already: this window cannot tell
        else:
            self._adjust(took, min(self._unloaded, took), now)
        self._samples.clear()
        self._peak = self.in_flight
        self._ends = now + _WINDOW

    def _measure(self, now: float) -> None:
        self._restore, self._limit = self._limit, self._bounded(self._limit * _PROBE_SHARE)
        self._since = now

    def _adjust(self, took: float, unloaded: float, now: float) -> None:
        self._unloaded = unloaded
        late = took > _TOLERANCE * unloaded
        if late and now >= self._next_probe:
            self._measure(now)
            return
        gradient = max(_SHARPEST, _TOLERANCE * unloaded / took) if late else 1.0
        wanted = gradient * self._limit + sqrt(self._limit)
        self._limit = self._bounded(self._limit + _SMOOTHING * (wanted - self._limit))

    def _bounded(self, limit: float) -> float:
        return min(max(limit, self._bounds.least), self._bounds.most)
