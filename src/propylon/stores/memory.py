"""Keep what was revoked in this process, for as long as it makes a difference."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Kind, Revocation

__all__ = ["LONGEST_TOKEN", "MemoryRevocations"]

# Whoever else issues tokens may let them last for years: "all of a subject" must hold as long. It is one
# number for each subject.
LONGEST_TOKEN = 10 * 366 * 86400.0

# Each call lets a few leave, so that none has to wait for many.
_AT_ONCE = 4
# Seconds: `iat` may have been rounded down to a whole one, and `exp` up.
_ROUNDING = 2.0
_MANY = frozenset({Kind.SUBJECT, Kind.ALL})
_EVERYBODY = ""  # no subject is empty


class MemoryRevocations:
    """The tokens that were taken back: by id, by digest, or all that were issued before a moment.

    An entry for one token costs whoever makes it a token that somebody signed, and leaves when that one
    would have expired anyway: how many there can be is bounded by how many tokens are given out.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        longest: float,
        leeway: float = 0.0,
    ) -> None:
        """Start empty.

        `clock` is the wall's, as the times in tokens are. `longest` is the longest life of a token:
        revocations by the time of issue are kept for it. `leeway` is how long after its `exp` a token
        still counts, so how much longer it must be known that it does not.
        """
        self.active = False
        self._clock = clock
        self._longest = longest
        self._leeway = leeway
        # By id and by digest: when each may be forgotten.
        self._ids: dict[str, float] = {}
        self._digests: dict[str, float] = {}
        self._before: dict[str, float] = {}  # subject → the moment; everybody's under ""
        self._leaving: list[tuple[float, Kind, str]] = []  # a heap

    def revoked(self, verified: Verified, digest: Callable[[], str]) -> bool:
        """Say whether the token was taken back."""
        if not self.active:
            return False
        self._forget()
        if self._before and self._issued_too_early(verified):
            return True
        if verified.token_id is not None:
            return verified.token_id in self._ids
        return bool(self._digests) and digest() in self._digests

    def _issued_too_early(self, verified: Verified) -> bool:
        # Most issuers write whole seconds. A token of the second in which the revocation came may be from
        # before it or from after it: it is refused, because taking back is what was asked for. Our own
        # issuer writes a fraction then (see `since`), so that whoever logs in again is not refused.
        # Without `iat` nobody knows: it counts as issued at the beginning of time.
        issued = -math.inf if verified.issued is None else verified.issued
        return issued < self._since(verified.principal.subject)

    def _since(self, subject: str) -> float:
        before = self._before
        everybody = before.get(_EVERYBODY, -math.inf)
        return max(everybody, before.get(subject, -math.inf))

    def until(self, revocation: Revocation) -> float:
        """Return when a revocation may be forgotten: no token that it means is good by then."""
        if revocation.kind in _MANY:
            return revocation.moment + self._longest + self._leeway + _ROUNDING
        return revocation.moment + self._leeway

    def apply(self, revocation: Revocation) -> None:
        """Take it into force; one that is known already changes nothing."""
        until = self.until(revocation)
        if until <= self._clock():
            return
        self._forget()
        if self._noted(revocation, until):
            heapq.heappush(self._leaving, (until, revocation.kind, revocation.value))
            self.active = True

    def _noted(self, revocation: Revocation, until: float) -> bool:
        """Note it, unless one is known that goes as far."""
        value = revocation.value
        if revocation.kind in _MANY:
            if self._before.get(value, -math.inf) >= revocation.moment:
                return False
            self._before[value] = revocation.moment
            return True
        tokens = self._ids if revocation.kind is Kind.ID else self._digests
        if tokens.get(value, -math.inf) >= until:
            return False
        tokens[value] = until
        return True

    def _forget(self) -> None:
        """Let a few leave whose time has come."""
        now = self._clock()
        for _ in range(_AT_ONCE):
            if not self._leaving or self._leaving[0][0] > now:
                break
            _, kind, value = heapq.heappop(self._leaving)
            self._drop(kind, value, now)
        self.active = bool(self._leaving)

    def _drop(self, kind: Kind, value: str, now: float) -> None:
        # It may have been renewed meanwhile; then it leaves later.
        if kind in _MANY:
            moment = self._before.get(value, math.inf)
            if self.until(Revocation(kind, value, moment)) <= now:
                del self._before[value]
            return
        tokens = self._ids if kind is Kind.ID else self._digests
        if tokens.get(value, math.inf) <= now:
            del tokens[value]

    async def since(self, subject: str) -> float:
        """Return the moment before which no token of the subject counts; -inf if all do."""
        return self._since(subject)

    async def revoke(self, revocation: Revocation) -> None:
        """Take tokens back, in this process only: see `RevocationJournal` for several."""
        self.apply(revocation)
