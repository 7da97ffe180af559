"""Count rates by GCRA: one timestamp per key, no counters, no windows. Pure.

A key's timestamp is its theoretical arrival time (TAT): when the bucket would be full again. A request may
pass if that lies no further ahead than the burst allows (ATM Forum TM 4.0, 4.4.2; the arithmetic of
redis-cell and of Envoy's and Stripe's limiters).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from propylon.proxy.limit import Counters

__all__ = ["Buckets"]

# Keys held at a time; an attacker with a botnet makes the oldest leave, and that is all.
_KEYS = 100_000


@dataclass(slots=True)
class Buckets(Counters):
    """The buckets of one limit in this process: `rate` per second, `burst` at once; bounded."""

    rate: float
    burst: int
    clock: Callable[[], float]
    keys: int = _KEYS
    _arrivals: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def take(self, key: str) -> float:
        """Take one from the key's bucket; return 0, or how many seconds are missing."""
        now = self.clock()
        interval = 1 / self.rate
        arrival = max(self._arrivals.get(key, now), now)
        missing = arrival + interval - self.burst * interval - now
        # Half a nanosecond: the difference of two clock readings is not exact.
        if missing > 5e-10:
            return missing
        self._note(key, arrival + interval, now)
        return 0.0

    def _note(self, key: str, arrival: float, now: float) -> None:
        """Put the key last: the order is that of use, and two leave for each that comes, at the most."""
        arrivals = self._arrivals
        arrivals.pop(key, None)
        arrivals[key] = arrival
        for _ in range(2):
            oldest = next(iter(arrivals))
            # Full again: nothing is lost. Else only where there is no room.
            if arrivals[oldest] > now and len(arrivals) <= self.keys:
                break
            if oldest != key:
                del arrivals[oldest]
