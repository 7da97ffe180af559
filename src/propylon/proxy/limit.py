"""LIMIT: make the key that a request is counted by, and refuse it when the counters have nothing left. Pure.

How keys are counted is up to what fills the port `Counters`: `stores.buckets` in this worker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from propylon.errors import RateLimited
from propylon.names.addresses import subnet
from propylon.proxy.principal import Principal
from propylon.wire.message import Request

__all__ = ["Counters", "Limit", "by_caller", "by_client", "by_route"]


KeyOf = Callable[[Request, Principal, str], str]


class Counters(Protocol):
    """What one limit counts in: the port that a store fills."""

    def take(self, key: str) -> float:
        """Take one from what the key has left; return 0, or the seconds until there is one."""


class Limit:
    """The limit stage of a route."""

    __slots__ = ("_counters", "_key_of")

    def __init__(self, counters: Counters, key_of: KeyOf) -> None:
        """`key_of` makes the key of a request from the request, its principal and its client address."""
        self._counters = counters
        self._key_of = key_of

    async def __call__(self, request: Request, principal: Principal, client: str) -> None:
        """Count the request. Raises RateLimited, with Retry-After, if it is one too many."""
        shortfall = self._counters.take(self._key_of(request, principal, client))
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
