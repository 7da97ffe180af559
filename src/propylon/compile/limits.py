"""Compile a configured rate limit into the stage that enforces it."""

from __future__ import annotations

from collections.abc import Callable

from propylon.config.models.auth import TokenRateLimitConfig
from propylon.proxy.limit import Counters, Limit, by_client, by_route

__all__ = ["MakeCounters", "compile_limit"]

Clock = Callable[[], float]
MakeCounters = Callable[[float, int, Clock], Counters]
"""What a limit counts in, for a rate per second and a burst."""


def compile_limit(written: TokenRateLimitConfig, counters: MakeCounters, clock: Clock) -> Limit:
    """Return the limit of the token endpoint; `clock` is monotonic, in seconds."""
    rate = written.rate.amount / written.rate.seconds
    key = by_client if written.key == "ip" else by_route
    return Limit(counters(rate, written.burst, clock), key)
