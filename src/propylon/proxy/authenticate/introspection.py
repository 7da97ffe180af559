"""Ask the issuer about opaque tokens (token introspection, RFC 7662), and cache its answers for `ttl` seconds."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from propylon.errors import GatewayError, ServiceUnavailable
from propylon.loop.tasks import spawn
from propylon.proxy.authenticate.cache import Cache
from propylon.proxy.authenticate.claims import Verified, judge
from propylon.proxy.authenticate.jws import BadToken, read_json
from propylon.proxy.authenticate.shares import Shares
from propylon.proxy.authenticate.trust import Trust, chosen
from propylon.proxy.challenge import invalid
from propylon.upstream.fetch import Fetched
from propylon.wire.grammar import LATEST

__all__ = ["LARGEST", "TIMEOUT", "Introspection"]

log = logging.getLogger(__name__)

# Facts:
# - An opaque token says nothing by itself, so each new one costs a request to the issuer. The cache bounds how many.
# - Refusing all tokens while the issuer is down is an outage; accepting them is a break-in. The gateway refuses.
# - A client can make up tokens faster than the issuer answers. So each client has a share of the questions (`shares`),
#   and refused tokens have a cache of their own: they push no user's answer out.

_OK = 200
TIMEOUT = 5.0  # seconds that a request waits for the answer at most
LARGEST = 64 * 1024  # bytes of an answer
_NOT_DECIDED = "the provider's document has not been read so far"
_MAX_CACHED = 10_000  # tokens
_DIGEST_SIZE = 32  # bytes: the cache holds SHA-256 digests, so that a memory dump holds no tokens

_Verdict = tuple[Verified, float]  # valid until that moment of the clock


class Introspection:
    """Asks about a token once, however many requests bring it at the same time."""

    def __init__(
        self,
        post: Callable[[bytes], Awaitable[Fetched]],
        trusts: Sequence[Trust],
        *,
        ttl: float,
        clock: Callable[[], float],
        shares: Shares | None = None,
    ) -> None:
        """`post` sends a token to the issuer. `ttl`: seconds for which an answer is cached.

        The ttl bounds how long a token that the issuer has revoked is still accepted. `trusts` have the rules for what
        the issuer says.
        """
        self._post = post
        self._trusts = trusts
        self._shares = shares or Shares()
        self.ttl = ttl
        self._clock = clock
        self._active: Cache[_Verdict] = Cache(_MAX_CACHED, _MAX_CACHED * _DIGEST_SIZE)
        # Refused tokens, and until when: else a client that repeats one makes the gateway ask each time.
        self._refused: Cache[float] = Cache(_MAX_CACHED, _MAX_CACHED * _DIGEST_SIZE)
        self._in_flight: dict[bytes, asyncio.Task[Verified | None]] = {}

    async def ask(self, token: bytes, client: str = "") -> Verified:
        """Return what the token stands for; `client` is the address that it came from.

        Raises AuthError for a token that is not active. Raises ServiceUnavailable if the issuer does not answer:
        accepting the token then would let an attacker in who can take the issuer down. Raises RateLimited if the
        client has too many questions waiting.
        """
        # The whole token: a truncated key would let a token hit the answer for another one.
        key = hashlib.sha256(token).digest()
        now = self._clock()
        known = self._active.get(key)
        verified: Verified | None
        if known is not None and now < known[1]:
            verified = known[0]
        elif now < (self._refused.get(key) or 0.0):
            verified = None
        else:
            # Shielded: a client that leaves must not cancel the question that other requests wait for.
            verified = await asyncio.shield(self._start(key, token, client))
        # A cached answer may have outlived its token.
        if verified is None or self._clock() >= verified.expires:
            raise invalid(reason="introspection: not active")
        return verified

    def _start(self, key: bytes, token: bytes, client: str) -> asyncio.Task[Verified | None]:
        task = self._in_flight.get(key)
        if task is None:
            task = self._in_flight[key] = spawn(self._introspect(key, token, client))
            task.add_done_callback(lambda done: self._finished(key, done))
        return task

    def _finished(self, key: bytes, task: asyncio.Task[Verified | None]) -> None:
        self._in_flight.pop(key, None)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: all waiting requests may have been cancelled

    async def _introspect(self, key: bytes, token: bytes, client: str) -> Verified | None:
        # A token that was active at its last answer belongs to a user, whatever else comes from the same address.
        proven = key in self._active
        turn = await self._shares.enter(client, proven=proven)
        try:
            verified = await self._question(token)
        finally:
            turn.leave()
        until = self._clock() + self.ttl
        if verified is None:
            self._shares.note_refused(client)
            self._active.drop(key)
            self._refused.put(key, until)
        else:
            self._active.put(key, (verified, until))
        return verified

    async def _question(self, token: bytes) -> Verified | None:
        try:
            fetched = await self._post(token)
        except GatewayError as error:
            raise _unavailable(reason=f"{type(error).__name__}: {error}") from error
        # Anything but 200 is the issuer's trouble or our credentials', and says nothing about the token.
        if fetched.status != _OK:
            raise _unavailable(reason=f"answered {fetched.status}")
        return self._read(fetched.body)

    def _read(self, body: bytes) -> Verified | None:
        try:
            answer = read_json(body)
        except BadToken as error:
            raise _unavailable(error.reason) from None
        # `active` must be a boolean: "false" as a string is true to Python.
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            raise _unavailable(reason="the answer has no boolean `active` (RFC 7662, 2.2)")
        if not answer["active"]:
            return None
        return self._verified(answer)

    def _verified(self, answer: dict[str, object]) -> Verified | None:
        """Return what an active answer stands for; None if it lacks what the rules demand."""
        now = self._clock()
        # Only `active` is required (RFC 7662, 2.2). Issuers that leave out `sub` give `username`.
        claims = dict(answer)
        if claims.get("sub") is None:
            claims["sub"] = claims.get("username")
        if claims.get("exp") is None:
            claims["exp"] = LATEST  # asked about again after the ttl
        try:
            trust = chosen(self._trusts, claims)
            if not trust.decided:
                raise _unavailable(reason=_NOT_DECIDED)
            return judge(claims, trust.rules, now)
        # The issuer calls it active and the operator's rules refuse it: the operator should know.
        except BadToken as error:
            log.warning("an active token is refused: %s", error.reason)
            return None


def _unavailable(reason: str) -> ServiceUnavailable:
    return ServiceUnavailable("Tokens cannot be verified now", reason=f"introspection: {reason}")
