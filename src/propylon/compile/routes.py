"""Compile routes: those of the file, and those of the gateway's own endpoints.

Everything that can be decided when the file is read is decided here, once: header names become bytes, timeouts of route
and service are merged, a route gets only the stages that it uses. A request decides nothing of that again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from types import MappingProxyType

from propylon.compile.access import compile_clients
from propylon.compile.basic_auth import credentials_of, of_users
from propylon.compile.builtin import Builtin, segments_of
from propylon.compile.carriers import (
    Vouched,
    about_caller,
    beside_certificate,
    compile_hiding,
    in_turn,
    trusting,
)
from propylon.compile.changes import compile_changes, compile_templates
from propylon.compile.coding import compressing, decompressing
from propylon.compile.conditions import compile_conditions
from propylon.compile.cors import RouteRules as CorsRules
from propylon.compile.cors import allows_credentials, replaced_headers
from propylon.compile.detours import HOSTS, Way
from propylon.compile.fixed import NO_SERVICE, compile_fixed
from propylon.compile.forward_auth import asking, replaced_by_answer
from propylon.compile.from_document import FromDocument
from propylon.compile.headers import Headers, compile_headers
from propylon.compile.parts import NOTHING_TO_VERIFY_WITH, Parts
from propylon.compile.preflight import passing_preflights
from propylon.compile.public import compile_public, compile_rewrite
from propylon.compile.requests import CheckRequests
from propylon.compile.rules import Rules
from propylon.compile.samples import SampleAnswers
from propylon.compile.selection import Selection
from propylon.compile.services import merged_timeouts
from propylon.compile.sockets import Sockets
from propylon.config.models.schema import (
    BUILTIN_SERVICE,
    GatewayConfig,
    RouteConfig,
    RouteTimeoutsConfig,
)
from propylon.proxy.authorize import Authorize, permitted
from propylon.proxy.fallback import FALLBACK_HEADER
from propylon.proxy.limit.stage import LimitStage
from propylon.proxy.privacy import Privacy
from propylon.proxy.route import (
    Authenticate,
    Before,
    Forwards,
    Pattern,
    Route,
)
from propylon.services.service import Service
from propylon.upstream.ports import Timeouts

__all__ = ["BUILTIN_SERVICE", "NOTHING_TO_VERIFY_WITH", "Parts", "RouteCompiler"]


class RouteCompiler:
    """Compiles routes. What several routes say alike is compiled once, and they share it."""

    def __init__(
        self,
        config: GatewayConfig,
        parts: Parts,
        vouched: Vouched,
        services: Mapping[str, Service] = MappingProxyType({}),
    ) -> None:
        """Compile by a configuration. `services` are those that a route may name besides its own."""
        self._config = config
        self._services = services
        self._selection = Selection(config)
        self._vouched = vouched
        self._of_traces = (b"traceresponse",) if config.traces.traceresponse else ()
        self._max_body = config.server.max_body
        self._authenticate = parts.authenticate
        self._replaced = replaced_headers(config.cors) + self._of_traces
        self._cors = CorsRules(config.cors)
        self._parts = parts
        # The models of a configuration live as long as it does, so their addresses tell them apart.
        self._headers: dict[tuple[int, tuple[bytes, ...]], Headers] = {}
        self._timeouts: dict[tuple[int, int], Timeouts] = {}
        self._authorize: dict[tuple[tuple[str, ...], tuple[str, ...]], Authorize] = {}
        self._privacy: dict[tuple[str, str | None], Privacy] = {}
        self._hiding: dict[str, Callable[[bytes], bytes] | None] = {}
        self._methods: dict[tuple[str, ...], frozenset[str]] = {}
        self._users = parts.users
        self._sockets = Sockets(config, self._authenticate, parts.seats, self._users)

    @property
    def basis(self) -> tuple[object, ...]:
        """What routes are made of besides what their configuration says, their services and their policies."""
        parts = self._parts
        return (
            self._max_body,
            self._authenticate,
            self._replaced,
            self._vouched,
            self._config.auth.carriers,
            self._config.tls.clients is None,
            parts.builtin,
            parts.forward,
            parts.endpoints,
            parts.limits,
            parts.caches,
            parts.idempotency,
            parts.basic,
            parts.asks,
            self._config.defaults.rate_limit,
            self._config.auth.tokens.rate_limit,
            self._config.admin,
            self._config.metrics,
            self._config.cors,
            self._config.server.public_url,
        )

    def is_current(self, routes: Sequence[Route], written: RouteConfig, service: Service) -> bool:
        """Whether routes that were made of the same configuration and basis are what would be made again."""
        route = routes[0]
        # The same service has the same timeouts, claims and `forward_token`: any change of a service makes another one.
        return (
            route.service is service
            and route.before is self._policy(written, route.timeouts)
            and route.limit is self._limit(written)
            and route.forward == self._forward(written)
        )

    def routes(self, written: RouteConfig, service: Service) -> Iterator[Route]:
        """Yield a route for each host."""
        template = self._template(written, service)
        passing = written.preflight == "pass"
        segments = segments_of(written.path, exact=written.exact)
        methods = self._methods_of(written)
        conditions = compile_conditions(written.match)
        for host in written.hosts or (None,):
            route = template(
                pattern=Pattern(
                    segments=segments,
                    exact=written.exact,
                    host=host.lower().encode("ascii") if host is not None else None,
                    methods=methods,
                    priority=written.priority,
                    # Django's paths end so: the operator means both, since Django redirects one to the other.
                    slash=written.exact and written.path.endswith("/") and written.path != "/",
                    conditions=conditions,
                ),
                rewrite=compile_rewrite(written, len(segments)),
            )
            if written.security == "from-document":
                route = self._documented(route)
            yield passing_preflights(route) if passing else route

    def _documented(self, route: Route) -> Route:
        rule = FromDocument(
            route.authorize, self._parts.documents, route.service.name, route.rewrite
        )
        return replace(route, authorize=rule)

    def _stages_of(self, written: RouteConfig) -> Mapping[str, Authenticate]:
        """Return the authenticate stages; a route with CORS of its own says which pages may send cookies with a token."""
        if written.cors is None:
            return self._authenticate
        return trusting(self._authenticate, allows_credentials(written.cors))

    def _template(self, written: RouteConfig, service: Service) -> Callable[..., Route]:
        stages = self._stages_of(written)
        headers = self._headers_of(written)
        timeouts = self._timeouts_of(written.timeouts, service.timeouts)
        limit = self._limit(written)
        return partial(
            Route,
            name=written.name or written.path,
            service=service,
            authenticate=of_users(
                about_caller(stages[written.auth], written, self._config),
                written,
                self._users,
            ),
            beside_certificate=beside_certificate(stages, written, self._config),
            authorize=self._authorization(written),
            circuit=written.circuit,
            forward=self._forward(written),
            timeouts=timeouts,
            max_body=self._max_body if written.max_body is None else written.max_body,
            changes=compile_changes(written),
            public=compile_public(self._config, written.service) if written.service else None,
            clients=compile_clients(written.clients, written.maintenance),
            vouched=self._vouched.every,
            hide=in_turn(self._hiding_of(written.service), headers.hide_cookies),
            request_remove=headers.request_remove
            + credentials_of(written)
            + replaced_by_answer(written),
            request_set=headers.request_set,
            request_overrides=headers.request_overrides,
            response_remove=(
                headers.response_remove
                if written.fallback is None
                else (*headers.response_remove, FALLBACK_HEADER)
            ),
            response_set=headers.response_set,
            response_overrides=compile_templates(written, headers.response_overrides),
            response_cookies=headers.response_cookies,
            cors=self._cors.of(written.cors),
            privacy=self._privacy_of(written),
            privacy_applies=written.privacy == "required" or written.default_privacy is not None,
            before=self._policy(written, timeouts),
            limit=limit,
            limit_fields=() if limit is None else limit.fields,
            rules=self.rules_of(written),
            sockets=self._sockets.rules(written) if written.service else None,
            template=written.path,
            sampling=written.sampling,
        )

    def _limit(self, written: RouteConfig) -> LimitStage | None:
        limits = self._parts.limits
        return None if limits is None else limits.of_route(self._config, written, self._parts.costs)

    def rules_of(self, written: RouteConfig) -> Rules:
        """Return what a client meets on a route, for the matcher."""
        return Rules(written, self._parts.policies.get(written.name or written.path))

    def service_of(self, written: RouteConfig, services: Mapping[str, Service]) -> Service:
        """Return the service of a route."""
        return services[written.service] if written.service else NO_SERVICE

    def _forward(self, written: RouteConfig) -> Forwards:
        then = decompressing(written, self._answers(written), self._parts.bodies)
        # Before everything else that may answer: no stored answer is given without a question.
        return asking(written, compressing(written, then), self._parts.asks)

    def _answers(self, written: RouteConfig) -> Forwards:
        """Return what answers the requests of a route."""
        if (fixed := compile_fixed(written)) is not None:
            return fixed
        then, detours = self._checked(written), self._parts.detours
        if detours is None:
            return then
        if written.mirror is not None:
            then = detours.mirror(written.mirror, then, self._way(written, written.mirror.service))
        if written.fallback is None:
            return then
        name, caches = written.fallback.service, self._parts.caches
        way = self._way(written, name) if name else None
        cache = None
        if caches is not None:
            cache = caches.forward_of(self._config, written, self._vouched.claims)
        return detours.fallback(written.fallback, then, way, cache)

    def _way(self, written: RouteConfig, name: str) -> Way:
        """Return the way of a route's requests to another service, without the stages before it."""
        service, forward = self._services[name], self._parts.forward

        # Made once for each of the route's hosts: what counts exchanges knows routes by their identity.
        @lru_cache(maxsize=HOSTS)
        def become(route: Route) -> Route:
            own = replace(
                route,
                service=service,
                timeouts=self._timeouts_of(written.timeouts, service.timeouts),
                public=compile_public(self._config, name),
                select=None,
                queue=None,  # that of the service which has failed: `applied` puts in the other one's
                hide=in_turn(self._hiding_of(name), self._headers_of(written).hide_cookies),
                forward=forward,
            )
            return self._selection.applied(own, written, written)

        return Way(service, become, forward)

    def _checked(self, written: RouteConfig) -> Forwards:
        then = self._sampled(written)
        if written.requests == "off":
            return then
        return CheckRequests(
            self._parts.documents,
            then,
            written.requests == "shadow",
            written.undocumented == "refuse",
            self._parts.checks(written.name or written.path),
        )

    def _sampled(self, written: RouteConfig) -> Forwards:
        """Return what sends requests on; where samples are asked for, one that takes them."""
        then, samples = self._sends(written), self._parts.samples
        if not written.responses.sample or samples is None:
            return then
        return SampleAnswers(then, written.responses.sample, samples, self._parts.chance)

    def _sends(self, written: RouteConfig) -> Forwards:
        """Return what sends requests on, or answers them from the cache or as they were answered before."""
        caches, idempotency = self._parts.caches, self._parts.idempotency
        forward: Forwards = self._parts.forward
        if caches is not None:
            forward = caches.forward_of(self._config, written, self._vouched.claims)
        return forward if idempotency is None else idempotency.before(written, forward)

    def _policy(self, written: RouteConfig, timeouts: Timeouts) -> Before | None:
        policies = self._parts.policies.get(written.name or written.path)
        return None if policies is None else policies(timeouts.total)

    def _methods_of(self, written: RouteConfig) -> frozenset[str] | None:
        methods = written.methods
        if methods and written.preflight == "pass" and "OPTIONS" not in methods:
            methods = (*methods, "OPTIONS")
        return self._methods.setdefault(methods, frozenset(methods)) if methods else None

    def _authorization(self, written: RouteConfig) -> Authorize:
        key = (written.scopes, written.roles)
        if (known := self._authorize.get(key)) is None:
            known = self._authorize[key] = permitted(*key)
        return known

    def _privacy_of(self, written: RouteConfig) -> Privacy:
        key = (written.privacy, written.default_privacy)
        if (known := self._privacy.get(key)) is None:
            known = self._privacy[key] = Privacy(*key)
        return known

    def _hiding_of(self, service: str) -> Callable[[bytes], bytes] | None:
        if service not in self._hiding:
            self._hiding[service] = compile_hiding(self._config, service)
        return self._hiding[service]

    def _headers_of(self, route: RouteConfig) -> Headers:
        replaced = (
            self._replaced if route.cors is None else replaced_headers(route.cors) + self._of_traces
        )
        key = (id(route.headers), replaced)
        if (known := self._headers.get(key)) is None:
            known = self._headers[key] = compile_headers(route.headers, replaced)
        return known

    def _timeouts_of(self, own: RouteTimeoutsConfig, base: Timeouts) -> Timeouts:
        key = (id(own), id(base))
        if (known := self._timeouts.get(key)) is None:
            known = self._timeouts[key] = merged_timeouts(own, base)
        return known

    def builtin_routes(self) -> Iterable[Route]:
        """Yield a route for each endpoint that the app in this process answers, on each of its listeners."""
        common = Builtin(
            self._config, self._parts, self._authenticate, self._vouched.every, self._replaced
        )
        return common.routes()
