"""Have the registries of all workers agree: what one of them is told, it tells the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from propylon.errors import GatewayError
from propylon.services.admission import refused
from propylon.services.registration import Registered, Registration
from propylon.services.registry import Registry
from propylon.stores.shared import Facts
from propylon.stores.siblings import MISSED, Message, Siblings

__all__ = ["SharedRegistry"]

log = logging.getLogger(__name__)

_TOPIC = "registry"
_Key = tuple[str, str]  # a service and the id of an instance
_REMEMBERED = 4096  # that have gone: nothing that was told before is on its way for so long


class SharedRegistry(Registry):
    """A registry that tells those of the other workers what it was told.

    Messages cross: what is older than a deregistration does not undo it. The clock that says so is the
    machine's monotonic one: the same for all its processes, and never set.
    """

    facts: Facts = Siblings()
    moment: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, *args: Any, **options: Any) -> None:
        """As a registry, alone until it joins others."""
        super().__init__(*args, **options)
        # When each instance was last registered, and when it went.
        self._came: dict[_Key, float] = {}
        self._went: dict[_Key, float] = {}

    def join(self, facts: Facts) -> None:
        """Share what registers with the other workers; ask them what has registered so far."""
        self.facts = facts
        facts.hear(_TOPIC, self.hear)
        self._ask()

    def _ask(self) -> None:
        self._tell({"op": "who", "from": self.facts.name})

    def _tell(self, message: Message, to: str | None = None) -> None:
        self.facts.tell(_TOPIC, message, to)

    async def register(self, said: Registration) -> Registered:
        """Take in an instance, here and everywhere."""
        done = await super().register(said)
        self._came[said.service, said.id] = self.moment()
        self._tell_of(said.service, said.id)
        return done

    def update(self, service: str, instance_id: str, **said: Any) -> None:
        """Change what an instance has said, here and everywhere."""
        super().update(service, instance_id, **said)
        self._came[service, instance_id] = self.moment()
        self._tell_of(service, instance_id)

    def heartbeat(self, service: str, instance_id: str) -> Registered:
        """Renew a lease, here and everywhere; also where the instance has been lost meanwhile."""
        done = super().heartbeat(service, instance_id)
        self._tell_of(service, instance_id)
        return done

    def _tell_of(self, service: str, instance_id: str, to: str | None = None) -> None:
        """Tell the others, or one of them, all they need: they look up nothing themselves."""
        key = (service, instance_id)
        entry = self._entries.get(key)
        if entry is not None:
            message = {
                "op": "register",
                "said": asdict(entry.registration),
                "addresses": entry.addresses,
                "at": self._came.get(key, 0.0),
                "lease": self.lease(*key),
            }
            self._tell(message, to)

    def deregister(self, service: str, instance_id: str) -> None:
        """Let an instance go, here and everywhere; also where it has come only there so far."""
        now = self.moment()
        self._gone((service, instance_id), now)
        self._tell({"op": "deregister", "service": service, "instance_id": instance_id, "at": now})
        super().deregister(service, instance_id)

    def _gone(self, key: _Key, at: float) -> None:
        self._came.pop(key, None)
        self._went[key] = max(at, self._went.pop(key, at))
        if len(self._went) > _REMEMBERED:
            del self._went[next(iter(self._went))]

    def hear(self, message: Message) -> None:
        """Do what another worker was told; it has been checked there."""
        try:
            self._obey(message)
        except GatewayError as error:
            # It was let in a moment ago, and rules or services have changed since.
            log.info("another worker's %s is not followed: %s", message["op"], error)

    def _obey(self, message: Message) -> None:
        op = message["op"]
        if op == "register":
            self._follow(message)
        elif op == "deregister":
            self._let_go((message["service"], message["instance_id"]), message["at"])
        elif op == "who":
            self._introduce(message["from"])
        elif op == MISSED["op"]:
            self._ask()

    def _let_go(self, key: _Key, at: float) -> None:
        came = self._came.get(key)
        if came is not None and came > at:
            return  # it has come back since
        self._gone(key, at)
        if came is not None:
            super().deregister(*key)

    def _follow(self, message: Message) -> None:
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
        elif lease is not None:  # known here: the instance has sent a heartbeat
            self.prolong(*key, lease)

    def _take(self, said: Registration, addresses: tuple[str, ...]) -> None:
        admits = self._admission.still_admits
        if not addresses or not admits(said.service, said.host, said.port, addresses):
            raise refused(host=f"{said.host} is not let in by the rules of this worker")
        self._enter(said, addresses)

    def _remove(self, name: str, instance_id: str) -> None:
        self._came.pop((name, instance_id), None)
        super()._remove(name, instance_id)

    def _introduce(self, name: str) -> None:
        """Tell a worker what it missed, because it has just started or did not listen."""
        for (service, instance_id), at in self._went.items():
            left = {"op": "deregister", "service": service, "instance_id": instance_id, "at": at}
            self._tell(left, to=name)
        for said in self.registrations():
            self._tell_of(said.service, said.id, to=name)
