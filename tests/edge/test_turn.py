"""An exchange's coroutine, stepped without a task."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from propylon.edge.turn import Turn
from propylon.errors import ClientGone, GatewayError, PayloadTooLarge
from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn
from tests.upstream.peer import run

GONE = ClientGone("gone")


class Noted(Turn):
    """A turn that notes how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.end: list[str] = []

    def ended(self) -> None:
        """Note it."""
        self.end.append("ended")

    def crashed(self) -> None:
        """Note it."""
        self.end.append("crashed")


def test_a_turn_without_waiting() -> None:
    """It is over when `run` returns."""

    async def exchange() -> None:
        return

    turn = Noted()
    assert (turn.begun, turn.over) == (False, False)
    turn.throw(GONE)  # before it has begun: nothing to raise it in
    turn.run(exchange())
    assert (turn.begun, turn.over, turn.end) == (True, True, ["ended"])
    turn.throw(GONE)
    assert turn.end == ["ended"]


def test_a_turn_awaits_what_asyncio_has() -> None:
    """Futures, tasks, events, and signals, one after the other."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        event, signal = asyncio.Event(), Signal[int]()
        got: list[Any] = []

        async def exchange() -> None:
            got.append(await future)
            got.append(await spawn(asyncio.sleep(0.001, "slept")))
            await event.wait()
            got.append(await signal)
            with pytest.raises(ZeroDivisionError):
                await failing
            got.append("over")

        failing: asyncio.Future[None] = loop.create_future()
        turn = Noted()
        turn.run(exchange())
        future.set_result(1)
        await asyncio.sleep(0.02)
        event.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        signal.set(2)
        assert got == [1, "slept", 2]
        failing.set_exception(ZeroDivisionError())
        await asyncio.sleep(0)
        assert (got[3:], turn.end) == (["over"], ["ended"])

    run(main())


def test_a_turn_may_give_way() -> None:
    """`asyncio.sleep(0)` is how a stage lets others go first."""

    async def main() -> None:
        got: list[int] = []

        async def exchange() -> None:
            await asyncio.sleep(0)
            got.append(1)

        turn = Noted()
        turn.run(exchange())
        for _ in range(3):
            await asyncio.sleep(0)
        assert (got, turn.end) == ([1], ["ended"])

    run(main())


async def signal_of(signal: Signal[int]) -> None:
    """Wait for a signal."""
    await signal


def test_throw_while_waiting_for_a_signal() -> None:
    """The error is raised where the exchange stands; the signal is abandoned."""
    told: list[int] = []
    signal: Signal[int] = Signal(lambda _: told.append(1))
    seen: list[GatewayError] = []

    async def exchange() -> None:
        try:
            await signal
        except GatewayError as error:
            seen.append(error)

    turn = Noted()
    turn.run(exchange())
    turn.throw(GONE)
    turn.throw(GONE)
    assert (seen, told, turn.end) == ([GONE], [1], ["ended"])


def test_throw_while_waiting_for_a_future() -> None:
    """It is cancelled, and does not wake the exchange afterwards."""

    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        seen: list[GatewayError] = []
        second: Signal[int] = Signal()

        async def exchange() -> None:
            try:
                await future
            except GatewayError as error:
                seen.append(error)
            await second

        turn = Noted()
        turn.run(exchange())
        turn.throw(GONE)
        assert (seen, future.cancelled(), turn.over) == ([GONE], True, False)
        await asyncio.sleep(0.01)
        assert not turn.over
        second.set(1)
        assert turn.end == ["ended"]

    run(main())


def test_throw_while_running() -> None:
    """It waits for the exchange to stand still; what that waits for then is abandoned."""
    told: list[int] = []
    signal: Signal[int] = Signal(lambda _: told.append(1))
    seen: list[GatewayError] = []
    turn = Noted()

    async def exchange() -> None:
        turn.throw(GONE)
        try:
            await signal
        except GatewayError as error:
            seen.append(error)

    turn.run(exchange())
    assert (seen, turn.end) == ([GONE], ["ended"])
    assert told == [1]


def test_throw_while_running_before_a_future() -> None:
    """A future that will not be waited for is cancelled, too."""

    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turn = Noted()

        async def exchange() -> None:
            turn.throw(GONE)
            try:
                await future
            except GatewayError:
                return

        turn.run(exchange())
        assert turn.end == ["ended"]
        assert future.cancelled()

    run(main())


def test_throw_while_running_at_the_end() -> None:
    """An exchange that waits for nothing more is over; the error comes too late."""
    turn = Noted()

    async def exchange() -> None:
        turn.throw(PayloadTooLarge("late"))

    turn.run(exchange())
    assert turn.end == ["ended"]


def test_a_bug_that_nobody_answered(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and the connection is cleaned up."""

    async def exchange() -> None:
        raise ZeroDivisionError

    turn = Noted()
    with caplog.at_level(logging.ERROR):
        turn.run(exchange())
    assert (turn.over, turn.end) == (True, ["crashed"])
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("thing", ["future", "task"])
def test_what_is_awaited_is_cancelled_by_somebody_else(
    thing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The exchange comes to an end: a client must not wait for ever."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        awaited: asyncio.Future[Any] = (
            loop.create_future() if thing == "future" else spawn(asyncio.sleep(60))
        )

        async def exchange() -> None:
            await awaited

        complaints: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        turn = Noted()
        turn.run(exchange())
        awaited.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert turn.over
        assert len(turn.end) == 1
        assert complaints == []

    run(main())


def test_many_steps_are_no_deep_recursion() -> None:
    """A long exchange takes its steps one after the other."""
    signals = [Signal[int]() for _ in range(5000)]

    async def exchange() -> None:
        for signal in signals:
            await signal

    turn = Noted()
    turn.run(exchange())
    for signal in signals:
        signal.set(1)
    assert turn.end == ["ended"]


def test_what_is_there_already_is_not_waited_for() -> None:
    """Signals and futures that are done."""

    async def main() -> None:
        steps: list[Callable[[], Awaitable[Any]]] = []
        signal: Signal[int] = Signal()
        signal.set(1)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(1)
        steps += [lambda: signal, lambda: future]

        async def exchange() -> None:
            for step in steps:
                assert await step() == 1

        turn = Noted()
        turn.run(exchange())
        assert turn.end == ["ended"]

    run(main())


def test_a_subclass_says_what_comes_next() -> None:
    """The base class has no opinion."""
    with pytest.raises(NotImplementedError):
        Turn().ended()
    with pytest.raises(NotImplementedError):
        Turn().crashed()
