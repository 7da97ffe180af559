"""AUTHENTICATE: find out who sends a request, from its bearer token.

- `bearer`: take the token from the request (RFC 6750).
- `verify`: tell whether a token is good now; a cache of the tokens that were; `outcomes`: how that may end.
- `trust`: choose the keys and the rules for a token by its issuer.
- `jws`: parse a signed token (RFC 7515); `claims`: check what it says (RFC 7519); `kinds`: refuse other kinds of tokens.
- `claim_headers`: pass claims to a service; `accepted`: accept only the issuers that a route names.
- `certificate`: let a client with a verified certificate in without a token.
- `basic`: look a name and a password up in a file of users; `htpasswd`: read it; `guesses`: slow down who guesses passwords.
- `carriers`: take the token from a cookie or another header, and guard cookies against other sites.
- `sockets`: take the token of a WebSocket handshake also from a subprotocol or the query.
- `keys`: verify signatures; `jwk`: one published key; `algorithms`: what a key may be used for.
- `jwks`: keep a published key set up to date (RFC 7517); `key_set`: read its document.
- `introspection`: ask the issuer about an opaque token (RFC 7662); `shares`: a share of the questions for each client.
- `discovery`: read issuer and key set from a provider's own document (OpenID Connect Discovery).
- `revocation`: the port to the list of revoked tokens; `cache`: a bounded cache.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from propylon.errors import ServiceUnavailable
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.message import Request

__all__ = ["always", "anonymous", "unverifiable", "unverifiable_if_asked"]

_MESSAGE = "Tokens cannot be verified: the gateway has no key"
_REASON = "nothing to verify tokens with is configured; routes with `auth: none` work"


async def anonymous(
    request: Request, client: str = ""  # noqa: ARG001 — the shared null object
) -> Principal:
    """Authenticate nothing (`auth: none`): even a bad token is not looked at."""
    return ANONYMOUS


def always(principal: Principal) -> Callable[[Request, str], Awaitable[Principal]]:
    """Return a stage that authenticates every request as this principal: for tests."""

    async def authenticate(request: Request, client: str = "") -> Principal:  # noqa: ARG001
        return principal

    return authenticate


async def unverifiable(request: Request, client: str = "") -> Principal:  # noqa: ARG001
    """Refuse every request: the route needs a token and the gateway has no key (`auth: required`).

    503 and not 401, because no token would help the client; the operator has to act.
    """
    raise ServiceUnavailable(_MESSAGE, reason=_REASON)


async def unverifiable_if_asked(request: Request, client: str = "") -> Principal:  # noqa: ARG001
    """Refuse requests with a token, since it cannot be verified; pass the others (`auth: optional`).

    Passing a request with a token as anonymous would take a logged-in user for a stranger.
    """
    if b"authorization" in request.special:
        raise ServiceUnavailable(_MESSAGE, reason=_REASON)
    return ANONYMOUS
