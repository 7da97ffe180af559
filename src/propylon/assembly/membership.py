"""Join what adds and removes instances while the gateway runs (the registry, DNS) to the services and their pools."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator

from propylon.assembly.docker import Docker
from propylon.assembly.gossip import SharedRegistry
from propylon.compile.addresses import probe_address, registered_address
from propylon.compile.cluster import api_settings
from propylon.config.models.endpoints import listeners_of
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.services import ServiceConfig
from propylon.config.models.syntax import parse_listen, parse_upstream
from propylon.loop.tasks import spawn_forever
from propylon.names.addresses import AddressFilter
from propylon.names.lookup import is_own_address
from propylon.names.resolve import Resolver
from propylon.services.admission import Admission, Allowed
from propylon.services.cluster import Cluster
from propylon.services.discovery import Discovery, Members
from propylon.services.fleet import Fleet
from propylon.services.instance import Instance
from propylon.services.registry import keep_sweeping
from propylon.services.service import Service
from propylon.stores.shared import Facts
from propylon.upstream.dial import Address
from propylon.upstream.pool import Pool
from propylon.upstream.pools import Pools

__all__ = ["Membership"]

log = logging.getLogger(__name__)

# Of one namespace of a cluster: the watch, and a list beside it.
_TO_THE_API = 2
# A probe needs one connection, and one more for the moment in which the last one closes.
_PROBING = 2


class Membership:
    """The registry and the names, and what goes on by itself for them."""

    def __init__(
        self,
        config: GatewayConfig,
        pools: Pools,
        resolver: Resolver,
        create: Callable[[str], Service],
        on_change: Callable[[tuple[Service, ...]], None],
    ) -> None:
        """Start with no services. `create` makes a service that is not in the file; its instances are probed as others are.

        `on_change` hears of all services whenever one comes or goes.
        """
        self._config = config
        self._pools = pools
        self._resolver = resolver
        self.docker = Docker(pools, random.random)
        self.cluster = Cluster(lambda address: pools.fresh(address, _TO_THE_API), random.random)
        self._discovery = Discovery(self._resolver, self._retire)
        self._sweeping: asyncio.Task[None] | None = None
        self.registry = SharedRegistry(
            self._admission(),
            clock=time.monotonic,
            connect=self._connect,
            create=create,
            on_change=on_change,
            base=self._base,
            ways=self._ways,
        )

    def apply(
        self,
        config: GatewayConfig,
        services: Iterable[Service],
        named: Iterable[tuple[Fleet, Members]],
    ) -> None:
        """Go on with a configuration, the first or another, once its services have taken over."""
        self._config = config
        self.registry.apply(services, self._admission(), config.registry.ttl)
        self._follow_cluster(config)
        self.docker.apply(config.discovery.docker)
        self._discovery.follow(named)
        if self._sweeping is None:
            self._sweeping = spawn_forever(keep_sweeping(self.registry))

    def _follow_cluster(self, config: GatewayConfig) -> None:
        if any(service.kubernetes is not None for service in config.services.values()):
            self.cluster.apply(api_settings(config.discovery.kubernetes, os.environ))

    @property
    def missing(self) -> str | None:
        """What a start waits for: the first answer about instances in Kubernetes, or about containers."""
        return self.cluster.missing or self.docker.missing

    @property
    def sources(self) -> Iterator[tuple[str, bool]]:
        """Yield each source of instances that is followed, and whether it is up to date."""
        if self.cluster.up is not None:
            yield "kubernetes", self.cluster.up
        if self.docker.up is not None:
            yield "docker", self.docker.up

    def join(self, facts: Facts) -> None:
        """Share what registers with the other workers."""
        self.registry.join(facts)

    def close(self) -> None:
        """Stop looking up names, and removing instances whose lease has ended; close the registry."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._discovery.close()
        self.cluster.close()
        self.docker.close()
        self._resolver.close()
        self.registry.close()

    def _retire(self, instance: Instance) -> None:
        self._pools.drop(instance.upstream)
        if instance.probe is not None:
            self._pools.drop(instance.probe)

    # What the registry needs

    def _admission(self) -> Admission:
        registry = self._config.registry
        written = registry.allow if registry.enabled else {}
        rules = {service: Allowed(some) for service, some in written.items()}
        return Admission(rules, self._resolver, self._is_ours)

    def _is_ours(self, address: str, port: int) -> bool:
        return port in self._ports and is_own_address(address)

    @property
    def _ports(self) -> set[int]:
        """The ports on which the gateway listens."""
        listeners = listeners_of(self._config)
        return {*self._config.server.ports, *(parse_listen(listener)[1] for listener in listeners)}

    def _connect(
        self, service: str, address: Address, permit: AddressFilter, *, probing: bool
    ) -> Pool:
        written = self._config.services.get(service, ServiceConfig())
        return self._pools.fresh(address, _PROBING if probing else written.max_connections, permit)

    def _ways(self, service: str, address: Address) -> tuple[Address, Address]:
        written = self._config.services.get(service, ServiceConfig())
        address = registered_address(address, written)
        return address, probe_address(address, written)

    def _base(self, service: str) -> bytes:
        """Return the path that all URLs of a service begin with: it is part of the service's address."""
        urls = self._config.services.get(service, ServiceConfig()).urls
        bases = {parse_upstream(url).base for url in urls}
        return bases.pop().encode("ascii") if len(bases) == 1 else b""
