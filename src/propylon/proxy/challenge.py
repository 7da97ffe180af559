"""Say why nobody is let in, as RFC 6750 (section 3) has it: a 401 that tells the client what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from propylon.errors import AuthError, Forbidden

__all__ = ["insufficient", "invalid", "missing"]

_NAME = b"WWW-Authenticate"


def missing(reason: str = "") -> AuthError:
    """Ask for a token. Without any credentials, no error code is told (RFC 6750, 3.1)."""
    return AuthError("A bearer token is required", headers=((_NAME, b"Bearer"),), reason=reason)


def invalid(reason: str, *, expired: bool = False) -> AuthError:
    """Refuse a token; `reason` is for the log and must hold nothing of the token.

    The client learns no more than whether the token has merely expired: what is wrong with a forged
    one is of use to a forger only.
    """
    message = "Token has expired" if expired else "The token is not valid"
    challenge = f'Bearer error="invalid_token", error_description="{message}"'
    return AuthError(message, headers=((_NAME, challenge.encode("ascii")),), reason=reason)


def insufficient(message: str, scopes: Iterable[str] = ()) -> Forbidden:
    """Refuse somebody known; name the scopes that would do."""
    challenge = 'Bearer error="insufficient_scope"'
    if needed := " ".join(sorted(scopes)):
        challenge += f', scope="{needed}"'
    return Forbidden(message, headers=((_NAME, challenge.encode("ascii")),))
