"""Requests that take long are sent a second time: who wins, who is cancelled, and what is counted, in virtual time."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import ClientGone, UpstreamBusy
from propylon.proxy.forward import Forward
from propylon.services.breaker import Breaker, Outcome
from propylon.services.circuit import Circuit
from propylon.services.fleet import Ejection
from propylon.services.hedge import Hedge
from propylon.services.retry import Budget, Retry
from propylon.services.service import Service
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.wire.message import NO_BODY, Response
from tests.proxy.attempts import RESET, Recorder, Told, Up, counts, handle, of
from tests.proxy.doubles import Client, Upload, request, route, streamed, whole
from tests.support.examples import examples
from tests.support.virtual import run

AFTER = 0.2
OK, BUSY = whole(200), whole(503)
ONCE = Retry(attempts=1)


class Raced(Up):
    """An upstream that notes who was cancelled, and sends a 1xx answer before each final one."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*script)
        self.cancelled = 0
        self.sinks: list[Sink] = []

    async def send(self, outgoing: Outgoing, sink: Sink) -> Answer:
        """Do what comes next."""
        self.sinks.append(sink)
        try:
            return await super().send(outgoing, sink)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def hedged(*ups: Up, budget: float = 1.0, **options: Any) -> Service:
    """A service that hedges over these upstreams."""
    options.setdefault("retry", ONCE)
    return of(*ups, hedge=Hedge(AFTER, Budget(budget)), **options)


def told(service: Service, method: str = "GET", body: Upload | None = None, **more: Any) -> Told:
    """How one request ends."""
    return run(handle(route(of=service), method, body, **more))


def test_an_answer_in_time_is_not_hedged() -> None:
    """The second instance is not asked."""
    one, two = Raced((0.1, OK)), Raced()
    got = told(hedged(one, two))
    assert (got.status, got.seconds, counts(one, two)) == (200, 0.1, [1, 0])
    assert (got.exchange.flags, got.exchange.attempts) == ((), 1)


@pytest.mark.parametrize(
    ("first", "second", "status", "seconds", "winner"),
    [
        ((9.0, OK), (0.1, OK), 200, 0.3, "two:80"),
        ((0.25, OK), (0.1, OK), 200, 0.25, "one:80"),
        ((1.0, OK), (0.1, RESET), 200, 1.0, "one:80"),
        ((1.0, OK), (0.1, BUSY), 200, 1.0, "one:80"),
        ((0.3, RESET), (0.5, OK), 200, 0.7, "two:80"),
        ((0.3, BUSY), (0.5, OK), 200, 0.7, "two:80"),
        ((0.3, BUSY), (0.5, RESET), 503, 0.7, "one:80"),
        ((0.3, RESET), (0.5, RESET), 502, 0.7, "two:80"),
        ((1.0, OK), (0.0, UpstreamBusy("full")), 200, 1.0, "one:80"),
    ],
)
def test_the_first_good_answer_wins(
    first: Any, second: Any, status: int, seconds: float, winner: str
) -> None:
    """A failure does not win while the other request may do better; whoever is not needed any more is cancelled."""
    one, two = Raced(first), Raced(second)
    breaker = Recorder()
    got = told(hedged(one, two, breaker=breaker))
    assert (got.status, got.seconds, counts(one, two)) == (status, seconds, [1, 1])
    assert got.exchange.instance is not None
    assert got.exchange.instance.id == winner
    assert "hedged" in got.exchange.flags
    assert got.exchange.attempts == 2
    late = [up.cancelled for up in (one, two)]
    ended = [first[0] <= seconds, round(AFTER + second[0], 9) <= seconds]
    assert late == [int(not over) for over in ended]
    assert breaker.outcomes == [Outcome.SUCCESS if status == 200 else Outcome.FAILURE]


@pytest.mark.parametrize(("first", "second", "failures"), [
    ((9.0, OK), (0.1, OK), [0, 0]),
    ((1.0, OK), (0.1, RESET), [0, 1]),
    ((0.3, RESET), (0.5, OK), [1, 0]),
    ((0.3, BUSY), (0.5, RESET), [1, 1]),
    ((1.0, OK), (0.0, UpstreamBusy("full")), [0, 0]),
])  # fmt: skip
def test_only_what_failed_counts_for_ejection(first: Any, second: Any, failures: list[int]) -> None:
    """An instance whose request was cancelled has neither failed nor done well."""
    service = hedged(Raced(first), Raced(second), ejection=Ejection(failures=5))
    told(service)
    assert [one.state.failures for one in service.instances] == failures


def test_retries_add_to_it_and_do_not_double_it() -> None:
    """The second request is an attempt: of three one is left, and it is not hedged."""
    one, two, three = Raced((0.3, RESET)), Raced((0.3, RESET)), Raced((9.0, OK))
    got = told(hedged(one, two, three, retry=Retry(backoff=0.0)))
    assert (got.status, counts(one, two, three)) == (200, [1, 1, 1])
    assert got.seconds == AFTER + 0.3 + 9.0
    assert got.exchange.retried == ("reset",)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_not_hedged(method: str) -> None:
    """Both instances would act."""
    one, two = Raced((1.0, OK)), Raced()
    assert told(hedged(one, two), method).seconds == 1.0
    assert counts(one, two) == [1, 0]


def half_open() -> Breaker:
    """A breaker whose next request is a probe."""
    times = iter([0.0])
    breaker = Breaker(
        "orders",
        Circuit(),
        clock=lambda: next(times, 1000.0),
        wall=lambda: 0.0,
        listener=lambda *_: None,
    )
    breaker.open_as(0.0, "elsewhere")
    return breaker


def test_what_else_is_not_hedged() -> None:
    """A body, a probe of the breaker, a single instance, and what the budget has no room for."""
    for service, body in (
        (hedged(Raced((1.0, OK)), Raced()), Upload(b"abc")),
        (hedged(Raced((1.0, OK)), Raced(), breaker=half_open()), None),
        (hedged(Raced((1.0, OK))), None),
    ):
        assert told(service, "GET", body).seconds == 1.0

    async def many() -> list[float]:
        service = hedged(Raced((1.0, OK)), Raced((0.1, OK)), budget=0.0)
        ended = await asyncio.gather(*(handle(route(of=service)) for _ in range(15)))
        return sorted(one.seconds for one in ended)

    assert run(many()) == [0.3] * 10 + [1.0] * 5  # ten are free, as of retries


def test_a_client_that_leaves_cancels_both() -> None:
    """Nothing goes on for nobody."""
    one, two = Raced((9.0, OK)), Raced((9.0, OK))

    async def leave() -> None:
        task = asyncio.ensure_future(handle(route(of=hedged(one, two))))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    run(leave())
    assert [one.cancelled, two.cancelled] == [1, 1]


def test_an_answer_that_comes_too_late_is_aborted() -> None:
    """In the very moment in which the other one wins."""
    late = streamed(b"never read")
    one, two = Raced((0.5, OK)), Raced((0.3, late))
    got = told(hedged(one, two))
    assert (got.status, got.seconds) == (200, 0.5)
    assert late.aborted == 1 or two.cancelled == 1


def test_no_interim_answer_behind_the_final_one() -> None:
    """The 1xx answers of both pass while the race goes on, and those of nobody after it."""
    one, two = Raced((9.0, OK)), Raced((0.1, OK))
    client = Client()
    hint = Response(103, b" 103 Early Hints", b"", NO_BODY, keep_alive=True)

    async def hints() -> None:
        task = asyncio.ensure_future(handle(route(of=hedged(one, two)), client=client))
        await asyncio.sleep(0.25)
        for up in (one, two):
            up.sinks[0].interim(hint)
        await task
        for up in (one, two):
            up.sinks[0].interim(hint)

    run(hints())
    assert client.said == ["interim", "interim", "respond"]


def test_races_are_counted() -> None:
    """By their service, and by whether the second request was worth it."""
    counted: list[tuple[str, str]] = []
    forward = Forward(
        lambda: asyncio.get_running_loop().time(),
        lambda: asyncio.get_running_loop().time(),
        lambda: 0.0,
        lambda *what: counted.append(what),
    )

    async def ask(*ups: Up) -> None:
        service = hedged(*ups)
        found = route(of=service, forward=forward)
        exchange = (await handle(found)).exchange
        exchange.route = None
        await forward(exchange, exchange.request or request(), found)

    run(ask(Raced((9.0, OK)), Raced((0.1, OK))))
    run(ask(Raced((0.25, OK)), Raced((9.0, OK))))
    run(ask(Raced((0.1, OK)), Raced((9.0, OK))))
    assert counted == [("orders", "won"), ("orders", "lost")]


kinds = st.sampled_from([OK, BUSY, RESET])


@examples(200)
@given(
    st.sampled_from([0.05, 0.31, 0.7, 3.0]), kinds, st.sampled_from([0.04, 0.3, 1.0, 4.0]), kinds
)
def test_any_race(first: float, one: Any, second: float, two: Any) -> None:
    """A client gets the earliest good answer, or else the better of the two failures when both are there."""
    ups = Raced((first, one)), Raced((second, two))
    got = told(hedged(*ups))
    runs = [(first, one)] + ([(AFTER + second, two)] if first > AFTER else [])
    good = [when for when, what in runs if what is OK]
    assert counts(*ups) == [1, len(runs) - 1]
    assert got.seconds == round(min(good) if good else max(when for when, _ in runs), 9)
    assert got.status == (200 if good else 503 if any(what is BUSY for _, what in runs) else 502)
    assert not isinstance(got.exchange.error, ClientGone)
