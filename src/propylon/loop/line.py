"""Keep those that wait for something in a line: the oldest first, each until its deadline."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from propylon.loop.signal import Signal
from propylon.loop.ticker import Ticker

__all__ = ["Line", "Waiter", "call_soon", "now"]

# Seconds: how late a wait may end.
_TICK = 0.01


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


def call_soon(callback: Callable[[], None]) -> None:
    """Call back in the next turn of the running loop."""
    asyncio.get_running_loop().call_soon(callback)


T = TypeVar("T")


class Waiter(Signal[T]):
    """One that waits, until its deadline in seconds of the loop's clock; a subclass says what happens then (`expire`)."""

    __slots__ = ("deadline",)

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.deadline = deadline

    def expire(self) -> None:
        """Fail with what the waiter is to be told. Raises NotImplementedError where a subclass does not."""
        raise NotImplementedError


W = TypeVar("W", bound=Waiter[Any])


class Line(Generic[W]):
    """The waiters, first come, first served."""

    __slots__ = ("_ticker", "waiters")

    def __init__(self, ticker: Ticker) -> None:
        """Look at deadlines by the ticker."""
        self._ticker = ticker
        self.waiters: deque[W] = (
            deque()
        )  # read only: for the path of every request, where a call would count

    @classmethod
    def in_loop(cls) -> Line[W]:
        """Return a line with a ticker of its own, in the running loop."""
        return cls(Ticker(asyncio.get_running_loop(), _TICK))

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self.waiters)

    def __iter__(self) -> Iterator[W]:
        """Yield the waiters, the oldest first."""
        return iter(self.waiters)

    def join(self, waiter: W) -> None:
        """Put a waiter at the end."""
        self._ticker.watch(waiter)
        self.waiters.append(waiter)

    def leave(self, waiter: W) -> bool:
        """Take a waiter out, wherever it is; tell whether it still was in the line."""
        self._ticker.forget(waiter)
        if waiter not in self.waiters:
            return False
        self.waiters.remove(waiter)
        return True

    def pop(self) -> W:
        """Take the oldest out."""
        waiter = self.waiters.popleft()
        self._ticker.forget(waiter)
        return waiter
