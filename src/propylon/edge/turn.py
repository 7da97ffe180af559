"""Step an exchange's coroutine without a task.

A task costs two turns of the loop and a future. An exchange needs neither: what it waits for (`loop.signal`) calls
it back directly. Futures work too, so that a stage may await a task.

What a task would give an exchange and a turn has to give instead: a context of its own. Many exchanges are stepped
from one callback (a socket's data, a timer), and a ContextVar that one of them sets must not be seen by the next.
What a turn cannot give is `asyncio.current_task()`: code that needs one (`asyncio.timeout`, most libraries) runs by
`loop.tasks.in_task`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

from propylon.errors import GatewayError
from propylon.loop.signal import Signal

__all__ = ["Turn"]

log = logging.getLogger(__name__)


class Turn:
    """One exchange's coroutine, from its first step to its last.

    A subclass says what to do when it is `over`, in `ended`.
    """

    __slots__ = ("_awaited", "_context", "_coroutine", "_error", "_running", "over")

    def __init__(self) -> None:
        """Wait for `run`."""
        self.over = False
        self._running = False
        self._coroutine: Generator[Any, None, None] | Coroutine[Any, None, None] | None = None
        self._awaited: Any = None
        self._context: Context | None = None
        self._error: GatewayError | None = None

    @property
    def begun(self) -> bool:
        """Whether `run` was called."""
        return self.over or self._coroutine is not None

    def run(self, coroutine: Coroutine[Any, None, None]) -> None:
        """Take the first step at once, and the others as what is awaited comes about."""
        self._coroutine = coroutine
        # A copy, as a task would take: a server's own ContextVars stay visible on the portable edge.
        self._context = copy_context()
        self._step(None)

    def throw(self, error: GatewayError) -> None:
        """Raise `error` where the exchange stands; does nothing once it is over."""
        if self.over or self._coroutine is None:
            return
        if self._running:
            self._error = error
            return
        awaited, self._awaited = self._awaited, None
        self._abandon(awaited)
        self._step(error)

    def _abandon(self, awaited: Any) -> None:
        if isinstance(awaited, Signal):
            awaited.abandon()
        elif awaited is not None:
            awaited.remove_done_callback(self._resume)
            awaited.cancel()

    def ended(self) -> None:
        """Go on to whatever comes after the exchange."""
        raise NotImplementedError

    def crashed(self) -> None:
        """Clean up after a bug that not even the pipeline could answer."""
        raise NotImplementedError

    def _resume(self, _: object) -> None:
        self._step(None)

    def _give_way(self, coroutine: object) -> None:
        if self._coroutine is coroutine and self._awaited is None and not self._running:
            self._step(None)

    def _step(self, error: GatewayError | None) -> None:
        coroutine, context = self._coroutine, self._context
        if coroutine is None or context is None:
            return
        self._running = True
        try:
            if error is None:
                awaited = context.run(coroutine.send, None)
            else:
                awaited = context.run(coroutine.throw, error)
            while self._error is not None:
                error, self._error = self._error, None
                self._abandon(awaited)
                awaited = context.run(coroutine.throw, error)
        except StopIteration:
            pass
        except (Exception, asyncio.CancelledError):
            # One of the two borders: the pipeline answers its own bugs, so this one is in what it
            # answers or records with. The connection is cut: its state is unknown.
            log.exception("an exchange broke down")
            self._close()
            self.crashed()
            return
        else:
            self._running = False
            self._awaited = awaited
            if isinstance(awaited, Signal):
                awaited.attach(self._resume)
            elif awaited is None:  # `asyncio.sleep(0)`: let others have a turn
                asyncio.get_running_loop().call_soon(self._give_way, coroutine)
            else:
                awaited._asyncio_future_blocking = False  # noqa: SLF001 — as asyncio.Task does
                awaited.add_done_callback(self._resume)
            return
        self._close()
        self.ended()

    def _close(self) -> None:
        self._running = False
        self.over = True
        self._coroutine = None
        self._context = None
        self._awaited = None
