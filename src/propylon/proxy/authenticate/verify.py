"""Say whether a token is good now: signed by a key we trust, or vouched for by who issued it."""

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

# Tokens that were verified before: at 1 KB each, 10,000 users fit.
_MAX_CACHED = 10_000
_MAX_CACHED_BYTES = 16 * 1024 * 1024


class KeySource(Protocol):
    """Where the keys come from that tokens are signed with."""

    @property
    def keys(self) -> KeySet | None:
        """The keys now; None as long as they are not known."""

    def note_unknown_key(self) -> None:
        """Note that a token names a key that is not among them: there may be new ones."""


class Introspector(Protocol):
    """Who can say what a token means that says nothing by itself."""

    async def ask(self, token: bytes) -> Verified:
        """Return what the token stands for.

        Raises AuthError for one that is not active, ServiceUnavailable when nobody can tell.
        """


class FixedKeys:
    """Keys that were written into the configuration."""

    def __init__(self, keys: KeySet) -> None:
        """Know them from the start."""
        self.keys: KeySet | None = keys

    def note_unknown_key(self) -> None:
        """There are no others."""


def digest(token: bytes) -> str:
    """Return what names a token that has no id: it cannot be used as one.

    Of a signed one only what was signed counts: from an ECDSA signature (r, s) anybody can make the
    other good one, (r, n - s), and with it a token that nobody took back.
    """
    try:
        named = parse(token).signed
    except BadToken:
        named = token  # it is opaque
    return "sha256:" + hashlib.sha256(named).hexdigest()


class Verifier:
    """Verifies tokens, and remembers the good ones until they expire."""

    __slots__ = ("_cache", "_clock", "_introspector", "_revocations", "_rules", "_source")

    def __init__(
        self,
        source: KeySource | None,
        introspector: Introspector | None,
        rules: Rules,
        revocations: Revocations,
        clock: Callable[[], float],
    ) -> None:
        """Check signatures with the keys of `source`, ask `opaque` about the rest; `clock` is the wall's."""
        self._source = source
        self._introspector = introspector
        self._rules = rules
        self._revocations = revocations
        self._clock = clock
        self._cache: Cache[Verified] = Cache(_MAX_CACHED, _MAX_CACHED_BYTES)

    def cached(self, token: bytes) -> Verified | None:
        """Return what was found out about a token earlier, if it still holds."""
        verified = self._cache.get(token)
        if verified is None:
            return None
        if self._clock() >= verified.expires:
            self._cache.drop(token)
            return None  # the longer way says that it has expired
        if self._revocations.active and self._revocations.revoked(verified, lambda: digest(token)):
            raise invalid(reason="revoked")
        return verified

    async def verify(self, token: bytes) -> Verified:
        """Return what the token says. Raises AuthError or ServiceUnavailable."""
        verified = self.cached(token)
        if verified is None:
            if self._is_signed(token):
                verified = self._check_signed(token)
                self._cache.put(token, verified)
            else:
                verified = await self._introspect(token)
            if self._revocations.revoked(verified, lambda: digest(token)):
                raise invalid(reason="revoked")
        return verified

    def forget(self) -> None:
        """Forget the tokens that were verified: a key may have been withdrawn."""
        self._cache.clear()

    def _is_signed(self, token: bytes) -> bool:
        # Two dots make a signed token; without a key, whoever issued it is asked about it all the same.
        return self._source is not None and (self._introspector is None or token.count(b".") == 2)

    def _check_signed(self, token: bytes) -> Verified:
        source = self._source
        if source is None or source.keys is None:
            msg = "Tokens cannot be verified yet"
            raise ServiceUnavailable(msg, reason="the key set has not been fetched so far")
        try:
            jws = parse(token)
            source.keys.verify(jws)
            return judge(jws.payload, self._rules, self._clock())
        except UnknownKey as error:
            source.note_unknown_key()
            raise invalid(error.reason) from None
        except BadToken as error:
            raise invalid(error.reason, expired=error.expired) from None

    async def _introspect(self, token: bytes) -> Verified:
        if self._introspector is None or len(token) > MAX_TOKEN:
            raise invalid(reason="no signed token, or too long")
        return await self._introspector.ask(token)
