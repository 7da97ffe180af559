"""Tell a team's code which trace it runs for: `current_trace`, and `request.state.trace_id` in endpoints."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from propylon.control.admin import exchange_of
from propylon.proxy.exchange import CURRENT
from propylon.proxy.trace import Trace, own_span, span_id

__all__ = ["TRACE_ID", "Traced", "current_trace"]

TRACE_ID = "trace_id"
"""The key in the state of a request: `request.state.trace_id`."""


def current_trace() -> Trace | None:
    """Return the trace of the request that this code runs for; None outside of policies and endpoints.

    In an endpoint, `trace: Annotated[Trace | None, Depends(current_trace)]` gives it, too.
    """
    exchange = CURRENT.get(None)
    if exchange is None:
        return None
    # An endpoint is an attempt of the exchange; a policy runs before there is one.
    entropy = exchange.entropy
    span = span_id(entropy, 0) if exchange.attempts else own_span(entropy)
    return Trace(
        exchange.trace_id.decode("ascii"),
        span.decode("ascii"),
        bool(int(exchange.trace_flags, 16) & 1),
    )


class Traced:
    """ASGI middleware: note for the endpoint's code which exchange it runs for."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. It runs in a task of its own, so the next request sees nothing of this."""
        exchange = exchange_of(HTTPConnection(scope)) if scope["type"] == "http" else None
        if exchange is not None:
            CURRENT.set(exchange)
            scope["state"][TRACE_ID] = exchange.trace_id.decode("ascii")
        await self._app(scope, receive, send)
