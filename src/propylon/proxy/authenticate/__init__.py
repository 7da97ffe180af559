"""AUTHENTICATE: say who is asking.

- `bearer`: read the token of a request.
- `verify`: say whether a token is good; `cache`: remember the verdict, within bounds.
- `jws`: take a signed token apart.
- `keys`: find the key and check the signature; `jwk`: read one published key; `jwks`: keep a published set at hand.
- `algorithms`: bind each key to what it may be used with.
- `claims`: judge what a token says, and read from it who is asking.
- `introspection`: ask the issuer about a token that says nothing by itself (RFC 7662).
- `revocation`: name the tokens that were taken back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from propylon.errors import ServiceUnavailable
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.message import Request

__all__ = ["always", "anonymous", "unverifiable", "unverifiable_if_asked"]

_MESSAGE = "Tokens cannot be verified: the gateway has no key"
_REASON = "nothing to verify tokens with is configured; routes with `auth: none` work"


async def anonymous(request: Request) -> Principal:  # noqa: ARG001 — the shared null object
    """Ask nobody (`auth: none`)."""
    return ANONYMOUS


def always(principal: Principal) -> Callable[[Request], Awaitable[Principal]]:
    """Return the stage that knows the answer, whatever the request says: for tests."""

    async def authenticate(request: Request) -> Principal:  # noqa: ARG001
        return principal

    return authenticate


async def unverifiable(request: Request) -> Principal:  # noqa: ARG001
    """Let nobody in, because nothing can be verified (`auth: required` without a key)."""
    raise ServiceUnavailable(_MESSAGE, reason=_REASON)


async def unverifiable_if_asked(request: Request) -> Principal:
    """Let in those who claim nothing (`auth: optional` without a key)."""
    if b"authorization" in request.special:
        raise ServiceUnavailable(_MESSAGE, reason=_REASON)
    return ANONYMOUS
