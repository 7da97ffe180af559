"""Explain a token to who may know (RFC 7662)."""

from __future__ import annotations

from collections.abc import Mapping

from propylon.control.ports import Verify
from propylon.control.token_schemas import Introspected
from propylon.errors import AuthError
from propylon.proxy.authenticate.claims import Verified

__all__ = ["introspect"]


async def introspect(verify: Verify, token: str) -> Introspected:
    """Return what an access token says, as long as it is good.

    Of a refresh token nothing is told: who asks may look at `active` alone, and would take it for an
    access token.
    """
    try:
        verified = await verify(token.encode("utf-8", "replace"))
    except AuthError:
        return Introspected(active=False)
    return _told(verified)


def _told(verified: Verified) -> Introspected:
    principal = verified.principal
    claims = principal.claims
    issuer, audience = claims.get("iss"), claims.get("aud")
    return Introspected(
        active=True,
        scope=" ".join(sorted(principal.scopes)),
        sub=principal.subject,
        username=principal.subject,
        token_type="bearer",  # noqa: S106 — the name of a scheme
        # As the token says it: the leeway, which `verified.expires` has in it, is our own business.
        exp=_moment(claims, "exp"),
        iat=_moment(claims, "iat"),
        jti=verified.token_id,
        iss=issuer if isinstance(issuer, str) else None,
        aud=audience if isinstance(audience, str | list) else None,
        roles=sorted(principal.roles),
    )


def _moment(claims: Mapping[str, object], name: str) -> int | float | None:
    value = claims.get(name)
    return value if isinstance(value, int | float) else None
