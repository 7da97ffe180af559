"""Start background tasks: the one place that may call `create_task` (ruff, TID251).

Facts. The loop keeps only a weak reference to a task: the garbage collector may remove one that is still running, with
everything that it was about to do. And an exception in a task that no code awaits is seen when the task is collected,
if at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any, TypeVar

__all__ = ["cancelled_tasks_end", "in_task", "spawn", "spawn_forever"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()


def spawn(
    coroutine: Coroutine[Any, Any, T],
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    context: Context | None = None,
) -> asyncio.Task[T]:
    """Run the coroutine as a task of `loop`, by default the running loop, and keep a reference until it ends.

    `context` is the one that the task runs in; without it the task takes a copy of the current one.
    """
    chosen = loop or asyncio.get_running_loop()
    task = chosen.create_task(coroutine, context=context)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def in_task(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await foreign code in a task, and return its result or raise its error.

    An exchange is no task, and `asyncio.timeout`, anyio and most client libraries need one. What the code sets in
    ContextVars is set for its caller as well, as if the caller had awaited it directly. Giving up waiting cancels
    the task.
    """
    context = copy_context()
    task = spawn(coroutine, context=context)
    try:
        return await task
    finally:
        if not task.done():
            task.cancel()
        _take_over(context)


async def cancelled_tasks_end(within: float) -> None:
    """Wait until all tasks of this loop that were cancelled have ended, for `within` seconds at most.

    A task that is cancelled ends only when the loop runs it again, and later if it has sockets to close. A loop that is
    closed before leaves them open.
    """
    loop = asyncio.get_running_loop()
    ending = {task for task in _running if task.get_loop() is loop and task.cancelling()}
    if ending:
        await asyncio.wait(ending, timeout=within)
    # Tasks that awaited a cancelled one end in the next turn, and the sockets of both are closed in the one after.
    for _ in range(2):
        await asyncio.sleep(0)


_UNSET = object()


def _take_over(context: Context) -> None:
    """Set what was set in `context`; a variable that was reset to nothing there keeps its value here."""
    for variable, value in context.items():
        if variable.get(_UNSET) is not value:
            variable.set(value)


def spawn_forever(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run a coroutine that ends only when the caller cancels its task; log an error if it ends otherwise."""
    task = spawn(coroutine)
    task.add_done_callback(_log_unexpected_end)
    return task


def _log_unexpected_end(task: asyncio.Task[None]) -> None:
    # `cancelling` counts the calls of `task.cancel`. Without one, a future that the coroutine
    # awaited was cancelled.
    if task.cancelled() and not task.cancelling():
        log.error("%r was cancelled by what it awaits, and will not go on", task.get_coro())
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%r has ended by a bug, and will not go on", task.get_coro(), exc_info=error)
