"""Count the lines of a log that could not be written, and say so once for each outage.

The log itself cannot say that it is not written. So the beginning of an outage goes to standard error, and its end into the
log, with the number of lines that are missing there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

__all__ = ["Losses", "LostLines", "Outage"]

log = logging.getLogger(__name__)


class Losses(Protocol):
    """Hears how writing goes, in the writer's thread."""

    def lost(self, error: OSError, batch: bytes) -> None:
        """Note that the lines of a batch are lost."""

    def well(self) -> None:
        """Note that a batch was written."""


class LostLines:
    """Counts what is lost, on the loop: for an output whose failures are said elsewhere."""

    def __init__(self, soon: Callable[..., object], count: Callable[[int], None]) -> None:
        """`soon` has the loop call a function; `count` adds to what is lost."""
        self._soon = soon
        self._count = count

    def lost(self, error: OSError, batch: bytes) -> None:  # noqa: ARG002 — as `Losses`
        """Count the lines of a batch."""
        try:
            self._soon(self._count, batch.count(b"\n"))
        except RuntimeError:
            return  # the loop is closed: nobody reads the count any more

    def well(self) -> None:
        """Do nothing."""


class Outage(LostLines):
    """The same, and says when an outage begins and ends."""

    def __init__(
        self,
        where: str,
        soon: Callable[..., object],
        count: Callable[[int], None],
        say: Callable[[str], None],
    ) -> None:
        """`where` is what cannot be written; `say` tells what the log cannot tell."""
        super().__init__(soon, count)
        self._where = where
        self._say = say
        self._lines = 0

    def lost(self, error: OSError, batch: bytes) -> None:
        """Count the lines; say so if they are the first."""
        if not self._lines:
            reason = (error.strerror or str(error) or "unknown reason").lower()
            self._say(
                f"the log cannot be written to {self._where}, and its lines are lost: {reason}"
            )
        self._lines += batch.count(b"\n")
        super().lost(error, batch)

    def well(self) -> None:
        """Say what is missing, if something is."""
        if not self._lines:
            return
        lines, self._lines = self._lines, 0
        try:
            self._soon(self._tell, lines)
        except RuntimeError:
            return  # as above

    def _tell(self, lines: int) -> None:
        log.warning("the log is written to %s again; %d lines are lost", self._where, lines)
