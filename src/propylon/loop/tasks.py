"""Start background tasks: the one place that may call `create_task`.

The loop keeps only weak references to tasks; one that nobody holds can vanish in mid-air.
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
    """Run the coroutine as a task of `loop`, the running one by default, referenced until it ends."""
    chosen = loop or asyncio.get_running_loop()
    task = chosen.create_task(coroutine)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


def spawn_forever(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run what never ends by itself; that it did, by a bug, is an error in the log."""
    task = spawn(coroutine)
    task.add_done_callback(_mourn)
    return task


def _mourn(task: asyncio.Task[None]) -> None:
    if task.cancelled() and not task.cancelling():
        log.error("%r was cancelled by what it awaits, and will not go on", task.get_coro())
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%r has ended by a bug, and will not go on", task.get_coro(), exc_info=error)
