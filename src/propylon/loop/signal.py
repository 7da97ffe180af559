"""Wait without a future: a one-shot event that resumes its waiter at once.

A future hands its result over through the loop: a callback is queued, a turn of the loop goes by.
At twenty thousand requests a second that is a tenth of the gateway's time. A `Signal` calls its
waiter directly when the waiter is an exchange (`edge.turn`), and behaves as a future when it is
awaited in a task, so that endpoints on the FastAPI app can ask upstreams too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Generic, TypeVar

__all__ = ["Signal"]

T = TypeVar("T")


class Signal(Generic[T]):
    """Something that will happen once: `set` or `fail` it, `await` it."""

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

        `abandoned` is called when whoever waits gives up, even between the setting and the resuming;
        it gets the value that nobody took, if there was one.
        """
        self.done = False
        self.abandoned = abandoned
        self._asyncio_future_blocking = False
        self._callback: Callable[[Signal[T]], None] | None = None
        self._error: BaseException | None = None
        self._value: T | None = None

    def set(self, value: T) -> None:
        """Hand over the value; does nothing the second time."""
        if not self.done:
            self._value = value
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Hand over an error; does nothing the second time."""
        if not self.done:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        self.done = True
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(self)

    def attach(self, callback: Callable[[Signal[T]], None]) -> None:
        """Have `callback` called from within `set` or `fail`."""
        self._callback = callback

    def abandon(self) -> None:
        """Forget whoever waits: they have given up."""
        self._callback = None
        abandoned, self.abandoned = self.abandoned, None
        if abandoned is not None:
            abandoned(self._value)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait; return the value or raise the error."""
        if not self.done:
            self._asyncio_future_blocking = True
            yield self
        self.abandoned = None  # taken
        return self.result()

    # What asyncio.Task asks of a future.

    def result(self) -> T:
        """Return the value, or raise the error."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop: a signal belongs to whoever waits for it."""
        return asyncio.get_running_loop()

    def add_done_callback(
        self, callback: Callable[[Signal[T]], object], *, context: Context | None = None
    ) -> None:
        """Resume a task through its loop: one task may not step inside another's step."""
        loop = asyncio.get_running_loop()

        def resume(signal: Signal[T]) -> None:
            loop.call_soon(callback, signal, context=context)

        if self.done:
            resume(self)
        else:
            self.attach(resume)

    def cancel(self, msg: object = None) -> bool:
        """Wake the waiting task with CancelledError."""
        callback = self._callback
        self.abandon()
        if self.done:
            return False
        self._callback = callback
        self.fail(asyncio.CancelledError(*(() if msg is None else (msg,))))
        return True
