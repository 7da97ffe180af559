"""Hold what the operator has said about the cache of one route: compiled, immutable. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from propylon.proxy.template import Name

__all__ = ["EVERYONE", "CacheRules"]

EVERYONE = "everyone"
"""The value of `by` that leaves the caller out of the key."""


@dataclass(frozen=True, slots=True)
class CacheRules:
    """What may be kept of the answers of a route, for how long, and for whom; times in seconds.

    - `place` stands for the route with everything that its answers depend on: another configuration of it has another
      place, so that nothing stored under the old one is found. `route` is its name, for operators.
    - `stores` is false where requests are only coalesced.
    - `ttl` is for answers that say nothing of their freshness; None: the heuristic of RFC 9111, 4.2.2.
    - `by` is "caller", "everyone", or a dotted claim (without the prefix `claim:`), as `claim` says.
    - `claims` are the headers that carry claims, `reduced`: where the caller is left out of the key, they are, too.
    - `depends` are names in templates whose values the service gets. They are in the key, whatever `by` says.
    """

    place: bytes
    route: str
    stores: bool = True
    ttl: float | None = None
    respect: bool = True
    vary: tuple[bytes, ...] = ()
    by: str = "caller"
    claim: bool = False
    max_object: int = 1_000_000
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    statuses: frozenset[int] = frozenset({200, 203, 301, 308})
    ignored: re.Pattern[bytes] | None = None  # names of parameters in the query
    wait: float = 5.0
    claims: frozenset[bytes] = frozenset()
    depends: tuple[Name, ...] = ()
