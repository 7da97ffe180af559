"""Hold what the workers of one gateway share, whether `propylon run` starts them or another server.

`propylon run` makes it before it forks its workers (`process.shared`); under another server each worker makes its own
(`assembly.sharing`), and they meet in a directory. What is made before a fork are paths, pipes and sockets only: a database
or a memory map that is open in two processes breaks.

Behind it are three ports, each declared where it is used:

- `Facts` (here): what only one worker was told, told to all. Best effort; who missed something asks.
- `proxy.limit.rule.LimitStore`: the decisions of rate limits.
- `telemetry.metrics.Sums`: numbers that add up over the workers (`tally`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from propylon.proxy.limit.rule import LocalLimitStore
from propylon.stores.limits.memory import MemoryLimits
from propylon.stores.limits.segment import Segment, Unusable
from propylon.stores.limits.workers import SharedLimits
from propylon.stores.meeting import Meeting
from propylon.stores.place import Place, lack_of_room
from propylon.stores.shelf import FolderShelf, MemoryShelf
from propylon.stores.siblings import Channel, Line, Lines, Message, Siblings
from propylon.stores.slot import Slot
from propylon.stores.sums import LocalSums
from propylon.stores.tally import SharedSums

__all__ = ["Facts", "Shared"]

log = logging.getLogger(__name__)

_LIMITS = "limits"  # the file in the place
_SHELF = "shelf"  # the directory in it


class Facts(Protocol):
    """Messages to the other workers."""

    @property
    def name(self) -> str:
        """How the others reach this worker, and only this one."""

    @property
    def others(self) -> int:
        """How many other workers there are."""

    def tell(self, topic: str, message: Message, to: str | None = None) -> None:
        """Tell all others, or the one of a name, in the order in which it is said."""

    def hear(self, topic: str, callback: Callable[[Message], None]) -> None:
        """Call back with what the others tell on a topic; with `siblings.MISSED` if something was lost."""


class Shared:
    """What one worker shares with the others. By itself it shares nothing: there are no others."""

    def __init__(
        self,
        *,
        lines: Sequence[Line] = (),
        place: Place | None = None,
        last_good: Slot | None = None,
        key_sets: Slot | None = None,
        meeting: Meeting | None = None,
        doubt: str | None = None,
    ) -> None:
        """Take what was made before the fork, or where to meet; `doubt` is said at the start."""
        self.facts = Siblings()
        self.last_good = last_good
        self.key_sets = key_sets
        self._lines = lines
        self._place = place
        self._meeting = meeting
        self._channel: Channel = meeting or Lines()
        self._doubt = doubt
        self._sums: SharedSums | None = None
        self._limits: SharedLimits | None = None

    @property
    def place(self) -> Path | None:
        """The directory for what is shared in files; None: there is none, and each keeps it for itself."""
        place = self._place if self._meeting is None else self._meeting.place
        return None if place is None else place.path

    @property
    def has_others(self) -> bool:
        """Whether there may be other workers; a single one needs no files to know its own sums."""
        return self._meeting is not None or len(self._lines) > 1

    def become(self, at: int) -> None:
        """Be the worker at that place, after the fork; a replacement has the place of the one that died."""
        self._channel = Lines(self._lines, at)

    # Ports

    def limits(self) -> LocalLimitStore:
        """Return where limits are counted, together with the others if there may be any; after `start`."""
        alone = not self._lines and self._meeting is None
        if alone or self.place is None:
            return MemoryLimits(time.monotonic_ns)
        try:
            segment = Segment.at(self.place / _LIMITS)
        except (Unusable, OSError) as error:
            log.warning(
                "this worker counts limits for itself: %s/%s: %s", self.place, _LIMITS, error
            )
            return MemoryLimits(time.monotonic_ns)
        self._limits = SharedLimits(segment, time.monotonic_ns)
        return self._limits

    def sums(self) -> LocalSums | SharedSums:
        """Return what is counted for the metrics: with those of the others, once this worker has started."""
        if self._sums is None:
            return LocalSums()
        return self._sums

    def shelf(self) -> FolderShelf | MemoryShelf:
        """Return where the workers keep what they show of the past; after `start`."""
        if self._sums is None or self.place is None:
            return MemoryShelf()
        try:
            return FolderShelf(self.place / _SHELF)
        except OSError as error:
            log.warning("this worker shows its own history: %s/%s: %s", self.place, _SHELF, error)
            return MemoryShelf()

    # The life of a worker

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Meet the others, and hear them from now on; where that cannot be, this worker goes on alone."""
        doubt, self._doubt = self._doubt, None
        try:
            self.facts.start(loop, self._channel)
            if self._meeting is not None and self._meeting.place is not None:
                doubt = lack_of_room(self._meeting.place)
            if self.place is not None and self.has_others:
                self._sums = SharedSums(self.place)
        except OSError as error:
            doubt = f"server.state_dir cannot be used, so this worker shares nothing with others: {error}"
        if doubt is not None:
            log.warning("%s", doubt)

    async def stop(self) -> None:
        """Leave the others. Does not wait for any of them."""
        if self._limits is not None:
            self._limits.close()
            self._limits = None
        self.facts.close()
        sums, self._sums = self._sums, None
        if sums is not None:
            sums.close()

    # The life of the process that forks

    def __enter__(self) -> Self:
        """The process that makes it before the fork removes it after the workers have ended."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the place, and let go of the sockets and the memory."""
        for line in self._lines:
            line.close()
        for slot in (self.last_good, self.key_sets):
            if slot is not None:
                slot.close()
        place, self._place = self._place, None
        if place is not None:
            place.leave()
