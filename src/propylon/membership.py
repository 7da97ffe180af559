"""Join whoever brings instances and takes them away while the gateway runs — the registry, DNS — to the rest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

from propylon.config.schema import GatewayConfig
from propylon.config.services import ServiceConfig
from propylon.config.syntax import parse_upstream
from propylon.config.upstreams import upstream_tls
from propylon.edge.siblings import MISSED, Siblings
from propylon.errors import GatewayError
from propylon.proxy.admission import Admission, refused
from propylon.proxy.discovery import Discovery, Members
from propylon.proxy.fleet import Fleet
from propylon.proxy.instance import Instance
from propylon.proxy.registration import Registered, Registration
from propylon.proxy.registry import Registry, keep_sweeping
from propylon.proxy.service import Service
from propylon.upstream.allow import AllowList, Permit
from propylon.upstream.dial import Address
from propylon.upstream.lookup import is_own_address
from propylon.upstream.pool import Pool
from propylon.upstream.pools import Pools
from propylon.upstream.resolve import Resolver
from propylon.upstream.tasks import spawn_for_good

__all__ = ["Membership", "SharedRegistry"]

log = logging.getLogger(__name__)

_Key = tuple[str, str]  # a service and the id of an instance
_REMEMBERED = 4096  # that have gone: nothing that was told before is on its way for so long

# A probe needs one connection, and one more for the moment in which the last one closes.
_PROBING = 2


class SharedRegistry(Registry):
    """A registry that tells those of the other workers what it was told.

    Messages cross: what is older than a deregistration does not undo it. The clock that says so is the
    machine's, the same for all its processes, and nobody sets it.
    """

    siblings = Siblings()
    moment: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, *args: Any, **options: Any) -> None:
        """As a registry, alone as long as nobody gives it siblings."""
        super().__init__(*args, **options)
        # When each instance was last registered, and when it went.
        self._came: dict[_Key, float] = {}
        self._went: dict[_Key, float] = {}

    async def register(self, said: Registration) -> Registered:
        """Take in an instance, here and everywhere."""
        done = await super().register(said)
        self._came[said.service, said.id] = self.moment()
        self._tell_of(said.service, said.id)
        return done

    def heartbeat(self, service: str, instance_id: str) -> Registered:
        """Renew a lease, here and everywhere; also where the instance has been lost meanwhile."""
        done = super().heartbeat(service, instance_id)
        self._tell_of(service, instance_id)
        return done

    def _tell_of(self, service: str, instance_id: str, to: int | None = None) -> None:
        """Tell the others, or one of them, all they need: they look up nothing themselves."""
        key = (service, instance_id)
        entry = self._entries.get(key)
        if entry is not None:
            message = {
                "op": "register",
                "said": asdict(entry.said),
                "addresses": entry.addresses,
                "at": self._came.get(key, 0.0),
                "lease": self.lease(*key),
            }
            self.siblings.tell(message, to=to)

    def deregister(self, service: str, instance_id: str) -> None:
        """Let an instance go, here and everywhere; also where it has come only there so far."""
        now = self.moment()
        self._gone((service, instance_id), now)
        self.siblings.tell(
            {"op": "deregister", "service": service, "instance_id": instance_id, "at": now}
        )
        super().deregister(service, instance_id)

    def _gone(self, key: _Key, at: float) -> None:
        self._came.pop(key, None)
        self._went[key] = max(at, self._went.pop(key, at))
        if len(self._went) > _REMEMBERED:
            del self._went[next(iter(self._went))]

    def hear(self, message: dict[str, Any]) -> None:
        """Do what another worker was told; it has been checked there."""
        try:
            self._obey(message)
        except GatewayError as error:
            # It was let in a moment ago, and rules or services have changed since.
            log.info("another worker's %s is not followed: %s", message["op"], error)

    def _obey(self, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "register":
            self._follow(message)
        elif op == "deregister":
            self._let_go((message["service"], message["instance_id"]), message["at"])
        elif op == "who":
            self._introduce(message["from"])
        elif op == MISSED["op"]:
            self.siblings.tell({"op": "who", "from": self.siblings.place})

    def _let_go(self, key: _Key, at: float) -> None:
        came = self._came.get(key)
        if came is not None and came > at:
            return  # it has come back since
        self._gone(key, at)
        if came is not None:
            super().deregister(*key)

    def _follow(self, message: dict[str, Any]) -> None:
        said, at = Registration(**message["said"]), message["at"]
        key = (said.service, said.id)
        lease = message["lease"]
        if self._went.get(key, 0.0) > at:
            return
        if self._came.get(key, -1.0) < at:
            self._take(said, tuple(message["addresses"]))
            self._came[key] = at
            if lease is not None:
                self.shorten(*key, lease)
        elif lease is not None:  # known: somebody sent a heartbeat
            self.prolong(*key, lease)

    def _take(self, said: Registration, addresses: tuple[str, ...]) -> None:
        if not addresses or not self._admission.still(said.host, said.port, addresses):
            raise refused(host=f"{said.host} is not let in by the rules of this worker")
        self._enter(said, addresses)

    def _remove(self, name: str, instance_id: str) -> None:
        self._came.pop((name, instance_id), None)
        super()._remove(name, instance_id)

    def _introduce(self, place: int) -> None:
        """Tell a worker what it missed, because it has just started or did not listen."""
        for (service, instance_id), at in self._went.items():
            left = {"op": "deregister", "service": service, "instance_id": instance_id, "at": at}
            self.siblings.tell(left, to=place)
        for said in self.registrations():
            self._tell_of(said.service, said.id, to=place)


class Membership:
    """The registry and the names, and what goes on by itself for them."""

    def __init__(
        self,
        config: GatewayConfig,
        pools: Pools,
        resolver: Resolver,
        found: Callable[[str], Service],
        changed: Callable[[tuple[Service, ...]], None],
    ) -> None:
        """Start with no services. `found` makes one that nobody wrote down, to be probed as others are.

        `changed` hears of all services whenever one comes or goes.
        """
        self._config = config
        self._pools = pools
        self._resolver = resolver
        self._discovery = Discovery(resolver, self._retire)
        self._siblings = Siblings()
        self._sweeping: asyncio.Task[None] | None = None
        self.registry = SharedRegistry(
            self._admission(),
            clock=time.monotonic,
            connect=self._connect,
            found=found,
            changed=changed,
            base=self._base,
        )

    def adopt(
        self,
        config: GatewayConfig,
        services: Iterable[Service],
        named: Iterable[tuple[Fleet, Members]],
    ) -> None:
        """Go on with a configuration, the first or another, once its services have taken over."""
        self._config = config
        self.registry.adopt(services, self._admission(), config.registry.ttl)
        self._discovery.follow(named)
        if self._sweeping is None:
            self._sweeping = spawn_for_good(keep_sweeping(self.registry))

    def listen(self, siblings: Siblings, loop: asyncio.AbstractEventLoop) -> None:
        """Share what registers with the other workers; ask them what has registered so far."""
        self._siblings = siblings
        self.registry.siblings = siblings
        siblings.start(loop, self.registry.hear)
        siblings.tell({"op": "who", "from": siblings.place})

    def close(self) -> None:
        """End it all."""
        self._siblings.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._discovery.close()
        self._resolver.close()
        self.registry.close()

    def _retire(self, instance: Instance) -> None:
        self._pools.drop(instance.upstream)
        if instance.probe is not None:
            self._pools.drop(instance.probe)

    # What the registry needs

    def _admission(self) -> Admission:
        registry = self._config.registry
        rules = AllowList(registry.allow if registry.enabled else ())
        return Admission(rules, self._resolver, self._is_ours)

    def _is_ours(self, address: str, port: int) -> bool:
        return port == self._config.server.port and is_own_address(address)

    def _connect(self, service: str, address: Address, permit: Permit, *, probing: bool) -> Pool:
        written = self._config.services.get(service, ServiceConfig())
        if any(parse_upstream(url).scheme == "https" for url in written.urls):
            # Its tokens must not cross the network in the clear because another instance registered.
            address = replace(address, tls=upstream_tls())
        return self._pools.fresh(address, _PROBING if probing else written.max_connections, permit)

    def _base(self, service: str) -> bytes:
        """Return the path that all URLs of a service begin with: it is part of the service's address."""
        urls = self._config.services.get(service, ServiceConfig()).urls
        bases = {parse_upstream(url).base for url in urls}
        return bases.pop().encode("ascii") if len(bases) == 1 else b""
