"""Hold the revocations that are in force in this process, for as long as they can matter."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Kind, Revocation, caller_value

__all__ = ["LONGEST_TOKEN", "MemoryRevocations"]

# Other issuers may give out tokens that last for years, and "all tokens of a subject" must be remembered as long. It
# costs one number for each subject.
LONGEST_TOKEN = 10 * 366 * 86400.0

# Expired entries are dropped a few with each call, so that no single request pays for a thousand of them.
_EXPIRED_PER_CALL = 4
# Seconds. An issuer may have rounded `iat` down to a whole second, and `exp` up.
_ROUNDING = 2.0
_BY_ISSUE_TIME = frozenset({Kind.SUBJECT, Kind.CALLER, Kind.ALL})
_ALL_SUBJECTS = ""  # the key for "all tokens"; no subject is empty


class MemoryRevocations:
    """The revoked tokens: by id, by digest, or all that were issued before a moment.

    Memory is bounded by the number of tokens: only a token with a good signature can be revoked, and its entry is
    dropped when it would have expired anyway. A client cannot fill the list with made-up tokens.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        longest: float,
        leeway: float = 0.0,
    ) -> None:
        """Start empty.

        `clock` returns seconds since 1970. `longest` is the longest life of a token in seconds; a revocation of
        all tokens before a moment is kept for it. `leeway`: a token is accepted for so long after its `exp`, so
        its revocation is kept for so much longer.
        """
        self.active = False
        self._clock = clock
        self._longest = longest
        self._leeway = leeway
        # By id and by digest: when the entry may be dropped.
        self._ids: dict[str, float] = {}
        self._digests: dict[str, float] = {}
        # By subject, and by caller, which is no subject: it has a line end, or is a digest. "" is for all subjects.
        self._before: dict[str, float] = {}
        self._expiries: list[tuple[float, Kind, str]] = []  # a heap: the next to expire comes first

    def revoked(self, verified: Verified, digest: Callable[[], str]) -> bool:
        """Tell whether the token is revoked; `digest` is called only for a token without an id."""
        if not self.active:
            return False
        self._drop_expired()
        if self._before and self._issued_too_early(verified):
            return True
        if verified.token_id is not None:
            return verified.token_id in self._ids
        return bool(self._digests) and digest() in self._digests

    def _issued_too_early(self, verified: Verified) -> bool:
        # Most issuers write `iat` in whole seconds. A token of the second in which the revocation was made may be
        # from before or after it, and is refused: revoking was what the user asked for. Our own issuer writes
        # a fraction in that case (see `since`), so that a user who logs in again at once is not refused. A token
        # without `iat` counts as issued before everything.
        issued = -math.inf if verified.issued is None else verified.issued
        return issued < self._since(verified.principal.subject, verified.principal.issuer)

    def _since(self, subject: str, issuer: str) -> float:
        keys = (_ALL_SUBJECTS, subject, caller_value(subject, issuer))
        return max(self._before.get(key, -math.inf) for key in keys)

    def until(self, revocation: Revocation) -> float:
        """Return when a revocation may be dropped: all tokens that it covers have expired by then."""
        if revocation.kind in _BY_ISSUE_TIME:
            return revocation.moment + self._longest + self._leeway + _ROUNDING
        return revocation.moment + self._leeway

    def apply(self, revocation: Revocation) -> None:
        """Put a revocation into force. Repeating it changes nothing."""
        until = self.until(revocation)
        if until <= self._clock():
            return
        self._drop_expired()
        if self._record(revocation, until):
            heapq.heappush(self._expiries, (until, revocation.kind, revocation.value))
            self.active = True

    def _record(self, revocation: Revocation, until: float) -> bool:
        """Store it; tell whether it adds anything to what is stored."""
        value = revocation.value
        if revocation.kind in _BY_ISSUE_TIME:
            if self._before.get(value, -math.inf) >= revocation.moment:
                return False
            self._before[value] = revocation.moment
            return True
        tokens = self._ids if revocation.kind is Kind.ID else self._digests
        if tokens.get(value, -math.inf) >= until:
            return False
        tokens[value] = until
        return True

    def _drop_expired(self) -> None:
        """Drop a few expired entries."""
        now = self._clock()
        for _ in range(_EXPIRED_PER_CALL):
            if not self._expiries or self._expiries[0][0] > now:
                break
            _, kind, value = heapq.heappop(self._expiries)
            self._drop_entry(kind, value, now)
        self.active = bool(self._expiries)

    def _drop_entry(self, kind: Kind, value: str, now: float) -> None:
        # The entry may have been extended since this expiry was noted; then a later expiry drops it.
        if kind in _BY_ISSUE_TIME:
            moment = self._before.get(value, math.inf)
            if self.until(Revocation(kind, value, moment)) <= now:
                del self._before[value]
            return
        tokens = self._ids if kind is Kind.ID else self._digests
        if tokens.get(value, math.inf) <= now:
            del tokens[value]

    async def since(self, subject: str, issuer: str = "") -> float:
        """Return the moment before which no token of this issuer's subject is valid; -inf if there is none."""
        return self._since(subject, issuer)

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke tokens in this process only. `RevocationJournal` does it for several."""
        self.apply(revocation)
