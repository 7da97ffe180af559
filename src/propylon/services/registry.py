"""Let services register their instances while the gateway runs, and let go of those that fall silent.

    register ──► may this host? ──► its fleet: probed, asked ──► deregister, or no heartbeat in time

What is registered is asked from inside the network: the operator's allow list says what may be, and every
connection checks again where its name leads (`upstream.dial`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from propylon.errors import InvalidRequest, NotFound
from propylon.services.admission import Admission, refused
from propylon.services.fleet import Fleet
from propylon.services.instance import Instance
from propylon.services.registration import Closable, Connect, Registered, Registration
from propylon.services.service import Service

__all__ = ["SWEEP_EVERY", "Registry", "keep_sweeping"]

log = logging.getLogger(__name__)

SWEEP_EVERY = 1.0
"""Seconds between two looks at the leases: no ttl is shorter."""
# Far more than one gateway serves: a client that registers new names in a loop must not fill the memory.
_MAX_INSTANCES = 4096


@dataclass(slots=True)
class _Entry:
    """A registration in force."""

    registration: Registration
    addresses: tuple[str, ...]  # where its host led when it registered
    upstream: Closable
    probe: Closable
    expires: float | None

    def instance(self, fleet: Fleet, base: bytes) -> Instance:
        """Return the instance as it is said to be now, below the base path of its service."""
        registration = self.registration
        # RFC 9110, 7.2: a default port may be left out, and some applications know no other form.
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
        """Close its connections as they become idle."""
        self.upstream.close()
        self.probe.close()


def _no_base_path(_service: str) -> bytes:
    return b""


class Registry:
    """The instances that registered themselves, and the services that only they know of."""

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
    ) -> None:
        """Start empty; `apply` brings the services that were written down.

        `create` makes a service that nobody wrote down; `on_change` hears of all services whenever one
        of these comes or goes. `clock` is monotonic. `base` is what a service's paths begin with.
        """
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
        """Return all services, those that were written down first."""
        return (*self._configured.values(), *self._dynamic.values())

    def registrations(self) -> tuple[Registration, ...]:
        """Return what was said of every instance that is registered."""
        return tuple(entry.registration for entry in self._entries.values())

    def lease(self, service: str, instance_id: str) -> float | None:
        """Return how many seconds an instance has left to send a heartbeat; None: it need not."""
        entry = self._entries.get((service, instance_id))
        if entry is None or entry.expires is None:
            return None
        return max(0.0, entry.expires - self._clock())

    def shorten(self, service: str, instance_id: str, seconds: float) -> None:
        """Leave an instance no more than so many seconds of its lease."""
        entry = self._entries.get((service, instance_id))
        if entry is not None and entry.expires is not None:
            entry.expires = min(entry.expires, self._clock() + seconds)

    def prolong(self, service: str, instance_id: str, seconds: float) -> None:
        """Leave an instance no less than so many seconds of its lease."""
        entry = self._entries.get((service, instance_id))
        if entry is not None and entry.expires is not None:
            entry.expires = max(entry.expires, self._clock() + seconds)

    async def register(self, registration: Registration) -> Registered:
        """Take in an instance; one that is there already is brought up to date.

        Raises InvalidRequest, with the field, for one that may not be registered.
        """
        admission = None
        while admission is not self._admission:  # a reload meanwhile may have made it stricter
            admission = self._admission
            addresses = await admission.admit(registration.host, registration.port)
        return self._enter(registration, addresses)

    def _enter(self, registration: Registration, addresses: tuple[str, ...]) -> Registered:
        """Take in what may register. Nothing waits here: of two that register the same, one finds the other's."""
        entry = self._entries.get((registration.service, registration.id))
        if entry is not None:
            self._renew(entry, registration, addresses)
            return self._registered(registration.service, registration.id)
        service = self._service(registration.service)
        if service is not None and service.fleet.find(registration.id) is not None:
            return self._registered(
                registration.service, registration.id
            )  # written down, or found by DNS
        if len(self._entries) >= _MAX_INSTANCES:
            raise refused(host=f"there are {_MAX_INSTANCES} registered instances already")
        self._add(registration, addresses)
        return self._registered(registration.service, registration.id, created=True)

    def heartbeat(self, service: str, instance_id: str) -> Registered:
        """Renew the lease of an instance. Raises NotFound."""
        registered = self._registered(service, instance_id)
        entry = self._entries.get((service, instance_id))
        if entry is None:
            return registered
        entry.expires = self._lease_end()
        return replace(registered, lease=self.lease(service, instance_id))

    def deregister(self, service: str, instance_id: str) -> None:
        """Let an instance go; what it has in hand, it finishes.

        Raises NotFound, and InvalidRequest for one that did not register.
        """
        registered = self._registered(service, instance_id)
        if (service, instance_id) not in self._entries:
            msg = f"This instance did not register itself: it is {registered.instance.source}"
            raise InvalidRequest(msg, details={"service": service, "instance_id": instance_id})
        self._remove(service, instance_id)

    def extend(self, seconds: float) -> None:
        """Give every lease so much longer: the gateway was not there to hear the heartbeats."""
        for entry in self._entries.values():
            if entry.expires is not None:
                entry.expires += seconds

    def sweep(self) -> None:
        """Let go of every instance whose lease is over; call it every `SWEEP_EVERY` seconds."""
        now = self._clock()
        for (service, instance_id), entry in list(self._entries.items()):
            if entry.expires is not None and entry.expires <= now:
                log.warning("%s of %s sent no heartbeat and leaves", instance_id, service)
                self._remove(service, instance_id)

    def apply(self, services: Iterable[Service], admission: Admission, ttl: float | None) -> None:
        """Go on with the services and the rules of a configuration, the first or a new one.

        Their fleets should have adopted the old ones before. What the rules do not admit leaves.
        """
        self._admission = admission
        self._ttl = ttl
        self._configured = {service.name: service for service in services}
        for name in self._dynamic.keys() & self._configured.keys():
            self._dynamic.pop(name).fleet.watch(None)
        for (service, instance_id), entry in list(self._entries.items()):
            if not admission.still_admits(
                entry.registration.host, entry.registration.port, entry.addresses
            ):
                log.warning("%s of %s may no longer register and leaves", instance_id, service)
                self._remove(service, instance_id)
            else:
                self._reattach(entry)
        self._on_change(self.services())

    def close(self) -> None:
        """Close every connection to what has registered."""
        for entry in self._entries.values():
            entry.close()

    # Coming

    def _add(self, registration: Registration, addresses: tuple[str, ...]) -> None:
        permit = partial(self._still_admits, registration.host, registration.port)
        entry = self._entries[registration.service, registration.id] = _Entry(
            registration,
            addresses,
            self._connect(registration.service, registration.address, permit, probing=False),
            self._connect(registration.service, registration.address, permit, probing=True),
            self._lease_end(),
        )
        fleet = self._service_or_create(registration.service).fleet
        fleet.add(entry.instance(fleet, self._base(registration.service)))

    def _still_admits(self, host: str, port: int, address: str) -> bool:
        # By the rules of now: a reload may have made them stricter.
        return self._admission.still_admits(host, port, (address,))

    def _renew(self, entry: _Entry, registration: Registration, addresses: tuple[str, ...]) -> None:
        before, entry.registration = entry.registration, registration
        entry.addresses = addresses
        entry.expires = self._lease_end()
        if registration != before:
            fleet = self._service_or_create(registration.service).fleet
            fleet.add(entry.instance(fleet, self._base(registration.service)))

    def _lease_end(self) -> float | None:
        return None if self._ttl is None else self._clock() + self._ttl

    def _service(self, name: str) -> Service | None:
        return self._configured.get(name) or self._dynamic.get(name)

    def _service_or_create(self, name: str) -> Service:
        """Return the service; one that nobody wrote down begins with its first instance."""
        service = self._service(name)
        if service is None:
            service = self._dynamic[name] = self._create(name)
            self._on_change(self.services())
        return service

    # Staying

    def _registered(self, service: str, instance_id: str, *, created: bool = False) -> Registered:
        found = self._service(service)
        instance = None if found is None else found.fleet.find(instance_id)
        if instance is None:
            msg = "There is no such instance"
            raise NotFound(msg, details={"service": service, "instance_id": instance_id})
        return Registered(instance, self.lease(service, instance_id), created)

    def _reattach(self, entry: _Entry) -> None:
        """Bring a registration into the fleet that its service has now."""
        registration = entry.registration
        fleet = self._service_or_create(registration.service).fleet
        there = fleet.find(registration.id)
        if there is not None and there.source != "registered":
            # The configuration names it now, and what it says goes.
            del self._entries[registration.service, registration.id]
            entry.close()
            return
        base = self._base(registration.service)
        if there is None or there.health != registration.rules(fleet.health) or there.base != base:
            fleet.add(entry.instance(fleet, self._base(registration.service)))
        until = self._lease_end()
        entry.expires = (
            until if until is None or entry.expires is None else min(until, entry.expires)
        )

    # Going

    def _remove(self, name: str, instance_id: str) -> None:
        entry = self._entries.pop((name, instance_id))
        service = self._service(name)
        if service is not None:
            there = service.fleet.find(instance_id)
            if there is not None and there.source == "registered":
                service.fleet.remove(there)
            if name in self._dynamic and not service.instances:
                del self._dynamic[name]
                self._on_change(self.services())
        entry.close()


async def keep_sweeping(registry: Registry) -> None:
    """Sweep for ever.

    After a pause (a stopped process, a machine that was suspended or overloaded) the heartbeats are still
    in the sockets: whoever sent them must not be let go before they are read.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + SWEEP_EVERY
        await asyncio.sleep(SWEEP_EVERY)
        late = loop.time() - due
        if late > SWEEP_EVERY:
            registry.extend(late)
        registry.sweep()
