"""Ask the issuer about opaque tokens (token introspection, RFC 7662), and cache its answers for `ttl` seconds."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable

from propylon.errors import GatewayError, ServiceUnavailable
from propylon.loop.tasks import spawn
from propylon.proxy.authenticate.cache import Cache
from propylon.proxy.authenticate.claims import Rules, Verified, judge
from propylon.proxy.authenticate.jws import BadToken, read_json
from propylon.proxy.challenge import invalid
from propylon.upstream.fetch import Fetched
from propylon.wire.grammar import LATEST

__all__ = ["LARGEST", "TIMEOUT", "Introspection"]

log = logging.getLogger(__name__)

# Facts:
# - An opaque token says nothing by itself, so each new one costs a request to the issuer. The cache bounds how many.
# - Refusing all tokens while the issuer is down is an outage; accepting them is a break-in. The gateway refuses.

_OK = 200
TIMEOUT = 5.0  # seconds that a request waits for the answer at most
LARGEST = 64 * 1024  # bytes of an answer
_MAX_CACHED = 10_000  # tokens
_DIGEST_SIZE = 32  # bytes: the cache holds SHA-256 digests, so that a memory dump holds no tokens

_Verdict = tuple[Verified | None, float]  # None: not active. Valid until that moment of the clock.


class Introspection:
    """Asks about a token once, however many requests bring it at the same time."""

    def __init__(
        self,
        post: Callable[[bytes], Awaitable[Fetched]],
        rules: Rules,
        *,
        ttl: float,
        clock: Callable[[], float],
    ) -> None:
        """`post` sends a token to the issuer. `ttl`: seconds for which an answer is cached.

        The ttl bounds how long a token that the issuer has revoked is still accepted.
        """
        self._post = post
        self._rules = rules
        self._ttl = ttl
        self._clock = clock
        # Refused tokens are cached, too: else a client with made-up tokens makes the gateway ask about each.
        self._verdicts: Cache[_Verdict] = Cache(_MAX_CACHED, _MAX_CACHED * _DIGEST_SIZE)
        self._in_flight: dict[bytes, asyncio.Task[Verified | None]] = {}

    async def ask(self, token: bytes) -> Verified:
        """Return what the token stands for.

        Raises AuthError for a token that is not active. Raises ServiceUnavailable if the issuer does not
        answer: accepting the token then would let an attacker in who can take the issuer down.
        """
        # The whole token: a truncated key would let a token hit the answer for another one.
        key = hashlib.sha256(token).digest()
        known = self._verdicts.get(key)
        if known is not None and self._clock() < known[1]:
            verified = known[0]
        else:
            # Shielded: a client that leaves must not cancel the question that other requests wait for.
            verified = await asyncio.shield(self._start(key, token))
        # A cached answer may have outlived its token.
        if verified is None or self._clock() >= verified.expires:
            raise invalid(reason="introspection: not active")
        return verified

    def _start(self, key: bytes, token: bytes) -> asyncio.Task[Verified | None]:
        task = self._in_flight.get(key)
        if task is None:
            task = self._in_flight[key] = spawn(self._introspect(key, token))
            task.add_done_callback(lambda done: self._finished(key, done))
        return task

    def _finished(self, key: bytes, task: asyncio.Task[Verified | None]) -> None:
        self._in_flight.pop(key, None)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: all waiting requests may have been cancelled

    async def _introspect(self, key: bytes, token: bytes) -> Verified | None:
        try:
            fetched = await self._post(token)
        except GatewayError as error:
            raise _unavailable(reason=f"{type(error).__name__}: {error}") from error
        # Anything but 200 is the issuer's trouble or our credentials', and says nothing about the token.
        if fetched.status != _OK:
            raise _unavailable(reason=f"answered {fetched.status}")
        verified = self._read(fetched.body)
        self._verdicts.put(key, (verified, self._clock() + self._ttl))
        return verified

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
            return judge(claims, self._rules, now)
        # The issuer calls it active and the operator's rules refuse it: the operator should know.
        except BadToken as error:
            log.warning("an active token is refused: %s", error.reason)
            return None


def _unavailable(reason: str) -> ServiceUnavailable:
    return ServiceUnavailable("Tokens cannot be verified now", reason=f"introspection: {reason}")
