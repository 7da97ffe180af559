"""Make the 401 and 403 errors of authentication, with WWW-Authenticate as RFC 6750, 3 defines it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from propylon.errors import AuthError, Forbidden

__all__ = ["insufficient", "invalid", "missing"]

# RFC 9110, 11.6.1: a 401 must have this header. Clients such as browsers and OAuth libraries act on it: they ask for
# a login without `error`, refresh the token at `invalid_token`, and ask the user for more at `insufficient_scope`.
_NAME = b"WWW-Authenticate"


def missing(reason: str = "") -> AuthError:
    """Return the 401 for a request without a token; RFC 6750, 3.1: it should carry no error code then."""
    return AuthError("A bearer token is required", headers=((_NAME, b"Bearer"),), reason=reason)


def invalid(reason: str, *, expired: bool = False) -> AuthError:
    """Return the 401 for a bad token. `reason` is for the log and must hold nothing of the token.

    The client is told only whether the token has expired. What else is wrong with a token helps no honest client,
    which cannot repair it, but helps a forger.
    """
    # A fixed text: nothing of the token is reflected into a header.
    message = "Token has expired" if expired else "The token is not valid"
    challenge = f'Bearer error="invalid_token", error_description="{message}"'
    return AuthError(message, headers=((_NAME, challenge.encode("ascii")),), reason=reason)


def insufficient(message: str, scopes: Iterable[str] = ()) -> Forbidden:
    """Return the 403 for a known principal; `scopes` are the ones that the route needs."""
    challenge = 'Bearer error="insufficient_scope"'
    if needed := " ".join(sorted(scopes)):
        challenge += f', scope="{needed}"'
    return Forbidden(message, headers=((_NAME, challenge.encode("ascii")),))
