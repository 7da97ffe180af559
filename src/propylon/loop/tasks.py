"""Start background tasks: the one place that may call `create_task` (ruff, TID251).

Facts. The loop keeps only a weak reference to a task: the garbage collector may remove one that is still running, with
everything that it was about to do. And an exception in a task that no code awaits is seen when the task is collected,
if at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["spawn", "spawn_forever"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()


def spawn(
    coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop | None = None
) -> asyncio.Task[T]:
    """Run the coroutine as a task of `loop`, by default the running loop, and keep a reference until it ends."""
    chosen = loop or asyncio.get_running_loop()
    task = chosen.create_task(coroutine)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


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
