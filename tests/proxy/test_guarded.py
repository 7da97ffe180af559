"""A service with a limit of what waits for an answer: what is refused, and what gives its place back, in virtual time."""

import asyncio
from typing import Any

import pytest

from propylon.errors import Overloaded
from propylon.services.concurrency import Bounds, Concurrency
from propylon.services.hedge import Hedge
from propylon.services.outcome import Outcome, judge
from propylon.services.retry import Budget, Retry
from propylon.services.service import Service
from tests.proxy.attempts import RESET, SILENT, Endless, Told, Up, counts, handle, of
from tests.proxy.doubles import Upload, route, whole
from tests.support.virtual import run

OK, BUSY = whole(200), whole(503)


class Noting(Concurrency):
    """A limit that writes down what it is told."""

    __slots__ = ("samples",)

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds)
        self.samples: list[tuple[float, bool]] = []

    def leave(self, began: float, now: float, *, sampled: bool) -> None:
        """Note it."""
        self.samples.append((round(now - began, 6), sampled))
        super().leave(began, now, sampled=sampled)


def limited(*ups: Up, most: int = 1, **options: Any) -> Service:
    """A service that may have so many requests."""
    options.setdefault("retry", Retry(attempts=1))
    return of(*ups, concurrency=Noting(Bounds(most, most)), **options)


def noted(service: Service) -> list[tuple[float, bool]]:
    """What its limit was told, when nothing is under way."""
    assert isinstance(service.concurrency, Noting)
    assert service.concurrency.in_flight == 0
    return service.concurrency.samples


def test_what_is_beyond_is_refused() -> None:
    """At once, without the service, and it says nothing to the breaker; a place is free as soon as the head is there."""
    up = Up((1.0, Endless()), (1.0, OK))
    service = limited(up)
    to = route(of=service)

    async def three() -> list[Told]:
        first = asyncio.ensure_future(handle(to))
        await asyncio.sleep(0.5)
        second = await handle(to)
        await asyncio.sleep(0.6)
        third = await handle(to)
        first.cancel()
        return [second, third]

    second, third = run(three())
    assert (second.status, second.seconds) == (503, 0.0)
    assert isinstance(second.exchange.error, Overloaded)
    assert third.status == 200
    assert counts(up) == [2]
    assert second.exchange.error is not None
    assert judge(second.exchange.error, 0) is Outcome.NEUTRAL
    assert noted(service) == [(1.0, True), (1.0, True)]


@pytest.mark.parametrize(
    ("step", "status", "sample"),
    [
        ((0.2, OK), 200, (0.2, True)),
        ((0.2, whole(404)), 404, (0.2, True)),
        ((0.2, BUSY), 503, (0.2, False)),
        ((0.2, RESET), 502, (0.2, False)),
        ((0.2, SILENT), 504, (0.2, True)),
    ],
)
def test_what_tells_of_the_load(step: Any, status: int, sample: tuple[float, bool]) -> None:
    """Answers and timeouts; an error that comes fast does not."""
    service = limited(Up(step))
    assert run(handle(route(of=service))).status == status
    assert noted(service) == [sample]


def test_what_was_sent_twice_tells_nothing() -> None:
    """Neither a retry, nor a hedged request; both give their place back."""
    retried = limited(Up((0.1, RESET), (0.1, OK)), retry=Retry(backoff=0.0))
    assert run(handle(route(of=retried))).status == 200
    assert noted(retried) == [(0.2, False)]
    hedged = limited(Up((9.0, OK)), Up((0.1, OK)), hedge=Hedge(0.2, Budget(1.0)))
    assert run(handle(route(of=hedged))).status == 200
    assert noted(hedged) == [(0.3, False)]


def test_what_the_client_delays_tells_nothing() -> None:
    """While its body is on its way, the time is the client's."""
    body = Upload(b"abc")
    body.complete = False
    service = limited(Up((0.2, OK)))
    assert run(handle(route(of=service), "PUT", body)).status == 200
    assert noted(service) == [(0.2, False)]


def test_a_client_that_leaves_gives_its_place_back() -> None:
    """Else a service would be full of nobody."""
    service = limited(Up((9.0, OK)))

    async def leave() -> None:
        task = asyncio.ensure_future(handle(route(of=service)))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(leave())
    assert noted(service) == [(1.0, False)]
