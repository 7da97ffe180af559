"""Tell the garbage collector that what exists now stays.

Facts. The collector goes through all objects now and then: FastAPI's models, the configuration, every imported module.
With a hundred thousand of them that takes 30 to 50 ms, all requests wait meanwhile, and there is nothing to find.

This concerns the whole interpreter, so the gateway must own it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["frozen"]


@contextmanager
def frozen() -> Iterator[None]:
    """Freeze what exists, until the end of the context.

    If something is frozen already, as by a server before it forked, nothing is done: both could only be undone together.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
