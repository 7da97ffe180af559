"""Compile the routing table: the file's routes, the built-in endpoints, and CORS.

Everything that can be decided when the file is read is decided here, once: header names become bytes, timeouts of route
and service are merged, a route gets only the stages that it uses. A request decides nothing of that again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, takewhile

from propylon.compile.access import AUTH, authorize
from propylon.compile.carriers import about_caller, compile_hiding, vouched_names
from propylon.compile.cors import compile_cors, replaced_headers
from propylon.compile.headers import Headers, compile_headers
from propylon.compile.sockets import Sockets
from propylon.config.models.endpoints import (
    PUBLIC,
    Endpoint,
    listeners_of,
    served,
)
from propylon.config.models.schema import (
    BUILTIN_SERVICE,
    GatewayConfig,
    HeadersConfig,
    RouteConfig,
    RouteTimeoutsConfig,
)
from propylon.loop.slices import at_once
from propylon.proxy.authenticate import always, anonymous, unverifiable, unverifiable_if_asked
from propylon.proxy.authorize import Authorize, permitted
from propylon.proxy.limit import Limit
from propylon.proxy.match import Table
from propylon.proxy.principal import Principal
from propylon.proxy.privacy import Privacy
from propylon.proxy.route import (
    Authenticate,
    Before,
    Forwards,
    Pattern,
    Route,
)
from propylon.services import balance
from propylon.services.service import Fleet, Instance, Service
from propylon.stores.seats import Seats
from propylon.upstream.ports import Timeouts, Upstream

__all__ = [
    "BUILTIN_SERVICE",
    "Compiled",
    "Parts",
    "compile_slowly",
    "compile_table",
    "compile_tables",
]

# Routes that are made before the loop gets a turn: a fifth of a millisecond.
_SLICE = 16

_OPTIONAL = Privacy("optional")
# The authenticate stages where there is nothing to verify tokens with.
NOTHING_TO_VERIFY_WITH: Mapping[str, Authenticate] = {
    "none": anonymous,
    "optional": unverifiable_if_asked,
    "required": unverifiable,
    "offered": unverifiable_if_asked,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a table needs besides the configuration.

    - `forward`: sends requests on; see `Route.forward`.
    - `builtin`: the FastAPI app in this process, as an upstream. It answers the `endpoints`.
    - `endpoints`: the gateway's own endpoints, and those of a team.
    - `stages`: the authenticate stage for each value of a route's `auth`.
    - `policies`: by the names of the routes that they guard, what makes the policy stage, given the route's total time.
    - `override`: in a test, the principal of every request; no token is verified then.
    - `limit`: the rate limit of the token endpoint.
    - `seats`: counts the open sockets of callers.
    """

    builtin: Upstream
    forward: Forwards
    stages: Mapping[str, Authenticate] = field(default_factory=lambda: NOTHING_TO_VERIFY_WITH)
    endpoints: tuple[Endpoint, ...] = ()
    policies: Mapping[str, Callable[[float], Before]] = field(default_factory=dict)
    override: Principal | None = None
    limit: Limit | None = None
    seats: Seats = field(default_factory=Seats)

    @property
    def authenticate(self) -> Mapping[str, Authenticate]:
        """The authenticate stage for each value of a route's `auth`; with `override`, a fixed principal."""
        if self.override is not None:
            fixed = always(self.override)
            return {
                "none": anonymous,
                "optional": fixed,
                "required": fixed,
                "offered": fixed,
            }
        return self.stages


class _Compiler:
    """Compiles routes. What several routes say alike is compiled once, and they share it."""

    def __init__(self, config: GatewayConfig, parts: Parts, vouched: frozenset[bytes]) -> None:
        self._config = config
        self._vouched = vouched
        self._max_body = config.server.max_body
        self._authenticate = parts.authenticate
        self._replaced = replaced_headers(config.cors)
        self._parts = parts
        # The models of a configuration live as long as it does, so their addresses tell them apart.
        self._headers: dict[int, Headers] = {}
        self._timeouts: dict[tuple[int, int], Timeouts] = {}
        self._authorize: dict[tuple[tuple[str, ...], tuple[str, ...]], Authorize] = {}
        self._privacy: dict[tuple[str, str | None], Privacy] = {}
        self._hiding: dict[str, Callable[[bytes], bytes] | None] = {}
        self._methods: dict[tuple[str, ...], frozenset[str]] = {}
        self._sockets = Sockets(config, self._authenticate, parts.seats)

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
            parts.builtin,
            parts.forward,
            parts.endpoints,
            parts.limit,
            self._config.admin,
            self._config.metrics,
            self._config.cors,
        )

    def is_current(self, routes: Sequence[Route], written: RouteConfig, service: Service) -> bool:
        """Whether routes that were made of the same configuration and basis are what would be made again."""
        route = routes[0]
        # The same service has the same timeouts, claims and `forward_token`: any change of a service makes another one.
        return route.service is service and route.before is self._policy(written, route.timeouts)

    def routes(self, written: RouteConfig, service: Service) -> Iterator[Route]:
        """Yield a route for each host."""
        template = self._template(written, service)
        segments = _segments(written.path, exact=written.exact)
        methods = self._methods_of(written)
        for host in written.hosts or (None,):
            yield template(
                pattern=Pattern(
                    segments=segments,
                    exact=written.exact,
                    host=host.lower().encode("ascii") if host is not None else None,
                    methods=methods,
                    priority=written.priority,
                ),
                replaced=len(segments) if _replaces(written) else 0,
            )

    def _template(self, written: RouteConfig, service: Service) -> Callable[..., Route]:
        headers = self._headers_of(written.headers)
        timeouts = self._timeouts_of(written.timeouts, service.timeouts)
        return partial(
            Route,
            name=written.name or written.path,
            service=service,
            authenticate=about_caller(self._authenticate[written.auth], written, self._config),
            authorize=self._authorization(written),
            circuit=written.circuit,
            forward=self._parts.forward,
            timeouts=timeouts,
            max_body=self._max_body if written.max_body is None else written.max_body,
            replacement=(written.rewrite or "").rstrip("/").encode("ascii"),
            vouched=self._vouched,
            hide_tokens=self._hiding_of(written.service),
            request_remove=headers.request_remove,
            request_set=headers.request_set,
            request_overrides=headers.request_overrides,
            response_remove=headers.response_remove,
            response_set=headers.response_set,
            response_overrides=headers.response_overrides,
            privacy=self._privacy_of(written),
            privacy_applies=written.privacy == "required" or written.default_privacy is not None,
            before=self._policy(written, timeouts),
            sockets=self._sockets.rules(written),
        )

    def _policy(self, written: RouteConfig, timeouts: Timeouts) -> Before | None:
        policies = self._parts.policies.get(written.name or written.path)
        return None if policies is None else policies(timeouts.total)

    def _methods_of(self, written: RouteConfig) -> frozenset[str] | None:
        methods = written.methods
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

    def _headers_of(self, written: HeadersConfig) -> Headers:
        if (known := self._headers.get(id(written))) is None:
            known = self._headers[id(written)] = compile_headers(written, self._replaced)
        return known

    def _timeouts_of(self, own: RouteTimeoutsConfig, base: Timeouts) -> Timeouts:
        key = (id(own), id(base))
        if (known := self._timeouts.get(key)) is None:
            known = self._timeouts[key] = _merged(own, base)
        return known

    def builtin_routes(self) -> Iterable[Route]:
        """Yield a route for each endpoint that the app in this process answers, on each of its listeners."""
        instance = Instance(
            id=BUILTIN_SERVICE, host=b"propylon", base=b"", upstream=self._parts.builtin
        )
        service = Service(BUILTIN_SERVICE, Fleet((instance,)), balance.round_robin(), builtin=True)
        paths = [written.path for written in self._config.routes]
        for written in self._parts.endpoints:
            # The file's routes are on the public listener only.
            yields = any(map(written.yields_to, paths))
            for listener, endpoint in served(written, self._config):
                if not (yields and listener == PUBLIC):
                    yield self._builtin(endpoint, service, listener)

    def _builtin(self, endpoint: Endpoint, service: Service, listener: str) -> Route:
        largest = endpoint.max_body
        return Route(
            name=endpoint.path,
            pattern=Pattern(
                _segments(endpoint.path, exact=endpoint.exact),
                endpoint.exact,
                methods=endpoint.methods,
            ),
            service=service,
            authenticate=self._authenticate[AUTH[endpoint.access]],
            authorize=authorize(self._config, endpoint),
            forward=self._parts.forward,
            vouched=self._vouched,
            timeouts=service.timeouts,
            max_body=self._max_body if largest is None else largest,
            response_remove=self._replaced,
            privacy=_OPTIONAL,
            limit=self._parts.limit if endpoint.limited else None,
            listener=listener,
            access=endpoint.access,
        )


@dataclass(frozen=True, slots=True)
class Compiled:
    """A table, and what it was made of: the next one keeps what has not changed.

    `table` is the public listener's, with the file's routes. `others` are the tables of `admin.listen` and
    `metrics.listen`, by the listener.
    """

    table: Table
    others: Mapping[str, Table] = field(default_factory=dict)
    config: GatewayConfig = field(default_factory=GatewayConfig)
    basis: tuple[object, ...] = ()

    @property
    def tables(self) -> dict[str, Table]:
        """The table of each listener."""
        return {PUBLIC: self.table, **self.others}


def compile_table(config: GatewayConfig, parts: Parts, services: Mapping[str, Service]) -> Table:
    """Return the table of the public listener."""
    return compile_tables(config, parts, services)[PUBLIC]


def compile_tables(
    config: GatewayConfig, parts: Parts, services: Mapping[str, Service]
) -> dict[str, Table]:
    """Return the table of each listener, those of `admin.listen` and `metrics.listen` included."""
    return at_once(compile_slowly(config, parts, services)).tables


def compile_slowly(
    config: GatewayConfig,
    parts: Parts,
    services: Mapping[str, Service],
    before: Compiled | None = None,
) -> Generator[None, None, Compiled]:
    """Make the same table in slices; reuse the routes of `before` that would come out the same.

    These are the routes whose configuration is the very same object, over the same service and with the same policy.
    """
    compiler = _Compiler(config, parts, (yield from vouched_names(config)))
    basis = compiler.basis
    if before is not None and before.basis != basis:
        before = None
    own, made = yield from _made(before)
    others = {} if before is None else before.others
    if not own:
        builtin = list(compiler.builtin_routes())
        own = [route for route in builtin if route.listener == PUBLIC]
        others = _other_tables(config, builtin)
    routes = own
    for at, written in enumerate(config.routes):
        service = services[written.service]
        known = made.get(id(written))
        if known and compiler.is_current(known, written, service):
            routes.extend(known)
        else:
            routes.extend(compiler.routes(written, service))
        if at % _SLICE == 0:
            yield
    table = yield from Table.slowly(
        routes,
        services.values(),
        compile_cors(config.cors),
        None if before is None else before.table,
    )
    return Compiled(table, others, config, basis)


def _other_tables(config: GatewayConfig, builtin: Iterable[Route]) -> dict[str, Table]:
    """Return the tables of `admin.listen` and `metrics.listen`: only built-in endpoints stand on them."""
    builtin = list(builtin)
    return {
        listener: Table(
            [route for route in builtin if route.listener == listener],
            cors=compile_cors(config.cors),
        )
        for listener in listeners_of(config)
    }


def _made(
    before: Compiled | None,
) -> Generator[None, None, tuple[list[Route], dict[int, list[Route]]]]:
    """Return the gateway's own routes, and the others by the addresses of their configurations."""
    made: dict[int, list[Route]] = {}
    if before is None:
        return [], made
    own = list(takewhile(lambda route: route.service.builtin, before.table.routes))
    routes = iter(before.table.routes[len(own) :])
    for at, written in enumerate(before.config.routes):
        made[id(written)] = list(islice(routes, len(written.hosts) or 1))
        if at % _SLICE == 0:
            yield
    return own, made


def _segments(path: str, *, exact: bool) -> tuple[bytes | None, ...]:
    """Split a route's path into segments; None is a `{name}`.

    A final slash adds no segment. Only an exact route for `/` itself has one, empty segment.
    """
    parts = path.strip("/").split("/") if exact or path.strip("/") else []
    return tuple(None if part.startswith("{") else part.encode("ascii") for part in parts)


def _replaces(written: RouteConfig) -> bool:
    return written.strip_prefix or written.rewrite is not None


def _merged(own: RouteTimeoutsConfig, base: Timeouts) -> Timeouts:
    return Timeouts(
        connect=_or_default(own.connect, base.connect),
        first_byte=_or_default(own.first_byte, base.first_byte),
        idle=_or_default(own.idle, base.idle),
        total=_or_default(own.total, base.total),
        max_duration=_or_default(own.max_duration, base.max_duration),
    )


def _or_default(value: float | None, default: float) -> float:
    return default if value is None else value
