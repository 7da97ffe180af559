"""Let services register their instances while the gateway runs; remove instances whose lease expires.

    register ──► admission ──► its fleet: probed, asked ──► deregister, or no heartbeat within the ttl

A registered instance is asked from inside the operator's network. So `admission` checks the host against the
operator's allow list, and each connection is checked again after DNS (`upstream.dial`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from propylon.errors import Conflict, NotFound
from propylon.services.admission import Admission, refused
from propylon.services.fleet import Fleet
from propylon.services.instance import Instance
from propylon.services.registration import Closable, Connect, Registered, Registration
from propylon.services.service import Service
from propylon.upstream.dial import Address

__all__ = ["SWEEP_EVERY", "Registry", "keep_sweeping"]

log = logging.getLogger(__name__)

# Rules:
# - A lease is renewed by heartbeats and by registering again, never by probes: a process that answers /health but
#   has lost its way (an old version, a split network) is to leave. Without a ttl, health checks alone decide.
# - Admission is checked when an instance registers, after each reload, and for each connection.
# - The configuration wins over a registration of the same instance.
# Fact: each worker has its own registry. `assembly.gossip` passes registrations and leases between workers.

SWEEP_EVERY = 1.0
"""Seconds between two sweeps for expired leases. No ttl is shorter."""
# Far more than one gateway serves. A client that registers new names in a loop must not fill the memory.
_MAX_INSTANCES = 4096


# How an instance is connected to, TLS included: for requests, and for probes.
Ways = tuple[Address, Address]


@dataclass(slots=True)
class _Entry:
    """A registration in force, with its connections and its lease."""

    registration: Registration
    addresses: tuple[str, ...]  # what its host resolved to when it registered
    ways: Ways
    upstream: Closable
    probe: Closable
    expires: float | None

    def instance(self, fleet: Fleet, base: bytes) -> Instance:
        """Return the instance that this registration describes, below the base path of its service."""
        registration = self.registration
        # RFC 9110, 7.2: the default port may be left out of Host. Some applications know only that form.
        host = registration.id.removesuffix(":80") if registration.port == 80 else registration.id
        return Instance(
            id=registration.id,
            host=host.encode("ascii"),
            base=base,
            upstream=self.upstream,
            source="registered",
            metadata=registration.metadata,
            health=registration.rules(fleet.health),
            probe=self.probe,
        )

    def close(self) -> None:
        """Close the connections as they become idle."""
        self.upstream.close()
        self.probe.close()


def _no_base_path(_service: str) -> bytes:
    return b""


def _as_it_is(_service: str, address: Address) -> Ways:
    return address, address


class Registry:
    """The registered instances, and the services that exist only because instances registered for them."""

    def __init__(
        self,
        admission: Admission,
        *,
        clock: Callable[[], float],
        connect: Connect,
        create: Callable[[str], Service],
        on_change: Callable[[tuple[Service, ...]], None],
        ttl: float | None = None,
        base: Callable[[str], bytes] = _no_base_path,
        ways: Callable[[str, Address], Ways] = _as_it_is,
    ) -> None:
        """Start empty; `apply` brings the configured services.

        `create` makes a service that is not configured. `on_change` is called with all services whenever one
        of those is created or removed. `clock` is monotonic. `base` returns the base path of a service. `ways` adds to
        host and port what a service says of connections: TLS, the PROXY protocol, another port for probes.
        """
        self._ways = ways
        self._base = base
        self._admission = admission
        self._ttl = ttl
        self._clock = clock
        self._connect = connect
        self._create = create
        self._on_change = on_change
        self._configured: dict[str, Service] = {}
        self._dynamic: dict[str, Service] = {}
        self._entries: dict[tuple[str, str], _Entry] = {}

    def services(self) -> tuple[Service, ...]:
        """Return all services, the configured ones first."""
        return (*self._configured.values(), *self._dynamic.values())

    def registrations(self) -> tuple[Registration, ...]:
        """Return every registration in force."""
        return tuple(entry.registration for entry in self._entries.values())

    def lease(self, service: str, instance_id: str) -> float | None:
        """Return the seconds left of an instance's lease; None if it has no lease."""
        entry = self._entries.get((service, instance_id))
        if entry is None or entry.expires is None:
            return None
        return max(0.0, entry.expires - self._clock())

    def shorten(self, service: str, instance_id: str, seconds: float) -> None:
        """Leave an instance at most `seconds` seconds of its lease.

        For an instance that registered at another worker: it got a full lease here, and that one is the real one.
        """
        entry = self._entries.get((service, instance_id))
        if entry is not None and entry.expires is not None:
            entry.expires = min(entry.expires, self._clock() + seconds)

    def prolong(self, service: str, instance_id: str, seconds: float) -> None:
        """Leave an instance at least `seconds` seconds of its lease: another worker got its heartbeat."""
        entry = self._entries.get((service, instance_id))
        if entry is not None and entry.expires is not None:
            entry.expires = max(entry.expires, self._clock() + seconds)

    async def register(self, registration: Registration) -> Registered:
        """Add an instance, or update it if it is registered already.

        Raises InvalidRequest, with the field that is wrong, for a host that may not register.
        """
        # Again, if a reload replaced the rules while DNS was asked: the new ones may be stricter.
        admission = None
        while admission is not self._admission:
            admission = self._admission
            addresses = await admission.admit(
                registration.service, registration.host, registration.port
            )
        return self._enter(registration, addresses)

    def _enter(self, registration: Registration, addresses: tuple[str, ...]) -> Registered:
        """Add or update an admitted instance.

        There is no await in here, so two clients that register the same instance cannot add it twice.
        """
        entry = self._entries.get((registration.service, registration.id))
        if entry is not None:
            self._renew(entry, registration, addresses)
            return self._registered(registration.service, registration.id)
        service = self._service(registration.service)
        if service is not None and service.fleet.find(registration.id) is not None:
            # Configured, or found by DNS. That is no error: the service does not know the operator's file.
            return self._registered(registration.service, registration.id)
        # After the look-ups, so that those who are registered can renew while the registry is full.
        if len(self._entries) >= _MAX_INSTANCES:
            raise refused(host=f"there are {_MAX_INSTANCES} registered instances already")
        self._add(registration, addresses)
        return self._registered(registration.service, registration.id, created=True)

    def heartbeat(self, service: str, instance_id: str) -> Registered:
        """Renew the lease of an instance. Raises NotFound.

        An instance that did not register has no lease to renew; its heartbeat is accepted all the same, so
        that a service need not know whether the operator also lists it.
        """
        registered = self._registered(service, instance_id)
        entry = self._entries.get((service, instance_id))
        if entry is None:
            return registered
        entry.expires = self._lease_end()
        return replace(registered, lease=self.lease(service, instance_id))

    def deregister(self, service: str, instance_id: str) -> None:
        """Remove an instance; it finishes the requests that it has.

        Raises NotFound, and Conflict for an instance that did not register.
        """
        self._entry(service, instance_id)
        self._remove(service, instance_id)

    def said(self, service: str, instance_id: str) -> Registration | None:
        """Return what an instance has said; None if it did not register."""
        entry = self._entries.get((service, instance_id))
        return None if entry is None else entry.registration

    def update(self, service: str, instance_id: str, **said: Any) -> None:
        """Change what an instance has said, and renew its lease. Raises as `deregister`."""
        entry = self._entry(service, instance_id)
        self._renew(entry, replace(entry.registration, **said), entry.addresses)

    def _entry(self, service: str, instance_id: str) -> _Entry:
        registered = self._registered(service, instance_id)
        entry = self._entries.get((service, instance_id))
        if entry is None:
            msg = f"This instance did not register itself: it is {registered.instance.source}"
            raise Conflict(msg, details={"service": service, "instance_id": instance_id})
        return entry

    def extend(self, seconds: float) -> None:
        """Prolong every lease: the gateway itself was stopped for so long and could read no heartbeats."""
        for entry in self._entries.values():
            if entry.expires is not None:
                entry.expires += seconds

    def sweep(self) -> None:
        """Remove the instances whose lease has expired; to be called every `SWEEP_EVERY` seconds."""
        now = self._clock()
        for (service, instance_id), entry in list(self._entries.items()):
            if entry.expires is not None and entry.expires <= now:
                log.warning(
                    'instance %s of "%s" is removed: it sent no heartbeat in time',
                    instance_id,
                    service,
                )
                self._remove(service, instance_id)

    def apply(self, services: Iterable[Service], admission: Admission, ttl: float | None) -> None:
        """Apply the services and rules of a configuration, at the start and after each reload.

        The new fleets must have taken over the old ones (`Fleet.carry_over`). Instances that the new rules do
        not admit are removed: an operator who narrows the allow list means those that are there, too.
        """
        self._admission = admission
        self._ttl = ttl
        self._configured = {service.name: service for service in services}
        # A service that was created by a registration and is configured now has a new fleet, which is probed.
        for name in self._dynamic.keys() & self._configured.keys():
            self._dynamic.pop(name).fleet.watch(None)
        for (service, instance_id), entry in list(self._entries.items()):
            if not admission.still_admits(
                service, entry.registration.host, entry.registration.port, entry.addresses
            ):
                log.warning(
                    'instance %s of "%s" is removed: registry.allow does not name it now',
                    instance_id,
                    service,
                )
                self._remove(service, instance_id)
            else:
                self._reattach(entry)
        self._on_change(self.services())

    def close(self) -> None:
        """Close the connections to all registered instances."""
        for entry in self._entries.values():
            entry.close()

    # Adding

    def _add(self, registration: Registration, addresses: tuple[str, ...]) -> None:
        ways = self._ways(registration.service, registration.address)
        upstream, probe = self._connected(registration, ways)
        entry = self._entries[registration.service, registration.id] = _Entry(
            registration, addresses, ways, upstream, probe, self._lease_end()
        )
        fleet = self._service_or_create(registration.service).fleet
        fleet.add(entry.instance(fleet, self._base(registration.service)))

    def _connected(self, registration: Registration, ways: Ways) -> tuple[Closable, Closable]:
        """Return the connections to an instance: those for requests, and those for probes."""
        service = registration.service
        permit = partial(self._still_admits, service, registration.host, registration.port)
        return (
            self._connect(service, ways[0], permit, probing=False),
            self._connect(service, ways[1], permit, probing=True),
        )

    def _still_admits(self, service: str, host: str, port: int, address: str) -> bool:
        # Asked for each connection, and so always by the rules of the latest reload.
        return self._admission.still_admits(service, host, port, (address,))

    def _renew(self, entry: _Entry, registration: Registration, addresses: tuple[str, ...]) -> None:
        before, entry.registration = entry.registration, registration
        entry.addresses = addresses
        entry.expires = self._lease_end()
        # A new Instance object restarts the probes, and a restarted probe is sent soon. Services that register
        # again every few seconds, instead of sending heartbeats, would be probed as often.
        if registration != before:
            fleet = self._service_or_create(registration.service).fleet
            fleet.add(entry.instance(fleet, self._base(registration.service)))

    def _lease_end(self) -> float | None:
        return None if self._ttl is None else self._clock() + self._ttl

    def _service(self, name: str) -> Service | None:
        return self._configured.get(name) or self._dynamic.get(name)

    def _service_or_create(self, name: str) -> Service:
        """Return the service. One that is not configured is created with its first instance."""
        service = self._service(name)
        if service is None:
            service = self._dynamic[name] = self._create(name)
            self._on_change(self.services())
        return service

    # Updating

    def _registered(self, service: str, instance_id: str, *, created: bool = False) -> Registered:
        found = self._service(service)
        instance = None if found is None else found.fleet.find(instance_id)
        if instance is None:
            msg = "There is no such instance"
            raise NotFound(msg, details={"service": service, "instance_id": instance_id})
        return Registered(instance, self.lease(service, instance_id), created)

    def _reattach(self, entry: _Entry) -> None:
        """Bring a registration into the new fleet of its service after a reload."""
        registration = entry.registration
        fleet = self._service_or_create(registration.service).fleet
        there = fleet.find(registration.id)
        if there is not None and there.source != "registered":
            # The configuration lists this instance now, and the configuration wins over the registration.
            del self._entries[registration.service, registration.id]
            entry.close()
            return
        # As in `_renew`: the instance is replaced, and its probes restarted, only if something changed.
        base = self._base(registration.service)
        rules = registration.rules(fleet.health)
        moved = self._reconnect(entry)
        if moved or there is None or there.health != rules or there.base != base:
            fleet.add(entry.instance(fleet, base))
        # A shorter ttl applies at once, a longer one from the next heartbeat on: an instance that is dead does not
        # stay longer because of a reload.
        until = self._lease_end()
        entry.expires = (
            until if until is None or entry.expires is None else min(until, entry.expires)
        )

    def _reconnect(self, entry: _Entry) -> bool:
        """Give an instance new connections if its service says something else of them now, other TLS say."""
        registration = entry.registration
        ways = self._ways(registration.service, registration.address)
        if ways == entry.ways:
            return False
        entry.close()
        entry.ways = ways
        entry.upstream, entry.probe = self._connected(registration, ways)
        return True

    # Removing

    def _remove(self, name: str, instance_id: str) -> None:
        # First out of the fleet, then closed: no new request may get a connection that is about to close.
        entry = self._entries.pop((name, instance_id))
        service = self._service(name)
        if service is not None:
            there = service.fleet.find(instance_id)
            if there is not None and there.source == "registered":
                service.fleet.remove(there)
            # A service that is not configured ends with its last instance. Else made-up names would accumulate.
            if name in self._dynamic and not service.instances:
                del self._dynamic[name]
                self._on_change(self.services())
        entry.close()


async def keep_sweeping(registry: Registry) -> None:
    """Remove expired leases forever.

    If the process was suspended or overloaded, heartbeats that arrived in time are still unread in the
    sockets. The leases are extended by the pause first, so that a slow gateway does not remove instances that
    are well. (Eureka's self-preservation answers the same problem: the registry may be what is broken.)
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + SWEEP_EVERY
        await asyncio.sleep(SWEEP_EVERY)
        late = loop.time() - due
        if late > SWEEP_EVERY:
            registry.extend(late)
        registry.sweep()
