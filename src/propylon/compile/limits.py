"""Compile a configured rate limit into the stage that enforces it."""

from __future__ import annotations

from collections.abc import Callable

from propylon.config.models.auth import TokenRateLimitConfig
from propylon.proxy.limit import Buckets, Limit, by_client, by_route

__all__ = ["compile_limit"]


def compile_limit(written: TokenRateLimitConfig, clock: Callable[[], float]) -> Limit:
    """Return the limit of the token endpoint; `clock` is monotonic, in seconds."""
    rate = written.rate.amount / written.rate.seconds
    key = by_client if written.key == "ip" else by_route
    return Limit(Buckets(rate, written.burst, clock), key)
