"""LIMIT: a token bucket by GCRA: one timestamp per key, no counters, no windows. Pure.

A key's timestamp is its theoretical arrival time (TAT): when the bucket would be full again. A request may
pass if that lies no further ahead than the burst allows (ATM Forum TM 4.0, 4.4.2; the arithmetic of
redis-cell and of Envoy's and Stripe's limiters).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from propylon.errors import RateLimited
from propylon.proxy.principal import Principal
from propylon.wire.message import Request

__all__ = ["Buckets", "Limit", "by_client", "by_route", "subnet"]

# Keys held at a time; an attacker with a botnet makes the oldest leave, and that is all.
_MAX_KEYS = 100_000
_IPV6_BITS = 64  # one customer of an internet provider has at least that many addresses

KeyOf = Callable[[Request, Principal, str], str]


@dataclass(slots=True)
class Buckets:
    """The buckets of one limit: `rate` per second, `burst` at once; bounded."""

    rate: float
    burst: int
    clock: Callable[[], float]
    keys: int = _MAX_KEYS
    _arrivals: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def take(self, key: str) -> float:
        """Take one from the key's bucket; return 0, or how many seconds are missing."""
        now = self.clock()
        interval = 1 / self.rate
        arrival = max(self._arrivals.get(key, now), now)
        shortfall = arrival + interval - self.burst * interval - now
        # Half a nanosecond: the difference of two clock readings is not exact.
        if shortfall > 5e-10:
            return shortfall
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


class Limit:
    """How often who may."""

    __slots__ = ("_buckets", "_key_of")

    def __init__(self, buckets: Buckets, key_of: KeyOf) -> None:
        """Count in `buckets`, by what `key_of` makes of request, principal and client."""
        self._buckets = buckets
        self._key_of = key_of

    async def __call__(self, request: Request, principal: Principal, client: str) -> None:
        """Let the request pass, or raise RateLimited with Retry-After."""
        shortfall = self._buckets.take(self._key_of(request, principal, client))
        if shortfall > 0:
            wait = max(1, math.ceil(shortfall))
            msg = "Too many requests"
            raise RateLimited(
                msg,
                details={"retry_after": wait},
                headers=((b"Retry-After", b"%d" % wait),),
            )


def by_client(request: Request, principal: Principal, client: str) -> str:  # noqa: ARG001
    """Count by the client's address; an IPv6 one by its network."""
    return subnet(client)


def by_route(request: Request, principal: Principal, client: str) -> str:  # noqa: ARG001
    """Count everybody together."""
    return ""


def subnet(client: str) -> str:
    """Return what stands for one client: the address, or for IPv6 its /64."""
    if ":" not in client:
        return client
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{address.packed[: _IPV6_BITS // 8].hex()}/{_IPV6_BITS}"
    return client
