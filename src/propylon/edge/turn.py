"""Step an exchange's coroutine without a task.

A task costs a future and two rounds of the event loop for each exchange. An exchange needs neither, because what it
waits for (`loop.signal`) calls it back directly. It can await futures and tasks too.

A turn does for the coroutine what a task would: it gives it a context of its own. One callback (a socket's data, a
timer) may step many exchanges, and a ContextVar that one of them sets must not be visible in the next. A turn cannot
provide `asyncio.current_task()`. Code that needs it (`asyncio.timeout`, most libraries) runs in `loop.tasks.in_task`.
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

    Both edges subclass it (`Http1Turn`, `AsgiTurn`), and the subclass is the exchange's `Downstream` as well. The
    pipeline, the stages and the access log rely on what it counts, so both must keep the same books:

    - `started` is set by `respond` and `start` before a byte of the final answer is sent, and not by a 1xx answer. From
      then on the pipeline cannot answer with an error: it calls `abort`.
    - `bytes_out` counts the bytes of the answer's body that were handed on, without chunk framing. `respond` drops the
      body of an answer to HEAD and of a 204 or 304, and counts none.
    - `closes` may be set by the edge or the pipeline before the head is sent: the connection ends after this exchange.
    - `complete` is set by `respond`, and by `finish` if `bytes_out` is the Content-Length that `start` announced. It is
      set nowhere else: an exchange that is `over` and not `complete` was broken off, and its connection is cut.
    - After `finish` the attached flow is not paused or resumed any more: its connection may serve another exchange.
    """

    __slots__ = ("_awaited", "_context", "_coroutine", "_pending_error", "_running", "over")

    def __init__(self) -> None:
        """Have no coroutine yet: `run` brings it."""
        self.over = False
        self._running = False
        self._coroutine: Generator[Any, None, None] | Coroutine[Any, None, None] | None = None
        self._awaited: Any = None
        self._context: Context | None = None
        self._pending_error: GatewayError | None = None  # thrown while the coroutine was running

    @property
    def begun(self) -> bool:
        """Whether `run` was called."""
        return self.over or self._coroutine is not None

    def run(self, coroutine: Coroutine[Any, None, None]) -> None:
        """Take the first step now, and each further step when what the coroutine awaits is done."""
        self._coroutine = coroutine
        # A copy, as a task would take: the ASGI server's own ContextVars stay visible to the exchange.
        self._context = copy_context()
        self._step(None)

    def throw(self, error: GatewayError) -> None:
        """Raise `error` where the coroutine waits, or at its next await if it is running; nothing if it is over."""
        if self.over or self._coroutine is None:
            return
        if self._running:
            self._pending_error = error
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
        """Continue after the exchange: it is over, and the coroutine has returned."""
        raise NotImplementedError

    def crashed(self) -> None:
        """Clean up after a bug that the pipeline could not answer: the coroutine has raised an error."""
        raise NotImplementedError

    def _resume(self, _: object) -> None:
        self._step(None)

    def _resume_after_yield(self, coroutine: object) -> None:
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
            while self._pending_error is not None:
                error, self._pending_error = self._pending_error, None
                self._abandon(awaited)
                awaited = context.run(coroutine.throw, error)
        except StopIteration:
            pass
        except (Exception, asyncio.CancelledError):
            # One of the two places that catch everything. The pipeline turns the stages' bugs into a 500, so this bug
            # is in the code that answers or records. How much was sent is unknown, so the connection is cut.
            log.exception("an exchange broke down")
            self._close()
            self.crashed()
            return
        else:
            self._running = False
            self._awaited = awaited
            if isinstance(awaited, Signal):
                awaited.attach(self._resume)
            elif awaited is None:  # `asyncio.sleep(0)`: other callbacks run first
                asyncio.get_running_loop().call_soon(self._resume_after_yield, coroutine)
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
