"""Tell whether a token is good now: signed by a key of the configuration, or confirmed by its issuer.

Order of the checks: the cache, else signature and claims (or introspection), and last the list of revoked tokens.
The cache holds what never changes about a token. Its expiry and its revocation are checked with every request.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from propylon.errors import AuthError, GatewayError, ServiceUnavailable
from propylon.proxy.authenticate import outcomes
from propylon.proxy.authenticate.cache import Cache
from propylon.proxy.authenticate.claims import Verified, judge, read
from propylon.proxy.authenticate.jws import MAX_TOKEN, BadToken, Jws, check_type, parse
from propylon.proxy.authenticate.keys import KeySet, UnknownKey
from propylon.proxy.authenticate.kinds import is_doubtful
from propylon.proxy.authenticate.revocation import Revocations
from propylon.proxy.authenticate.trust import Trust, chosen
from propylon.proxy.challenge import EXPIRED, invalid
from propylon.proxy.counts import Counts

__all__ = ["FixedKeys", "Introspector", "Verifier", "digest"]

log = logging.getLogger(__name__)

# Fact: whether a token is signed is decided by its form and by what is configured, never by the token's own `alg`.
# Fact: only verified tokens are cached. A bad token costs its check each time; remembering it would let a client fill
# the cache with made-up tokens and push out those of users.

# Bounds of the cache of verified tokens: 10,000 users with tokens of 1 KB fit. A client could make up keys of
# 8 KB only with tokens that are signed, as bad ones are not cached.
_MAX_CACHED = 10_000
# Seconds. With `cache: 0` the issuer is asked for each request, but not all the time for each open socket.
_LEAST_RENEWAL = 1.0
_MAX_CACHED_BYTES = 16 * 1024 * 1024


_IS_REVOKED = "revoked"


class Introspector(Protocol):
    """Finds out what an opaque token stands for (RFC 7662)."""

    @property
    def ttl(self) -> float:
        """For how many seconds an answer holds."""

    async def ask(self, token: bytes, client: str) -> Verified:
        """Return what the token stands for; `client` is the address that it came from.

        Raises AuthError for a token that is not active, ServiceUnavailable if the issuer does not answer, and
        RateLimited for a client that brings too many unknown tokens at once.
        """


class FixedKeys:
    """A `KeySource` with the keys of the configuration, which do not change."""

    def __init__(self, keys: KeySet) -> None:
        """Hold the keys, which are there from the start."""
        self.keys: KeySet | None = keys

    async def renew(self, key_id: str) -> bool:  # noqa: ARG002 — the port's contract
        """Return False: there is no newer set."""
        return False


def digest(token: bytes) -> str:
    """Return the name of a token without an id in the list of revoked tokens.

    Only the signing input of a signed token counts. An ECDSA signature (r, s) has a twin (r, n - s) that is valid,
    too, and that anyone can compute: with the whole token hashed, the twin of a revoked token would be accepted.
    """
    try:
        named = parse(token, None).signed
    except BadToken:
        named = token  # an opaque token
    return "sha256:" + hashlib.sha256(named).hexdigest()


def _outcome(error: AuthError) -> int:
    """Return the place in `OUTCOMES` of an error."""
    if error.reason == _IS_REVOKED:
        return outcomes.REVOKED
    return outcomes.EXPIRED if error.message == EXPIRED else outcomes.INVALID


class Verifier:
    """Verifies tokens; caches the good ones until they expire."""

    __slots__ = ("_cache", "_doubted", "_introspector", "_trusts", "clock", "counts", "revocations")

    def __init__(
        self,
        trusts: Sequence[Trust],
        introspector: Introspector | None,
        revocations: Revocations,
        clock: Callable[[], float],
        counts: Counts | None = None,
    ) -> None:
        """`trusts` have the keys of signed tokens, `introspector` knows opaque tokens; `clock` is the wall clock.

        `counts` is where verifications are counted, as `OUTCOMES` has it.
        """
        self.counts: Counts = [0.0] * len(outcomes.OUTCOMES) if counts is None else counts
        self._trusts = [trust for trust in trusts if trust.source is not None]
        self._introspector = introspector
        self._doubted = False
        self.revocations = revocations
        self.clock = clock
        self._cache: Cache[Verified] = Cache(_MAX_CACHED, _MAX_CACHED_BYTES)

    def cached(self, token: bytes) -> Verified | None:
        """Return the cached result for a token, None if there is none.

        Raises AuthError if the token was revoked meanwhile.
        """
        verified = self._cache.get(token)
        if verified is None:
            return None
        if self.clock() >= verified.expires:
            self._cache.drop(token)
            return None  # `verify` then raises the error for an expired token
        if self.revocations.active and self.revocations.revoked(verified, lambda: digest(token)):
            self.counts[outcomes.REVOKED] += 1
            raise invalid(reason=_IS_REVOKED)
        self.counts[outcomes.CACHED] += 1
        return verified

    async def verify(self, token: bytes, client: str = "") -> Verified:
        """Return what the token says. Raises AuthError, ServiceUnavailable or RateLimited.

        `client` is the address of the client that sent it: each client has a share of the questions to the issuer.
        """
        verified = self.cached(token)
        if verified is None:
            try:
                verified = await self._verify_anew(token, client)
            except AuthError as error:
                self.counts[_outcome(error)] += 1
                raise
            except GatewayError:
                self.counts[outcomes.UNAVAILABLE] += 1
                raise
            self.counts[outcomes.VERIFIED] += 1
        return verified

    async def _verify_anew(self, token: bytes, client: str) -> Verified:
        if self._is_signed(token):
            verified = await self._check_signed(token)
            # Cached before the revocation check: a client that keeps sending a revoked token must not cost
            # a signature check each time.
            self._cache.put(token, verified)
        else:
            verified = await self._introspect(token, client)
        if verified.issued is None:
            self.revocations.note(verified, lambda: digest(token))
        if self.revocations.revoked(verified, lambda: digest(token)):
            raise invalid(reason=_IS_REVOKED)
        return verified

    def renewed_every(self, token: bytes) -> float:
        """Return the seconds after which a token that stays in use has to be verified again; infinity if it need not.

        A signed token says itself until when it is good. Whether an opaque one still is, only its issuer knows.
        """
        if self._introspector is None or self._is_signed(token):
            return math.inf
        return max(self._introspector.ttl, _LEAST_RENEWAL)

    def forget(self) -> None:
        """Empty the cache, because the keys have changed and one may have been withdrawn."""
        self._cache.clear()

    def _is_signed(self, token: bytes) -> bool:
        # A signed token has two dots. Without keys the issuer is asked about signed tokens, too: many accept both.
        return bool(self._trusts) and (self._introspector is None or token.count(b".") == 2)

    async def _check_signed(self, token: bytes) -> Verified:
        try:
            jws = parse(token, None)
            trust = self._trusted(jws)
            try:
                verified = self._check_with_known_keys(jws, trust)
            except UnknownKey as error:
                if trust.source is None or not await trust.source.renew(error.key_id):
                    raise
                verified = self._check_with_known_keys(jws, trust)
        except BadToken as error:
            raise invalid(error.reason, expired=error.expired) from None
        if not self._doubted and not trust.rules.audiences:
            self._doubt(verified)
        return verified

    def _check_with_known_keys(self, jws: Jws, trust: Trust) -> Verified:
        source = trust.source
        # 503 and not 401: the token may be good, and a client that gets a 401 throws it away.
        if source is None or source.keys is None or not trust.decided:
            msg = "Tokens cannot be verified yet"
            raise ServiceUnavailable(msg, reason="the key set has not been fetched so far")
        check_type(jws.kind, trust.rules.required_type)
        source.keys.verify(jws)
        return judge(jws.payload, trust.rules, self.clock())

    def _trusted(self, jws: Jws) -> Trust:
        # With one issuer nothing is read before the signature is verified. With several, `iss` has to be: it selects
        # the keys, and a token that lies about it is not signed with them.
        if len(self._trusts) == 1:
            return self._trusts[0]
        return chosen(self._trusts, read(jws.payload))

    def _doubt(self, verified: Verified) -> None:
        if is_doubtful(verified.principal.claims):
            self._doubted = (
                True  # once is enough: it is about the configuration, not about this token
            )
            log.warning(
                "a token has a nonce, as ID tokens have; set auth.jwt.audience, so that those are refused"
            )

    async def _introspect(self, token: bytes, client: str) -> Verified:
        # Signed tokens are bounded by `parse`; here the length is checked before the issuer is asked.
        if self._introspector is None or len(token) > MAX_TOKEN:
            raise invalid(reason="no signed token, or too long")
        return await self._introspector.ask(token, client)
