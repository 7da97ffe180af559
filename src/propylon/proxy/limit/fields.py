"""Render the headers that tell the client what it has left. Pure.

Two families, because clients know one or the other.

- `X-RateLimit-Limit`, `-Remaining`, `-Reset` have room for one limit: the one with the fewest units left. `Reset` counts
  seconds from now, as Kong, Envoy and APISIX do.
- `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10) are lists with an item for each limit, as
  structured fields (RFC 9651): `"per-day";q=1000;w=86400` and `"per-day";r=998;t=172`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from propylon.proxy.limit.rule import Decision, Rule

__all__ = ["OWN", "Fields", "OfOne"]

Four = tuple[int, int, int, int]
OfOne = Callable[[Four], bytes]
"""Returns a block, from what remains, the reset, and both once more."""

OWN = (
    b"x-ratelimit-limit",
    b"x-ratelimit-remaining",
    b"x-ratelimit-reset",
    b"ratelimit",
    b"ratelimit-policy",
)
"""The names of these headers: an upstream's copies are replaced."""


# Blocks, of all routes together: some 3 MB. A usual limit has so few that nearly all of its requests find theirs.
_REMEMBERED = 8192
_FEW = 1024


@lru_cache(_REMEMBERED)
def _formatted(form: bytes, numbers: Four) -> bytes:
    return form % numbers


class Fields:
    """The headers of one route, with all that is the same for each request rendered before.

    `of_one` returns the block of a route's only limit.
    """

    __slots__ = ("_burst", "_format", "of_one")

    def __init__(self, limits: Sequence[tuple[Rule, str]]) -> None:
        """Take the enforced limits of the route, each with its name: characters that need no quoting."""
        policy = ", ".join(f'"{name}";q={rule.burst};w={rule.window}' for rule, name in limits)
        state = ", ".join(f'"{name}";r=%d;t=%d' for _, name in limits)
        self._burst = tuple(rule.burst for rule, _ in limits)
        end = (
            "\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d"
            f"\r\nRateLimit-Policy: {policy}\r\nRateLimit: {state}"
        )
        self._format = f"\r\nX-RateLimit-Limit: %d{end}".encode("ascii")
        one = f"\r\nX-RateLimit-Limit: {self._burst[0]}{end}".encode("ascii")
        # Neither is a function of ours: a call of one costs half as much as the formatting.
        self.of_one: OfOne
        self.of_one = partial(_formatted, one) if self._burst[0] <= _FEW else one.__mod__

    def block(self, decisions: Sequence[Decision]) -> bytes:
        """Return the block for the decisions of these limits, in their order."""
        first = decisions[0]
        if len(decisions) == 1:
            left, reset = first.remaining, first.reset
            return self.of_one((left, reset, left, reset))
        # Of two that have as much left, the one that takes longer to come back.
        at = min(range(len(decisions)), key=lambda n: (decisions[n].remaining, -decisions[n].reset))
        nearest = decisions[at]
        pairs = [number for one in decisions for number in (one.remaining, one.reset)]
        return self._format % (self._burst[at], nearest.remaining, nearest.reset, *pairs)
