"""AUTHENTICATE: accept on a route only the tokens of the issuers that it names (`issuers`)."""

from __future__ import annotations

from collections.abc import Iterable

from propylon.proxy.challenge import invalid, unlike
from propylon.proxy.principal import Principal
from propylon.proxy.route import Authenticate
from propylon.wire.message import Request

__all__ = ["AcceptedIssuers"]


class AcceptedIssuers:
    """The authenticate stage of a route with `issuers`: the usual stage, and then a look at who issued the token."""

    __slots__ = ("_issuers", "_stage")

    def __init__(self, stage: Authenticate, issuers: Iterable[str]) -> None:
        """`stage` verifies the token."""
        self._stage = stage
        self._issuers = frozenset(issuers)

    async def __call__(self, request: Request, client: str = "") -> Principal:
        """Return the principal. Raises AuthError for a token of another issuer, and what the usual stage raises."""
        principal = await self._stage(request, client)
        # 401 and not 403: the client may get a token that is good here, from an issuer that the route accepts.
        if principal.known and principal.issuer not in self._issuers:
            said = "not from an issuer that this route accepts (iss)"
            raise invalid(reason=unlike(said, principal.issuer, self._issuers))
        return principal
