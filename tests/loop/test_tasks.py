"""Tasks that no code awaits: they are not collected while they run, and their failures are logged."""

import asyncio
import gc
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from propylon.loop import tasks
from propylon.loop.tasks import spawn, spawn_forever
from tests.support.virtual import run

SECRET = "s3cret-of-a-caller"


class Odd(BaseException):
    """What no `except Exception` catches."""


async def fall(error: BaseException, held: str = "") -> None:
    """Do something for a while, and end by a bug."""
    await asyncio.sleep(1)
    raise error


async def forever() -> None:
    """Go on."""
    while True:
        await asyncio.sleep(1)


def deaths(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was said of tasks that ended."""
    return [record for record in caplog.records if record.name == tasks.__name__]


def ended(main: Coroutine[Any, Any, None]) -> BaseException | None:
    """What a task for good came to; the loop itself has nothing to complain of, now or later."""

    async def watched() -> BaseException | None:
        task = spawn_forever(main)
        await asyncio.wait([task])
        error = None if task.cancelled() else task.exception()
        del task
        gc.collect()
        return error

    return run(watched())


@pytest.mark.parametrize(
    "error", [KeyError("k"), ExceptionGroup("g", [OSError()]), RecursionError(), Odd("o")]
)
def test_a_bug_is_not_lost(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """One error in the log says what it was, and where, though no code awaits the task."""
    assert ended(fall(error)) is error
    [record] = deaths(caplog)
    assert record.levelno == logging.ERROR
    assert "fall" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "in fall\n" in caplog.text


def test_what_it_worked_on_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    """The coroutine is named, not what it was given."""
    ended(fall(KeyError("k"), SECRET))
    assert len(deaths(caplog)) == 1
    assert SECRET not in caplog.text


def test_whoever_waits_is_told_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """Code that awaits the task gets the exception, too."""

    async def main() -> None:
        with pytest.raises(KeyError):
            await spawn_forever(fall(KeyError("k")))

    run(main())
    assert len(deaths(caplog)) == 1


def test_cancellation_ends_it_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """That is how what never ends by itself is ended; before its first step, too."""
    seconds: list[float] = []

    async def main() -> None:
        for waited in (0.0, 10.5):
            task = spawn_forever(forever())
            if waited:
                await asyncio.sleep(waited)
            assert not task.done()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert task not in tasks._running
            seconds.append(asyncio.get_running_loop().time())

    run(main())
    assert seconds == [1000.0, 1010.5]
    assert deaths(caplog) == []


def test_a_bug_in_its_clearing_up(caplog: pytest.LogCaptureFixture) -> None:
    """A task that fails while it is being cancelled is logged, too."""

    async def clumsy() -> None:
        try:
            await forever()
        finally:
            raise ZeroDivisionError

    async def main() -> None:
        task = spawn_forever(clumsy())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    run(main())
    assert [record.levelno for record in deaths(caplog)] == [logging.ERROR]


@pytest.mark.parametrize("start", [spawn, spawn_forever])
def test_a_task_that_nobody_holds(start: Any) -> None:
    """It waits for something that only it knows, and is still there when all garbage has gone."""
    seen: list[int] = []

    async def waits() -> None:
        await asyncio.Event().wait()  # only the task leads there, and nothing else to the task

    async def main() -> None:
        before = set(tasks._running)
        start(waits())
        for _ in range(3):
            await asyncio.sleep(1)
            gc.collect()
        [task] = set(tasks._running) - before
        seen.append(not task.done())
        task.cancel()
        await asyncio.wait([task])
        assert set(tasks._running) == before

    run(main())
    assert seen == [True]


def test_what_comes_of_it() -> None:
    """A task of the running loop, with a result like any other."""

    async def answer() -> int:
        return 42

    async def main() -> int:
        return await spawn(answer())

    assert run(main()) == 42


def test_a_loop_that_does_not_run_yet() -> None:
    """It can be named; the task begins with it."""

    async def answer() -> int:
        return 42

    with asyncio.Runner() as runner:
        task = spawn(answer(), runner.get_loop())
        assert task in tasks._running

        async def main() -> int:
            return await task

        assert runner.run(main()) == 42
    assert task not in tasks._running
