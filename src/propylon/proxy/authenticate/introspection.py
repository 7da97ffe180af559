"""Ask who issued an opaque token what it stands for (RFC 7662), and remember the answer for a while."""

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

_OK = 200
TIMEOUT = 5.0  # seconds that a request waits for the verdict, at the most
LARGEST = 64 * 1024  # bytes of an answer
_REMEMBERED = 10_000
_DIGEST = 32  # bytes: tokens themselves are not kept

_Verdict = tuple[Verified | None, float]  # None: not active; holds until then, on the clock


class Introspection:
    """Asks once for each token, however many requests bring it at the same time."""

    def __init__(
        self,
        post: Callable[[bytes], Awaitable[Fetched]],
        rules: Rules,
        *,
        remember: float,
        clock: Callable[[], float],
    ) -> None:
        """Send tokens by `post`; hold an answer to be true for `remember` seconds."""
        self._post = post
        self._rules = rules
        self._remember = remember
        self._clock = clock
        # Bad tokens are remembered too, or whoever makes them up would have us ask for each.
        self._verdicts: Cache[_Verdict] = Cache(_REMEMBERED, _REMEMBERED * _DIGEST)
        self._asking: dict[bytes, asyncio.Task[Verified | None]] = {}

    async def ask(self, token: bytes) -> Verified:
        """Return what the token stands for.

        Raises AuthError for one that is not active; ServiceUnavailable when nobody can tell: letting it
        through would open the gate to whoever can stop the source.
        """
        key = hashlib.sha256(token).digest()
        known = self._verdicts.get(key)
        if known is not None and self._clock() < known[1]:
            verified = known[0]
        else:
            # Shielded: whoever waits and leaves must not take the answer from the others.
            verified = await asyncio.shield(self._begin(key, token))
        if verified is None or self._clock() >= verified.expires:
            raise invalid(reason="introspection: not active")
        return verified

    def _begin(self, key: bytes, token: bytes) -> asyncio.Task[Verified | None]:
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = spawn(self._find_out(key, token))
            task.add_done_callback(lambda done: self._answered(key, done))
        return task

    def _answered(self, key: bytes, task: asyncio.Task[Verified | None]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waits gets it, too; they may all have left

    async def _find_out(self, key: bytes, token: bytes) -> Verified | None:
        try:
            fetched = await self._post(token)
        except GatewayError as error:
            raise _unavailable(reason=f"{type(error).__name__}: {error}") from error
        if fetched.status != _OK:
            raise _unavailable(reason=f"answered {fetched.status}")
        verified = self._read(fetched.body)
        self._verdicts.put(key, (verified, self._clock() + self._remember))
        return verified

    def _read(self, body: bytes) -> Verified | None:
        try:
            said = read_json(body)
        except BadToken as error:
            raise _unavailable(error.reason) from None
        if not isinstance(said, dict) or not isinstance(said.get("active"), bool):
            raise _unavailable(reason="the answer is none of RFC 7662")
        if not said["active"]:
            return None
        return self._verified(said)

    def _verified(self, said: dict[str, object]) -> Verified | None:
        """Return what an active answer stands for; None if it lacks what we need."""
        now = self._clock()
        # Only `active` must be there (2.2). Who answers without `sub` names the user otherwise.
        named = dict(said)
        if named.get("sub") is None:
            named["sub"] = named.get("username")
        if named.get("exp") is None:
            named["exp"] = LATEST  # it does not expire: it is asked about again
        try:
            return judge(named, self._rules, now)
        except BadToken as error:
            log.warning("an active token is refused: %s", error.reason)
            return None


def _unavailable(reason: str) -> ServiceUnavailable:
    return ServiceUnavailable("Tokens cannot be verified now", reason=f"introspection: {reason}")
