"""Log what becomes of services: breakers that open, instances that fall ill and recover."""

from __future__ import annotations

import logging

from propylon.services.breaker import Event, State
from propylon.services.instance import Condition, Instance

__all__ = ["Events"]

log = logging.getLogger(__name__)

_NORMAL = frozenset({"starting", "healthy", "stopped"})


class Events:
    """Who hears of it: a line each, at the level that it deserves."""

    def circuit(self, service: str, old: State, new: State, event: Event) -> None:
        """A breaker has moved."""
        level = logging.ERROR if new is State.OPEN else logging.WARNING
        log.log(level, 'circuit of "%s": %s -> %s (%s)', service, old, new, event)

    def instance(
        self, service: str, instance: Instance, old: Condition, new: Condition, reason: str
    ) -> None:
        """An instance has come, gone, fallen ill, recovered, or is left out."""
        level = logging.INFO if new in _NORMAL else logging.WARNING
        log.log(level, 'instance %s of "%s": %s -> %s (%s)', instance.id, service, old, new, reason)
