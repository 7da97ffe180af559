"""Start background tasks: the one place that may call `create_task`.

The loop keeps only weak references to tasks; one that nobody holds can vanish in mid-air.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["spawn"]

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
