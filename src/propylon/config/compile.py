"""Compile what was written into what runs: the only bridge from `*Config` to the data plane."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from propylon.config.endpoints import LOOPBACK, PUBLIC
from propylon.config.schema import OWN_SERVICE, GatewayConfig, RouteConfig, ServiceConfig
from propylon.proxy import balance
from propylon.proxy.authenticate import anonymous, unverifiable, unverifiable_if_asked
from propylon.proxy.authorize import anybody, loopback_only
from propylon.proxy.match import Authenticate, Authorize, Pattern, Route, Table
from propylon.proxy.service import Balance, Instance, Service
from propylon.upstream.exchange import Timeouts, Upstream
from propylon.upstream.pool import Address
from propylon.wire.headers import render

__all__ = ["OWN_SERVICE", "Connect", "compile_table"]

# How an address becomes something that can be asked: (address, most connections).
Connect = Callable[[Address, int], Upstream]

_PORTS = {"http": 80, "https": 443}
_AUTHENTICATE: dict[str, Authenticate] = {
    "none": anonymous,
    "optional": unverifiable_if_asked,
    "required": unverifiable,
}


@dataclass(frozen=True, slots=True)
class _Compiler:
    config: GatewayConfig
    connect: Connect
    chance: Callable[[], float]

    def service(self, name: str, written: ServiceConfig) -> Service:
        instances = tuple(self._instance(url, written.max_connections) for url in written.urls)
        timeouts = written.timeouts
        return Service(
            name=name,
            instances=instances,
            balance=self._balance(written.balance),
            timeouts=Timeouts(
                connect=timeouts.connect,
                first_byte=timeouts.first_byte,
                idle=timeouts.idle,
                total=timeouts.total,
                max_duration=timeouts.max_duration or float("inf"),
            ),
            forward_token=written.forward_token,
        )

    def _balance(self, name: str) -> Balance:
        if name == "random":
            return balance.random(self.chance)
        return balance.least_connections() if name != "round_robin" else balance.round_robin()

    def _instance(self, url: str, limit: int) -> Instance:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or _PORTS[parts.scheme]
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return Instance(
            id=f"{host}:{port}",
            host=parts.netloc.encode("idna" if not parts.netloc.isascii() else "ascii"),
            base=parts.path.rstrip("/").encode("ascii"),
            upstream=self.connect(Address(host, port, tls), limit),
        )

    def routes(self, written: RouteConfig, service: Service) -> Iterable[Route]:
        segments = _segments(written.path)
        replaces = written.strip_prefix or written.rewrite is not None
        rules = written.headers
        template = partial(
            Route,
            name=written.name or written.path,
            service=service,
            authenticate=_AUTHENTICATE[written.auth],
            authorize=anybody,
            timeouts=self._timeouts(written, service.timeouts),
            max_body=self.config.server.max_body if written.max_body is None else written.max_body,
            replaced=len(segments) if replaces else 0,
            replacement=(written.rewrite or "").rstrip("/").encode("ascii"),
            request_remove=_names(rules.request.remove, rules.request.set),
            request_set=_lines(rules.request.set),
            response_remove=_names(rules.response.remove, rules.response.set),
            response_set=_lines(rules.response.set),
        )
        for host in written.hosts or (None,):
            yield template(
                pattern=Pattern(
                    segments=segments,
                    exact=written.exact,
                    host=host.lower().encode("ascii") if host is not None else None,
                    methods=frozenset(written.methods) or None,
                    priority=written.priority,
                )
            )

    def _timeouts(self, written: RouteConfig, base: Timeouts) -> Timeouts:
        over = written.timeouts
        return Timeouts(
            connect=_either(over.connect, base.connect),
            first_byte=_either(over.first_byte, base.first_byte),
            idle=_either(over.idle, base.idle),
            total=_either(over.total, base.total),
            max_duration=_either(over.max_duration, base.max_duration),
        )

    def own_routes(self, upstream: Upstream) -> Iterable[Route]:
        instance = Instance(id=OWN_SERVICE, host=b"propylon", base=b"", upstream=upstream)
        service = Service(OWN_SERVICE, (instance,), balance.round_robin(), own=True)
        for path in PUBLIC:
            yield self._own(path, service, anybody)
        for path in LOOPBACK:
            yield self._own(path, service, loopback_only)

    def _own(self, path: str, service: Service, authorize: Authorize) -> Route:
        return Route(
            name=path,
            pattern=Pattern(_segments(path), exact=True, methods=frozenset({"GET", "HEAD"})),
            service=service,
            authenticate=anonymous,
            authorize=authorize,
            timeouts=service.timeouts,
            max_body=0,
        )


def compile_table(
    config: GatewayConfig, connect: Connect, own: Upstream, chance: Callable[[], float]
) -> Table:
    """Return the table of all routes, the gateway's own (answered by `own`) among them."""
    compiler = _Compiler(config, connect, chance)
    services = {name: compiler.service(name, written) for name, written in config.services.items()}
    routes = list(compiler.own_routes(own))
    for written in config.routes:
        routes.extend(compiler.routes(written, services[written.service]))
    return Table(routes, services.values())


def _segments(path: str) -> tuple[bytes | None, ...]:
    """Split a route's path; a slash at its end says nothing more."""
    parts = path.strip("/").split("/") if path.strip("/") else []
    return tuple(None if part.startswith("{") else part.encode("ascii") for part in parts)


def _names(removed: Iterable[str], replaced: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(name.lower().encode("ascii") for name in (*removed, *replaced))


def _lines(pairs: dict[str, str]) -> bytes:
    return render((name.encode("ascii"), value.encode("latin-1")) for name, value in pairs.items())


def _either(over: float | None, base: float) -> float:
    return base if over is None else over
