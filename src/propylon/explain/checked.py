"""Say against what the requests of a route are checked, before the cache is asked."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.explain.asked import noting_question
from propylon.explain.cached import noting_cache
from propylon.explain.detours import noting_detours
from propylon.explain.stages import Note
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Route
from propylon.upstream.ports import Answer
from propylon.wire.message import Request

__all__ = ["noting"]

_THEN = {
    "validate": "one that does not fit is refused, with 422, or 400 where the body is no JSON",
    "shadow": "one that does not fit is counted and logged, and passes",
}


def noting(
    route: Route,
    written: RouteConfig | None,
    config: GatewayConfig,
    note: Note,
) -> Route:
    """Return the route with a forward stage that notes who decides, what is checked, and what its cache would do.

    Documents are known to the running gateway alone.
    """
    return noting_question(
        route,
        written,
        partial(note, "forward_auth"),
        lambda inner: _noting_checks(inner, written, config, note),
    )


def _noting_checks(
    route: Route, written: RouteConfig | None, config: GatewayConfig, note: Note
) -> Route:
    route = noting_detours(route, written, note)
    route = noting_cache(route, written, config, partial(note, "cache"))
    if written is None or written.requests == "off":
        return route
    others = "is refused, too" if written.undocumented == "refuse" else "passes"

    async def forward(exchange: Exchange, request: Request, same: Route) -> Answer:
        note(
            "requests",
            f'{written.requests}: against the document of "{written.service}", which only the running gateway knows;'
            f" {_THEN[written.requests]}; what the document does not have {others}",
        )
        answer: Answer = await route.forward(exchange, request, same)
        return answer

    return replace(route, forward=forward)
