"""AUTHENTICATE: say who is asking."""

from __future__ import annotations

from propylon.errors import ServiceUnavailable
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.message import Request

__all__ = ["anonymous", "unverifiable", "unverifiable_if_asked"]

_MESSAGE = "Tokens cannot be verified: the gateway has no key"
_REASON = "nothing to verify tokens with is configured; routes with `auth: none` work"


async def anonymous(request: Request) -> Principal:  # noqa: ARG001 — the shared null object
    """Ask nobody (`auth: none`)."""
    return ANONYMOUS


async def unverifiable(request: Request) -> Principal:  # noqa: ARG001
    """Let nobody in, because nothing can be verified (`auth: required` without a key)."""
    raise ServiceUnavailable(_MESSAGE, reason=_REASON)


async def unverifiable_if_asked(request: Request) -> Principal:
    """Let in those who claim nothing (`auth: optional` without a key)."""
    if b"authorization" in request.special:
        raise ServiceUnavailable(_MESSAGE, reason=_REASON)
    return ANONYMOUS
