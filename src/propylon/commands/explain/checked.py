"""Say against what the requests of a route are checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from propylon.config.models.schema import RouteConfig
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Route
from propylon.upstream.ports import Answer
from propylon.wire.message import Request

__all__ = ["noting_checks"]

_THEN = {
    "validate": "one that does not fit is refused, with 422, or 400 where the body is no JSON",
    "shadow": "one that does not fit is counted and logged, and passes",
}


def noting_checks(route: Route, written: RouteConfig | None, note: Callable[[str], None]) -> Route:
    """Return the route with a forward stage that first notes what is checked; unchanged if nothing is.

    Documents are known to the running gateway alone.
    """
    if written is None or written.requests == "off":
        return route
    others = "is refused, too" if written.undocumented == "refuse" else "passes"

    async def forward(exchange: Exchange, request: Request, same: Route) -> Answer:
        note(
            f'{written.requests}: against the document of "{written.service}", which only the running gateway knows;'
            f" {_THEN[written.requests]}; what the document does not have {others}"
        )
        answer: Answer = await route.forward(exchange, request, same)
        return answer

    return replace(route, forward=forward)
