"""Tell whether a token is good now: signed by a key of the configuration, or confirmed by its issuer.

Order of the checks: the cache, else signature and claims (or introspection), and last the list of revoked tokens.
The cache holds what never changes about a token. Its expiry and its revocation are checked with every request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.cache import Cache
from propylon.proxy.authenticate.claims import Rules, Verified, judge
from propylon.proxy.authenticate.jws import MAX_TOKEN, BadToken, parse
from propylon.proxy.authenticate.keys import KeySet, UnknownKey
from propylon.proxy.authenticate.revocation import Revocations
from propylon.proxy.challenge import invalid

__all__ = ["FixedKeys", "Introspector", "KeySource", "Verifier", "digest"]

# Fact: whether a token is signed is decided by its form and by what is configured, never by the token's own `alg`.
# Fact: only verified tokens are cached. A bad token costs its check each time; remembering it would let a client fill
# the cache with made-up tokens and push out those of users.

# Bounds of the cache of verified tokens: 10,000 users with tokens of 1 KB fit. A client could make up keys of
# 8 KB only with tokens that are signed, as bad ones are not cached.
_MAX_CACHED = 10_000
_MAX_CACHED_BYTES = 16 * 1024 * 1024


class KeySource(Protocol):
    """Where the keys come from that verify signatures."""

    @property
    def keys(self) -> KeySet | None:
        """The keys now; None before the first fetch."""

    async def renew(self, key_id: str) -> bool:
        """Look for a newer set, because a token names a key that is not in it; tell whether the key is there now.

        The source bounds how often it looks, and how long the request waits for it.
        """


class Introspector(Protocol):
    """Finds out what an opaque token stands for (RFC 7662)."""

    async def ask(self, token: bytes) -> Verified:
        """Return what the token stands for.

        Raises AuthError for a token that is not active, and ServiceUnavailable if the issuer does not answer.
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
        named = parse(token).signed
    except BadToken:
        named = token  # an opaque token
    return "sha256:" + hashlib.sha256(named).hexdigest()


class Verifier:
    """Verifies tokens; caches the good ones until they expire."""

    __slots__ = ("_cache", "_clock", "_introspector", "_revocations", "_rules", "_source")

    def __init__(
        self,
        source: KeySource | None,
        introspector: Introspector | None,
        rules: Rules,
        revocations: Revocations,
        clock: Callable[[], float],
    ) -> None:
        """`source` has the keys, `introspector` knows opaque tokens; `clock` returns seconds since 1970."""
        self._source = source
        self._introspector = introspector
        self._rules = rules
        self._revocations = revocations
        self._clock = clock
        self._cache: Cache[Verified] = Cache(_MAX_CACHED, _MAX_CACHED_BYTES)

    def cached(self, token: bytes) -> Verified | None:
        """Return the cached result for a token, None if there is none.

        Raises AuthError if the token was revoked meanwhile.
        """
        verified = self._cache.get(token)
        if verified is None:
            return None
        if self._clock() >= verified.expires:
            self._cache.drop(token)
            return None  # `verify` then raises the error for an expired token
        if self._revocations.active and self._revocations.revoked(verified, lambda: digest(token)):
            raise invalid(reason="revoked")
        return verified

    async def verify(self, token: bytes) -> Verified:
        """Return what the token says. Raises AuthError or ServiceUnavailable."""
        verified = self.cached(token)
        if verified is None:
            if self._is_signed(token):
                verified = await self._check_signed(token)
                # Cached before the revocation check: a client that keeps sending a revoked token must not cost
                # a signature check each time.
                self._cache.put(token, verified)
            else:
                verified = await self._introspect(token)
            if verified.issued is None:
                self._revocations.note(verified, lambda: digest(token))
            if self._revocations.revoked(verified, lambda: digest(token)):
                raise invalid(reason="revoked")
        return verified

    def forget(self) -> None:
        """Empty the cache, because the keys have changed and one may have been withdrawn."""
        self._cache.clear()

    def _is_signed(self, token: bytes) -> bool:
        # A signed token has two dots. Without keys the issuer is asked about signed tokens, too: many accept both.
        return self._source is not None and (self._introspector is None or token.count(b".") == 2)

    async def _check_signed(self, token: bytes) -> Verified:
        try:
            return self._check_with_known_keys(token)
        # UnknownKey is a BadToken, so it comes first.
        except UnknownKey as error:
            if self._source is None or not await self._source.renew(error.key_id):
                raise invalid(error.reason) from None
        except BadToken as error:
            raise invalid(error.reason, expired=error.expired) from None
        try:
            return self._check_with_known_keys(token)
        except BadToken as error:
            raise invalid(error.reason, expired=error.expired) from None

    def _check_with_known_keys(self, token: bytes) -> Verified:
        source = self._source
        # 503 and not 401: the token may be good, and a client that gets a 401 throws it away.
        if source is None or source.keys is None:
            msg = "Tokens cannot be verified yet"
            raise ServiceUnavailable(msg, reason="the key set has not been fetched so far")
        jws = parse(token)
        source.keys.verify(jws)
        return judge(jws.payload, self._rules, self._clock())

    async def _introspect(self, token: bytes) -> Verified:
        # Signed tokens are bounded by `parse`; here the length is checked before the issuer is asked.
        if self._introspector is None or len(token) > MAX_TOKEN:
            raise invalid(reason="no signed token, or too long")
        return await self._introspector.ask(token)
