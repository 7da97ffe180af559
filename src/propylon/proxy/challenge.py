"""Make the 401 and 403 errors of authentication, with WWW-Authenticate as RFC 6750, 3 defines it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from propylon.errors import AuthError, Forbidden

__all__ = ["EXPIRED", "insufficient", "invalid", "missing", "unlike"]

# RFC 9110, 11.6.1: a 401 must have this header. Clients such as browsers and OAuth libraries act on it: they ask for
# a login without `error`, refresh the token at `invalid_token`, and ask the user for more at `insufficient_scope`.
_NAME = b"WWW-Authenticate"
EXPIRED = "Token has expired"
# Characters of a claim that the log shows: enough for an issuer's URL, too few to fill a disk.
_LONGEST = 160


def missing(reason: str = "") -> AuthError:
    """Return the 401 for a request without a token; RFC 6750, 3.1: it should carry no error code then."""
    return AuthError("A bearer token is required", headers=((_NAME, b"Bearer"),), reason=reason)


def invalid(reason: str, *, expired: bool = False) -> AuthError:
    """Return the 401 for a bad token. `reason` is for the log: no token and no part of one, but names such as its issuer.

    The client is told only whether the token has expired. What else is wrong with a token helps no honest client,
    which cannot repair it, but helps a forger.
    """
    # A fixed text: nothing of the token is reflected into a header.
    message = EXPIRED if expired else "The token is not valid"
    challenge = f'Bearer error="invalid_token", error_description="{message}"'
    return AuthError(message, headers=((_NAME, challenge.encode("ascii")),), reason=reason)


def insufficient(message: str, scopes: Iterable[str] = (), reason: str = "") -> Forbidden:
    """Return the 403 for a known principal; `scopes` are the ones that the route needs, `reason` is for the log."""
    challenge = 'Bearer error="insufficient_scope"'
    if needed := " ".join(sorted(scopes)):
        challenge += f', scope="{needed}"'
    return Forbidden(message, headers=((_NAME, challenge.encode("ascii")),), reason=reason)


def unlike(said: str, found: object, expected: Iterable[str]) -> str:
    """Return `said` with what a token has and what was expected, for the log.

    What a token says may be an attacker's text: it is shown as JSON in ASCII, which ends no line and controls no terminal.
    """
    wanted = ", ".join(sorted(expected)) or "none"
    return f"{said}: it has {_shown(found)}, expected is {wanted}"


def _shown(found: object) -> str:
    if found is None or isinstance(found, str | int | float | list):
        text = "none" if found is None else json.dumps(found)
        return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return f"a {type(found).__name__}"
