"""Put a configuration that was read again in force, beside the requests; keep what must not be lost.

One reload is: read the file, judge it, make everything of it that is not there yet, switch by assignment, let go of the
old. Reading is a thread's work; the rest is the loop's, a millisecond at a time.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import Protocol, TypeVar

from propylon.assembly.running import Running
from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.config.models.spelling import did_you_mean
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError, Problem
from propylon.loop.slices import at_once, beside_requests, in_slices
from propylon.loop.tasks import spawn

__all__ = ["Reloads", "kept", "needs_restart", "refused"]

log = logging.getLogger(__name__)

_V = TypeVar("_V")

# Parts of the old table and configuration that are let go of at a time: a tenth of a millisecond.
_SLICE = 64
# New routes that the garbage collector would take several milliseconds for.
_MANY = 1000


class Reloadable(Protocol):
    """What is reloaded: a gateway, started or not."""

    loaded: Loaded
    read: Callable[[], Loaded]
    # Hears of every configuration that a reload has put in force; not on the loop's thread.
    on_reload: Callable[[Loaded], None] | None

    @property
    def running(self) -> Running | None:
        """What runs, if it does."""

    @property
    def guarded(self) -> Collection[str]:
        """The names of the routes that a policy stands before."""


class Reloads:
    """Reloads a gateway, one time after the other."""

    def __init__(self, gateway: Reloadable) -> None:
        self._gateway = gateway
        self._turn = asyncio.Lock()
        self._asked = False
        self._count = 0  # of configurations that have been put in force

    def now(self) -> None:
        """Reload before this returns."""
        if at_once(self._apply(self._read(), self._count)) and self._gateway.on_reload is not None:
            self._gateway.on_reload(self._gateway.loaded)

    def soon(self, then: Callable[[], None]) -> None:
        """Reload beside the requests; `then` comes after.

        Who asks while another waits for its turn need not wait for one more: what is read is what stands there then.
        """
        if not self._asked:
            self._asked = True
            spawn(self._soon(then))

    async def _soon(self, then: Callable[[], None]) -> None:
        async with self._turn:
            self._asked = False
            with beside_requests():
                await self._reload()
        then()

    async def _reload(self) -> None:
        count = self._count
        if not await in_slices(self._apply(await asyncio.to_thread(self._read), count)):
            return
        if self._gateway.on_reload is not None:
            await asyncio.to_thread(self._gateway.on_reload, self._gateway.loaded)

    def _read(self) -> Loaded | tuple[Problem, ...]:
        """Read and judge the configuration. Not always on the loop's thread."""
        gateway, in_force = self._gateway, self._gateway.loaded.config
        try:
            loaded = gateway.read()
        except ConfigError as error:
            return error.problems
        return tuple(refused(loaded, in_force, gateway.guarded)) or kept(loaded, in_force)

    def _apply(
        self, found: Loaded | tuple[Problem, ...], count: int
    ) -> Generator[None, None, bool]:
        """Put what was found in force, if nothing is wrong with it; return whether it is."""
        if isinstance(found, tuple):
            for problem in found:
                log.error("reload: nothing changes: %s", problem)
            return False
        running = self._gateway.running
        if running is None:
            self._gateway.loaded = found
            return True
        many = _changed(running.config, found.config) >= _MANY
        if many:
            gc.collect()
        change = yield from running.prepare(found)
        old = yield from _parts(running)
        if self._count != count or self._gateway.running is not running:
            return False  # one that was read later is in force, or nothing is any more
        self._count += 1
        _announce(running, found)
        running.switch(change)
        self._gateway.loaded = found
        log.warning(
            "reload: %d services, %d routes", len(found.config.services), len(found.config.routes)
        )
        del change, found
        yield from _let_go(old)
        if many:
            # Else the collector would go through all of the new configuration, twice, in vain: each time a stall as
            # long as it is large. What is garbage now would stay for ever, hence the search for it before.
            gc.freeze()
        return True


def _changed(before: GatewayConfig, after: GatewayConfig) -> int:
    """Count the routes whose words are new."""
    return len(set(map(id, after.routes)) - set(map(id, before.routes)))


def _announce(running: Running, loaded: Loaded) -> None:
    for key in needs_restart(running.begun, loaded.config, verifying=running.verifies):
        log.warning("reload: %s takes effect with the next start", key)


def _parts(running: Running) -> Generator[None, None, list[object]]:
    """Return what the table and the configuration in force are made of, each part before what it holds."""
    parts: list[object] = []
    config, table = running.config, running.table
    for part in chain(table.parts(), table.services, config.routes, config.services.values()):
        parts.append(part)
        if len(parts) % _SLICE == 0:
            yield
    return parts


def _let_go(parts: list[object]) -> Iterator[None]:
    """Drop the parts of what was in force, in slices: dropping the whole would take as long as making it did."""
    parts.reverse()
    while parts:
        del parts[-_SLICE:]
        yield


def kept(loaded: Loaded, in_force: GatewayConfig) -> Loaded:
    """Return what was loaded with the very objects in force for all routes and services that say the same.

    By that the table and the services know what has not changed, and the old words need not stay beside the new.
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
    # What no two routes share: a name is written once, or is the path of routes for other methods and hosts.
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


def needs_restart(before: GatewayConfig, after: GatewayConfig, *, verifying: bool) -> Iterator[str]:
    """Yield the keys whose change needs a start: sockets, processes, the paths of the built-in endpoints.

    `verifying`: there is what goes with tokens, since the start; it follows by itself.
    """
    for key in ("server.host", "server.port", "server.workers", "server.drain", "server.drain_delay",
                "prefix", "log.format"):  # fmt: skip
        if attrgetter(key)(before) != attrgetter(key)(after):
            yield key
    if (before.tls.certificate is None) != (after.tls.certificate is None):
        yield "tls"
    if not verifying and after.auth.verifies and not before.auth.verifies:
        yield "auth"
    for key in ("database", "refresh_expires"):
        if getattr(before.auth.tokens, key) != getattr(after.auth.tokens, key):
            yield f"auth.tokens.{key}"
