"""Tell access tokens from other tokens that the same issuer signs with the same key (RFC 8725, 2.8 and 3.11). Pure.

Refresh tokens, ID tokens, logout tokens and password-reset tokens are signed tokens, too. None of them may open an API:
they are handed to other parties, and live longer. Each issuer says in other words what a token is, so several marks
are looked at. A token with none of these marks passes.
"""

from __future__ import annotations

from collections.abc import Mapping

from propylon.proxy.authenticate.jws import BadToken

__all__ = ["check_kind", "is_doubtful"]

# Claims by which issuers say what a token is, and the values of those that are no access tokens. Keycloak writes
# `typ: Refresh`, `ID`, `Offline` or `Logout` (and `Bearer` for access), Cognito `token_use: id` (and `access`), libraries
# for Django and Flask `token_type: refresh`.
_KIND_CLAIMS = ("token_type", "typ", "token_use", "use")
_OTHER_KINDS = frozenset(
    {
        "refresh",
        "refresh_token",
        "id",
        "id_token",
        "offline",
        "offline_token",
        "logout",
        "logout_token",
    }
)
# Hashes that only ID tokens carry (OpenID Connect Core, 3.1.3.6 and 3.3.2.11).
_ID_TOKEN_HASHES = ("at_hash", "c_hash")


def check_kind(claims: Mapping[str, object], *, audience_checked: bool) -> None:
    """Return if the claims can be those of an access token. Raises BadToken.

    `audience_checked`: the token was found to be for a configured audience. An ID token is for the client that asked
    for the login, so it does not get so far.
    """
    # Our own tokens and those of many libraries say `type`. It is strict: a password-reset token has a type, too, and
    # the words for those have no end.
    if claims.get("type", "access") != "access":
        msg = "its type is not access"
        raise BadToken(msg)
    for name in _KIND_CLAIMS:
        value = claims.get(name)
        if isinstance(value, str) and _folded(value) in _OTHER_KINDS:
            msg = f"no access token, as its {name} says"
            raise BadToken(msg)
    if not audience_checked and any(name in claims for name in _ID_TOKEN_HASHES):
        msg = (
            "an ID token, as its at_hash or c_hash shows; no audience is configured that would tell"
        )
        raise BadToken(msg)


def _folded(value: str) -> str:
    return value.strip().casefold().replace("-", "_")


def is_doubtful(claims: Mapping[str, object]) -> bool:
    """Tell whether a token may be an ID token although nothing proves it.

    A client sends `nonce` with a login and finds it in the ID token (OpenID Connect Core, 3.1.2.1). Keycloak wrote it
    into access tokens, too, so it proves nothing.
    """
    return "nonce" in claims
