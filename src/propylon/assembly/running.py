"""Hold what exists only while an event loop runs, and put configurations into force: the first, and each reload's."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from ipaddress import ip_network
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.routing import BaseRoute

from propylon.assembly.carry import ServiceSet
from propylon.assembly.membership import Membership
from propylon.compile.limits import compile_limit
from propylon.compile.routes import NOTHING_TO_VERIFY_WITH, Compiled, Parts, compile_slowly
from propylon.compile.services import Dependencies, compile_service
from propylon.config.models.auth import TokenRateLimitConfig
from propylon.config.models.endpoints import Endpoint
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.services import ServiceConfig
from propylon.config.reading.load import Loaded
from propylon.control.custom_endpoints import find_endpoints
from propylon.control.health import HealthState
from propylon.control.policies import Policy, compose_policies
from propylon.edge.state import EdgeState
from propylon.edge.trust import Trust
from propylon.loop.outbox import Outbox
from propylon.loop.slices import at_once
from propylon.loop.ticker import Ticker
from propylon.names.lookup import Lookup
from propylon.names.resolve import Resolver
from propylon.proxy.forward import Forward
from propylon.proxy.limit import Limit
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.principal import Principal
from propylon.proxy.route import Authenticate, Before
from propylon.services.health import Checks
from propylon.services.service import Service
from propylon.stores.shared import Shared
from propylon.telemetry.access_log import LEVELS, AccessLog, Format, as_json, as_text
from propylon.telemetry.events import Events
from propylon.telemetry.logs import LogOutput, WriterHandler
from propylon.telemetry.metrics import Metrics
from propylon.telemetry.writer import LineWriter, to_descriptor, to_stdout
from propylon.upstream.inprocess import InProcess
from propylon.upstream.pools import Pools
from propylon.upstream.probe import Prober

# Databases and cryptography take half a second to load: only who verifies tokens needs them.
if TYPE_CHECKING:
    from propylon.assembly.accounts import TokenServices
    from propylon.compile.authentication import Authentication

__all__ = ["Change", "Components", "Running"]

log = logging.getLogger(__name__)

# Exchanges end within this of their deadline; a connection's silence may last a little longer.
_EXCHANGE_TICK = 0.025
_CONNECTION_TICK = 0.25
# Seconds that a stop waits for what the workers share.
_LET_GO = 1.0
_STDOUT = 1  # its descriptor: one write, past Python's buffers


@dataclass(slots=True)
class Components:
    """What was there before the loop and outlives reloads: the app, its data, a team's policies."""

    api: FastAPI
    routes: tuple[BaseRoute, ...]  # of the app, the gateway's own
    endpoints: tuple[Endpoint, ...]  # the same, as they are routed
    token_services: TokenServices | None  # None: nothing verifies tokens
    health: HealthState
    metrics: Metrics
    shared: Shared
    policies: dict[str, list[Policy]] = field(default_factory=dict)
    override: Principal | None = None
    owns_process: bool = (
        False  # `propylon run`: stdout, the logger and the collector are the gateway's own
    )


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration with everything that was built from it, not yet in force."""

    loaded: Loaded
    authentication: Authentication | None
    services: ServiceSet
    compiled: Compiled


class Running:
    """The data plane, its pools, clocks and log, for as long as an event loop runs."""

    def __init__(
        self, components: Components, loaded: Loaded, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Make the parts; `start` puts the configuration into force."""
        self.loaded = loaded
        # Reloads cannot change all of it. Without the routes, which would stay in memory for ever.
        self.begun = loaded.config.model_copy(update={"routes": (), "services": {}})
        self._components = components
        self._loop = loop
        render = self._render()
        owner = components.owns_process
        self._writer = LineWriter(to_descriptor(_STDOUT) if owner else to_stdout, loop)
        self._log = LogOutput(WriterHandler(self._writer, render), exclusive=owner)
        # Ids, not secrets: the generator is seeded from the system's entropy, and fast.
        self._random = random.Random()  # noqa: S311
        self._outbox = Outbox(loop)
        self._resolver = Resolver(Lookup(), loop.time)
        self._pools = Pools(loop, Ticker(loop, _EXCHANGE_TICK), self._outbox, self._resolver)
        self._prober = Prober(clock=time.perf_counter, wall=time.time, chance=self._random.random)
        self._checks = Checks(self._prober)
        self._dependencies = Dependencies(
            self._pools.connect,
            self._random.random,
            clock=loop.time,
            listeners=Events(),
            resolver=self._resolver,
        )
        self.membership = Membership(
            self.config, self._pools, self._resolver, self._create, self._publish
        )
        components.shared.start(loop)
        self.membership.join(components.shared.facts)
        self._forward = Forward(loop.time, time.perf_counter, self._random.random)
        self._inprocess = InProcess(components.api, loop)
        self._access_log = AccessLog(self._writer, level=self.config.log.level, render=render)
        self.edge = self._edge()
        self.authentication: Authentication | None = None
        self.authentication = self._authenticated(self.config)
        self._services = ServiceSet()
        self._compiled: Compiled | None = None
        self._said = 0  # how often a team has added a policy or set an override
        self._limit: tuple[TokenRateLimitConfig, Limit] | None = None
        self._stages: tuple[Authentication, Mapping[str, Authenticate]] | None = None
        self._composed: dict[tuple[Policy, ...], Callable[[float], Before]] = {}

    @property
    def config(self) -> GatewayConfig:
        """The configuration in force."""
        return self.loaded.config

    @property
    def table(self) -> Table:
        """The routing table in force."""
        return self.edge.pipeline.table

    @property
    def verifies(self) -> bool:
        """Whether the gateway has verified tokens since its start."""
        return self._components.token_services is not None

    @property
    def owns_process(self) -> bool:
        """Whether the process is the gateway's own, and not an application's that embeds it."""
        return self._components.owns_process

    # The first configuration, and the later ones

    def start(self) -> None:
        """Put the first configuration into force; log the warnings about it."""
        self.switch(at_once(self.prepare(self.loaded)))
        for warning in self.loaded.warnings:
            log.warning("%s", warning)

    def prepare(self, loaded: Loaded) -> Generator[None, None, Change]:
        """Build another configuration beside the one in force, in slices; nothing changes yet."""
        services = yield from self._services.plan(loaded.config.services, self._dependencies)
        authentication = self.authentication
        if loaded.config.auth != self.config.auth or loaded.config.debug != self.config.debug:
            authentication = self._authenticated(loaded.config)
        while True:
            said = self._said
            compiled = yield from self._compile(loaded.config, authentication, services)
            if said == self._said:
                return Change(loaded, authentication, services, compiled)

    def switch(self, change: Change) -> None:
        """Put a prepared configuration into force: nothing here fails, and a request sees the old one or the new one.

        What did not change goes on: connections, breakers, counts, probes, streams.
        """
        config, services = change.loaded.config, change.services
        services.apply(self._services)
        self._verify_with(change.authentication)
        if self._components.token_services is not None:
            self._components.token_services.start(self._components.shared.facts)
            self._components.token_services.apply(config.auth)
        for service in services.by_name.values():
            service.fleet.watch(self._checks)
        self.loaded, self._services = change.loaded, services
        self._swap(change.compiled)
        self._adjust(config)
        self.membership.apply(config, services.by_name.values(), services.named())
        asked = () if change.authentication is None else change.authentication.upstreams
        self._pools.keep((*services.upstreams(), *asked))

    def _verify_with(self, authentication: Authentication | None) -> None:
        old, self.authentication = self.authentication, authentication
        published = None if authentication is None else authentication.published
        if old is not None and old.published is not None and old.published is not published:
            old.published.close()
        if published is not None:
            published.start()

    def _create(self, name: str) -> Service:
        """Make a service that is not in the file, for an instance that has registered."""
        service = compile_service(name, ServiceConfig(), self._dependencies).service
        service.fleet.watch(self._checks)
        return service

    def _publish(self, services: tuple[Service, ...]) -> None:
        self._components.health.services = services

    def compile_again(self) -> None:
        """Put a new table into force: a team has added a policy or set an override."""
        self._said += 1
        self._swap(at_once(self._compile(self.config, self.authentication, self._services)))

    def _compile(
        self, config: GatewayConfig, authentication: Authentication | None, services: ServiceSet
    ) -> Generator[None, None, Compiled]:
        parts = Parts(
            builtin=self._inprocess,
            forward=self._forward,
            stages=self._stages_of(authentication),
            endpoints=(
                *self._components.endpoints,
                *find_endpoints(self._components.api, self._components.routes),
            ),
            policies={
                name: self._policy(tuple(some)) for name, some in self._components.policies.items()
            },
            override=self._components.override,
            limit=self._token_limit(config.auth.tokens.rate_limit),
        )
        return compile_slowly(config, parts, services.by_name, self._compiled)

    # These return the same object for the same values: a route is reused only while all its parts are the same.

    def _stages_of(self, authentication: Authentication | None) -> Mapping[str, Authenticate]:
        if authentication is None:
            return NOTHING_TO_VERIFY_WITH
        if self._stages is None or self._stages[0] is not authentication:
            self._stages = (authentication, authentication.stages)
        return self._stages[1]

    def _policy(self, policies: tuple[Policy, ...]) -> Callable[[float], Before]:
        if (known := self._composed.get(policies)) is None:
            # For the same total time it returns the same stage, by which a route knows that it is unchanged.
            known = self._composed[policies] = cache(partial(compose_policies, policies))
        return known

    def _token_limit(self, written: TokenRateLimitConfig) -> Limit:
        if self._limit is None or self._limit[0] != written:
            self._limit = (
                written,
                compile_limit(written, self._components.shared.counters, self._loop.time),
            )
        return self._limit[1]

    def _swap(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self.edge.pipeline.table = compiled.table
        self._components.metrics.settle(compiled.table)

    def _adjust(self, config: GatewayConfig) -> None:
        """Set the limits of the edge, and what is logged."""
        edge, server = self.edge, config.server
        edge.trust = _trust(config)
        edge.origins.clear()
        edge.max_header = server.max_header
        edge.header_timeout = server.timeouts.header
        edge.idle_timeout = server.timeouts.idle
        edge.body_timeout = server.timeouts.body
        self._access_log.least = LEVELS[config.log.level]
        self._log.set_level(LEVELS[config.log.level])

    # Parts

    def _authenticated(self, config: GatewayConfig) -> Authentication | None:
        if self._components.token_services is None or not config.auth.verifies:
            return None
        # As at the top.
        from propylon.compile.authentication import compile_authentication  # noqa: PLC0415

        return compile_authentication(
            config.auth,
            self._pools.connect,
            self._components.token_services.revocations,
            time.time,
            debug=config.debug,
            before=self.authentication,
        )

    def _edge(self) -> EdgeState:
        config = self.config
        pipeline = Pipeline(
            Table(()),
            (self._access_log, self._components.metrics),
            clock=time.perf_counter,
            chance=self._random.getrandbits,
        )
        timeouts = config.server.timeouts
        return EdgeState(
            pipeline=pipeline,
            trust=_trust(config),
            ticker=Ticker(self._loop, _CONNECTION_TICK),
            outbox=self._outbox,
            loop=self._loop,
            max_header=config.server.max_header,
            header_timeout=timeouts.header,
            idle_timeout=timeouts.idle,
            body_timeout=timeouts.body,
        )

    def _render(self) -> Format:
        if self.config.log.format == "text":
            return partial(as_text, coloured=os.isatty(_STDOUT))
        return as_json

    async def stop(self) -> None:
        """Let go of everything; what is in flight is lost."""
        try:
            async with asyncio.timeout(_LET_GO):
                await self._components.shared.stop()
        except TimeoutError:
            log.warning("stopping: what the workers share was not let go of in time")
        finally:
            self._close()
        await asyncio.sleep(0)  # what was cancelled ends in the next turn

    def _close(self) -> None:
        self._verify_with(None)
        self.membership.close()
        self._prober.close()
        self._pools.close()
        self._log.close()
        self._writer.close()


def _trust(config: GatewayConfig) -> Trust:
    networks = config.server.trusted_proxies
    return Trust([ip_network(network, strict=False) for network in networks])
