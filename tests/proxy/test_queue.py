"""Requests wait until an instance has room: in virtual time."""

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from propylon.proxy.queue import Queue
from propylon.proxy.route import Route
from propylon.proxy.sticky import Cookie, StickyInstance
from propylon.services.breaker import Breaker, Circuit
from propylon.services.retry import Retry
from propylon.services.room import Room
from tests.proxy.attempts import AT_ONCE, DOWN, Told, Up, counts, handle, of
from tests.proxy.doubles import route, whole
from tests.support.virtual import run

ONCE = Retry(attempts=1)
SLOW = (1.0, whole())


class Place:
    """A service with room for so many at each instance, and the requests to it."""

    def __init__(
        self, *ups: Up, most: int = 1, size: int = 10, timeout: float = 60.0, **options: Any
    ) -> None:
        self.ups = ups
        self.service = of(*ups, **{"retry": ONCE, **options})
        self.room = Room(most, size, timeout)
        self.queue = Queue(self.service, self.room)
        self.route = route(of=self.service, select=self.queue, queue=self.queue.enter)

    async def ask(self, after: float = 0.0, to: Route | None = None, **options: Any) -> Told:
        """One request, later."""
        await asyncio.sleep(after)
        return await handle(to or self.route, **options)

    def asked(self, *after: float) -> list[Told]:
        """So many requests, at these times."""
        return gathered([self.ask(one) for one in after])

    @property
    def in_flight(self) -> list[int]:
        """How many places are taken at each instance."""
        return [one.state.in_flight for one in self.service.instances]


def gathered(asking: list[Coroutine[Any, Any, Told]]) -> list[Told]:
    """How all of them end."""

    async def all_of() -> list[Told]:
        return await asyncio.gather(*asking)

    return run(all_of())


def ended(told: list[Told]) -> list[tuple[int, float]]:
    """The status of each, and how long it took."""
    return [(one.status, round(one.seconds, 2)) for one in told]


def outcomes(told: list[Told]) -> list[str]:
    """How their waits have ended; empty where there was none."""
    return [one.exchange.queued[0] if one.exchange.queued else "" for one in told]


def test_within_the_bound_nobody_waits() -> None:
    """And each place is given back."""
    at = Place(Up(SLOW), Up(SLOW), most=2)
    told = at.asked(0, 0, 0, 0)
    assert ended(told) == [(200, 1.0)] * 4
    assert outcomes(told) == [""] * 4
    assert at.in_flight == [0, 0]
    assert counts(*at.ups) == [2, 2]


def test_first_come_first_served() -> None:
    """One after the other, in the order in which they came."""
    at = Place(Up(SLOW))
    told = at.asked(0, 0.1, 0.2, 0.3)
    assert ended(told) == [(200, 1.0), (200, 1.9), (200, 2.8), (200, 3.7)]
    assert outcomes(told) == ["", "served", "served", "served"]
    assert told[2].exchange.flags == ("queued",)
    assert told[2].exchange.queued == ("served", pytest.approx(1.8))
    assert (at.in_flight, at.room.waiting) == ([0], 0)


def test_whoever_has_room_first_takes_the_oldest() -> None:
    """Nobody waits behind a slow instance while the other one has nothing to do."""
    at = Place(Up((9.0, whole())), Up(SLOW))
    told = at.asked(0, 0.1, 0.2, 0.3, 0.4)
    assert [round(one.seconds, 1) for one in told] == [9.0, 1.0, 1.9, 2.8, 3.7]
    assert counts(*at.ups) == [1, 4]


def test_a_request_that_comes_late_does_not_overtake() -> None:
    """It comes in the very moment in which there is room, and one waits."""
    at = Place(Up(SLOW))
    told = at.asked(0, 0.5, 1.0)
    assert ended(told) == [(200, 1.0), (200, 1.5), (200, 2.0)]


def test_a_full_queue() -> None:
    """503 at once, and no instance was asked."""
    at = Place(Up(SLOW), size=2)
    told = at.asked(0, 0.1, 0.2, 0.3)
    assert ended(told)[3] == (503, 0.0)
    assert outcomes(told) == ["", "served", "served", "full"]
    error = told[3].exchange.error
    assert error is not None
    assert (error.code, error.details) == ("SERVICE_UNAVAILABLE", {"service": "orders"})
    assert told[3].exchange.attempts == 0


def test_no_queue() -> None:
    """All beyond the bound is refused."""
    assert outcomes(Place(Up(SLOW), size=0).asked(0, 0.1)) == ["", "full"]


def test_a_wait_that_is_too_long() -> None:
    """503 when the time is over; and those behind have not waited in vain."""
    at = Place(Up((5.0, whole()), SLOW), timeout=2.0)
    told = at.asked(0, 0.5, 3.5)
    assert [one.status for one in told] == [200, 503, 200]
    assert told[1].seconds == pytest.approx(2.0, abs=0.03)
    assert outcomes(told) == ["", "late", "served"]


def test_total_covers_the_wait() -> None:
    """The whole time of the request, and not more, whatever the queue allows."""
    at = Place(Up((100.0, whole())))
    hurried = replace(at.route, timeouts=replace(at.route.timeouts, total=3.0))
    told = gathered([at.ask(), at.ask(0.5, hurried)])
    assert outcomes(told) == ["", "late"]
    assert told[1].seconds == pytest.approx(3.0, abs=0.03)


def test_a_client_that_leaves() -> None:
    """Is out of the line at once, and the next one gets its turn."""
    at = Place(Up(SLOW))

    async def scenario() -> tuple[Told, int]:
        tasks = [asyncio.create_task(at.ask(after)) for after in (0, 0.1, 0.2)]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        await asyncio.sleep(0.1)
        waiting = at.room.waiting
        await asyncio.wait(tasks)
        return tasks[2].result(), waiting

    last, waiting = run(scenario())
    assert (last.status, round(last.seconds, 2), waiting) == (200, 1.8, 1)
    assert at.in_flight == [0]


def test_a_client_that_leaves_when_it_is_its_turn() -> None:
    """In the very turn in which it is woken: the place goes to the next one."""
    at = Place(Up(SLOW))

    async def scenario() -> Told:
        tasks = [asyncio.create_task(at.ask(after)) for after in (0, 0.1, 0.2)]
        await asyncio.sleep(0.5)
        at.service.instances[0].state.in_flight -= 1  # as if the first had ended
        at.room.wake()
        tasks[1].cancel()
        await asyncio.wait(tasks)
        return tasks[2].result()

    assert run(scenario()).status == 200


def test_a_retry_moves_to_another_place() -> None:
    """And takes one place at a time; where nobody else has room, it stays where it was."""
    at = Place(Up(DOWN, SLOW), Up(SLOW), retry=AT_ONCE)
    (told,) = at.asked(0)
    assert (told.status, told.exchange.attempts, at.in_flight) == (200, 2, [0, 0])
    assert counts(*at.ups) == [1, 1]
    at = Place(
        Up((0.5, DOWN), SLOW), Up((9.0, whole())), retry=AT_ONCE, choose=lambda some: some[-1]
    )
    told_all = at.asked(0, 0.1)
    assert [one.status for one in told_all] == [200, 200]
    assert counts(*at.ups) == [2, 1]
    assert at.in_flight == [0, 0]


def test_never_more_than_the_bound() -> None:
    """Whatever comes, with retries; and all places are free in the end."""
    seen: list[int] = []

    class Watched(Up):
        async def send(self, outgoing: Any, sink: Any) -> Any:
            seen.extend(at.in_flight)
            return await super().send(outgoing, sink)

    steps = [(0.3, DOWN), (0.7, whole(503)), (0.2, whole())]
    at = Place(Watched(*steps), Watched(*steps[::-1]), most=2, size=100, retry=AT_ONCE)
    told = at.asked(*[index * 0.05 for index in range(40)])
    assert {one.status for one in told} <= {200, 502, 503}
    assert len(told) == 40
    assert max(seen) == 2
    assert (at.in_flight, at.room.waiting) == ([0, 0], 0)


def test_an_instance_that_comes() -> None:
    """Takes the first that waits."""
    at = Place(Up((9.0, whole())))
    fleet = at.service.fleet
    other = of(Up(), Up(SLOW)).instances[1]
    fleet._listener = lambda *_: at.room.wake()

    async def come() -> None:
        await asyncio.sleep(2.0)
        fleet.add(other)

    async def scenario() -> list[Told]:
        first, second, _ = await asyncio.gather(at.ask(), at.ask(0.5), come())
        return [first, second]

    assert ended(run(scenario())) == [(200, 9.0), (200, 2.5)]


def test_a_service_without_an_instance() -> None:
    """Says so at once."""
    assert ended(Place().asked(0)) == [(503, 0.0)]


def test_an_open_breaker() -> None:
    """Refuses at once: nobody waits for it."""
    breaker = Breaker(
        "orders", Circuit(), clock=lambda: 0.0, wall=lambda: 0.0, listener=lambda *_: None
    )
    at = Place(Up(SLOW), breaker=breaker)

    async def scenario() -> list[Told]:
        first = asyncio.create_task(at.ask())
        await asyncio.sleep(0.1)
        breaker.force_open("a test")
        return [await at.ask(), await first]

    told = run(scenario())
    assert ended(told) == [(503, 0.0), (200, 1.0)]
    assert outcomes(told) == ["", ""]


def test_a_caller_that_stays_waits_for_its_instance() -> None:
    """And holds up nobody who may go to another one."""
    at = Place(Up((5.0, whole())), Up(SLOW))
    cookie = Cookie("at", [b"k" * 32])
    sticky = StickyInstance(at.service, cookie, False)
    queue = Queue(at.service, at.room, sticky)
    keeps = replace(at.route, select=queue, queue=queue.enter)
    value = cookie._value(b"k" * 32, at.service.instances[0].id)

    told = gathered(
        [
            at.ask(),
            at.ask(0.1, keeps, lines=(b"Cookie: at=" + value,)),
            at.ask(0.2),
            at.ask(0.3),
        ]
    )
    assert [round(one.seconds, 1) for one in told] == [5.0, 9.9, 1.0, 1.9]
    assert counts(*at.ups) == [2, 2]
    assert outcomes(told) == ["", "served", "", "served"]


def test_a_reload_carries_the_line_over() -> None:
    """What is in flight counts, and who waits goes on, under the new bound."""
    at = Place(Up(SLOW))

    async def scenario() -> list[Told]:
        old = [asyncio.create_task(at.ask(after)) for after in (0, 0.1)]
        await asyncio.sleep(0.5)
        room = Room(1, 10, 60.0)
        room.share(at.room)
        queue = Queue(at.service, room)
        after = replace(at.route, select=queue, queue=queue.enter)
        assert room.waiting == 1
        new = await at.ask(0.0, after)
        return [*[await one for one in old], new]

    assert ended(run(scenario())) == [(200, 1.0), (200, 1.9), (200, 2.5)]
    assert at.in_flight == [0]


def test_a_full_queue_is_full_whatever_the_clock_says() -> None:
    """It goes on while the request is refused, as clocks do."""
    at = Place(Up(SLOW), size=0)

    async def scenario() -> Told:
        loop = asyncio.get_running_loop()
        first = asyncio.create_task(at.ask())
        await asyncio.sleep(0.1)
        usual, steps = loop.time, itertools.count()
        loop.time = lambda: usual() + next(steps) * 0.001  # type: ignore[method-assign]
        try:
            return await at.ask()
        finally:
            loop.time = usual  # type: ignore[method-assign]
            await first

    assert outcomes([run(scenario())]) == ["full"]
