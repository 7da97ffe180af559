"""Count requests in token buckets by GCRA, with one timestamp for each key, in this process. Pure.

Strategy. A token bucket, because a fixed window lets twice its number pass around its edge. GCRA, because one float for
each key is all there is: no counter to reset, no timer, and one atomic step in a shared store. The timestamp is the
theoretical arrival time (TAT): the moment when the bucket is full again. A request passes if its TAT lies no further
ahead than the burst allows (ATM Forum TM 4.0, 4.4.2; redis-cell and throttled do the same arithmetic).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from propylon.proxy.limit import Counters

__all__ = ["Buckets"]

# Keys of one limit, as many as nginx keeps in 10 MB (limit_req_zone). An attacker with more addresses pushes the
# oldest keys out, and those clients get a full bucket again; the memory stays bounded.
_MAX_KEYS = 100_000


@dataclass(slots=True)
class Buckets(Counters):
    """The buckets of one limit: `rate` requests a second, `burst` at once, `keys` buckets at most."""

    # The clock is monotonic: a wall clock that is set back would close the buckets until it catches up.
    rate: float
    burst: int
    clock: Callable[[], float]
    keys: int = _MAX_KEYS
    _arrivals: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def take(self, key: str) -> float:
        """Take one token from the bucket of `key`; return 0, or the seconds until there is one."""
        # A refused request takes nothing: a client that keeps trying gets through at the rate all the same.
        now = self.clock()
        interval = 1 / self.rate
        arrival = max(self._arrivals.get(key, now), now)
        shortfall = arrival + interval - self.burst * interval - now
        # Half a nanosecond, as differences of clock readings are not exact: a client that waits for exactly
        # the time it was told must pass.
        if shortfall > 5e-10:
            return shortfall
        self._note(key, arrival + interval, now)
        return 0.0

    def _note(self, key: str, arrival: float, now: float) -> None:
        """Store the time and make the key the newest; evict two keys at most.

        Two for each that comes, so that the map shrinks again after a flood, and no request pays for it alone.
        """
        arrivals = self._arrivals
        arrivals.pop(key, None)
        arrivals[key] = arrival
        for _ in range(2):
            oldest = next(iter(arrivals))
            # A bucket that is full again is worth nothing, and leaves. Others leave only when there is no room.
            if arrivals[oldest] > now and len(arrivals) <= self.keys:
                break
            if oldest != key:
                del arrivals[oldest]
