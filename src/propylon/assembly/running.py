"""Hold what exists only while a loop runs, and put configurations in force, the first and the later ones."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.routing import BaseRoute

from propylon.assembly.carry import ServiceSet
from propylon.assembly.membership import Membership
from propylon.assembly.reload import needs_restart
from propylon.compile.carriers import stages_without_keys
from propylon.compile.limits import compile_limit
from propylon.compile.routes import Parts, allows_credentials, compile_table
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
from propylon.loop.ticker import Ticker
from propylon.names.lookup import Lookup
from propylon.names.resolve import Resolver
from propylon.proxy.forward import Forward
from propylon.proxy.limit import Limit
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.principal import Principal
from propylon.services.health import Checks
from propylon.services.service import Service
from propylon.stores.siblings import Siblings
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

__all__ = ["Components", "Running"]

log = logging.getLogger(__name__)

# Exchanges end within this of their deadline; a connection's silence may last a little longer.
_EXCHANGE_TICK = 0.025
_CONNECTION_TICK = 0.25
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
    siblings: Siblings
    policies: dict[str, list[Policy]] = field(default_factory=dict)
    override: Principal | None = None
    owns_process: bool = (
        False  # `propylon run`: stdout, the logger and the collector are the gateway's own
    )


class Running:
    """The core, its pools, its clocks, its log."""

    def __init__(
        self, components: Components, loaded: Loaded, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Make the parts; `begin` puts the configuration in force."""
        self.loaded = loaded
        self._begun = loaded.config  # what cannot change is as it says, whatever reloads say
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
        self.membership.listen(components.siblings, loop)
        self._forward = Forward(loop.time, time.perf_counter, self._random.random)
        self._inprocess = InProcess(components.api, loop)
        self._access_log = AccessLog(self._writer, level=self.config.log.level, render=render)
        self.edge = self._edge()
        self.authentication: Authentication | None = None
        self.authentication = self._authenticated(self.config)
        self._services = ServiceSet()
        self._limit: tuple[TokenRateLimitConfig, Limit] | None = None

    @property
    def config(self) -> GatewayConfig:
        """The configuration in force."""
        return self.loaded.config

    # The first configuration, and the later ones

    def start(self) -> None:
        """Put the first configuration in force; say what an operator should know of it."""
        services = self._services.plan(self.config.services, self._dependencies)
        self._switch(self.loaded, self.authentication, services)
        for warning in self.loaded.warnings:
            log.warning("%s", warning)

    def apply(self, loaded: Loaded) -> None:
        """Go over to another configuration: it is made beside the one in force, and swapped in.

        A request sees the one or the other. What did not change goes on: connections, breakers,
        counts, probes, streams.
        """
        for key in needs_restart(
            self._begun, loaded.config, verifying=self._components.token_services is not None
        ):
            log.warning("reload: %s takes effect with the next start", key)
        services = self._services.plan(loaded.config.services, self._dependencies)
        authentication = self.authentication
        if _verifies_otherwise(loaded.config, self.config):
            authentication = self._authenticated(loaded.config)
        self._switch(loaded, authentication, services)
        log.warning(
            "reload: %d services, %d routes", len(services.by_name), len(loaded.config.routes)
        )

    def _switch(
        self, loaded: Loaded, authentication: Authentication | None, services: ServiceSet
    ) -> None:
        table = self._table(loaded.config, authentication, services)
        # From here on nothing fails.
        services.apply(self._services)
        self._verify_with(authentication)
        if self._components.token_services is not None:
            self._components.token_services.start()
            self._components.token_services.apply(loaded.config.auth)
        for service in services.by_name.values():
            service.fleet.watch(self._checks)
        self.loaded, self._services = loaded, services
        self._swap(table)
        self._adjust(loaded.config)
        self.membership.apply(loaded.config, services.by_name.values(), services.named())
        asked = () if authentication is None else authentication.upstreams
        self._pools.keep((*services.upstreams(), *asked))

    def _verify_with(self, authentication: Authentication | None) -> None:
        old, self.authentication = self.authentication, authentication
        published = () if authentication is None else authentication.key_sets
        for keys in () if old is None else old.key_sets:
            if keys not in published:
                keys.close()
        for keys in published:
            keys.start()

    def _create(self, name: str) -> Service:
        """Make a service that nobody wrote down, for somebody who has registered."""
        service = compile_service(name, ServiceConfig(), self._dependencies).service
        service.fleet.watch(self._checks)
        return service

    def _publish(self, services: tuple[Service, ...]) -> None:
        self._components.health.services = services

    def compile_again(self) -> None:
        """Put a new table in force: a team has said something of its routes."""
        self._swap(self._table(self.config, self.authentication, self._services))

    def _table(
        self, config: GatewayConfig, authentication: Authentication | None, services: ServiceSet
    ) -> Table:
        parts = Parts(
            builtin=self._inprocess,
            forward=self._forward,
            stages=(
                stages_without_keys(config.auth)
                if authentication is None
                else authentication.stages
            ),
            endpoints=(
                *self._components.endpoints,
                *find_endpoints(self._components.api, self._components.routes),
            ),
            policies={
                name: compose_policies(some) for name, some in self._components.policies.items()
            },
            override=self._components.override,
            limit=self._token_limit(config.auth.tokens.rate_limit),
        )
        return compile_table(config, parts, services.by_name)

    def _token_limit(self, written: TokenRateLimitConfig) -> Limit:
        if self._limit is None or self._limit[0] != written:
            self._limit = (written, compile_limit(written, self._loop.time))
        return self._limit[1]

    def _swap(self, table: Table) -> None:
        self.edge.pipeline.table = table
        self._components.metrics.settle(table)

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
            trusted_origin=allows_credentials(config.cors),
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

    def stop(self) -> None:
        """Let go of everything; what is in flight is lost."""
        self._verify_with(None)
        self.membership.close()
        self._prober.close()
        self._pools.close()
        self._log.close()
        self._writer.close()


def _verifies_otherwise(new: GatewayConfig, old: GatewayConfig) -> bool:
    """Tell whether tokens are verified otherwise: CORS decides which pages may send one in a cookie."""
    return (new.auth, new.debug, new.cors) != (old.auth, old.debug, old.cors)


def _trust(config: GatewayConfig) -> Trust:
    networks = config.server.trusted_proxies
    return Trust([ip_network(network, strict=False) for network in networks])
