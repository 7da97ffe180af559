"""Read the bearer token of a request (RFC 6750, 2.1) and have it verified."""

from __future__ import annotations

from propylon.proxy.authenticate.verify import Verifier
from propylon.proxy.challenge import invalid, missing
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.grammar import BEARER
from propylon.wire.message import Request

__all__ = ["Bearer"]

_USUAL = b"Bearer "


class Bearer:
    """AUTHENTICATE by bearer token: the stage of a route."""

    __slots__ = ("_required", "_verifier")

    def __init__(self, verifier: Verifier, *, required: bool) -> None:
        """Let nobody in without a good token; or, where none is required, nobody with a bad one."""
        self._verifier = verifier
        self._required = required

    async def __call__(self, request: Request) -> Principal:
        """Return who is asking. Raises AuthError, or ServiceUnavailable when nobody can tell."""
        sent = request.special.get(b"authorization")
        if sent is None:
            if self._required:
                raise missing()
            return ANONYMOUS
        value = sent[0]
        if len(sent) == 1 and value[:7] == _USUAL:
            known = self._verifier.remembered(value[7:])
            if known is not None:
                return known.principal
        verified = await self._verifier.verify(_token(sent))
        return verified.principal


def _token(sent: list[bytes]) -> bytes:
    if len(sent) != 1:
        raise invalid(reason="more than one Authorization header")
    match = BEARER.fullmatch(sent[0])
    if match is None:
        raise invalid(reason="not a bearer token")
    return match[1]
