"""Compile the routing table: the file's routes, the built-in endpoints, and CORS.

Everything that can be decided when the file is read is decided here, once: header names become bytes, timeouts of route
and service are merged, a route gets only the stages that it uses. A request decides nothing of that again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from propylon.compile.carriers import about_caller, compile_hiding, vouched_names
from propylon.config.models.cors import CorsConfig
from propylon.config.models.endpoints import Access, Endpoint
from propylon.config.models.schema import BUILTIN_SERVICE, GatewayConfig, RouteConfig
from propylon.proxy.authenticate import always, anonymous, unverifiable, unverifiable_if_asked
from propylon.proxy.authorize import Authorize, anybody, loopback_or, permitted
from propylon.proxy.cors import Cors
from propylon.proxy.limit import Limit
from propylon.proxy.match import Table
from propylon.proxy.principal import Principal
from propylon.proxy.privacy import Privacy
from propylon.proxy.route import (
    NO_OVERRIDES,
    Authenticate,
    Before,
    Forwards,
    HeaderOverrides,
    Pattern,
    Route,
)
from propylon.services import balance
from propylon.services.service import Fleet, Instance, Service
from propylon.upstream.ports import Timeouts, Upstream
from propylon.wire.headers import render

__all__ = ["BUILTIN_SERVICE", "Parts", "access_of", "allows_credentials", "compile_table"]

_WILDCARD = "://*."
_OPTIONAL = Privacy("optional")
# The authenticate stages where there is nothing to verify tokens with.
NOTHING_TO_VERIFY_WITH: Mapping[str, Authenticate] = {
    "none": anonymous,
    "optional": unverifiable_if_asked,
    "required": unverifiable,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a table needs besides the configuration.

    - `forward`: sends requests on; see `Route.forward`.
    - `builtin`: the FastAPI app in this process, as an upstream. It answers the `endpoints`.
    - `endpoints`: the gateway's own endpoints, and those of a team.
    - `stages`: the authenticate stage for each value of a route's `auth`.
    - `policies`: the policies of a team, by the names of the routes that they guard.
    - `override`: in a test, the principal of every request; no token is verified then.
    - `limit`: the rate limit of the token endpoint.
    """

    builtin: Upstream
    forward: Forwards
    stages: Mapping[str, Authenticate] = field(default_factory=lambda: NOTHING_TO_VERIFY_WITH)
    endpoints: tuple[Endpoint, ...] = ()
    policies: Mapping[str, Before] = field(default_factory=dict)
    override: Principal | None = None
    limit: Limit | None = None

    @property
    def authenticate(self) -> Mapping[str, Authenticate]:
        """The authenticate stage for each value of a route's `auth`; with `override`, a fixed principal."""
        if self.override is not None:
            fixed = always(self.override)
            return {"none": anonymous, "optional": fixed, "required": fixed}
        return self.stages


_ACCESS: dict[Access, tuple[str, Authorize]] = {
    "public": ("none", anybody),
    "checked": ("optional", anybody),
    "known": ("required", anybody),
    "local": ("optional", loopback_or("admin")),
    "read": ("required", permitted(["read"], [])),
    "admin": ("required", permitted(["admin"], [])),
}


@dataclass(frozen=True, slots=True)
class _Compiler:
    config: GatewayConfig
    parts: Parts
    authenticate: Mapping[str, Authenticate]
    vouched: tuple[bytes, ...]

    def routes(self, written: RouteConfig, service: Service) -> Iterable[Route]:
        segments = _segments(written.path, exact=written.exact)
        replaces = written.strip_prefix or written.rewrite is not None
        rules = written.headers
        template = partial(
            Route,
            name=written.name or written.path,
            service=service,
            authenticate=about_caller(self.authenticate[written.auth], written, self.config),
            authorize=permitted(written.scopes, written.roles),
            circuit=written.circuit,
            forward=self.parts.forward,
            timeouts=self._timeouts(written, service.timeouts),
            max_body=self.config.server.max_body if written.max_body is None else written.max_body,
            replaced=len(segments) if replaces else 0,
            replacement=(written.rewrite or "").rstrip("/").encode("ascii"),
            vouched=self.vouched,
            hide_tokens=compile_hiding(self.config, written.service),
            request_remove=_names(rules.request.remove, rules.request.set),
            request_set=_lines(_split(rules.request.set, protected=False)),
            request_overrides=_overrides(rules.request.set),
            response_remove=(
                *_names(rules.response.remove, rules.response.set),
                *_replaced(self.config.cors),
            ),
            response_set=_lines(_split(rules.response.set, protected=False)),
            response_overrides=_overrides(rules.response.set),
            privacy=Privacy(written.privacy, written.default_privacy),
            privacy_applies=written.privacy == "required" or written.default_privacy is not None,
            before=self.parts.policies.get(written.name or written.path),
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
        own = written.timeouts
        return Timeouts(
            connect=_or_default(own.connect, base.connect),
            first_byte=_or_default(own.first_byte, base.first_byte),
            idle=_or_default(own.idle, base.idle),
            total=_or_default(own.total, base.total),
            max_duration=_or_default(own.max_duration, base.max_duration),
        )

    def builtin_routes(self) -> Iterable[Route]:
        """Yield a route for each endpoint that the app in this process answers."""
        instance = Instance(
            id=BUILTIN_SERVICE, host=b"propylon", base=b"", upstream=self.parts.builtin
        )
        service = Service(BUILTIN_SERVICE, Fleet((instance,)), balance.round_robin(), builtin=True)
        for endpoint in self.parts.endpoints:
            yield self._builtin(endpoint, service)

    def _builtin(self, endpoint: Endpoint, service: Service) -> Route:
        auth, authorize = _ACCESS[endpoint.access]
        largest = endpoint.max_body
        return Route(
            name=endpoint.path,
            pattern=Pattern(
                _segments(endpoint.path, exact=endpoint.exact),
                endpoint.exact,
                methods=endpoint.methods,
            ),
            service=service,
            authenticate=self.authenticate[auth],
            authorize=authorize,
            forward=self.parts.forward,
            vouched=self.vouched,
            timeouts=service.timeouts,
            max_body=self.config.server.max_body if largest is None else largest,
            response_remove=_replaced(self.config.cors),
            privacy=_OPTIONAL,
            limit=self.parts.limit if endpoint.limited else None,
        )


def compile_table(config: GatewayConfig, parts: Parts, services: Mapping[str, Service]) -> Table:
    """Return the table of all routes, including those of the built-in endpoints."""
    compiler = _Compiler(config, parts, parts.authenticate, vouched_names(config))
    routes = list(compiler.builtin_routes())
    for written in config.routes:
        routes.extend(compiler.routes(written, services[written.service]))
    return Table(routes, services.values(), _cors(config.cors))


def access_of(route: Route) -> Access:
    """Return the access rule of a built-in route: the inverse of `_ACCESS`."""
    matching = (access for access, (_, rule) in _ACCESS.items() if rule is route.authorize)
    if route.authorize is not anybody:
        return next(matching, "known")
    return "public" if route.authenticate is anonymous else "known"


def allows_credentials(written: CorsConfig) -> Callable[[bytes], bool]:
    """Return what tells whether CORS allows pages of an origin to send requests with cookies."""
    cors = _cors(written)
    if cors is None or not cors.credentials:
        return lambda _origin: False
    return cors.allows


def _cors(written: CorsConfig) -> Cors | None:
    if not written.origins:
        return None
    plain = (origin for origin in written.origins if _WILDCARD not in origin)
    below = (origin.split(_WILDCARD) for origin in written.origins if _WILDCARD in origin)
    return Cors(
        origins=frozenset(origin.encode("ascii") for origin in plain),
        wildcards=tuple((f"{scheme}://".encode(), f".{host}".encode()) for scheme, host in below),
        any_origin="*" in written.origins,
        methods=", ".join(written.methods).encode("ascii"),
        headers=", ".join(written.headers).encode("ascii"),
        exposed=", ".join(written.expose).encode("ascii"),
        credentials=written.credentials,
        max_age=int(written.max_age),
    )


def _replaced(written: CorsConfig) -> tuple[bytes, ...]:
    cors = _cors(written)
    return () if cors is None else cors.replaced


def _segments(path: str, *, exact: bool) -> tuple[bytes | None, ...]:
    """Split a route's path into segments; None is a `{name}`.

    A final slash adds no segment. Only an exact route for `/` itself has one, empty segment.
    """
    parts = path.strip("/").split("/") if exact or path.strip("/") else []
    return tuple(None if part.startswith("{") else part.encode("ascii") for part in parts)


def _names(removed: Iterable[str], replaced: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(name.lower().encode("ascii") for name in (*removed, *replaced))


# Headers that the gateway sets itself. What a file sets under these names replaces the gateway's value.
_GATEWAY_HEADERS = re.compile(
    r"host|x-request-id|x-forwarded-.*|x-user-.*|trace(?:parent|state)|x-privacy-level|dnt|sec-gpc"
    r"|max-forwards|x-error-source|vary|access-control-.*",
    re.IGNORECASE,
)


def _split(pairs: Mapping[str, str], *, protected: bool) -> dict[str, str]:
    """Return the pairs whose names are the gateway's own headers, or those whose names are not."""
    return {
        name: value
        for name, value in pairs.items()
        if bool(_GATEWAY_HEADERS.fullmatch(name)) is protected
    }


def _overrides(pairs: Mapping[str, str]) -> HeaderOverrides:
    own = _split(pairs, protected=True)
    return HeaderOverrides(_names((), own), _lines(own)) if own else NO_OVERRIDES


def _lines(pairs: dict[str, str]) -> bytes:
    return render((name.encode("ascii"), value.encode("latin-1")) for name, value in pairs.items())


def _or_default(value: float | None, default: float) -> float:
    return default if value is None else value
