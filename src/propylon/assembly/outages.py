"""Have all workers of a machine agree on what is out: a service whose breaker opened, an instance that was ejected.

A service that is down is found out once, not by each worker with requests of its own. What probes, requests and
reloads do to a breaker or an instance stays each worker's; only the outcome is told:

    worker 1: five failures → OPEN ─── "open, since t" ───► worker 2: OPEN, since t
    worker 2: probe succeeds → CLOSED ─── "closed" ───────► worker 1: CLOSED

Facts. `loop.time` is the machine's monotonic clock: the same for all its processes. Messages of two workers may cross:
then a breaker is open here and closed there until the next failure or probe, at most for `recovery_timeout`.

Between machines nothing is told: one of them may have lost its way to a service that the others reach.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from propylon.compile.services import Listeners
from propylon.errors import NotFound
from propylon.services.breaker import Breaker, Event
from propylon.services.circuit import State
from propylon.services.fleet import ELSEWHERE
from propylon.services.instance import Condition, Instance
from propylon.services.service import Service
from propylon.stores.shared import Facts
from propylon.stores.siblings import MISSED, Message

__all__ = ["Known", "SharedOutages"]

log = logging.getLogger(__name__)

_TOPIC = "outages"


class Known(Protocol):
    """Has all services that there are now."""

    services: tuple[Service, ...]


class SharedOutages:
    """The listener of breakers and fleets that tells the other workers, and obeys what they tell."""

    def __init__(self, facts: Facts, log_events: Listeners, known: Known) -> None:
        """Pass each event on to `log_events`; `known` has all services that there are now."""
        self._facts = facts
        self._events = log_events
        self._known = known
        self._ops: Mapping[str, Callable[[Message], None]] = {
            "open": self._open,
            "closed": self._close,
            "ejected": self._eject,
            "drained": self._drain,
            "who": lambda message: self._introduce(message["from"]),
            MISSED["op"]: lambda _: self._ask(),
        }

    def join(self) -> None:
        """Hear the others from now on, and ask them what is out."""
        self._facts.hear(_TOPIC, self.hear)
        self._ask()

    # What happens here

    def circuit(self, service: str, old: State, new: State, event: Event) -> None:
        """Tell the others of a breaker that opened or closed, unless they told it."""
        self._events.circuit(service, old, new, event)
        if event.is_elsewhere:
            return
        if new is State.OPEN:
            self._tell_open(self._find(service))
        elif new is State.CLOSED:
            self._tell({"op": "closed", "service": service, "reset": event is Event.RESET})

    def instance(
        self, service: str, instance: Instance, old: Condition, new: Condition, reason: str
    ) -> None:
        """Tell the others of an instance that was ejected."""
        self._events.instance(service, instance, old, new, reason)
        until = instance.state.ejected_until
        if new == "ejected" and until is not None and reason != ELSEWHERE:
            self._tell(_ejected(service, instance.id, until))

    # What an operator says

    def force(self, service: str, why: str) -> None:
        """Open a breaker in all workers, until `reset`. Raises NotFound."""
        self._breaker(service).force_open(why)
        self._tell_open(self._find(service))  # it may have been open: then there was no transition

    def reset(self, service: str) -> None:
        """Close a breaker in all workers. Raises NotFound."""
        self._breaker(service).reset()
        self._tell({"op": "closed", "service": service, "reset": True})

    def drain(self, service: str, instance_id: str, *, drained: bool) -> None:
        """Send no new requests to an instance, in all workers; or send them again. Raises NotFound."""
        found = self._find(service)
        instance = None if found is None else found.fleet.find(instance_id)
        if found is None or instance is None:
            msg = "There is no such instance"
            raise NotFound(msg, details={"service": service, "instance_id": instance_id})
        found.fleet.drain(instance, drained=drained)
        self._tell(_drained(service, instance_id, drained=drained))

    def _breaker(self, service: str) -> Breaker:
        found = self._find(service)
        if found is None or found.breaker is None:
            msg = "There is no such service" if found is None else "The service has no breaker"
            raise NotFound(msg, details={"service": service})
        return found.breaker

    # What the others tell

    def hear(self, message: Message) -> None:
        """Do as another worker has done."""
        self._ops[message["op"]](message)

    def _open(self, message: Message) -> None:
        service = self._find(message["service"])
        if service is not None and service.breaker is not None:
            service.breaker.open_as(message["at"], message["why"], held=message.get("held", False))

    def _close(self, message: Message) -> None:
        service = self._find(message["service"])
        if service is not None and service.breaker is not None:
            service.breaker.close_as(reset=message.get("reset", False))

    def _eject(self, message: Message) -> None:
        service = self._find(message["service"])
        if service is not None:
            service.fleet.eject_as(message["id"], message["until"])

    def _drain(self, message: Message) -> None:
        service = self._find(message["service"])
        instance = None if service is None else service.fleet.find(message["id"])
        if service is not None and instance is not None:
            service.fleet.drain(instance, drained=message["drained"])

    # Messages

    def _find(self, name: str) -> Service | None:
        return next((service for service in self._known.services if service.name == name), None)

    def _tell(self, message: dict[str, Any], to: str | None = None) -> None:
        self._facts.tell(_TOPIC, message, to)

    def _ask(self) -> None:
        self._tell({"op": "who", "from": self._facts.name})

    def _tell_open(self, service: Service | None, to: str | None = None) -> None:
        if service is None or service.breaker is None:
            return
        trip = service.breaker.trip
        if trip is not None:
            at, why, held = trip
            message = {"op": "open", "service": service.name, "at": at, "why": why, "held": held}
            self._tell(message, to)

    def _introduce(self, name: str) -> None:
        """Tell a worker what is out, because it has just started or did not listen."""
        for service in self._known.services:
            self._tell_open(service, to=name)
            for instance_id, until in service.fleet.ejections():
                self._tell(_ejected(service.name, instance_id, until), to=name)
            for instance in service.instances:
                if instance.state.drained:
                    self._tell(_drained(service.name, instance.id, drained=True), to=name)


def _ejected(service: str, instance_id: str, until: float) -> dict[str, Any]:
    return {"op": "ejected", "service": service, "id": instance_id, "until": until}


def _drained(service: str, instance_id: str, *, drained: bool) -> dict[str, Any]:
    return {"op": "drained", "service": service, "id": instance_id, "drained": drained}
