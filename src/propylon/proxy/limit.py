"""LIMIT: count requests in token buckets by GCRA, with one timestamp for each key. Pure.

The timestamp is the theoretical arrival time (TAT): the moment when the bucket is full again. A request passes if
its TAT lies no further ahead than the burst allows (ATM Forum TM 4.0, 4.4.2; redis-cell and throttled do the same
arithmetic).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from propylon.errors import RateLimited
from propylon.names.addresses import subnet
from propylon.proxy.principal import Principal
from propylon.wire.message import Request

__all__ = ["Buckets", "Limit", "by_caller", "by_client", "by_route"]

# Strategy. A token bucket, because a fixed window lets twice its number pass around its edge. GCRA, because one
# float for each key is all there is: no counter to reset, no timer, and one atomic step in a shared store.

# Keys of one limit, as many as nginx keeps in 10 MB (limit_req_zone). An attacker with more addresses pushes the
# oldest keys out, and those clients get a full bucket again; the memory stays bounded.
_MAX_KEYS = 100_000

KeyOf = Callable[[Request, Principal, str], str]


@dataclass(slots=True)
class Buckets:
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


class Limit:
    """The limit stage of a route."""

    __slots__ = ("_buckets", "_key_of")

    def __init__(self, buckets: Buckets, key_of: KeyOf) -> None:
        """`key_of` makes the key of a request from the request, its principal and its client address."""
        self._buckets = buckets
        self._key_of = key_of

    async def __call__(self, request: Request, principal: Principal, client: str) -> None:
        """Count the request. Raises RateLimited, with Retry-After, if it is one too many."""
        shortfall = self._buckets.take(self._key_of(request, principal, client))
        if shortfall > 0:
            # Retry-After has whole seconds (RFC 9110, 10.2.3). Rounded up, or the client comes too early.
            wait = max(1, math.ceil(shortfall))
            msg = "Too many requests"
            raise RateLimited(
                msg,
                details={"retry_after": wait},
                headers=((b"Retry-After", b"%d" % wait),),
            )


def by_client(request: Request, principal: Principal, client: str) -> str:  # noqa: ARG001
    """Return the client's address as the key; IPv6 clients count by their /64."""
    return subnet(client)


def by_caller(request: Request, principal: Principal, client: str) -> str:
    """Return the caller as the key, the pair of issuer and subject; for an anonymous request, its address."""
    # An address holds no line end, and the key of a caller does: no caller can take another one's bucket.
    return principal.caller if principal.known else by_client(request, principal, client)


def by_route(request: Request, principal: Principal, client: str) -> str:  # noqa: ARG001
    """Return one key for all requests of the route."""
    return ""
