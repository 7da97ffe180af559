"""Say by what the answer to a request would be looked up in the cache of its route, or why it would not be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from propylon.compile.cache import cache_rules
from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.proxy.cache.asking import Asking
from propylon.proxy.cache.key import Callers, key_of
from propylon.proxy.cache.rules import EVERYONE, CacheRules
from propylon.proxy.cache.stage import asking_of, passes_by
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Route
from propylon.upstream.ports import Answer
from propylon.wire.message import Request

__all__ = ["noting_cache"]

_NEVER = "no-store, private, Set-Cookie and Vary: * are never stored; Cache-Status says what became of each answer"


def noting_cache(
    route: Route, written: RouteConfig | None, config: GatewayConfig, note: Callable[[str], None]
) -> Route:
    """Return the route with a forward stage that first notes what its cache would do; unchanged if it has none."""
    rules = None if written is None else cache_rules(config, written)
    if rules is None:
        return route

    async def forward(exchange: Exchange, request: Request, same: Route) -> Answer:
        note(_verdict(exchange, request, rules))
        answer: Answer = await route.forward(exchange, request, same)
        return answer

    return replace(route, forward=forward)


def _verdict(exchange: Exchange, request: Request, rules: CacheRules) -> str:
    asking = asking_of(request)
    reason = passes_by(exchange, request, asking, rules)
    if reason:
        return f"passes by the cache: {reason}"
    key = key_of(exchange, request, asking, rules, Callers())
    _, scheme, host, path, query, _ = (part.decode("latin-1") for part in key)
    parts = [f"{scheme}://{host}{path}{query}", _whose(exchange, asking, rules)]
    if rules.vary:
        parts.append(b", ".join(rules.vary).decode("ascii"))
    if asking.steering:
        parts.append("headers of this request that no Vary names (X-…, Origin)")
    text = "looked up by " + ", ".join(parts) + ", and what Vary names"
    return f"{text}; {_NEVER}" if rules.stores else f"{text}; only shared with who asks meanwhile"


def _whose(exchange: Exchange, asking: Asking, rules: CacheRules) -> str:
    principal = exchange.principal
    if rules.by == EVERYONE:
        return "everyone alike"
    if not principal.known:
        return (
            "its Cookie and Authorization" if asking.credentials else "anonymous, without a cookie"
        )
    return f"claim {rules.by} of {principal}" if rules.claim else f"caller {principal}"
