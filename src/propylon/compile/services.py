"""Compile a service: its instances, and the rules for when they fail.

A URL becomes one instance, or an instance for each address that its name has in DNS. Each instance gets a connection
pool for requests and another for probes, so that an instance that is merely busy does not fail its probes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from propylon.compile.addresses import configured_address, probe_address
from propylon.compile.cluster import cluster_members, container_members
from propylon.compile.health import compile_health
from propylon.compile.public import compile_host
from propylon.config.models.balance import BalanceConfig
from propylon.config.models.resilience import CircuitConfig, EjectionConfig, RetryConfig
from propylon.config.models.routes import RouteTimeoutsConfig
from propylon.config.models.services import (
    InstanceConfig,
    ServiceConfig,
    ServiceTimeoutsConfig,
)
from propylon.config.models.syntax import parse_upstream
from propylon.names.resolve import Resolver, SrvTarget
from propylon.services import balance
from propylon.services.breaker import Breaker, Event
from propylon.services.circuit import Circuit, State
from propylon.services.cluster import Cluster
from propylon.services.concurrency import Bounds, Concurrency
from propylon.services.discovery import (
    MemberKey,
    Members,
    TargetSource,
    ToldMembers,
)
from propylon.services.fleet import Fleet, Listener
from propylon.services.hedge import Hedge
from propylon.services.instance import Condition, Ejection, Instance
from propylon.services.retry import Budget, Retry
from propylon.services.room import Room
from propylon.services.service import Balance, Service
from propylon.services.warmup import Warmup
from propylon.upstream.dial import Address
from propylon.upstream.ports import Timeouts, Upstream

__all__ = [
    "Compiled",
    "Connect",
    "Dependencies",
    "Listeners",
    "circuit_of",
    "compile_service",
    "merged_timeouts",
]

# Make an upstream from an address and the most connections to it.
Connect = Callable[[Address, int], Upstream]

# The limit of the pools for probes. Pools are shared by address and limit; this one is above the largest
# `max_connections`, so requests and probes never share a pool.
_PROBE_CONNECTIONS = 65536


class Listeners(Protocol):
    """Hears what happens to services; the log implements it."""

    def circuit(self, service: str, old: State, new: State, event: Event) -> None:
        """A breaker has changed its state because of `event`."""

    def instance(
        self, service: str, instance: Instance, old: Condition, new: Condition, reason: str
    ) -> None:
        """An instance was added, removed or ejected, or its health changed; `reason` says why."""


class _NoListeners:
    def circuit(self, service: str, old: State, new: State, event: Event) -> None:
        """Ignore a change of a breaker."""

    def instance(
        self, service: str, instance: Instance, old: Condition, new: Condition, reason: str
    ) -> None:
        """Ignore what happens to an instance."""


_NO_LISTENERS = _NoListeners()


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a service needs besides its configuration.

    `clock` is monotonic, `wall` is the time of day, both in seconds; `chance` returns a number from 0 to 1.
    """

    connect: Connect
    chance: Callable[[], float]
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    listeners: Listeners = _NO_LISTENERS
    resolver: Resolver | None = None  # None: a name is resolved at each connect
    cluster: Cluster | None = None  # None: services in Kubernetes have no instances
    docker: TargetSource[str] | None = None  # the same


@dataclass(frozen=True, slots=True)
class Compiled:
    """A service, and the DNS names (`members`) that its instances are updated from."""

    service: Service
    members: tuple[Members, ...] = ()


def compile_service(name: str, written: ServiceConfig, dependencies: Dependencies) -> Compiled:
    """Return a new service: its breaker is closed and its instances are not probed yet."""
    host = compile_host(written.sent_host)
    sites = [_Site.of(member, written, dependencies.connect) for member in written.members]
    instances: list[Instance] = []
    members: list[Members] = []
    for site in sites:
        if dependencies.resolver is None or not site.is_named:
            instances.append(site.instance(None))
            continue
        named = Members(site.address.host, site.instance, srv=site.srv)
        members.append(named)
        instances.extend(named.start(dependencies.resolver))
    for told in _told(name, written, dependencies):
        members.append(told)
        instances.extend(told.known())
    warmup = None
    if written.slow_start is not None:
        warmup = Warmup(written.slow_start, dependencies.clock)
    room = _room(written)
    service = Service(
        name=name,
        fleet=Fleet(
            instances,
            name,
            health=compile_health(written.health),
            ejection=_ejection(written.ejection),
            clock=dependencies.clock,
            wall=dependencies.wall,
            listener=_heard(dependencies.listeners.instance, room),
            host=host,
        ),
        balance=_balance(written.balance, dependencies.chance, warmup),
        warmup=warmup,
        room=room,
        timeouts=_timeouts(written.timeouts),
        forward_token=written.forward_token,
        bodies_on_get=written.bodies_on_get,
        bodies=written.bodies,
        host=host,
        breaker=Breaker(
            name,
            circuit_of(written.circuit),
            clock=dependencies.clock,
            wall=dependencies.wall,
            listener=dependencies.listeners.circuit,
        ),
        retry=_retry(written.retry),
        budget=Budget(written.retry.budget),
        hedge=_hedge(written),
        concurrency=_concurrency(written),
        proxy_protocol=written.proxy_protocol,
    )
    return Compiled(service, tuple(members))


def _told(
    name: str, written: ServiceConfig, dependencies: Dependencies
) -> Iterator[ToldMembers[Any]]:
    """Yield what Kubernetes or Docker tells of a service."""
    within, connect = written.kubernetes, dependencies.connect
    if within is not None and dependencies.cluster is not None:
        yield cluster_members(written, within, dependencies.cluster, connect, _PROBE_CONNECTIONS)
    if written.docker and dependencies.docker is not None:
        yield container_members(name, written, dependencies.docker, connect, _PROBE_CONNECTIONS)


@dataclass(frozen=True, slots=True)
class _Site:
    """A configured URL: one instance, or one for each address of its name."""

    address: Address
    header: bytes
    base: bytes
    srv: bool
    weight: int
    priority: int
    written: ServiceConfig
    connect: Connect

    @classmethod
    def of(cls, member: InstanceConfig, written: ServiceConfig, connect: Connect) -> _Site:
        """Parse the URL of a member; `written` is its service."""
        parts = parse_upstream(member.url)
        netloc = parts.host if parts.socket else urlsplit(member.url).netloc
        return cls(
            address=configured_address(parts, written),
            header=netloc.encode("idna" if not netloc.isascii() else "ascii"),
            base=parts.base.encode("ascii"),
            srv=parts.srv,
            weight=member.weight,
            priority=member.priority,
            written=written,
            connect=connect,
        )

    @property
    def is_named(self) -> bool:
        """Whether the host is a name, not an address."""
        return self.address.is_named

    def instance(self, key: MemberKey) -> Instance:
        """Return the instance at `key`, an address or SRV target of the name; None: at the URL itself."""
        address, header, weight = self.address, self.header, self.weight
        if isinstance(
            key, SrvTarget
        ):  # a target has its own host name, and a certificate for that name
            address = replace(address, host=key.host, port=key.port)
            header, weight = address.authority.encode("ascii"), key.weight
        elif key is not None:
            address = replace(address, host=key, name=address.name or address.host)
        return Instance(
            id=address.authority,
            host=header,
            base=self.base,
            upstream=self.connect(address, self.written.max_connections),
            probe=self.connect(probe_address(address, self.written), _PROBE_CONNECTIONS),
            weight=weight,
            priority=self.priority,
            source="configured" if key is None else "dns",
        )


def _balance(written: BalanceConfig, chance: Callable[[], float], warmup: Warmup | None) -> Balance:
    """Return the balance by turns or by load; with a hash, routes select the instance before it is asked."""
    if written.by == "random":
        return balance.random(chance, warmup)
    by_load = written.by == "least_connections"
    return (balance.least_connections if by_load else balance.round_robin)(warmup)


def _room(written: ServiceConfig) -> Room | None:
    if written.max_in_flight is None:
        return None
    return Room(written.max_in_flight, written.queue.size, written.queue.timeout)


def _heard(listener: Listener, room: Room | None) -> Listener:
    """Return the listener to what happens to instances; one that comes, or comes back, has room for requests that wait."""
    if room is None:
        return listener

    def heard(
        service: str, instance: Instance, old: Condition, new: Condition, reason: str
    ) -> None:
        listener(service, instance, old, new, reason)
        room.wake()

    return heard


def _timeouts(written: ServiceTimeoutsConfig) -> Timeouts:
    return Timeouts(
        connect=written.connect,
        first_byte=written.first_byte,
        idle=written.idle,
        total=written.total,
        max_duration=written.max_duration or float("inf"),
        stream=written.idle if written.idle_is_written else Timeouts().stream,
    )


def circuit_of(written: CircuitConfig) -> Circuit:
    """Return the compiled rules of a breaker."""
    return Circuit(
        failure_threshold=written.failure_threshold,
        failure_rate=written.failure_rate,
        failure_window=written.failure_window,
        min_throughput=written.min_throughput,
        recovery_timeout=written.recovery_timeout,
        half_open_timeout=written.half_open_timeout,
        probes=written.probes,
    )


def _retry(written: RetryConfig) -> Retry:
    return Retry(
        attempts=written.attempts,
        backoff=written.backoff,
        max_backoff=written.max_backoff,
        statuses=written.statuses,
        kinds=written.kinds,
        non_idempotent=written.non_idempotent,
    )


def _hedge(written: ServiceConfig) -> Hedge | None:
    rules = written.hedge
    return None if rules is None else Hedge(rules.after, Budget(rules.budget))


def _concurrency(written: ServiceConfig) -> Concurrency | None:
    bounds = written.adaptive_concurrency
    return None if bounds is None else Concurrency(Bounds(bounds.min, bounds.max))


def _ejection(written: EjectionConfig) -> Ejection:
    return Ejection(failures=written.failures, time=written.time, share=written.max)


def merged_timeouts(own: RouteTimeoutsConfig, base: Timeouts) -> Timeouts:
    """Return the timeouts of a route: its own, and those of its service where it has none."""
    return Timeouts(
        connect=_or_default(own.connect, base.connect),
        first_byte=_or_default(own.first_byte, base.first_byte),
        idle=_or_default(own.idle, base.idle),
        total=_or_default(own.total, base.total),
        max_duration=_or_default(own.max_duration, base.max_duration),
        stream=_or_default(own.idle, base.stream),
    )


def _or_default(value: float | None, default: float) -> float:
    return default if value is None else value
