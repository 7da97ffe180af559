"""Hold what exists only while an event loop runs, and put configurations into force: the first, and each reload's."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

from propylon.assembly.ages import ages_of
from propylon.assembly.answering import open_census
from propylon.assembly.answers import SharedAnswers
from propylon.assembly.carry import ServiceSet
from propylon.assembly.change import Change
from propylon.assembly.components import Components
from propylon.assembly.counting import Counting, redis_of
from propylon.assembly.description import Description
from propylon.assembly.docker import Relabel
from propylon.assembly.edges import SocketPorts, adjust_edges, adjust_gate, open_edges
from propylon.assembly.guards import open_asks
from propylon.assembly.idempotency import answering
from propylon.assembly.membership import Membership
from propylon.assembly.notices import log_notices
from propylon.assembly.outages import SharedOutages
from propylon.assembly.output import Output
from propylon.assembly.tracing import Traces
from propylon.assembly.verification import Verification, verifies_otherwise
from propylon.assembly.watch.watching import Watching, watch
from propylon.compile.callees import Callees
from propylon.compile.carriers import stages_without_keys
from propylon.compile.detours import DetourCompiler, forwarding
from propylon.compile.limits import LimitCompiler
from propylon.compile.routes import Parts
from propylon.compile.services import Dependencies, compile_service
from propylon.compile.table import Compiled, compile_slowly
from propylon.config.models.endpoints import PUBLIC
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.services import ServiceConfig
from propylon.config.reading.load import Loaded
from propylon.control.custom_endpoints import find_endpoints
from propylon.control.policies import Policy, compose_policies
from propylon.control.service import CALLS, Calls
from propylon.explain.online import Explaining
from propylon.loop.outbox import Outbox
from propylon.loop.slices import at_once
from propylon.loop.tasks import cancelled_tasks_end
from propylon.loop.ticker import Ticker
from propylon.names.lookup import Lookup
from propylon.names.resolve import Resolver
from propylon.proxy.authenticate import always
from propylon.proxy.call import Caller
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.route import Authenticate, Before, Route
from propylon.services.health import Checks
from propylon.services.service import Service
from propylon.stores.key_sets import KeySets
from propylon.telemetry.events import Events
from propylon.telemetry.gauges import Gauges
from propylon.upstream.inprocess import InProcess
from propylon.upstream.pools import Pools
from propylon.upstream.probe import Prober

# Databases and cryptography take half a second to load: only who verifies tokens needs them.
if TYPE_CHECKING:
    from propylon.compile.authentication import Authentication

__all__ = ["Change", "Components", "Running"]

log = logging.getLogger(__name__)

# Exchanges end within this of their deadline.
_EXCHANGE_TICK = 0.025
# Seconds that a stop waits for what the workers share.
_LET_GO = 1.0


class Running:
    """The data plane, its pools, clocks and log, for as long as an event loop runs."""

    _said = 0  # how often a team has added a policy or set an override

    def __init__(
        self, components: Components, loaded: Loaded, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Make the parts; `start` puts the configuration into force."""
        self.loaded = loaded
        # Reloads cannot change all of it. Without the routes, which would stay in memory for ever.
        self.begun = loaded.config.model_copy(update={"routes": (), "services": {}})
        self._components = components
        self._loop = loop
        self.output = Output(components, loaded.config, loop)
        # Ids, not secrets: the generator is seeded from the system's entropy, and fast.
        self._random = random.Random()  # noqa: S311
        self._outbox = Outbox(loop)
        self._resolver = Resolver(Lookup(), loop.time)
        self._pools = Pools(loop, Ticker(loop, _EXCHANGE_TICK), self._outbox, self._resolver)
        self._asks = open_asks(self._pools, components.metrics, loop)
        self._prober = Prober(clock=time.perf_counter, wall=time.time, chance=self._random.random)
        self._checks = Checks(self._prober)
        self._outages = SharedOutages(
            components.shared.facts, Events(components.metrics), components.health
        )
        self.description = Description(
            components.api,
            components.shared.facts,
            components.health,
            components.metrics.answers,
            owns_process=components.owns_process,
        )
        self.membership = Membership(
            self.config, self._pools, self._resolver, self._create, self._publish
        )
        self._dependencies = Dependencies(
            self._pools.connect,
            self._random.random,
            clock=loop.time,
            listeners=self.description.hearing(self._outages),
            resolver=self._resolver,
            cluster=self.membership.cluster,
            docker=self.membership.docker,
        )
        components.shared.start(loop)
        components.metrics.count_in(components.shared.sums())
        self.membership.join(components.shared.facts)
        self._outages.join()
        self.census = open_census(components, self.description, lambda: self.routes)
        self._forward = forwarding(loop, self._random, components.metrics)
        self._callees = Callees(self._forward)
        self._inprocess = InProcess(components.api, loop, {CALLS: self._calls()})
        sockets = SocketPorts(self._random.getrandbits, components.metrics.count_socket)
        self.edges = open_edges(self.config, loop, self._outbox, self._pipeline, sockets)
        self.edge = self.edges[PUBLIC]
        self._gauges = Gauges(
            components.metrics,
            loop,
            connections=lambda: sum(edge.crowd.open for edge in self.edges.values()),
            services=lambda: components.health.services,
            cached=lambda: self.answers.size,
        )
        self._traces = Traces(components.metrics, self._pools, loop, self._random)
        self._key_sets = KeySets(components.shared.key_sets, components.shared.facts)
        self._verification = Verification(self._verify_anew)
        self._services = ServiceSet()
        self._compiled: Compiled | None = None
        redis = redis_of(loaded)
        self.counting = Counting(redis, components.shared.limits(), loop, self._random.random)
        self.limits = LimitCompiler(self.counting.store, components.metrics)
        self._caches, self._idempotency = answering(
            self.config.cache, components, redis, self._forward, loop, self._random
        )
        self._stages: tuple[object, Mapping[str, Authenticate]] | None = None
        self._composed: dict[tuple[Policy, ...], Callable[[float], Before]] = {}

    @property
    def config(self) -> GatewayConfig:
        """The configuration in force."""
        return self.loaded.config

    @property
    def answers(self) -> SharedAnswers:
        """The answers that caches have stored."""
        return self._caches.store

    async def purge(self, **chosen: str | None) -> None:
        """Let go of stored answers in all workers. Raises ServiceUnavailable."""
        await self.answers.purge_everywhere(**chosen)

    @property
    def authentication(self) -> Authentication | None:
        """What verifies tokens now; None: nothing does."""
        return self._verification.in_force

    @property
    def table(self) -> Table:
        """The routing table in force."""
        return self.edge.pipeline.table

    @property
    def routes(self) -> Iterator[Route]:
        """All routes in force, on each listener."""
        return (route for edge in self.edges.values() for route in edge.pipeline.table.every_route)

    @property
    def verifies(self) -> bool:
        """Whether the gateway has verified tokens since its start."""
        return self._components.token_services is not None

    @property
    def owns_interpreter(self) -> bool:
        """Whether the collector and the turns of threads are the gateway's to set, and not an application's."""
        return self._components.owns_interpreter

    def start(self, relabel: Relabel) -> None:
        """Put the first configuration into force; log the warnings about it. `relabel` is as `Docker` has it."""
        self.membership.docker.relabel = relabel
        self.switch(at_once(self.prepare(self.loaded)))
        self.counting.start()
        self._gauges.start()
        self._components.metrics.measured = ages_of(
            self._components, self._verification, self.membership
        )
        self.watching.start()
        log_notices(self.loaded, owns_process=self._components.owns_process)

    def prepare(self, loaded: Loaded) -> Generator[None, None, Change]:
        """Build another configuration beside the one in force, in slices; nothing changes yet.

        Raises ConfigError for one that would leave the gateway without a key.
        """
        services = yield from self._services.plan(loaded.config.services, self._dependencies)
        authentication = self._verification.latest
        if authentication is None or verifies_otherwise(loaded.config, self.config):
            authentication = self._verification.compile(
                loaded, self._components, self._pools.connect, self._key_sets.of
            )
        while True:
            said = self._said
            verifying = self._verification.after(authentication)
            compiled = yield from self._compile(loaded.config, verifying, services)
            if said == self._said:
                return Change(loaded, authentication, verifying, services, compiled)

    def switch(self, change: Change) -> None:
        """Put a prepared configuration into force: nothing here fails, and a request sees the old one or the new one.

        What did not change goes on: connections, breakers, counts, probes, streams.
        """
        config, services = change.loaded.config, change.services
        services.apply(self._services)
        self._verification.apply(change.authentication)
        if self._components.token_services is not None:
            self._components.token_services.start(self._components.shared.facts)
            self._components.token_services.apply(config.auth)
        for service in services.by_name.values():
            service.fleet.watch(self._checks)
        self.loaded, self._services = change.loaded, services
        self._swap(change.compiled)
        self._adjust(config)
        self._components.metrics.configured = time.time()
        self.membership.apply(config, services.by_name.values(), services.named())
        self.description.apply(config)
        if self.authentication is not change.verifying:
            self.compile_again()  # keys have come in the last slices
        self._keep_pools()

    def _keep_pools(self) -> None:
        users = (self._services, self._verification, self._asks)
        self._pools.keep(one for some in users for one in some.upstreams())

    def _verify_anew(self) -> None:
        """Put the verifier into force whose keys were fetched after a reload."""
        self.compile_again()
        self._keep_pools()

    def _create(self, name: str) -> Service:
        """Make a service that is not in the file, for an instance that has registered."""
        service = compile_service(name, ServiceConfig(), self._dependencies).service
        service.fleet.watch(self._checks)
        return service

    def _publish(self, services: tuple[Service, ...]) -> None:
        self._components.health.services = services
        self._components.metrics.services = lambda: services

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
            stages=self._stages_of(authentication, config.auth.carriers),
            endpoints=(
                *self._components.endpoints,
                *find_endpoints(self._components.api, self._components.routes),
            ),
            policies={name: self._policy(some) for name, some in self._components.policies.items()},
            override=self._components.override,
            limits=self.limits,
            caches=self._caches,
            idempotency=self._idempotency,
            basic=self._components.basic,
            asks=self._asks,
            costs=self._components.costs,
            seats=self._components.seats,
            documents=self.description.in_force,
            checks=self._components.metrics.checks,
            detours=DetourCompiler(self._components.metrics),
            samples=self.description.drift,
        )
        by_name = self._components.stand_ins.among(services.by_name, self._loop)
        return compile_slowly(config, parts, by_name, self._compiled)

    # These return the same object for the same values: a route is reused only while all its parts are the same.

    def _stages_of(
        self, authentication: Authentication | None, carriers: tuple[str, ...]
    ) -> Mapping[str, Authenticate]:
        made_of = carriers if authentication is None else authentication
        if self._stages is None or self._stages[0] != made_of:
            keys = authentication
            made = stages_without_keys(carriers) if keys is None else keys.stages
            self._stages = (made_of, made)
        return self._stages[1]

    def _policy(self, some: Iterable[Policy]) -> Callable[[float], Before]:
        policies = tuple(some)
        if (known := self._composed.get(policies)) is None:
            # For the same total time it returns the same stage, by which a route knows that it is unchanged.
            known = self._composed[policies] = cache(partial(compose_policies, policies))
        return known

    def _swap(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._callees.apply(compiled)
        self.description.show(compiled.config, compiled.tables)
        for listener, table in compiled.tables.items():
            self.edges[listener].pipeline.table = table
        self.edge.sockets.reconsider(compiled.table)
        self._components.metrics.settle(*compiled.tables.values())

    def _adjust(self, config: GatewayConfig) -> None:
        """Set the limits of the edge and of the cache, and what is logged."""
        self.answers.resize(config.cache.memory)
        adjust_edges(self.edges.values(), config)
        tracer = self._traces.apply(config.traces)
        for edge in self.edges.values():
            edge.pipeline.tracing = tracer
        adjust_gate(self._components.gate, config)
        self.output.apply(config)
        self._gauges.watchdog.apply(config.policies.budget)
        self._components.metrics.without = frozenset(config.metrics.drop_labels)

    # Parts

    def _pipeline(self) -> Pipeline:
        return Pipeline(
            Table(()),
            (self.output.access_log, self._components.metrics),
            clock=time.perf_counter,
            chance=self._random.getrandbits,
            explain=Explaining(lambda: self.loaded, self._verifies_asker),
        )

    @cached_property
    def watching(self) -> Watching:
        """What is shown of all workers, and what operators do there."""
        return watch(self, self._components, self._outages, self._loop)

    def _verifies_asker(self) -> Authenticate:
        """Return what verifies the token of a client that asks why: a bad one counts as none."""
        if self._components.override is not None:
            return always(self._components.override)
        return self._stages_of(self.authentication, self.config.auth.carriers)["offered"]

    def _calls(self) -> Calls:
        """Return what makes the calls of endpoints, which name their services."""
        notes = (self.output.access_log.note_call, self._components.metrics.note_call)
        return Calls(Caller(time.perf_counter, self._random.getrandbits, notes), self._callees.of)

    async def stop(self) -> None:
        """Let go of everything; what is in flight is lost."""
        self._gauges.stop()
        self.watching.close()
        await self._traces.stop()
        try:
            async with asyncio.timeout(_LET_GO):
                await self._components.shared.stop()
        except TimeoutError:
            log.warning("stopping: what the workers share was not let go of in time")
        finally:
            self._close()
        # What is counted from now on is this process's own: a row of the shared files would keep their memory.
        self._components.metrics.count_in(self._components.shared.sums())
        await cancelled_tasks_end(_LET_GO)  # name lookups and probes, with their sockets

    def _close(self) -> None:
        self.counting.close()
        self._traces.close()
        self.answers.close()
        self._verification.close()
        self.description.close()
        self.membership.close()
        self._prober.close()
        self._pools.close()
        self.output.close()
