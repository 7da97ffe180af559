"""Note what each stage of a route says about a request.

A route's stages are values of it, so a wrapped stage takes the place of each, and notes what it says. Nothing is decided
here a second time: what is noted is what the data plane has done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from propylon.config.models.units import Rate
from propylon.errors import Forbidden, GatewayError, Maintenance
from propylon.proxy.limit.rule import MICROSECONDS
from propylon.proxy.limit.stage import Limit, LimitStage
from propylon.proxy.maintenance import Maintained
from propylon.proxy.principal import Principal
from propylon.proxy.route import (
    Admits,
    Authenticate,
    Authorize,
    Limited,
    PrivacyPreference,
    Route,
    Sender,
)
from propylon.wire.message import Request

__all__ = [
    "STAGES",
    "Note",
    "Stage",
    "Verdict",
    "limit_text",
    "match_text",
    "recorded",
    "told",
    "verdict",
]

Stage = Literal[
    "read",
    "match",
    "clients",
    "maintenance",
    "privacy",
    "authenticate",
    "authorize",
    "policies",
    "limit",
    "forward_auth",
    "requests",
    "cache",
    "forward",
    "fallback",
    "mirror",
]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a stage said: whether it let the request pass, and why."""

    stage: Stage
    passed: bool
    text: str


Note = Callable[[Stage, str | GatewayError], None]
"""Takes the verdict of a stage: a text if it let the request pass, else the error."""


def verdict(stage: Stage, said: str | GatewayError) -> Verdict:
    """Return the verdict of a stage."""
    if isinstance(said, str):
        return Verdict(stage, passed=True, text=said)
    return Verdict(stage, passed=False, text=_error_text(said))


def _error_text(error: GatewayError) -> str:
    """Say what the client gets to hear of an error, and the reason that only operators may see."""
    text = f"{error.status} {error.code}: {error.message}"
    return f"{text} ({error.reason})" if error.reason else text


# Stages that not every route has: they are told of only where they said something.
_OF_SOME = frozenset(
    {
        "clients",
        "maintenance",
        "policies",
        "forward_auth",
        "requests",
        "cache",
        "fallback",
        "mirror",
    }
)


def told(
    verdicts: Iterable[Verdict], values: Mapping[Stage, dict[str, dict[str, Any]]], *, limited: bool
) -> list[dict[str, Any]]:
    """Return what each stage said, in order, with the values that it goes by; the last verdict of a stage counts.

    `limited`: the route has limits, so the request has that stage.
    """
    said = {one.stage: one for one in verdicts}
    stages = [
        one
        for one in STAGES
        if one in said or not (one in _OF_SOME or (one == "limit" and not limited))
    ]
    return [
        {
            "stage": stage,
            "passed": said[stage].passed if stage in said else None,
            "text": said[stage].text if stage in said else "not reached",
            **({"values": values[stage]} if values.get(stage) else {}),
        }
        for stage in stages
    ]


def recorded(route: Route, note: Note, stage: Authorize, more: str = "") -> Route:
    """Return the route with stages that also note their verdicts.

    `stage` is the authorize stage, and `more` what is said of it besides.
    """

    def privacy(request: Request) -> PrivacyPreference:
        try:
            preference = route.privacy(request)
        except GatewayError as error:
            note("privacy", error)
            raise
        note("privacy", preference.level or "the client states no preference")
        return preference

    def authorize(principal: Principal, request: Request, sender: Sender) -> None:
        try:
            stage(principal, request, sender)
        except GatewayError as error:
            note("authorize", error)
            raise
        note("authorize", f"{principal} is allowed{more}")

    sockets = route.sockets
    if sockets is not None:
        sockets = replace(sockets, authenticate=_noted(sockets.authenticate, note))
    beside = route.beside_certificate
    return replace(
        route,
        clients=None if route.clients is None else _noted_clients(route.clients, note),
        privacy=privacy,
        privacy_applies=True,
        authenticate=_noted(route.authenticate, note),
        beside_certificate=None if beside is None else _noted(beside, note),
        authorize=authorize,
        sockets=sockets,
    )


def _noted_clients(stage: Admits, note: Note) -> Admits:
    """Return the stage that lets addresses pass, that also notes its verdict."""
    rule = stage.clients if isinstance(stage, Maintained) else stage

    def clients(request: Request, sender: Sender) -> None:
        try:
            stage(request, sender)
        except Forbidden as error:
            note("clients", error)
            raise
        except Maintenance as error:
            if rule is not None:
                note("clients", f"{sender.client} may ask")
            note("maintenance", error)
            raise
        if rule is not None:
            note("clients", f"{sender.client} may ask")
        if rule is not stage:
            note("maintenance", f"{sender.client} is in maintenance.allow")

    return clients


def _noted(stage: Authenticate, note: Note) -> Authenticate:
    """Return the authenticate stage, of requests or of handshakes, that also notes its verdict."""

    async def authenticate(request: Request, client: str) -> Principal:
        try:
            principal = await stage(request, client)
        except GatewayError as error:
            note("authenticate", error)
            raise
        issuer = f" of {principal.issuer}" if principal.issuer else ""
        note("authenticate", f"{principal}{issuer}")
        return principal

    return authenticate


def match_text(route: Route) -> str:
    """Say which route matched, and by what besides its path."""
    conditions = route.pattern.conditions
    by = "" if conditions is None else f"by {conditions}: "
    share = f', whose split gives it to service "{route.service.name}" ({route.share})'
    return f'{by}route "{route.name}"{share if route.share else ""}'


def limit_text(stage: Limited | None) -> str:
    """Say what the limits of a route are."""
    if not isinstance(stage, LimitStage):
        return ""
    return "; ".join(map(_limit_text, stage.limits))


def _limit_text(limit: Limit) -> str:
    rule, parts = limit.rule, []
    if limit.rated:
        rate = Rate(rule.amount, rule.period / MICROSECONDS)
        window = "in any window" if rule.sliding else f"{rule.burst} at once"
        parts.append(f"{rate}, {window}")
    if limit.in_flight is not None:
        parts.append(f"{limit.in_flight.most} in flight")
    shadow = " (shadow)" if rule.shadow else ""
    return f"{rule.id}: {', '.join(parts)}, by {' and '.join(limit.by)}{shadow}"
