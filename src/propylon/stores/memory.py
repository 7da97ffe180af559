"""Hold the revocations that are in force in this process, for as long as they can matter."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Kind, Revocation, caller_value
from propylon.stores.clocks import MARGIN

__all__ = ["LONGEST_TOKEN", "MemoryRevocations"]

# Other issuers may give out tokens that last for years, and "all tokens of a subject" must be remembered as long. It
# costs one number for each subject.
LONGEST_TOKEN = 10 * 366 * 86400.0

# Expired entries are dropped so many at a time, once a second: a thousand take a millisecond or two.
_EXPIRED_PER_CALL = 1000
# Seconds. An issuer may have rounded `iat` down to a whole second, and `exp` up.
_ROUNDING = 2.0
_BY_ISSUE_TIME = frozenset({Kind.SUBJECT, Kind.CALLER, Kind.ALL})
_ALL_SUBJECTS = ""  # the key for "all tokens"; no subject is empty
# Tokens without `iat` of which it is remembered when they came first. Clients cannot make them up, since only verified
# tokens are remembered; the bound is for issuers that give out very many.
_MAX_FIRST_SEEN = 100_000


@dataclass(frozen=True, slots=True)
class _FirstSeen:
    """A token that does not say when it was issued."""

    moment: float
    values: frozenset[str]  # of the revocations of many tokens that cover it
    expires: float
    kind: Kind  # how it is revoked by itself


class MemoryRevocations:
    """The revoked tokens: by id, by digest, or all that were issued before a moment.

    Memory is bounded by the number of tokens: only a token with a good signature can be revoked, and its entry is
    dropped after it would have expired anyway. A client cannot fill the list with made-up tokens.
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
        self.revision = 0
        self._known = True
        self._clock = clock
        self._longest = longest
        self._leeway = leeway
        # By id and by digest: when the token has expired.
        self._ids: dict[str, float] = {}
        self._digests: dict[str, float] = {}
        # By subject, and by caller, which is no subject: it has a line end, or is a digest. "" is for all subjects.
        self._before: dict[str, float] = {}
        self._expiries: list[tuple[float, Kind, str]] = []  # a heap: the next to expire comes first
        self._first_seen: dict[str, _FirstSeen] = {}  # by id or digest, the oldest first

    def revoked(self, verified: Verified, digest: Callable[[], str]) -> bool:
        """Tell whether the token is revoked; `digest` is called only for a token without an id.

        Raises ServiceUnavailable as long as the list is not known.
        """
        if not self.active:
            return False
        if not self._known:
            # 503 and not 401: the token may be good, and a client that gets a 401 throws it away.
            msg = "Tokens cannot be verified yet"
            raise ServiceUnavailable(
                msg, reason="which tokens were revoked has not been read so far"
            )
        if self._before and self._issued_too_early(verified, digest):
            return True
        if verified.token_id is not None:
            return verified.token_id in self._ids
        return bool(self._digests) and digest() in self._digests

    def set_known(self, *, known: bool) -> None:
        """Say whether the list is complete. While it is not, no token is accepted.

        `active` is True meanwhile, so that the question costs nothing once the list is known.
        """
        self._known = known
        self.active = not known or bool(self._expiries)

    def _issued_too_early(self, verified: Verified, digest: Callable[[], str]) -> bool:
        # Most issuers write `iat` in whole seconds. A token of the second in which the revocation was made may be
        # from before or after it, and is refused: revoking was what the user asked for. Our own issuer writes
        # a fraction in that case (see `since`), so that a user who logs in again at once is not refused.
        principal = verified.principal
        since = self._since(principal.subject, principal.issuer)
        if since == -math.inf:
            return False
        if verified.issued is not None:
            return verified.issued < since
        # Most opaque tokens have no `iat`. The time when this one came first is the best that is known. Taking it
        # for issued long ago would refuse every later token of the issuer, too.
        key = verified.token_id if verified.token_id is not None else digest()
        seen = self._first_seen.get(key)
        return seen is not None and seen.moment < since

    def note(self, verified: Verified, digest: Callable[[], str]) -> None:
        """Remember when a token that does not say when it was issued came first."""
        by_id = verified.token_id is not None
        key = verified.token_id if verified.token_id is not None else digest()
        if key in self._first_seen:
            return
        while len(self._first_seen) >= _MAX_FIRST_SEEN:
            del self._first_seen[next(iter(self._first_seen))]
        principal, kind = verified.principal, Kind.ID if by_id else Kind.DIGEST
        values = frozenset(
            {_ALL_SUBJECTS, principal.subject, caller_value(principal.subject, principal.issuer)}
        )
        expires = min(verified.expires, self._clock() + self._longest)
        self._first_seen[key] = _FirstSeen(self._clock(), values, expires, kind)

    def covered(self, revocation: Revocation) -> list[Revocation]:
        """Return revocations of the single tokens that one of many tokens covers by when they came first.

        Only this process knows when they did. Written down one by one, they are revoked in every other worker and
        after a restart, too.
        """
        if revocation.kind not in _BY_ISSUE_TIME:
            return []
        now = self._clock()
        return [
            Revocation(seen.kind, key, seen.expires)
            for key, seen in self._first_seen.items()
            if seen.moment < revocation.moment
            and seen.expires > now
            and revocation.value in seen.values
        ]

    def _since(self, subject: str, issuer: str) -> float:
        keys = (_ALL_SUBJECTS, subject, caller_value(subject, issuer))
        return max(self._before.get(key, -math.inf) for key in keys)

    def until(self, revocation: Revocation) -> float:
        """Return when a revocation makes no difference any more: all tokens that it covers have expired by then."""
        if revocation.kind in _BY_ISSUE_TIME:
            return revocation.moment + self._longest + self._leeway + _ROUNDING
        return revocation.moment + self._leeway

    def apply(self, revocation: Revocation) -> None:
        """Put a revocation into force. Repeating it changes nothing.

        One whose tokens have expired is put into force as well: the clock may be wrong.
        """
        until = self.until(revocation)
        if self._record(revocation, until):
            heapq.heappush(self._expiries, (until, revocation.kind, revocation.value))
            self.active = True
            self.revision += 1

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

    def is_news(self, revocation: Revocation) -> bool:
        """Tell whether the revocation of a single token is not in force yet."""
        tokens = self._ids if revocation.kind is Kind.ID else self._digests
        return revocation.value not in tokens

    def take_back(self, kind: Kind, value: str) -> None:
        """Forget every revocation of this kind and value; what still holds of them is applied again."""
        if kind in _BY_ISSUE_TIME:
            self._before.pop(value, None)
        else:
            (self._ids if kind is Kind.ID else self._digests).pop(value, None)

    def drop_expired(self) -> None:
        """Drop some of the entries that expired longer than the margin ago.

        The caller knows that the clock is right. An entry that a wrong clock dropped would be lost for good.
        """
        now = self._clock() - MARGIN
        for _ in range(_EXPIRED_PER_CALL):
            if not self._expiries or self._expiries[0][0] > now:
                break
            _, kind, value = heapq.heappop(self._expiries)
            self._drop_entry(kind, value, now)
        self.active = not self._known or bool(self._expiries)

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
