"""One command to Redis, and who awaits its answer."""

from __future__ import annotations

from propylon.loop.signal import Signal
from propylon.stores.redis.connection import ErrorReply, Reply
from propylon.stores.redis.node import Call

__all__ = ["Command"]

# What an error says of the command, and not of the server: memory that is used up, a value of another program.
_REFUSALS = frozenset({"OOM", "WRONGTYPE"})


class Command(Call):
    """A packed command; `answered` is set to its answer, or to None: there is none."""

    __slots__ = ("answered", "data")

    def __init__(self, data: bytes) -> None:
        """Wait to be submitted."""
        self.data = data
        self.answered: Signal[Reply] = Signal()

    def answer(self, reply: Reply) -> None:
        """Hand the answer over."""
        self.answered.set(reply)

    def fall_back(self) -> None:
        """Say that there is none."""
        self.answered.set(None)

    def refused(self, error: ErrorReply) -> bool:
        """Take an error that says nothing about the server."""
        if error.code not in _REFUSALS:
            return False
        self.answered.set(None)
        return True
