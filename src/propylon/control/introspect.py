"""Answer token introspection (RFC 7662)."""

from __future__ import annotations

from collections.abc import Mapping

from propylon.control.ports import Verify
from propylon.control.token_schemas import Introspected
from propylon.errors import AuthError
from propylon.proxy.authenticate.claims import Verified

__all__ = ["introspect"]


async def introspect(verify: Verify, token: str) -> Introspected:
    """Return the claims of a valid access token; for any other token only `active: false`.

    A refresh token is not active either. A resource server that looks at `active` alone would otherwise accept it as
    an access token.
    """
    try:
        verified = await verify(token.encode("utf-8", "replace"))
    except AuthError:
        return Introspected(active=False)
    return _introspected(verified)


def _introspected(verified: Verified) -> Introspected:
    principal = verified.principal
    claims = principal.claims
    issuer, audience = claims.get("iss"), claims.get("aud")
    return Introspected(
        active=True,
        scope=" ".join(sorted(principal.scopes)),
        sub=principal.subject,
        username=principal.subject,
        token_type="bearer",  # noqa: S106 — the name of a scheme
        # The token's own `exp`: `verified.expires` includes the gateway's leeway.
        exp=_numeric(claims, "exp"),
        iat=_numeric(claims, "iat"),
        jti=verified.token_id,
        iss=issuer if isinstance(issuer, str) else None,
        aud=audience if isinstance(audience, str | list) else None,
        roles=sorted(principal.roles),
    )


def _numeric(claims: Mapping[str, object], name: str) -> int | float | None:
    value = claims.get(name)
    return value if isinstance(value, int | float) else None
