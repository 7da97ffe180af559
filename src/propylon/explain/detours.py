"""Say what else becomes of a request: what would answer if the service failed, and who gets a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from propylon.config.models.fallback import FallbackConfig
from propylon.config.models.mirror import MirrorConfig
from propylon.config.models.route import RouteConfig
from propylon.proxy.exchange import Exchange, StandIn
from propylon.proxy.route import Route
from propylon.upstream.ports import Answer
from propylon.wire.message import Request

__all__ = ["noting_detours", "stand_in_text"]

_BY = {
    "stored": "the last answer of the cache",
    "fixed": "a fixed answer",
    "service": "another service",
}


def noting_detours(
    route: Route,
    written: RouteConfig | None,
    note: Callable[[Literal["fallback", "mirror"], str], None],
) -> Route:
    """Return the route with a forward stage that first notes them; unchanged if there are none."""
    if written is None or (written.fallback is None and written.mirror is None):
        return route

    async def forward(exchange: Exchange, request: Request, same: Route) -> Answer:
        if written.fallback is not None:
            note("fallback", _fallback_text(written.fallback))
        if written.mirror is not None:
            note("mirror", _mirror_text(written.mirror))
        answer: Answer = await route.forward(exchange, request, same)
        return answer

    return replace(route, forward=forward)


def _fallback_text(written: FallbackConfig) -> str:
    answers = [_BY["stored"]] if written.stored else []
    if written.service:
        answers.append(f'service "{written.service}", if the request can be sent once more')
    if written.respond is not None:
        answers.append(f"a fixed answer, {written.respond.status}")
    failures = ", ".join(map(str, written.on))
    return f"not needed so far; after {failures}: {', else '.join(answers)}"


def _mirror_text(written: MirrorConfig) -> str:
    return (
        f'{written.share * 100:g} % of the requests go to service "{written.service}", too, with bodies up to {written.max_body} bytes;'
        f" {written.max_in_flight} at a time"
    )


def stand_in_text(stand_in: StandIn, status: int) -> str:
    """Say what has answered."""
    return f"after {stand_in.reason} of {stand_in.service}: {_BY[stand_in.by]}, {status}"
