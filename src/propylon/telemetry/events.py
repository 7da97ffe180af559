"""Log and count the events of services: breakers that open and close, instances that fail, recover, come and go."""

from __future__ import annotations

import logging

from propylon.services.breaker import Event
from propylon.services.circuit import State
from propylon.services.fleet import ELSEWHERE
from propylon.services.instance import Condition, Instance
from propylon.telemetry.families import CIRCUIT_TRANSITIONS, EJECTIONS
from propylon.telemetry.metrics import Metrics

__all__ = ["Events"]

log = logging.getLogger(__name__)

_NORMAL = frozenset({"starting", "healthy", "stopped"})


class Events:
    """The listener of breakers and fleets: one line for each event, at a level that fits it, and a count.

    What another worker has told is logged here, too, and counted there.
    """

    def __init__(self, metrics: Metrics) -> None:
        """Count in `metrics`."""
        self._metrics = metrics

    def circuit(self, service: str, old: State, new: State, event: Event) -> None:
        """Log a transition of a breaker: an error when it opens, since requests are refused from then on."""
        level = logging.ERROR if new is State.OPEN else logging.WARNING
        log.log(level, 'circuit of "%s": %s -> %s (%s)', service, old, new, event)
        if not event.is_elsewhere:
            self._metrics.row(CIRCUIT_TRANSITIONS, service, new.lower())[0] += 1

    def instance(
        self, service: str, instance: Instance, old: Condition, new: Condition, reason: str
    ) -> None:
        """Log a change of an instance: a warning when it is out, info when it is back."""
        level = logging.INFO if new in _NORMAL else logging.WARNING
        log.log(level, 'instance %s of "%s": %s -> %s (%s)', instance.id, service, old, new, reason)
        if new == "ejected" and reason != ELSEWHERE:
            self._metrics.row(EJECTIONS, service, instance.id)[0] += 1
