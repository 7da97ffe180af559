"""Tell an upstream that reads a request slowly from one that has stopped reading.

Facts. A megabyte fits into the send queue of a socket, and the kernel calls the socket writable only when a third of the
queue is free. So an upstream that reads 30 kB a second looks dead to the transport for half a minute.

Strategy. A deadline of a request that is still on its way is a look at the queue: if it has become shorter, the upstream
reads, and gets its time anew. The first look, soon after the beginning, finds out how long the queue was.
"""

from __future__ import annotations

__all__ = ["SMALL", "Sending"]

# Bytes. A smaller body fits into the receive buffer of the upstream's socket: it is not watched.
SMALL = 64 * 1024
# The part of the time after which the first look is taken. Sooner, the last writes may not have reached the socket yet.
_FIRST_LOOK = 0.1


class Sending:
    """The looks at what an upstream has not read yet of one request. Times are on the caller's clock."""

    __slots__ = ("_due", "_left", "_time")

    def __init__(self, now: float, due: float) -> None:
        """Begin to watch: without progress the time is over at `due`."""
        self._due = due
        self._time = due - now
        self._left = -1  # not known before the first look

    @property
    def first_look(self) -> float:
        """The time of the first look."""
        return self._due - self._time * (1 - _FIRST_LOOK)

    def look(self, now: float, left: int) -> float | None:
        """Return the time of the next look, None where the upstream's time is over; `left` bytes wait to be read."""
        before, self._left = self._left, left
        if before < 0:
            return self._due
        return now + self._time if left < before else None
