"""Compile the table of the listeners that only redirect to https (`server.listen[].redirect`)."""

from __future__ import annotations

from collections.abc import Iterator

from propylon.compile.routes import BUILTIN_SERVICE
from propylon.config.models.endpoints import REDIRECT
from propylon.config.models.listeners import Tcp
from propylon.config.models.schema import GatewayConfig
from propylon.proxy.authenticate import anonymous
from propylon.proxy.authorize import anybody
from propylon.proxy.match import Table
from propylon.proxy.redirect import to_https
from propylon.proxy.route import Pattern, Route
from propylon.services import balance
from propylon.services.service import Fleet, Service

__all__ = ["https_port", "redirecting_table"]

_HTTPS = 443


def https_port(config: GatewayConfig) -> int:
    """Return the port of the first listener that speaks TLS; 443 where none says a port of its own."""
    return next(_tls_ports(config), _HTTPS)


def _tls_ports(config: GatewayConfig) -> Iterator[int]:
    for listener in config.server.listen or ():
        address = listener.parsed
        if listener.tls and isinstance(address, Tcp) and address.port:
            yield address.port


def redirecting_table(config: GatewayConfig) -> Table | None:
    """Return a table with one route, which redirects; None where no listener redirects."""
    if not any(listener.redirect for listener in config.server.listen or ()):
        return None
    service = Service(BUILTIN_SERVICE, Fleet(()), balance.round_robin(), builtin=True)
    route = Route(
        name=REDIRECT,
        pattern=Pattern(()),
        service=service,
        authenticate=anonymous,
        authorize=anybody,
        timeouts=service.timeouts,
        max_body=config.server.max_body,
        forward=to_https(https_port(config)),
        listener=REDIRECT,
    )
    return Table([route])
