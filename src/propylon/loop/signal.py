"""Wait for one event without a future: setting it resumes the waiter at once.

Facts. A future passes its result through the loop: it queues a callback, which runs in the next turn. At twenty thousand
requests a second that is a tenth of the gateway's time.

Strategy. A `Signal` calls its waiter directly if that is an exchange (`edge.turn`). In a task it behaves as a future,
so that endpoints on the FastAPI app can wait for upstreams, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Generic, TypeVar

__all__ = ["Signal"]

T = TypeVar("T")


class Signal(Generic[T]):
    """An event that happens once and has one waiter: the producer calls `set` or `fail`, the waiter awaits it."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_error",
        "_value",
        "abandoned",
        "done",
    )

    def __init__(self, abandoned: Callable[[T | None], None] | None = None) -> None:
        """Start unset.

        `abandoned` is called when the waiter gives up, even after `set` and before the waiter has resumed. It gets the
        value that was set, so that the producer can take it back, or None.
        """
        self.done = False
        self.abandoned = abandoned
        # asyncio.Task looks at this attribute of what a coroutine yields, to know that it is a
        # future.
        self._asyncio_future_blocking = False
        self._callback: Callable[[Signal[T]], None] | None = None
        self._error: BaseException | None = None
        self._value: T | None = None

    def set(self, value: T) -> None:
        """Set the value and resume the waiter; a no-op if the signal is done."""
        if not self.done:
            self._value = value
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Set an error, which the waiter raises, and resume it; a no-op if the signal is done."""
        if not self.done:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        self.done = True
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(self)

    def attach(self, callback: Callable[[Signal[T]], None]) -> None:
        """Register the waiter's callback; `set` and `fail` call it before they return."""
        self._callback = callback

    def abandon(self) -> None:
        """Drop the waiter, which has given up, and tell the producer by `abandoned`."""
        self._callback = None
        abandoned, self.abandoned = self.abandoned, None
        if abandoned is not None:
            abandoned(self._value)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait until the signal is done; return the value or raise the error."""
        if not self.done:
            self._asyncio_future_blocking = True
            yield self
        self.abandoned = None  # the waiter has the value now
        return self.result()

    # What asyncio.Task asks of a future

    def result(self) -> T:
        """Return the value, or raise the error; the signal must be done."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop: the loop of the task that waits."""
        return asyncio.get_running_loop()

    def add_done_callback(
        self, callback: Callable[[Signal[T]], object], *, context: Context | None = None
    ) -> None:
        """Call `callback` through the loop when the signal is done: a task must not run inside another one's step."""
        loop = asyncio.get_running_loop()

        def resume(signal: Signal[T]) -> None:
            loop.call_soon(callback, signal, context=context)

        if self.done:
            resume(self)
        else:
            self.attach(resume)

    def cancel(self, msg: object = None) -> bool:
        """Wake the waiting task with CancelledError; return False if the signal was done already."""
        callback = self._callback
        self.abandon()
        if self.done:
            return False
        self._callback = callback
        self.fail(asyncio.CancelledError(*(() if msg is None else (msg,))))
        return True
