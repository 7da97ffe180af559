"""Reload the configuration beside the requests, and refuse a configuration that must not replace the one in force.

A reload reads and checks the file, builds everything that is not there yet, switches by assignment, and lets go of the
old. A thread reads. The event loop does the rest, a millisecond at a time.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import Protocol, TypeVar

from propylon.assembly.running import Change, Running
from propylon.config.models.endpoints import Endpoint
from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.config.models.spelling import did_you_mean
from propylon.config.models.syntax import shape
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError, Problem
from propylon.loop.slices import at_once, beside_requests, in_slices
from propylon.loop.tasks import spawn

__all__ = ["Reloads", "kept", "needs_restart", "refused", "shadowed", "uncalled"]

log = logging.getLogger(__name__)

_V = TypeVar("_V")

# Parts of the old table and configuration that are let go of at a time: a tenth of a millisecond.
_SLICE = 64
# The garbage collector takes several milliseconds to go through the objects of this many new routes.
_MANY = 1000


class Reloadable(Protocol):
    """A gateway that can be reloaded, started or not."""

    loaded: Loaded
    read: Callable[[], Loaded]
    # Called with every configuration that a reload has put into force; in a thread, if the loop runs.
    on_reload: Callable[[Loaded], None] | None

    @property
    def running(self) -> Running | None:
        """The data plane, if the gateway is started."""

    @property
    def guarded(self) -> Collection[str]:
        """The names of the routes that have a policy."""

    def record_reload(self, error: str | None = None) -> None:
        """Write the audit record of a reload; `error` says why nothing has changed."""

    @property
    def custom_endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints that a team has put on `gateway.api`."""

    @property
    def called_services(self) -> Iterable[tuple[str, str]]:
        """Path and service for each service that one of these endpoints calls."""


class Reloads:
    """Reloads a gateway, one reload after the other."""

    def __init__(self, gateway: Reloadable) -> None:
        self._gateway = gateway
        self._turn = asyncio.Lock()
        self._asked = False
        self._labels_asked = False
        self._count = 0  # of configurations that have been put into force
        self._telling = threading.Lock()

    def now(self) -> None:
        """Reload before this returns."""
        self._collect()
        if at_once(self._apply(self._read(), self._count)):
            self._tell()

    def soon(self, then: Callable[[], None]) -> None:
        """Reload beside the requests, then call `then`.

        While a reload waits for its turn, further calls add none: it will read the file as it is by then.
        """
        if not self._asked:
            self._asked = True
            spawn(self._soon(then))

    def labels_soon(self, then: Callable[[], None]) -> None:
        """Put the routes of labels in force, beside those of the file that is in force; then call `then`.

        The file is not read: an edit that nobody has asked for must not come into force because a container has started.
        """
        if not self._labels_asked:
            self._labels_asked = True
            spawn(self._soon(then, labels=True))

    async def _soon(self, then: Callable[[], None], *, labels: bool = False) -> None:
        async with self._turn:
            if labels:
                self._labels_asked = False
            else:
                self._asked = False
            self._collect()
            # Thresholds of the collector and turns of threads are the whole process's: a host's are not ours to set.
            with beside_requests() if self._owns_interpreter else nullcontext():
                await self._reload(self._in_force if labels else self._gateway.read)
        then()

    def _in_force(self) -> Loaded:
        return base_of(self._gateway.loaded)

    @property
    def _owns_interpreter(self) -> bool:
        running = self._gateway.running
        return running is not None and running.owns_interpreter

    def _collect(self) -> None:
        # For the freeze at the end: what is garbage then stays for ever. Of the old generation there is hardly any,
        # and to search it takes longer the more clients are connected.
        if self._owns_interpreter:
            gc.collect(1)

    async def _reload(self, read: Callable[[], Loaded]) -> None:
        count = self._count
        if await in_slices(self._apply(await asyncio.to_thread(self._read, read), count)):
            await asyncio.to_thread(self._tell)

    def _tell(self) -> None:
        # One thread at a time, and always with what is in force by then: what is told last must be the latest.
        with self._telling:
            if self._gateway.on_reload is not None:
                self._gateway.on_reload(base_of(self._gateway.loaded))

    def _read(self, read: Callable[[], Loaded] | None = None) -> Loaded | tuple[Problem, ...]:
        """Read and check the configuration, by default that of the file. `soon` calls it in a thread."""
        gateway, in_force = self._gateway, self._gateway.loaded
        try:
            loaded = (read or gateway.read)()
        except ConfigError as error:
            return error.problems
        problems = (
            *refused(loaded, base_of(in_force).config, gateway.guarded),
            *shadowed(loaded, gateway.custom_endpoints),
            *uncalled(loaded, gateway.called_services),
        )
        return problems or self._with_labels(kept(loaded, in_force.config), in_force.config)

    def _with_labels(self, loaded: Loaded, in_force: GatewayConfig) -> Loaded:
        running, gateway = self._gateway.running, self._gateway
        if running is None or loaded.config.discovery.docker is None:
            return loaded
        docker = running.membership.docker
        return kept(docker.with_labels(loaded, gateway.custom_endpoints), in_force)

    def _apply(
        self, found: Loaded | tuple[Problem, ...], count: int
    ) -> Generator[None, None, bool]:
        """Put a configuration into force, in slices; return whether it is in force now.

        `count` is how many had been put into force before this one was read.
        """
        if isinstance(found, tuple):
            self._refuse(found)
            return False
        running = self._gateway.running
        if running is None:
            self._gateway.loaded = found
            return True
        freezes = running.owns_interpreter and _changed(running.config, found.config) >= _MANY
        _announce(running, found)
        found = with_listeners_of(running.begun, found)
        try:
            change = yield from running.prepare(found)
        except ConfigError as error:
            self._refuse(error.problems)
            return False
        old = yield from _parts(running, change)
        if self._count != count or self._gateway.running is not running:
            return False  # one that was read later is in force, or the gateway has stopped
        self._count += 1
        before = running.config
        running.switch(change)
        running.watching.reloaded(before, found.config)
        self._gateway.loaded = found
        self._gateway.record_reload()
        log.info("reload: %s", found.config.size)
        del change, found, before
        yield from _let_go(old)
        if freezes:
            # Otherwise the collector would go through the whole new configuration, twice and in vain, and stop all
            # requests meanwhile.
            gc.freeze()
        return True

    def _refuse(self, problems: Collection[Problem]) -> None:
        """Say why nothing changes, in the log, the audit log and the history."""
        _say(problems)
        self._gateway.record_reload("; ".join(map(str, problems)))
        if self._gateway.running is not None:
            self._gateway.running.watching.reloads.failed(problems)


def _say(problems: Iterable[Problem]) -> None:
    for problem in problems:
        log.error("reload: nothing changes: %s", problem)


def _changed(before: GatewayConfig, after: GatewayConfig) -> int:
    """Count the routes that are new or say something new."""
    return sum(1 for _ in _gone(after.routes, before.routes))


def _announce(running: Running, loaded: Loaded) -> None:
    for key in needs_restart(running.begun, loaded.config, verifying=running.verifies):
        log.warning("reload: %s takes effect with the next start", key)


def _parts(running: Running, change: Change) -> Generator[None, None, list[object]]:
    """Return the parts in force that a change does not keep, each before the parts that it holds."""
    parts: list[object] = []
    old, new = running.config, change.loaded.config
    for part in chain(
        running.table.parts(change.compiled.table),
        _gone(running.table.services, change.compiled.table.services),
        _gone(old.routes, new.routes),
        _gone(old.services.values(), new.services.values()),
    ):
        parts.append(part)
        if len(parts) % _SLICE == 0:
            yield
    return parts


def _gone(old: Iterable[object], new: Iterable[object]) -> Iterator[object]:
    kept_ones = set(map(id, new))
    return (one for one in old if id(one) not in kept_ones)


def _let_go(parts: list[object]) -> Iterator[None]:
    """Drop the old parts in slices: to drop the whole at once would take as long as to make it."""
    parts.reverse()
    while parts:
        del parts[-_SLICE:]
        yield


def base_of(loaded: Loaded) -> Loaded:
    """Return what was loaded, without the routes of labels."""
    return loaded.base or loaded


def kept(loaded: Loaded, in_force: GatewayConfig) -> Loaded:
    """Return the new configuration with the very objects in force for all routes and services that have not changed.

    The table and the services recognize by the object what has not changed, and memory holds it once.
    """
    config = loaded.config
    routes = {_key(one): one for one in in_force.routes}
    same = {
        "routes": tuple(_same(one, routes.get(_key(one))) for one in config.routes),
        "services": {
            name: _same(one, in_force.services.get(name)) for name, one in config.services.items()
        },
    }
    return replace(loaded, config=config.model_copy(update=same))


def _key(route: RouteConfig) -> tuple[object, ...]:
    # No two routes share all three: routes without a name are named by their path, and differ in methods or hosts.
    return (route.name, route.methods, route.hosts)


def _same(new: _V, old: _V | None) -> _V:
    return new if old is None or old != new else old


def refused(
    loaded: Loaded, in_force: GatewayConfig, policies: Collection[str]
) -> Iterator[Problem]:
    """Yield why a valid configuration must not replace the one in force.

    `policies` are the names of the routes that a policy stands before.
    """
    yield from _orphans(loaded, policies)
    yield from _emptied(loaded, in_force)


def shadowed(loaded: Loaded, endpoints: Iterable[Endpoint]) -> Iterator[Problem]:
    """Yield the routes whose very path an endpoint on `gateway.api` has taken, for one of their methods.

    The endpoint would answer, and the route's token, scopes and policies would guard nothing any more.
    """
    taken: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        taken.setdefault(shape(endpoint.path), []).append(endpoint)
    if not taken:
        return
    for at, route in enumerate(loaded.config.routes):
        if any(_share(route.methods, one.methods) for one in taken.get(shape(route.path), ())):
            msg = "is also the path of an endpoint on gateway.api, which would answer in its place"
            msg += "; give one of them another path"
            yield loaded.places.problem(("routes", at, "path"), msg)


def uncalled(loaded: Loaded, called: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Yield the services that endpoints on `gateway.api` call and that the configuration does not have."""
    names = loaded.config.services
    for path, name in dict.fromkeys(called):
        if name not in names:
            msg = f'no service "{name}", and the endpoint {path} on gateway.api calls it'
            yield loaded.places.problem(("services",), msg + did_you_mean(name, names))


def _share(methods: Collection[str], others: Collection[str] | None) -> bool:
    return not methods or others is None or not set(methods).isdisjoint(others)


def _orphans(loaded: Loaded, policies: Collection[str]) -> Iterator[Problem]:
    """Yield the policies whose route is gone: under another name it would be open."""
    names = [written.name for written in loaded.config.routes]
    for route in set(policies) - set(names):
        hint = did_you_mean(route, names)
        msg = f'no route "{route}", and a policy stands before it{hint}'
        yield loaded.places.problem(("routes",), msg)


def _emptied(loaded: Loaded, in_force: GatewayConfig) -> Iterator[Problem]:
    """Yield a problem where no route is left: a file that was cut short must not close the gateway."""
    if in_force.routes and not loaded.config.routes:
        msg = "none is left; if that is meant, restart the gateway"
        yield loaded.places.problem(("routes",), msg)


def with_listeners_of(begun: GatewayConfig, loaded: Loaded) -> Loaded:
    """Return what was loaded, with the listeners that are open: others would have endpoints, and no open socket."""
    config = loaded.config
    listen = (begun.admin.listen, begun.metrics.listen, begun.server.listen)
    if listen == (config.admin.listen, config.metrics.listen, config.server.listen):
        return loaded
    update = {
        "admin": config.admin.model_copy(update={"listen": listen[0]}),
        "metrics": config.metrics.model_copy(update={"listen": listen[1]}),
        "server": config.server.model_copy(update={"listen": listen[2]}),
    }
    return replace(loaded, config=config.model_copy(update=update))


def needs_restart(before: GatewayConfig, after: GatewayConfig, *, verifying: bool) -> Iterator[str]:
    """Yield the keys whose change needs a start: sockets, processes, the paths of the built-in endpoints.

    `verifying`: there is what goes with tokens, since the start; it follows by itself.
    """
    for key in ("server.host", "server.port", "server.listen", "server.workers", "server.state_dir", "server.drain",
                "server.drain_delay", "prefix", "dashboard.path", "log.format", "log.file", "log.syslog", "log.audit",
                "admin.listen", "metrics.listen", "redis", "cache.store", "cache.size",
                "cache.secret"):  # fmt: skip
        if attrgetter(key)(before) != attrgetter(key)(after):
            yield key
    if bool(before.tls.pairs) != bool(after.tls.pairs):
        yield "tls"
    if not verifying and after.auth.verifies and not before.auth.verifies:
        yield "auth"
    for key in ("database", "refresh_expires"):
        if getattr(before.auth.tokens, key) != getattr(after.auth.tokens, key):
            yield f"auth.tokens.{key}"
