"""Sign a token for trying things out, with the secret of the configuration."""

from __future__ import annotations

from propylon.assembly.accounts import issuer_of
from propylon.config.models.units import parse_timeout
from propylon.config.reading.load import Loaded
from propylon.proxy.principal import Principal, identify

__all__ = ["TokenNotSigned", "sign_token"]

_LONGEST_SUBJECT = 256


class TokenNotSigned(Exception):
    """The token cannot be signed; the message says why, for the user of the command."""


def sign_token(loaded: Loaded, principal: Principal, expires: str) -> str:
    """Return a token for this principal, valid for `expires` (such as `10m`). Raises TokenNotSigned."""
    try:
        identify(principal)  # refuses values that the identity headers cannot carry
        life = parse_timeout(expires)
    except ValueError as error:
        raise TokenNotSigned(str(error)) from error
    if not 0 < len(principal.subject) <= _LONGEST_SUBJECT:
        msg = f"a subject has 1 to {_LONGEST_SUBJECT} characters"
        raise TokenNotSigned(msg)
    auth = loaded.config.auth
    # The command signs also where the token endpoint is switched off.
    tokens = auth.tokens.model_copy(update={"enabled": True, "expires": life})
    issuer = issuer_of(auth.model_copy(update={"tokens": tokens}))
    if issuer is None:
        msg = "there is no secret to sign tokens with; set JWT_SECRET_KEY, or write auth.jwt.secret"
        raise TokenNotSigned(msg)
    return issuer.issue(
        principal.subject,
        scopes=principal.scopes,
        roles=principal.roles,
        email=principal.email,
    ).token
