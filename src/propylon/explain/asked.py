"""Say what the service that decides about requests has said (`forward_auth`), or that it would be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from propylon.compile.forward_auth import shown_url
from propylon.config.models.route import RouteConfig
from propylon.errors import GatewayError, Refused
from propylon.proxy.exchange import Exchange
from propylon.proxy.forward_auth import FLAG_OPEN, FLAG_REFUSED, ForwardAuth
from propylon.proxy.route import Forwards, Route
from propylon.upstream.ports import Answer
from propylon.wire.message import Request

__all__ = ["noting_question"]

Note = Callable[[str | GatewayError], None]


def noting_question(
    route: Route, written: RouteConfig | None, note: Note, within: Callable[[Route], Route]
) -> Route:
    """Return the route with a forward stage that also notes the verdict of the service that is asked.

    `within` makes the stages behind the question tell what they do.
    """
    question = route.forward
    if isinstance(question, ForwardAuth):
        inner = within(replace(route, forward=question.then))
        return replace(route, forward=_asked(question, inner.forward, note))
    route = within(route)
    if written is None or not written.forward_auth:
        return route
    text = f"{shown_url(written.forward_auth.url)} decides, and is not asked here; its 2xx lets the request pass"
    return replace(route, forward=_unasked(route.forward, text, note))


def _unasked(then: Forwards, text: str, note: Note) -> Forwards:
    async def forward(exchange: Exchange, request: Request, route: Route) -> Answer:
        note(text)
        answer: Answer = await then(exchange, request, route)
        return answer

    return forward


def _asked(question: ForwardAuth, then: Forwards, note: Note) -> Forwards:
    url = question.decider.url

    async def passed(exchange: Exchange, request: Request, route: Route) -> Answer:
        without = FLAG_OPEN in exchange.flags
        note(f"{url} gave no answer, and the request passes" if without else f"{url} lets it pass")
        answer: Answer = await then(exchange, request, route)
        return answer

    inner = replace(question, then=passed)

    async def forward(exchange: Exchange, request: Request, route: Route) -> Answer:
        try:
            answer: Answer = await inner(exchange, request, route)
        except GatewayError as error:
            if str(error.reason).startswith("forward_auth: "):
                note(error)
            raise
        if FLAG_REFUSED in exchange.flags:
            note(Refused(answer.head.status, "REFUSED", f"{url} answered so"))
        return answer

    return forward
