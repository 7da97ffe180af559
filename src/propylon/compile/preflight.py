"""Compile `preflight: pass`: CORS preflights of a route reach a service that answers them itself.

A browser sends no token, no privacy header and nothing else that a stage could ask for with a preflight. So these stages let
it pass. A preflight has no body, and its method is OPTIONS: what else comes to the route meets all stages.
"""

from __future__ import annotations

from dataclasses import replace

from propylon.proxy.cors import is_preflight
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.proxy.route import (
    Authenticate,
    Authorize,
    Before,
    PrivacyPreference,
    ReadPrivacy,
    Route,
    Sender,
    ignore_privacy,
)
from propylon.wire.message import NO_BODY, Request

__all__ = ["passing_preflights"]


def passing_preflights(route: Route) -> Route:
    """Return the route with stages that let preflights pass."""
    if route.beside_certificate is not None:
        route = replace(route, beside_certificate=_authenticating(route.beside_certificate))
    return replace(
        route,
        authenticate=_authenticating(route.authenticate),
        authorize=_authorizing(route.authorize),
        before=None if route.before is None else _before(route.before),
        privacy=_reading(route.privacy),
    )


def _passes(request: Request) -> bool:
    return is_preflight(request) and request.length in (NO_BODY, 0)


def _authenticating(stage: Authenticate) -> Authenticate:
    async def authenticate(request: Request, client: str) -> Principal:
        return ANONYMOUS if _passes(request) else await stage(request, client)

    return authenticate


def _authorizing(stage: Authorize) -> Authorize:
    def authorize(principal: Principal, request: Request, sender: Sender) -> None:
        if not _passes(request):
            stage(principal, request, sender)

    return authorize


def _before(stage: Before) -> Before:
    async def before(request: Request, principal: Principal) -> None:
        if not _passes(request):
            await stage(request, principal)

    return before


def _reading(stage: ReadPrivacy) -> ReadPrivacy:
    def privacy(request: Request) -> PrivacyPreference:
        return (ignore_privacy if _passes(request) else stage)(request)

    return privacy
