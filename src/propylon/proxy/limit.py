"""LIMIT: say by what a request is counted, and refuse it when the counters have nothing left. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from propylon.errors import RateLimited
from propylon.proxy.principal import Principal
from propylon.wire.message import Request

__all__ = ["Counters", "Limit", "by_client", "by_route", "subnet"]

_IPV6_BITS = 64  # one customer of an internet provider has at least that many addresses

KeyOf = Callable[[Request, Principal, str], str]


class Counters(Protocol):
    """What one limit counts in: the port that a store fills."""

    def take(self, key: str) -> float:
        """Take one from what the key has left; return 0, or how many seconds are missing."""


class Limit:
    """How often who may."""

    __slots__ = ("_counters", "_key_of")

    def __init__(self, counters: Counters, key_of: KeyOf) -> None:
        """Count in `counters`, by what `key_of` makes of request, principal and client."""
        self._counters = counters
        self._key_of = key_of

    async def __call__(self, request: Request, principal: Principal, client: str) -> None:
        """Let the request pass, or raise RateLimited with Retry-After."""
        missing = self._counters.take(self._key_of(request, principal, client))
        if missing > 0:
            wait = max(1, math.ceil(missing))
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
