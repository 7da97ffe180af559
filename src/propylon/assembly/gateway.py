"""Put the parts together: configuration → `Gateway`. The only module that knows all the others."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from propylon.assembly.reload import refused
from propylon.assembly.running import Components, Running
from propylon.config.models.endpoints import builtin_endpoints
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.spelling import did_you_mean
from propylon.config.reading.load import Loaded, load
from propylon.config.reading.problems import ConfigError, Problem
from propylon.control import circuits, health, registry
from propylon.control import metrics as monitoring
from propylon.control.app import create_app, offer_password
from propylon.control.health import HealthState
from propylon.control.policies import Policy
from propylon.edge.asgi import serve
from propylon.edge.state import STATE_KEY
from propylon.errors import ServiceUnavailable
from propylon.loop.tasks import spawn
from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.principal import Principal, identify
from propylon.services.registry import Registry
from propylon.stores.siblings import Siblings
from propylon.telemetry.metrics import Metrics
from propylon.version import __version__

# The database takes half a second to load: only who verifies tokens needs it.
if TYPE_CHECKING:
    from propylon.assembly.accounts import TokenServices

__all__ = ["Gateway", "Override"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)


class Override:
    """What `override_principal` returns: a `with` block that ends it, or nothing to care about."""

    def __init__(self, put: Callable[[Principal | None], None], before: Principal | None) -> None:
        """Put `before` back at the end."""
        self._put = put
        self._before = before

    def __enter__(self) -> None:
        """It holds already."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put back what held before."""
        self._put(self._before)


class Gateway:
    """The façade: a configuration, and the ways to run it."""

    def __init__(self, loaded: Loaded, read: Callable[[], Loaded] | None = None) -> None:
        """Take a valid configuration; nothing is opened before the gateway starts.

        `read` reads it again for a reload. Raises ConfigError for a database that cannot be used.
        """
        self.loaded = loaded
        self.read = read or (lambda: load(loaded.path, os.environ))
        # Hears of every configuration that a reload has put in force.
        self.on_reload: Callable[[Loaded], None] | None = None
        self._reloading = asyncio.Lock()
        self._running: Running | None = None
        self._token_services = self._open_token_services()
        metrics = Metrics()
        self._health = HealthState(__version__, waiting=[self._awaited_keys, self._awaited_news])
        routers = [
            health.router(self._health),
            monitoring.router(metrics.render),
            registry.router(self.config.prefix, self._registry),
            circuits.router(self.config.prefix, lambda: self._health.services),
        ]
        if self._token_services is not None:
            routers.extend(self._token_services.routers)
        self.api: FastAPI = create_app(__version__, routers)
        if self.config.auth.issues:
            offer_password(self.api, f"{self.config.prefix}/auth/token")
        self._components = Components(
            api=self.api,
            routes=tuple(self.api.routes),
            endpoints=builtin_endpoints(self.config.prefix, self.config.auth),
            token_services=self._token_services,
            health=self._health,
            metrics=metrics,
            siblings=Siblings(),
        )
        self.asgi = _App(self)

    def _open_token_services(self) -> TokenServices | None:
        if not self.config.auth.verifies:
            return None
        from propylon.assembly.accounts import TokenServices  # noqa: PLC0415 — as above
        from propylon.stores.database import CannotUseDatabase  # noqa: PLC0415

        try:
            return TokenServices(self.config, self._verify)
        except CannotUseDatabase as error:
            place = self.loaded.places.problem(("auth", "tokens", "database"), str(error))
            raise ConfigError([place]) from error

    def _awaited_keys(self) -> str | None:
        verifying = None if self._running is None else self._running.authentication
        return None if verifying is None else verifying.missing

    def _awaited_news(self) -> str | None:
        if self._running is None or self._token_services is None:
            return None
        return self._token_services.missing()

    def _registry(self) -> Registry | None:
        running = self._running
        if running is None or not running.config.registry.enabled:
            return None
        return running.membership.registry

    def own_process(self) -> None:
        """Say that the process is the gateway's own, as under `propylon run`; before the start.

        It then writes its log to descriptor 1, and has the logger `propylon` for itself. Embedded in an application
        it leaves both to its host.
        """
        self._components.owns_process = True

    def join(self, siblings: Siblings) -> None:
        """Share what registers with the other workers of the same gateway; before the start."""
        self._components.siblings = siblings

    async def _verify(self, token: bytes) -> Verified:
        """Say what a token means that an endpoint was given. Raises AuthError, ServiceUnavailable."""
        verifying = None if self._running is None else self._running.authentication
        if verifying is None:
            msg = "Tokens cannot be verified"
            raise ServiceUnavailable(msg, reason="nothing to verify them with is configured")
        return await verifying.verifier.verify(token)

    @classmethod
    def from_file(cls, path: str | Path, environ: Mapping[str, str] | None = None) -> Gateway:
        """Read a configuration file; `environ` is the process's unless given.

        Raises ConfigError with every problem in it.
        """

        def read() -> Loaded:
            return load(Path(path), os.environ if environ is None else environ)

        return cls(read(), read)

    @property
    def config(self) -> GatewayConfig:
        """The configuration."""
        return self.loaded.config

    def before(self, route: str) -> Callable[[Policy], Policy]:
        """Put a policy before a route, after authorization and before the limit: a decorator.

        The function is awaited with the request and the principal, and refuses by raising a GatewayError
        or an HTTPException. Raises ValueError for a route that is not there.
        """
        names = [written.name for written in self.config.routes]
        if route not in names:
            msg = f'no route "{route}"{did_you_mean(route, names)}'
            raise ValueError(msg)

        def register(policy: Policy) -> Policy:
            self._components.policies.setdefault(route, []).append(policy)
            self._compile_again()
            return policy

        return register

    def override_principal(self, principal: Principal | None) -> Override:
        """Have every request come from `principal`, until the returned value's `with` block ends.

        For tests of proxied routes: tokens are not looked at, scopes and roles are. None ends it.
        """
        override = Override(self._set_override, self._components.override)
        self._set_override(None if principal is None else identify(principal))
        return override

    def _set_override(self, principal: Principal | None) -> None:
        self._components.override = principal
        self._compile_again()

    def _compile_again(self) -> None:
        if self._running is not None:
            self._running.compile_again()

    @asynccontextmanager
    async def lifespan(
        self,
        app: object = None,  # noqa: ARG002 — FastAPI(lifespan=gateway.lifespan) passes itself
    ) -> AsyncIterator[Mapping[str, object]]:
        """Run the background work; for apps that mount `asgi`, whose lifespans nobody calls."""
        running = self.start()
        try:
            yield {STATE_KEY: running.edge}
        finally:
            self._stop()
            if self._token_services is not None:
                await self._token_services.close()

    def drain(self) -> None:
        """Turn unready; answers close their connections from now on."""
        self._health.draining = True
        if self._running is not None:
            self._running.edge.draining = True

    def reload(self) -> None:
        """Read the configuration again and put it in force; one with errors changes nothing."""
        self._take(self._read_again())

    def reload_soon(self, then: Callable[[], None]) -> None:
        """Do the same beside the requests, for a long file takes its time to be read; `then` comes after."""
        spawn(self._reload(then))

    async def _reload(self, then: Callable[[], None]) -> None:
        async with self._reloading:
            self._take(await asyncio.to_thread(self._read_again))
        then()

    def _read_again(self) -> Loaded | tuple[Problem, ...]:
        try:
            loaded = self.read()
        except ConfigError as error:
            return error.problems
        return tuple(refused(loaded, self.config, self._components.policies.keys())) or loaded

    def _take(self, found: Loaded | tuple[Problem, ...]) -> None:
        if isinstance(found, tuple):
            for problem in found:
                log.error("reload: nothing changes: %s", problem)
            return
        if self._running is not None:
            self._running.apply(found)
        self.loaded = found
        if self.on_reload is not None:
            self.on_reload(found)

    def start(self) -> Running:
        """Return what runs; start it, if it does not run yet. Needs a running loop."""
        if self._running is None:
            self._running = Running(self._components, self.loaded, asyncio.get_running_loop())
            self._running.start()
        return self._running

    def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stop()


class _App:
    """A gateway as an ASGI app: an object, because servers tell ASGI 2 from 3 by `__call__`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        kind = scope["type"]
        if kind == "http":
            await serve(self._gateway.start().edge, scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            # WebSockets are not built yet; closing before accepting is HTTP 403 to the client.
            await receive()
            await send({"type": "websocket.close", "code": 1011})

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        async with self._gateway.lifespan() as state:
            if "state" in scope:
                scope["state"].update(state)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
