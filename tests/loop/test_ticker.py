"""Deadlines without timers, and writing at the end of a turn."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from propylon.loop.outbox import Outbox
from propylon.loop.tasks import _running, spawn
from propylon.loop.ticker import NEVER, Ticker
from tests.upstream.peer import run


class Hand:
    """A loop whose time is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.soon: list[Callable[[], None]] = []

    def time(self) -> float:
        """Now."""
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        """Note it."""
        self.due.append((self.now + delay, callback))
        return object()

    def call_soon(self, callback: Callable[[], None]) -> object:
        """Note it."""
        self.soon.append(callback)
        return object()

    def move(self, seconds: float) -> None:
        """Let time go by."""
        end = self.now + seconds
        while self.due and min(self.due)[0] <= end:
            self.due.sort(key=lambda one: one[0])
            self.now, callback = self.due.pop(0)
            callback()
        self.now = end


class Thing:
    """Something with a deadline."""

    def __init__(self, deadline: float, then: Callable[[], None] | None = None) -> None:
        self.deadline = deadline
        self.expired: list[float] = []
        self.then = then

    def expire(self) -> None:
        """Note it."""
        self.expired.append(self.deadline)
        if self.then is not None:
            self.then()


def ticking() -> tuple[Any, Ticker]:
    """A ticker that ticks every tenth of a second."""
    hand: Any = Hand()
    return hand, Ticker(hand, 0.1)


def test_a_deadline_passes_once() -> None:
    """Within a tick of it, with the deadline taken away."""
    hand, ticker = ticking()
    soon, late, never = Thing(100.25), Thing(101.0), Thing(NEVER)
    for thing in (soon, late, never):
        ticker.watch(thing)
    hand.move(0.2)
    assert soon.expired == []
    hand.move(0.2)
    assert soon.expired == [NEVER]
    hand.move(10)
    assert (soon.expired, late.expired, never.expired) == ([NEVER], [NEVER], [])


def test_a_deadline_can_be_set_again() -> None:
    """Setting it is storing a float."""
    hand, ticker = ticking()
    thing = Thing(100.15)
    ticker.watch(thing)
    hand.move(0.1)
    thing.deadline = 101.0
    hand.move(0.5)
    assert thing.expired == []
    hand.move(1.0)
    assert len(thing.expired) == 1
    thing.deadline = 105.0
    hand.move(10.0)
    assert len(thing.expired) == 2


def test_nothing_ticks_while_nothing_is_watched() -> None:
    """And ticking starts again with the next thing."""
    hand, ticker = ticking()
    thing = Thing(NEVER)
    ticker.watch(thing)
    assert len(hand.due) == 1
    ticker.forget(thing)
    ticker.forget(thing)
    hand.move(1.0)
    assert hand.due == []
    ticker.watch(thing)
    assert len(hand.due) == 1
    assert ticker.now == hand.now


def test_what_expires_may_forget_and_watch() -> None:
    """The set may change under the tick."""
    hand, ticker = ticking()
    other = Thing(100.05)
    first = Thing(100.05, lambda: ticker.forget(first))
    second = Thing(100.05, lambda: ticker.watch(other))
    ticker.watch(first)
    ticker.watch(second)
    hand.move(0.35)
    assert (len(first.expired), len(second.expired), len(other.expired)) == (1, 1, 1)


def test_what_was_forgotten_in_the_same_tick_does_not_expire() -> None:
    """One thing's end may be another's: it has been dealt with."""
    hand, ticker = ticking()
    things: list[Thing] = []

    def forget_all() -> None:
        for thing in things:
            ticker.forget(thing)

    things += [Thing(100.05, forget_all), Thing(100.05, forget_all)]
    for thing in things:
        ticker.watch(thing)
    hand.move(0.5)
    assert sum(len(thing.expired) for thing in things) == 1


class Transport:
    """A transport that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.closing = False

    def is_closing(self) -> bool:
        """Whether it closes."""
        return self.closing

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.got.append(data)


def test_the_outbox_writes_at_the_end_of_the_turn() -> None:
    """Once, in order, to each its own; what closes meanwhile gets nothing."""
    hand: Any = Hand()
    outbox = Outbox(hand)
    one: Any = Transport()
    two: Any = Transport()
    three: Any = Transport()
    outbox.write(one, b"a")
    outbox.write(two, b"b")
    outbox.write(one, b"c")
    outbox.write(three, b"d")
    three.closing = True
    assert (one.got, len(hand.soon)) == ([], 1)
    hand.soon.pop()()
    assert (one.got, two.got, three.got) == ([b"a", b"c"], [b"b"], [])
    outbox.write(one, b"e")
    assert len(hand.soon) == 1
    outbox.flush()
    hand.soon.pop()()
    assert one.got == [b"a", b"c", b"e"]


def test_a_task_is_held_until_it_ends() -> None:
    """The loop alone would let it go."""

    async def main() -> None:
        task = spawn(asyncio.sleep(0, 7))
        assert task in _running
        assert await task == 7
        await asyncio.sleep(0)
        assert task not in _running

    run(main())
    with pytest.raises(RuntimeError):
        coroutine = asyncio.sleep(0)
        try:
            spawn(coroutine)
        finally:
            coroutine.close()
