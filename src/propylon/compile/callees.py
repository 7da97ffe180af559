"""Compile services for the calls of endpoints: each becomes a route that no client's request matches."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from propylon.compile.carriers import compile_carriers
from propylon.compile.selection import compile_hash, queued
from propylon.compile.table import Compiled
from propylon.config.models.schema import GatewayConfig
from propylon.proxy.authenticate import anonymous
from propylon.proxy.authenticate.claim_headers import ClaimHeaders
from propylon.proxy.authorize import anybody
from propylon.proxy.call import Callee
from propylon.proxy.route import Forwards, Pattern, Route
from propylon.services.service import Service

__all__ = ["Callees"]


class Callees:
    """The services in force, by name. One is compiled when an endpoint first asks for it: most are never called."""

    def __init__(self, forward: Forwards) -> None:
        """`forward` sends requests on; see `Route.forward`."""
        self._forward = forward
        self._config = GatewayConfig()
        self._services: Mapping[str, Service] = {}
        self._known: dict[str, Callee] = {}

    def apply(self, compiled: Compiled) -> None:
        """Put the services of a configuration into force, with what stands in for some of them."""
        services = {service.name: service for service in compiled.table.services}
        if compiled.config is not self._config or services != self._services:
            self._config, self._services = compiled.config, services
            self._known = {}

    def of(self, name: str) -> Callee | None:
        """Return the service of this name; None if there is none."""
        known = self._known.get(name)
        if known is None and (service := self._services.get(name)) is not None:
            known = self._known[name] = self._compile(service)
        return known

    def _compile(self, service: Service) -> Callee:
        written = self._config.services.get(service.name)
        claims = ClaimHeaders(anonymous, () if written is None else written.claims.items())
        route = Route(
            name=f"service:{service.name}",
            pattern=Pattern(()),
            service=service,
            authenticate=anonymous,
            authorize=anybody,
            timeouts=service.timeouts,
            max_body=sys.maxsize,  # the endpoint's own: it is in memory already
            forward=self._forward,
            select=compile_hash("", written, service.warmup),
        )
        return Callee(queued(route), claims.lines_of, compile_carriers(self._config.auth.carriers))
