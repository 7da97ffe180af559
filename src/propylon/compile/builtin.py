"""Compile the routes of the gateway's own endpoints, and those of a team: the app in this process answers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from propylon.compile.access import AUTH, authorize
from propylon.compile.parts import Parts
from propylon.compile.rules import builtin_rules
from propylon.config.models.endpoints import PUBLIC, Endpoint, served
from propylon.config.models.schema import BUILTIN_SERVICE, GatewayConfig
from propylon.proxy.privacy import Privacy
from propylon.proxy.route import Authenticate, Pattern, Route
from propylon.services import balance
from propylon.services.service import Fleet, Instance, Service

__all__ = ["Builtin", "segments_of"]

_OPTIONAL = Privacy("optional")


@dataclass(frozen=True, slots=True)
class Builtin:
    """What the routes of all endpoints have in common.

    `replaced` are the headers of an answer that the gateway writes itself, `vouched` those of a request that it vouches for.
    """

    config: GatewayConfig
    parts: Parts
    authenticate: Mapping[str, Authenticate]
    vouched: frozenset[bytes]
    replaced: tuple[bytes, ...]

    def routes(self) -> Iterator[Route]:
        """Yield a route for each endpoint, on each of its listeners."""
        instance = Instance(
            id=BUILTIN_SERVICE, host=b"propylon", base=b"", upstream=self.parts.builtin
        )
        service = Service(BUILTIN_SERVICE, Fleet((instance,)), balance.round_robin(), builtin=True)
        paths = [written.path for written in self.config.routes]
        for written in self.parts.endpoints:
            # The file's routes are on the public listener only.
            yields = any(map(written.yields_to, paths))
            for listener, endpoint in served(written, self.config):
                if not (yields and listener == PUBLIC):
                    yield self._route(endpoint, service, listener)

    def _route(self, endpoint: Endpoint, service: Service, listener: str) -> Route:
        largest, limits = endpoint.max_body, self.parts.limits
        limit = None
        if limits is not None and endpoint.limited:
            limit = limits.of_tokens(self.config.auth.tokens.rate_limit)
        return Route(
            name=endpoint.path,
            pattern=Pattern(
                segments_of(endpoint.path, exact=endpoint.exact),
                endpoint.exact,
                methods=endpoint.methods,
            ),
            service=service,
            authenticate=self.authenticate[AUTH[endpoint.access]],
            authorize=authorize(self.config, endpoint),
            forward=self.parts.forward,
            vouched=self.vouched,
            timeouts=service.timeouts,
            max_body=self.config.server.max_body if largest is None else largest,
            response_remove=self.replaced,
            privacy=_OPTIONAL,
            limit=limit,
            limit_fields=() if limit is None else limit.fields,
            rules=builtin_rules(endpoint),
            listener=listener,
            access=endpoint.access,
            template=endpoint.path,
        )


def segments_of(path: str, *, exact: bool) -> tuple[bytes | None, ...]:
    """Split a route's path into segments; None is a `{name}`.

    A final slash adds no segment. Only an exact route for `/` itself has one, empty segment.
    """
    parts = path.strip("/").split("/") if exact or path.strip("/") else []
    return tuple(None if part.startswith("{") else part.encode("ascii") for part in parts)
