"""Compile the routing tables of all listeners, in slices; reuse the routes of the table in force that are unchanged."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice, takewhile

from propylon.compile.carriers import vouched_names
from propylon.compile.changes import templated_names
from propylon.compile.cors import compile_cors
from propylon.compile.routes import Parts, RouteCompiler
from propylon.compile.split import SplitCompiler
from propylon.config.models.endpoints import PUBLIC, listeners_of
from propylon.config.models.schema import GatewayConfig
from propylon.loop.slices import at_once
from propylon.proxy.match import Table
from propylon.proxy.route import Route
from propylon.services.service import Service

__all__ = ["Compiled", "compile_slowly", "compile_table", "compile_tables"]

# Routes that are made before the loop gets a turn: a fifth of a millisecond.
_SLICE = 16


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
    vouched = yield from vouched_names(config)
    templated = yield from templated_names(config)
    compiler = RouteCompiler(config, parts, vouched.beside(templated), services)
    # The secret signs the cookies of `sticky`, too.
    basis = (*compiler.basis, config.auth.jwt.secret)
    if before is not None and before.basis != basis:
        before = None
    own, made = yield from _made(before)
    others = {} if before is None else before.others
    if not own:
        builtin = list(compiler.builtin_routes())
        own = [route for route in builtin if route.listener == PUBLIC]
        others = _other_tables(config, builtin)
    routes, shares = own, SplitCompiler(compiler, config)
    for at, written in enumerate(config.routes):
        known = made.get(id(written))
        if known and shares.is_current(known, written, services):
            routes.extend(known)
        else:
            routes.extend(shares.routes(written, services))
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
