"""Compile a configuration without starting the gateway, for `propylon routes` and `propylon explain`.

The table is the one that the data plane would use; each route comes with its place in the file. One stand-in takes the
place of every instance, so nothing is connected to.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from propylon.assembly.carry import ServiceSet
from propylon.compile.access import access_of
from propylon.compile.basic_auth import Users
from propylon.compile.carriers import passed_claims
from propylon.compile.forward_auth import Unasked
from propylon.compile.limits import LimitCompiler
from propylon.compile.routes import NOTHING_TO_VERIFY_WITH, Parts
from propylon.compile.services import Dependencies
from propylon.compile.table import compile_tables
from propylon.config.models.endpoints import PUBLIC, Access, builtin_endpoints
from propylon.config.models.schema import RouteConfig
from propylon.config.reading.load import Loaded
from propylon.loop.slices import at_once
from propylon.proxy.forward import Forward
from propylon.proxy.route import Authenticate, Pattern, Route
from propylon.stores.limits.memory import MemoryLimits
from propylon.upstream.ports import Upstream

__all__ = ["Entry", "entries", "preference"]

# The text of the column `auth` for built-in endpoints; for the others it depends on the file.
_AUTH_TEXT: dict[Access, str] = {
    "public": "none",
    "checked": "by the endpoint",
    "offered": "by the endpoint",
    "known": "required",
    "read": "scope read",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A compiled route with its configuration and its place in the file.

    `written` is None for the built-in endpoints. `claims` are the claims that the service gets, by header.
    """

    route: Route
    written: RouteConfig | None
    place: str
    claims: dict[str, str] = field(default_factory=dict)
    guard: str = ""  # the rule of an endpoint that wants admin, in words

    @property
    def path(self) -> str:
        """The path as the file has it, with the names of its wildcards."""
        return self.route.name if self.written is None else self.written.path

    @property
    def auth(self) -> str:
        """The route's `auth`, or the access rule of a built-in endpoint in words."""
        if self.written is not None:
            return self.written.auth
        return _AUTH_TEXT.get(access_of(self.route), self.guard)

    @property
    def issuers(self) -> list[str] | None:
        """The issuers that the route accepts; None for all that are configured."""
        return list(self.written.issuers) or None if self.written is not None else None

    @property
    def target(self) -> str:
        """How the path is changed on its way to the service."""
        rewrite = self.route.rewrite
        if rewrite is None:
            return "as sent"
        return f"rewrite {rewrite.text}" if rewrite.text else "strip"


def entries(
    loaded: Loaded,
    upstream: Upstream,
    chance: Callable[[], float] = lambda: 0.0,
    stages: Mapping[str, Authenticate] = NOTHING_TO_VERIFY_WITH,
    users: Users | None = None,
) -> list[Entry]:
    """Return all compiled routes, with `upstream` in the place of every instance.

    `users` makes the authenticate stages of routes with `basic_auth`; without it, nobody can log in there.
    """
    config = loaded.config
    dependencies = Dependencies(lambda _address, _limit: upstream, chance)
    endpoints = builtin_endpoints(
        config.prefix,
        config.auth,
        users=_has_users(loaded),
        dashboard=config.dashboard.path,
    )
    endpoints = (*endpoints, *loaded.endpoints)
    team = {endpoint.path for endpoint in loaded.endpoints}
    services = at_once(ServiceSet().plan(config.services, dependencies))
    # Nothing becomes due here, nothing is measured and nothing is left to chance.
    forward = Forward(_still, _still, _still)
    limits = LimitCompiler(MemoryLimits(lambda: 0), _NoTallies())
    parts = Parts(
        upstream,
        forward,
        stages,
        endpoints,
        limits=limits,
        bodies=None,
        basic=users,
        asks=Unasked(),
    )
    tables = compile_tables(config, parts, services.by_name)
    written = iter(
        [
            (route, loaded.places.of(("routes", index)), passed_claims(route.targets[0], config))
            for index, route in enumerate(config.routes)
            for _host in route.hosts or ("any",)  # a route is compiled once for each of its hosts
        ]
    )
    return [
        (
            Entry(route, None, _own_place(route, team), guard=str(route.authorize))
            if route.service.builtin
            else Entry(route, *next(written))
        )
        for table in tables.values()
        for route in table.routes
    ]


def _has_users(loaded: Loaded) -> bool:
    """Tell whether there are users, where the token endpoint hangs on that; of a database out of reach, say no."""
    if not loaded.config.auth.issues_while_users:
        return False
    # It loads the database and takes half a second.
    from propylon.commands.user import UserCommandFailed, exist  # noqa: PLC0415

    try:
        return exist(loaded)
    except UserCommandFailed:
        return False


class _NoTallies:
    """Stands in for the metrics: nothing is decided."""

    def limit(self, limit: str) -> list[float]:  # noqa: ARG002 — as `Tallies`
        """Return a row that is not shown."""
        return [0.0] * 3


def _own_place(route: Route, team: Container[str]) -> str:
    whose = "an endpoint of --app" if route.name in team else "the gateway's own"
    return whose + ("" if route.listener == PUBLIC else f", on {route.listener}")


def _still() -> float:
    return 0.0


def preference(pattern: Pattern) -> tuple[object, ...]:
    """Return a sort key: the patterns that matching prefers come first."""
    segments: list[tuple[int, bytes]] = [
        (1, b"") if segment is None else (0, segment) for segment in pattern.segments
    ]
    # A deeper pattern comes first. Where two end at the same depth, exact comes before prefix.
    end = (2 if pattern.exact else 3, b"")
    methods = sorted(pattern.methods) if pattern.methods is not None else ["~"]
    rank = () if pattern.conditions is None else tuple(-one for one in pattern.conditions.rank)
    return (_host_rank(pattern.host), [*segments, end], -pattern.priority, rank or (0,), methods)


def _host_rank(host: bytes | None) -> tuple[int, int, bytes]:
    """Return a sort key: whole names, then `*.` names with the longest first, then any host."""
    if host is None:
        return (2, 0, b"")
    if host.startswith(b"*."):
        return (1, -host.count(b"."), host)
    return (0, 0, host)
