"""Sign a token to try things out with."""

from __future__ import annotations

from propylon.assembly.accounts import issuer_of
from propylon.config.models.units import parse_timeout
from propylon.config.reading.load import Loaded
from propylon.proxy.principal import Principal, identify

__all__ = ["CannotSign", "minted"]

_LONGEST_SUBJECT = 256


class CannotSign(Exception):
    """There is no token; the message is one clear sentence."""


def minted(loaded: Loaded, asked: Principal, expires: str) -> str:
    """Return a token for whoever is asked for. Raises CannotSign."""
    try:
        identify(asked)  # what does not fit into the identity headers, no token may say
        life = parse_timeout(expires)
    except ValueError as error:
        raise CannotSign(str(error)) from error
    if not 0 < len(asked.subject) <= _LONGEST_SUBJECT:
        msg = f"a subject has 1 to {_LONGEST_SUBJECT} characters"
        raise CannotSign(msg)
    auth = loaded.config.auth
    # For trying out, the endpoint need not be there.
    tokens = auth.tokens.model_copy(update={"enabled": True, "expires": life})
    issuer = issuer_of(auth.model_copy(update={"tokens": tokens}))
    if issuer is None:
        msg = "there is no secret to sign tokens with; set JWT_SECRET_KEY, or write auth.jwt.secret"
        raise CannotSign(msg)
    return issuer.issue(
        asked.subject, scopes=asked.scopes, roles=asked.roles, email=asked.email
    ).token
