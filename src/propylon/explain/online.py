"""Tell who may ask the running gateway why a request went as it did, and begin the trace of that request.

    GET /orders/7
    Authorization: Bearer …
    X-Propylon-Explain: 1

Rules.

1. Who may ask is who may use the endpoints that want admin: `admin.scope`, or `admin.scopes.explain`, and everything else
   that `admin` asks for. For anybody else the header is as good as not sent, whatever is wrong with the token.
2. The token is looked for where any request may have it: Authorization, or what `auth.from` says. It is verified by the
   gateway's own rules, because the route may verify none (`auth: none`), may refuse this one, or may not exist.
3. A client without a token costs nothing more. One with a token costs the verification that every route with `auth` costs, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from propylon.compile.access import admin_rule
from propylon.compile.carriers import compile_carriers
from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.load import Loaded
from propylon.errors import GatewayError
from propylon.explain.trace import Trace
from propylon.proxy.authenticate.carriers import Header, hidden
from propylon.proxy.authorize import AdminRule
from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Table
from propylon.proxy.route import Authenticate, Route
from propylon.wire.message import EXPLAIN, Request

__all__ = ["Explaining"]

_ASKED = [b"1"]


class Explaining:
    """Begins explanations, by the configuration in force."""

    def __init__(self, loaded: Callable[[], Loaded], stage: Callable[[], Authenticate]) -> None:
        """`loaded` returns the configuration in force; `stage` what verifies the token of a request that has one."""
        self._loaded = loaded
        self._stage = stage
        self._rules: tuple[GatewayConfig, AdminRule, Callable[[bytes], bytes] | None] | None = None
        self._counted: Loaded | None = None
        self._index: tuple[Table, dict[Route, int]] | None = None

    async def __call__(self, exchange: Exchange, request: Request) -> Trace | None:
        """Return the trace of the request to come; None if its client may not ask, or does not."""
        if request.special[EXPLAIN] != _ASKED:
            return None
        origin = exchange.downstream.origin
        try:
            principal = await self._stage()(request, origin.client)
            if not principal.known:
                return None
            rule, hide = self._of(self._loaded().config)
            rule(principal, request, origin)
        except GatewayError:
            return None
        await self._count()
        return Trace(request, self._loaded(), self._place, hide)

    def _of(self, config: GatewayConfig) -> tuple[AdminRule, Callable[[bytes], bytes] | None]:
        """Return who may ask, and what takes tokens out of a block; made once for each configuration."""
        if self._rules is None or self._rules[0] is not config:
            places = compile_carriers(config.auth.carriers)
            headers = tuple(place for place in places if isinstance(place, Header))
            hide = hidden(headers) if headers else None
            self._rules = (config, admin_rule(config, "explain"), hide)
        return self._rules[1], self._rules[2]

    async def _count(self) -> None:
        """Count the lines of the file, once for each configuration; in a thread, because a long file takes a second."""
        loaded = self._loaded()
        if self._counted is not loaded:
            await asyncio.to_thread(loaded.places.counted)
            self._counted = loaded

    def _place(self, route: Route, table: Table, written: Sequence[RouteConfig]) -> int | None:
        """Return at which place among those that were written a route of the table stands."""
        if self._index is None or self._index[0] is not table:
            self._index = (table, _indexed(table, written))
        return self._index[1].get(route)


def _indexed(table: Table, written: Iterable[RouteConfig]) -> dict[Route, int]:
    """Return the places of all routes that were written. A route of the file is compiled once for each of its hosts."""
    routes = iter([route for route in table.routes if not route.service.builtin])
    found: dict[Route, int] = {}
    for at, one in enumerate(written):
        for _host in one.hosts or ("any",):
            route: Any = next(routes, None)
            if route is not None:
                found[route] = at
    return found
