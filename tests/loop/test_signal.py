"""Waiting without a future: by a task, by an exchange, and giving up."""

import asyncio

import pytest

from propylon.edge.turn import Turn
from propylon.errors import ClientGone, GatewayError
from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn
from tests.upstream.peer import run


async def wait_for(signal: Signal[int]) -> int:
    """Await it."""
    return await signal


def test_a_task_gets_the_value() -> None:
    """Set before or while it waits; the second value is nothing."""

    async def main() -> None:
        early: Signal[int] = Signal()
        early.set(1)
        early.set(2)
        early.fail(ValueError())
        assert await wait_for(early) == 1
        late: Signal[int] = Signal()
        task = spawn(wait_for(late))
        await asyncio.sleep(0)
        late.set(3)
        assert not task.done()
        assert await task == 3
        assert late.done

    run(main())


def test_a_task_gets_the_error() -> None:
    """As it was given."""

    async def main() -> None:
        signal: Signal[int] = Signal()
        task = spawn(wait_for(signal))
        await asyncio.sleep(0)
        signal.fail(KeyError("x"))
        with pytest.raises(KeyError):
            await task

    run(main())


def test_a_task_that_is_cancelled_gives_up() -> None:
    """The producer of the signal is told, once."""

    async def main() -> None:
        told: list[int] = []
        signal: Signal[int] = Signal(lambda _: told.append(1))
        task = spawn(wait_for(signal))
        await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (told, signal.done, signal.cancel()) == ([1], True, False)
        signal.set(1)

    run(main())


def test_a_task_that_times_out_gives_up() -> None:
    """`asyncio.timeout` works on a signal as on a future."""

    async def main() -> None:
        told: list[int] = []
        signal: Signal[int] = Signal(lambda _: told.append(1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await signal
        assert told == [1]

    run(main())


def test_many_tasks_wait_for_their_own() -> None:
    """In `gather`, too."""

    async def main() -> None:
        signals: list[Signal[int]] = [Signal() for _ in range(50)]
        gathered = asyncio.gather(*map(wait_for, signals))
        await asyncio.sleep(0)
        for number, signal in reversed(list(enumerate(signals))):
            signal.set(number)
        assert await gathered == list(range(50))

    run(main())


class Exchange(Turn):
    """An exchange that notes how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.end = ""

    def ended(self) -> None:
        """Note it."""
        self.end = "ended"

    def crashed(self) -> None:
        """Note it."""
        self.end = "crashed"


def test_an_exchange_goes_on_within_set() -> None:
    """No loop is needed, no turn of it goes by."""
    got: list[int] = []
    signal: Signal[int] = Signal()

    async def exchange() -> None:
        got.append(await signal)

    turn = Exchange()
    turn.run(exchange())
    assert (got, turn.over) == ([], False)
    signal.set(7)
    assert (got, turn.over, turn.end) == ([7], True, "ended")


def test_an_exchange_that_gives_up() -> None:
    """The producer of the signal is told; setting it later resumes no waiter."""
    told: list[int] = []
    seen: list[GatewayError] = []
    signal: Signal[int] = Signal(lambda _: told.append(1))

    async def exchange() -> None:
        try:
            await signal
        except GatewayError as error:
            seen.append(error)

    turn = Exchange()
    turn.run(exchange())
    gone = ClientGone("gone")
    turn.throw(gone)
    signal.set(1)
    assert (told, seen, turn.end) == ([1], [gone], "ended")
