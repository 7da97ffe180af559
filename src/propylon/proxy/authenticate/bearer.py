"""AUTHENTICATE: take the bearer token of a request (RFC 6750, 2.1) and have it verified."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from propylon.errors import AuthError
from propylon.proxy.authenticate.verify import Verifier
from propylon.proxy.challenge import invalid, missing
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.grammar import BEARER
from propylon.wire.message import Request

__all__ = ["Bearer", "Offered"]

# The token in a form or in the query (RFC 6750, 2.2 and 2.3) is not looked for: those end up in logs and in browsers'
# histories.
_COMMON_PREFIX = b"Bearer "


class Bearer:
    """The authenticate stage of a route with `auth: required` or `optional`."""

    __slots__ = ("_required", "_verifier")

    def __init__(self, verifier: Verifier, *, required: bool) -> None:
        """`required`: refuse requests without a token. A bad token is refused in any case.

        Passing a bad token as anonymous would hide from the client that it has expired.
        """
        self._verifier = verifier
        self._required = required

    async def __call__(self, request: Request, client: str = "") -> Principal:
        """Return the principal of the request; `client` is the address that it came from.

        Raises AuthError for a missing or bad token, ServiceUnavailable when the keys or the introspection
        endpoint are not available, and RateLimited for a client that brings too many unknown tokens at once.
        """
        sent = request.special.get(b"authorization")
        if sent is None:
            if self._required:
                raise missing()
            return ANONYMOUS
        value = sent[0]
        # Fast path: nearly all clients write exactly "Bearer ". The pattern is for the rest, and for new tokens.
        if len(sent) == 1 and value[:7] == _COMMON_PREFIX:
            cached = self._verifier.cached(value[7:])
            if cached is not None:
                return cached.principal
        verified = await self._verifier.verify(_token(sent), client)
        return verified.principal


class Offered:
    """The authenticate stage of an endpoint that needs no token, and where a bad one is no reason to refuse.

    A client logs out with its refresh token, and its access token has usually expired by then (RFC 7009, 2.1).
    """

    __slots__ = ("_stage",)

    def __init__(self, stage: Callable[[Request, str], Awaitable[Principal]]) -> None:
        """`stage` verifies the token of a request that may have none."""
        self._stage = stage

    async def __call__(self, request: Request, client: str) -> Principal:
        """Return the principal of the request; anonymous for a missing or bad token. Raises ServiceUnavailable."""
        try:
            return await self._stage(request, client)
        except AuthError:
            return ANONYMOUS


def _token(sent: list[bytes]) -> bytes:
    # The gateway would verify one of two headers, and the upstream might use the other.
    if len(sent) != 1:
        raise invalid(reason="more than one Authorization header")
    match = BEARER.fullmatch(sent[0])
    if match is None:
        raise invalid(reason="not a bearer token")
    return match[1]
