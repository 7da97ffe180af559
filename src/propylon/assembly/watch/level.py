"""Set the level of the log in all workers, until the next reload."""

from __future__ import annotations

import logging
from collections.abc import Callable

from propylon.stores.shared import Facts
from propylon.stores.siblings import MISSED, Message

__all__ = ["LogLevel"]

log = logging.getLogger(__name__)

_TOPIC = "log level"


class LogLevel:
    """The level that an operator has set; None: that of the configuration holds."""

    def __init__(self, facts: Facts, apply: Callable[[str], None]) -> None:
        """`apply` puts a level into force in this worker."""
        self.said: str | None = None
        self._facts = facts
        self._apply = apply

    def join(self) -> None:
        """Hear the others from now on, and ask them."""
        self._facts.hear(_TOPIC, self._hear)
        self._ask()

    def say(self, level: str) -> None:
        """Set the level in all workers."""
        self._take(level)
        self._facts.tell(_TOPIC, {"op": "level", "level": level})

    def forget(self) -> None:
        """Let the configuration's level hold: a reload has put that into force, in each worker."""
        self.said = None

    def _take(self, level: str) -> None:
        self.said = level
        log.warning("an operator has set the level of the log to %s, until the next reload", level)
        self._apply(level)

    def _ask(self) -> None:
        self._facts.tell(_TOPIC, {"op": "who", "from": self._facts.name})

    def _hear(self, message: Message) -> None:
        op = message["op"]
        if op == "level" and message["level"] != self.said:
            self._take(message["level"])
        elif op == "who" and self.said is not None:
            self._facts.tell(_TOPIC, {"op": "level", "level": self.said}, to=message["from"])
        elif op == MISSED["op"]:
            self._ask()
