"""HEDGE: decide whether a request that takes long is sent a second time, to another instance. Pure.

The race of the two is in `proxy.hedge`; here are the rules (Dean and Barroso, "The Tail at Scale", CACM 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

from propylon.services.retry import Budget

__all__ = ["Hedge"]

# Safe methods (RFC 9110, 9.2.1) that every service has: both instances may do the work, and nothing must come of it.
_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, eq=False)
class Hedge:
    """When a request is sent a second time: `after` so many seconds without an answer, within the budget.

    The budget is of its own: a share of the service's GET and HEAD requests of the last ten seconds, plus ten.
    """

    after: float
    budget: Budget

    def applies(self, method: str, now: float) -> bool:
        """Tell whether a request may be hedged, and count it."""
        if method not in _METHODS:
            return False
        self.budget.note_request(now)
        return True
