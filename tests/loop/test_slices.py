"""Long work in slices: the loop gets its turns, the value is the same, and the process is left as it was."""

import asyncio
import gc
import itertools
import sys
from collections.abc import Generator

import pytest

from propylon.loop import slices
from propylon.loop.slices import at_once, beside_requests, in_slices
from tests.support.virtual import run


def counting(steps: int, seen: list[int] | None = None) -> Generator[None, None, int]:
    """Work of so many steps."""
    for step in range(steps):
        if seen is not None:
            seen.append(step)
        yield
    return steps


def test_the_value_is_the_same() -> None:
    """In one go or in slices, also if there is nothing to do."""
    for steps in (0, 1, 1000):
        assert at_once(counting(steps)) == steps
        assert run(in_slices(counting(steps))) == steps


def test_the_loop_gets_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tasks run between two slices: here a slice is one step, because each look at the clock is one."""
    ticks = itertools.count()
    monkeypatch.setattr(slices, "_SLICE", 1.0)
    monkeypatch.setattr(slices.time, "perf_counter", lambda: next(ticks) / 2)
    seen: list[int] = []
    turns: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def look() -> None:
            turns.append(len(seen))
            if len(seen) < 5:
                loop.call_soon(look)

        loop.call_soon(look)
        await in_slices(counting(5, seen))

    asyncio.run(main())
    assert turns == [1, 2, 3, 4, 5]


def test_a_failure_passes() -> None:
    """What the work raises is raised to the caller of either."""

    def failing() -> Generator[None, None, None]:
        yield
        raise KeyError

    with pytest.raises(KeyError):
        at_once(failing())
    with pytest.raises(KeyError):
        run(in_slices(failing()))


def test_the_process_is_as_before() -> None:
    """Also after a failure."""
    before = (sys.getswitchinterval(), gc.get_threshold())
    with pytest.raises(KeyError), beside_requests():
        assert sys.getswitchinterval() < before[0]
        assert gc.get_threshold() != before[1]
        raise KeyError
    assert (sys.getswitchinterval(), gc.get_threshold()) == before
