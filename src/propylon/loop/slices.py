"""Do long work beside the requests: a millisecond of it, then a turn of the loop.

The work is a generator that yields wherever it may pause. So the same code also does it in one go, at the start.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["at_once", "beside_requests", "in_slices", "released"]

T = TypeVar("T")

# A request waits for one slice at each of its few steps: for some milliseconds in all.
_SLICE = 0.001
# How long a thread keeps the interpreter while the loop waits for it. A request waits up to four times: it is read,
# sent on, answered and handed back. With Python's own 5 ms that is 20 ms.
_SWITCH = 0.0005
# What is new is searched for garbage after this many objects, and what has been searched once, after this many times
# that: half a millisecond's and two milliseconds' work. All objects are never searched meanwhile: that takes longer the
# more there are, and by default it would happen several times over, for nothing but a configuration that is growing.
_YOUNG, _MIDDLE, _OLD = 2_000, 4, 1_000_000
# glibc does not merge small pieces of memory as they are freed. It merges all of them when a piece of more than 64 KiB is
# freed: 20 ms in one go, after a document of ten thousand operations. So such a piece is freed after each few objects.
_MERGED_EACH, _LARGE = 256, 100_000
# What the process had before the works that are under way, once for each of them.
_beside: list[tuple[float, tuple[int, int, int]]] = []


def at_once(work: Generator[None, None, T]) -> T:
    """Do all of the work now."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            value: T = done.value
            return value


def released(holding: list[Any]) -> Generator[None, None, None]:
    """Let go of many objects, in slices. `holding` has the last references to them; it is empty afterwards.

    A structure of a hundred thousand objects is freed in one go by whoever drops it, which takes as long as ten requests.
    """
    while holding:
        holding.pop()  # one may hold a hundred others
        if len(holding) % _MERGED_EACH == 0:
            bytearray(_LARGE)
        yield


async def in_slices(work: Generator[None, None, T]) -> T:
    """Do the work in slices; the loop serves requests in between."""
    while True:
        end = time.perf_counter() + _SLICE
        try:
            while time.perf_counter() < end:
                next(work)
        except StopIteration as done:
            value: T = done.value
            return value
        await asyncio.sleep(0)


@contextmanager
def beside_requests() -> Iterator[None]:
    """Let nothing hold the interpreter for long: no other thread, and no search for garbage among all objects.

    This concerns the whole process, so the gateway must own it. Two works may overlap: the last one to end gives back what the
    first one has found.
    """
    if not _beside:
        _beside.append((sys.getswitchinterval(), gc.get_threshold()))
        sys.setswitchinterval(min(_beside[0][0], _SWITCH))
        gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    else:
        _beside.append(_beside[0])
    try:
        yield
    finally:
        switch, threshold = _beside.pop()
        if not _beside:
            gc.set_threshold(*threshold)
            sys.setswitchinterval(switch)
