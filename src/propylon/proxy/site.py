"""Tell where an answer comes from, and the address by which the client knows that place. Pure."""

from __future__ import annotations

from propylon.proxy.exchange import Exchange
from propylon.proxy.public import Site
from propylon.proxy.route import Route
from propylon.proxy.values import target_of

__all__ = ["site_of"]


def site_of(exchange: Exchange, route: Route) -> Site:
    """Return where the answer comes from, and the address by which the client knows that place."""
    request, instance = exchange.request, exchange.instance
    if request is None or instance is None or route.public is None:
        return Site((), b"", b"")
    origin = exchange.downstream.origin
    base, prefix = instance.base, origin.root
    target = target_of(exchange, request, route)
    rewrite = route.rewrite if target is None else target[0]
    if rewrite is not None:
        base += rewrite.replacement(request.path)
        prefix += rewrite.prefix(request.path)
    hosts: tuple[bytes, ...] = (instance.host, instance.id.encode())
    if route.service.host is not None:  # the upstream was asked by that name
        hosts += (route.service.host or origin.host or request.host,)
    public = route.public.origin
    if not public and route.pattern.host is not None and request.host:
        # A trusted proxy may call a WebSocket's handshake ws or wss; what it answers leads to http or https.
        scheme = origin.scheme.replace("ws", "http")
        public = b"%b://%b" % (scheme.encode(), request.host)
    return Site(hosts, base, prefix.rstrip(b"/"), public)
