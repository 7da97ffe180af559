"""AUTHENTICATE: say who is asking.

`bearer` reads the token of a request, `verify` says whether it is good: `jws` takes it apart, `keys` checks
the signature (of a fixed key, or of a set that `jwks` keeps at hand), `claims` judges what it says,
`introspection` asks about one that says nothing by itself, `revocation` names those taken back.
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
