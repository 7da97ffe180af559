"""Be the façade: a configuration becomes a `Gateway`, which runs under a server, as an ASGI app, or in a test."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastapi import FastAPI

from propylon.assembly.application import App
from propylon.assembly.census import CIRCUITS, DOCUMENTS, INSTANCES, LIMITS, Part
from propylon.assembly.components import Components
from propylon.assembly.counting import redis_of
from propylon.assembly.description import Described
from propylon.assembly.output import check_log_files
from propylon.assembly.reload import Reloads, shadowed, uncalled
from propylon.assembly.running import Running
from propylon.assembly.sharing import shared_of
from propylon.assembly.team import TeamApi
from propylon.assembly.watch.endpoints import watch_routers
from propylon.assembly.watch.watching import Watching
from propylon.config.models.endpoints import Endpoint, builtin_endpoints
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.idle import without_called
from propylon.config.reading.load import Loaded, load
from propylon.config.reading.problems import ConfigError, Problem
from propylon.config.reading.typed_settings import Environ, Settings, reader
from propylon.control import api_docs, cache, circuits, documents, health, limits, registry
from propylon.control import metrics as monitoring
from propylon.control.admin import AdminGate
from propylon.control.app import create_app
from propylon.control.audit import AuditTrail
from propylon.control.custom_endpoints import custom_routes, find_called, find_endpoints
from propylon.control.health import HealthState
from propylon.edge.splice import GOING_AWAY, SERVICE_RESTART
from propylon.edge.state import LISTENERS_KEY, STATE_KEY
from propylon.errors import ServiceUnavailable
from propylon.loop.frozen import frozen
from propylon.loop.tasks import spawn
from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.limit.stage import Limit
from propylon.services.registry import Registry
from propylon.stores.shared import Shared
from propylon.telemetry.audit import Audit
from propylon.telemetry.families import CONFIG_RELOADS
from propylon.telemetry.metrics import Metrics
from propylon.version import __version__

# The database takes half a second to load: only who verifies tokens needs it.
if TYPE_CHECKING:
    from propylon.assembly.accounts import TokenServices

__all__ = ["Gateway"]

log = logging.getLogger(__name__)

# Seconds between two looks at whether a start is complete. The fastest one, with SQLite, takes about this long.
_POLL = 0.01


class Gateway(TeamApi):
    """The façade: a configuration, and the ways to run it."""

    def __init__(
        self,
        loaded: Loaded,
        read: Callable[[], Loaded] | None = None,
        *,
        shared: Shared | None = None,
    ) -> None:
        """Take a valid configuration; nothing is opened before the gateway starts.

        `read` reads it again for a reload. `shared` was made before the fork of this worker; without it the
        gateway makes its own. Raises ConfigError for a database or a directory that cannot be used.
        """
        self.loaded = loaded
        self.read = read or (lambda: load(loaded.path, os.environ))
        # Called with every configuration that a reload has put into force; in a thread, if the loop runs.
        self.on_reload: Callable[[Loaded], None] | None = None
        self._reloads = Reloads(self)
        self._running: Running | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._freezes = False
        self._audit = Audit()
        self._gate = AdminGate()
        trail = AuditTrail(self._audit)
        check_log_files(loaded)
        self._token_services = self._open_token_services(trail)
        shared = shared or shared_of(loaded)
        metrics = Metrics(shared.sums())
        waiting = [self._awaited_keys, self._awaited_news, self._awaited_pods]
        self._health = HealthState(__version__, waiting=waiting)
        described = Described(
            lambda: self.api,
            lambda: None if self._running is None else self._running.description,
            partial(self._everywhere, DOCUMENTS),
        )
        routers = [
            api_docs.router(__version__, described, self._gate, lambda: self._config_in_force),
            documents.router(self.config.prefix, described, self._gate),
            health.router(self._health),
            monitoring.router(metrics.rendering),
            registry.router(
                self.config.prefix,
                self._registry,
                self._gate,
                trail,
                partial(self._everywhere, INSTANCES),
            ),
            circuits.router(self.config.prefix, partial(self._everywhere, CIRCUITS), self._gate),
            limits.router(
                self.config.prefix,
                self._limits,
                partial(self._everywhere, LIMITS),
                self._gate,
            ),
            cache.router(self.config.prefix, lambda: self._running, self._gate, trail),
            *watch_routers(self.config, self._watching, self._issues_now, self._gate, trail),
        ]
        if self._token_services is not None:
            self._token_services.observe_database(metrics.database)
            routers.extend(self._token_services.routers)
        self.api: FastAPI = create_app(__version__, routers)
        self._components = Components(
            api=self.api,
            routes=tuple(self.api.routes),
            endpoints=self._endpoints(self.config, users=False),
            token_services=self._token_services,
            health=self._health,
            metrics=metrics,
            shared=shared,
            audit=self._audit,
            gate=self._gate,
        )
        self.asgi = App(self)

    def _open_token_services(self, trail: AuditTrail) -> TokenServices | None:
        if not self.config.auth.verifies:
            return None
        from propylon.assembly.accounts import TokenServices  # noqa: PLC0415 — as above
        from propylon.stores.database import CannotUseDatabase  # noqa: PLC0415

        try:
            on_users = partial(self._route_tokens, self.config)
            return TokenServices(self.config, self._verify, self._gate, trail, on_users)
        except CannotUseDatabase as error:
            place = self.loaded.places.problem(("auth", "tokens", "database"), str(error))
            raise ConfigError([place]) from error

    def _route_tokens(self, begun: GatewayConfig, on: bool) -> None:  # noqa: FBT001 — a callback
        """Route the token endpoint while there are users; until then its path belongs to the services."""
        self._components.endpoints = self._endpoints(begun, users=on)
        self._compile_again()
        what = "there are users" if on else "there are no users any more"
        log.info(
            "%s: the token endpoint %s/auth/token is %s", what, begun.prefix, "on" if on else "off"
        )

    @staticmethod
    def _endpoints(begun: GatewayConfig, *, users: bool) -> tuple[Endpoint, ...]:
        return builtin_endpoints(
            begun.prefix, begun.auth, users=users, dashboard=begun.dashboard.path
        )

    def _watching(self) -> Watching | None:
        return None if self._running is None else self._running.watching

    def _issues_now(self) -> bool:
        return self._token_services is not None and self._token_services.on

    def _awaited_keys(self) -> str | None:
        verifying = None if self._running is None else self._running.authentication
        return None if verifying is None else verifying.missing

    def _awaited_news(self) -> str | None:
        if self._running is None or self._token_services is None:
            return None
        return self._token_services.missing()

    def _awaited_pods(self) -> str | None:
        return None if self._running is None else self._running.membership.missing

    async def _everywhere(self, subject: str) -> Sequence[Part]:
        return [] if self._running is None else await self._running.census.gather(subject)

    def _registry(self) -> Registry | None:
        running = self._running
        if running is None or not running.config.registry.enabled:
            return None
        return running.membership.registry

    def _limits(self) -> Iterator[tuple[str, Limit]]:
        """Yield the routes in force with each of their limits."""
        if self._running is not None:
            yield from limits.limits_of(self._running.routes)

    def own_process(self, audit_key: bytes = b"") -> None:
        """Say that the process is the gateway's own, as under `propylon run`; before the start.

        It then writes its log to descriptor 1, has the logger `propylon` for itself, and opens the listeners of
        `admin.listen` and `metrics.listen`. Embedded in an application it leaves all this to its host. `audit_key` is
        the key of the audit log's hashes, where `log.audit.key` is not set; all workers get the same.
        """
        self._components.owns_process = self._components.owns_interpreter = True
        self._audit.use_key(audit_key)

    def own_interpreter(self) -> None:
        """Say that nothing else runs in the interpreter; before the start.

        The gateway then sets the garbage collector for itself: it does not look through what is there after the start.
        """
        self._components.owns_interpreter = self._freezes = True

    def join(self, shared: Shared) -> None:
        """Be one of the workers that share this; before the start."""
        self._components.shared = shared

    async def _verify(self, token: bytes) -> Verified:
        """Say what a token means that an endpoint was given. Raises AuthError, ServiceUnavailable."""
        verifying = None if self._running is None else self._running.authentication
        if verifying is None:
            msg = "Tokens cannot be verified"
            raise ServiceUnavailable(msg, reason="nothing to verify them with is configured")
        return await verifying.verifier.verify(token)

    @classmethod
    def from_file(
        cls, path: str | Path, environ: Environ = None, *, settings: Settings = None
    ) -> Gateway:
        """Read a configuration file; `environ` is the process's unless given.

        `settings` are variables that the application has read with `pydantic-settings`: the field JWT_SECRET_KEY counts as
        that variable. They win over `environ` and `.env`. Raises ConfigError with every problem in it.
        """
        read = reader(Path(path), environ, settings)
        return cls(read(), read)

    @property
    def config(self) -> GatewayConfig:
        """The configuration in force; before the start, the one that will be."""
        return self.loaded.config

    @property
    def _config_in_force(self) -> GatewayConfig:
        return self.config if self._running is None else self._running.config

    def _compile_again(self) -> None:
        if self._running is not None:
            self._running.compile_again()

    @asynccontextmanager
    async def lifespan(
        self,
        app: object = None,  # noqa: ARG002 — FastAPI(lifespan=gateway.lifespan) passes itself
    ) -> AsyncIterator[Mapping[str, object]]:
        """Run the background work. An application that mounts `asgi` must call it: a mounted app's lifespan does not run."""
        try:
            running = self.start()
            await self.prepare()
            with frozen() if self._freezes else nullcontext():
                yield {STATE_KEY: running.edge, LISTENERS_KEY: running.edges}
        finally:
            await self._stop()
            if self._token_services is not None:
                await self._token_services.close()

    def drain(self, *, replaced: bool = False) -> None:
        """Turn unready; answers close their connections from now on.

        `replaced`: another worker takes the place of this one, so clients of sockets may come back at once.
        """
        self._health.draining = True
        if self._running is not None:
            self._running.watching.end_streams()
            for edge in self._running.edges.values():
                edge.draining = True
                edge.sockets.farewell = SERVICE_RESTART if replaced else GOING_AWAY

    @property
    def running(self) -> Running | None:
        """The data plane, once the gateway is started."""
        return self._running

    @property
    def guarded(self) -> Collection[str]:
        """The names of the routes that have a policy."""
        return self._components.policies.keys()

    def reload(self) -> None:
        """Read the configuration again and put it in force; one with errors changes nothing."""
        self._reloads.now()

    def reload_soon(self, then: Callable[[], None]) -> None:
        """Do the same beside the requests, because a long file takes its time to be read; then call `then`."""
        self._reloads.soon(then)

    def reopen_logs(self) -> None:
        """Open the files of the log anew: a program has rotated them."""
        if self._running is not None:
            self._running.output.reopen()

    @property
    def custom_endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints that a team has put on `api`."""
        return find_endpoints(self.api, self._components.routes)

    @property
    def called_services(self) -> Iterator[tuple[str, str]]:
        """Path and service for each service that an endpoint of the team calls."""
        return find_called(custom_routes(self.api, self._components.routes))

    @property
    def settled(self) -> Loaded:
        """What was loaded, without the doubts that the team's endpoints answer."""
        called = {name for _, name in self.called_services}
        return replace(self.loaded, warnings=without_called(self.loaded.warnings, called))

    def validate(self) -> None:
        """Raise ConfigError where the team's endpoints contradict the configuration, or Redis cannot be used."""
        redis_of(self.loaded)
        if problems := self.contradictions:
            raise ConfigError(problems)

    @property
    def contradictions(self) -> tuple[Problem, ...]:
        """Where the team's endpoints contradict the configuration: they take a route's path, or call no service of it."""
        return (
            *shadowed(self.loaded, self.custom_endpoints),
            *uncalled(self.loaded, self.called_services),
        )

    def record_reload(self, error: str | None = None) -> None:
        """Count it, and write the audit record: a signal or a changed file is behind it, and no user."""
        result: Literal["success", "failure"] = "success" if error is None else "failure"
        self._components.metrics.row(CONFIG_RELOADS, result)[0] += 1
        path = self.loaded.path
        self._audit.record(
            "reload",
            result,
            target=f"configuration:{'the environment' if path is None else path}",
            error=error,
        )

    def start(self) -> Running:
        """Return what runs; start it, if it does not run yet. Needs a running loop. Raises ConfigError."""
        if self._running is None:
            self.validate()
            self.loaded = self.settled
            self._running = Running(self._components, self.loaded, asyncio.get_running_loop())
            try:
                self._running.start(self._reloads.labels_soon)
            except Exception:
                log.exception("the gateway cannot start")
                raise
            if self._health.reasons() or self._running.counting.connects:
                self._preparing = spawn(self._prepare())
        return self._running

    async def prepare(self) -> None:
        """Wait until it is known what verifies tokens and which are revoked, for `auth.startup_wait` at most; for Redis, a second.

        Call this after `start`, before requests: the first answer after a start must not let a revoked token pass.
        """
        if self._preparing is not None:
            await asyncio.wait({self._preparing})
            self._preparing = None

    async def _prepare(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.config.auth.startup_wait
        if self._running is not None:
            await self._running.counting.connected()
        # A reload may change what is waited for, so there is no single event; a stop ends the wait.
        while self._health.reasons() and not self._health.draining:
            if loop.time() >= end:
                missing = ", and ".join(self._health.reasons())
                log.warning("the start goes on without %s", missing)
                return
            await asyncio.sleep(_POLL)

    async def _stop(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None
        running, self._running = self._running, None
        if running is not None:
            await running.stop()
