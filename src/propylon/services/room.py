"""Bound how many requests each instance of a service has in flight, and let the others wait in one line for all of them.

Strategy. Requests wait for the service and not for an instance: whichever has room first takes the oldest request that may go to it. A
request in a queue of one instance would wait behind a slow one while the instance beside it has nothing to do. An instance is
chosen when the wait is over, by the balance, among those that have room then.

Rules.

1. A request takes a place (`Seat`) when its instance is chosen, and gives it back when its exchange has ended, or when a further attempt
   has found a place elsewhere. A retry never waits, and never takes more than one place: where nobody else has room it
   goes to the instance whose place it has.
2. Nobody is overtaken: a request that comes finds room only if nobody waits who could have it. One that may go to a single instance
   (`sticky`) holds up nobody who may go to others.
3. An open tunnel takes no place: it stays for hours. Its handshake waits for room as other requests do.
4. The places of an instance are counted in its state, which a reload carries over; so is the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from propylon.errors import UpstreamBusy
from propylon.loop.line import Line, Waiter, call_soon, now
from propylon.services.instance import Instance

__all__ = ["Room", "Seat"]


class _Waiter(Waiter[None]):
    """A request that waits; `wants` tells whether an instance that it may go to has room."""

    __slots__ = ("wants",)

    def __init__(self, deadline: float, wants: Callable[[], bool]) -> None:
        super().__init__(deadline)
        self.wants = wants

    def expire(self) -> None:
        self.fail(_busy("no instance had room in time"))


class Seat:
    """The place that an exchange has at an instance."""

    __slots__ = ("_room", "instance")

    def __init__(self, room: Room, instance: Instance) -> None:
        """Take the place."""
        self._room: Room | None = room
        self.instance = instance
        instance.state.in_flight += 1

    def leave(self) -> None:
        """Give the place back, once: the first request in the line that may have it goes on."""
        room, self._room = self._room, None
        if room is not None:
            self.instance.state.in_flight -= 1
            if room.waiting:
                call_soon(room.wake)


class Room:
    """The places at the instances of a service in this worker, and the line before them."""

    __slots__ = ("_line", "_size", "_timeout", "most")

    def __init__(self, most: int, size: int, timeout: float) -> None:
        """`most` requests in flight at an instance, `size` in the line, each of these for `timeout` seconds."""
        self.most = most
        self._size = size
        self._timeout = timeout
        self._line: list[Line[_Waiter]] = (
            []
        )  # one, from the first wait on: before it there may be no loop

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._line[0]) if self._line else 0

    @property
    def is_full(self) -> bool:
        """Whether as many requests wait as may."""
        return self._size <= self.waiting

    def having(self, instances: Sequence[Instance]) -> tuple[Instance, ...]:
        """Return the instances that have room."""
        most = self.most
        return tuple([one for one in instances if one.state.in_flight < most])

    def share(self, old: Room) -> None:
        """Go on with the line of the room that this one replaces."""
        self._line = old._line

    def is_free(self, wants: Callable[[], bool]) -> bool:
        """Whether a request that comes now may go on: there is room for it, and nobody waits who could have it."""
        return wants() and not any(one.wants() for line in self._line for one in line)

    def wake(self) -> None:
        """Let the first request go on that may have a place now. To be called when there may be room."""
        for waiter in self._line[0] if self._line else ():
            if waiter.wants():
                # If it was woken before and has not gone on yet, the room may be its: the next one is woken behind it.
                waiter.set(None)
                return

    async def wait(self, wants: Callable[[], bool], within: float) -> None:
        """Wait until `wants` is true and it is this request's turn, `within` seconds at the most.

        Raises UpstreamBusy: the line is full, or the time is over.
        """
        if self.is_full:
            raise _busy("max_in_flight, and the queue is full" if self._size else "max_in_flight")
        if not self._line:
            self._line.append(Line.in_loop())
        line = self._line[0]
        waiter = _Waiter(now() + min(self._timeout, within), wants)
        line.join(waiter)
        try:
            await waiter
        finally:
            line.leave(waiter)
            # When this one has taken its place, or has not, because its client has left or its breaker has opened.
            call_soon(self.wake)


def _busy(reason: str) -> UpstreamBusy:
    msg = "All instances of the service have as many requests as they may have"
    return UpstreamBusy(msg, reason=reason)
