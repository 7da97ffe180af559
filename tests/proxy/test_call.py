"""A call of an endpoint: its time, its outcome for the breaker, its back-pressure, its end."""

import asyncio
import math
from collections.abc import Awaitable, Coroutine
from typing import Any

import pytest

from propylon.errors import ClientGone, ServiceUnavailable, UpstreamReset, UpstreamTimeout
from propylon.loop.signal import Signal
from propylon.proxy.call import Asked as Said
from propylon.proxy.call import Call, Callee, Caller
from propylon.proxy.exchange import Exchange
from propylon.proxy.forward import Forward
from propylon.proxy.principal import Principal
from propylon.services.breaker import Breaker
from propylon.services.circuit import Circuit
from propylon.upstream.ports import Answer, Outgoing, Sink, Timeouts
from tests.proxy.doubles import (
    ENTROPY,
    Asked,
    Client,
    request,
    route,
    service,
    streamed,
    whole,
)

LONG = 60.0


class Noted(Asked):
    """An upstream that notes how long it may take."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*script)
        self.timeouts: list[Timeouts] = []

    def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
        """Note it."""
        self.timeouts.append(outgoing.timeouts)
        return super().send(outgoing, sink)


class Silent(Asked):
    """An upstream that never answers."""

    def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
        """Wait for nothing."""
        self.got.append((outgoing.line, outgoing.block, b""))
        return Signal()


class Desk:
    """What makes calls of one service, and the records of them."""

    def __init__(self, upstream: Any) -> None:
        self.upstream = upstream
        self.now = 0.0
        self.records: list[Exchange] = []
        self.breaker = Breaker(
            "orders",
            Circuit(failure_threshold=1, min_throughput=1),
            clock=self.clock,
            wall=self.clock,
            listener=lambda *_: None,
        )
        of = service(upstream, breaker=self.breaker)
        forward = Forward(self.clock, self.clock, self.clock)
        timeouts = Timeouts(total=LONG)
        self.callee = Callee(route(of=of, forward=forward, timeouts=timeouts), lambda _: {})
        self.caller = Caller(self.clock, lambda _: ENTROPY, (self.records.append,))
        self.client = Client()
        self.parent = Exchange(request(b"/page"), self.client, b"%080x" % ENTROPY, 0.0)
        self.parent.principal = Principal("ann")

    def clock(self) -> float:
        """The time."""
        return self.now

    def call(self, left: float = math.inf, **options: Any) -> Call:
        """Begin a call."""
        return self.caller.begin(self.parent, self.callee, Said("GET", b"/part", **options), left)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end."""
    asyncio.run(work)


async def whole_of(call: Call) -> bytes:
    """The body of an answer."""
    await call.answered()
    pieces = []
    while data := await call.read():
        pieces.append(data)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("left", "total"), [(math.inf, LONG), (100.0, LONG), (40.0, 36.0), (0.0, 0.0), (-5.0, 0.0)]
)
def test_a_call_ends_before_its_endpoint_must_answer(left: float, total: float) -> None:
    """Nine tenths of what is left are for the call; never more than the service's own time."""

    async def main() -> None:
        desk = Desk(Asked())
        assert await whole_of(desk.call(left)) == b"hello"
        assert desk.upstream.deadlines == [pytest.approx(total)]

    run(main())


def test_a_timeout_of_its_own() -> None:
    """It shortens each part of the time, and makes none longer."""

    async def main() -> None:
        desk = Desk(Noted())
        for timeout in (2.0, 1000.0):
            await whole_of(desk.call(timeout=timeout))
        short, own = desk.upstream.timeouts
        assert (short.total, short.first_byte, short.connect, short.max_duration) == (2, 2, 2, 2)
        assert own == Timeouts(total=LONG, max_duration=1000.0)

    run(main())


def test_failures_are_the_breakers() -> None:
    """It opens by a call, and the next one is refused; both say whose they were."""

    async def main() -> None:
        desk = Desk(Asked(UpstreamTimeout("late")))
        for error in (UpstreamTimeout, ServiceUnavailable):
            with pytest.raises(error) as raised:
                await desk.call().answered()
            assert raised.value.details["service"] == "orders"
        assert desk.breaker.snapshot().state == "OPEN"
        assert [one.status for one in desk.records] == [504, 503]
        assert len(desk.upstream.got) == 1

    run(main())


def test_an_endpoint_that_stops_waiting_blames_nobody() -> None:
    """The call is over at once, and the breaker stays closed."""

    async def main() -> None:
        desk = Desk(Silent())
        call = desk.call()
        while not desk.upstream.got:
            await asyncio.sleep(0)
        call.close()
        with pytest.raises(ClientGone):
            await call.answered()
        assert desk.breaker.snapshot().state == "CLOSED"
        assert [type(one.error) for one in desk.records] == [ClientGone]

    run(main())


def test_a_body_that_breaks_off() -> None:
    """What has come is read, then the error is raised, as often as it is asked for; the service has failed."""

    async def main() -> None:
        desk = Desk(Asked(streamed(b"a", b"b", error=UpstreamReset("gone"))))
        call = desk.call()
        await call.answered()
        assert [await call.read(), await call.read()] == [b"a", b"b"]
        for _ in range(2):
            with pytest.raises(UpstreamReset):
                await call.read()
        assert desk.breaker.snapshot().state == "OPEN"

    run(main())


class Flow:
    """Counts how often it was paused and resumed."""

    def __init__(self) -> None:
        self.paused = self.resumed = 0

    def pause(self) -> None:
        """Count."""
        self.paused += 1

    def resume(self) -> None:
        """Count."""
        self.resumed += 1


def test_a_slow_reader_pauses_the_service() -> None:
    """Once more than 64 KiB wait; it goes on when fewer do."""

    async def main() -> None:
        flow, piece = Flow(), b"x" * 40_000
        call = Call(Desk(Asked()).parent, None)
        call.attach(flow)
        for _ in range(3):
            call.write(piece)
        assert (flow.paused, flow.resumed) == (1, 0)
        await call.read()
        assert flow.resumed == 0
        await call.read()
        assert (flow.paused, flow.resumed) == (1, 1)

    run(main())


def test_what_never_happens() -> None:
    """No other protocol is offered, so none is taken up."""

    async def main() -> None:
        call = Call(Desk(Asked()).parent, None)
        with pytest.raises(RuntimeError, match="no other protocol"):
            await call.upgrade(Desk(Asked()).parent, whole(), b"")

    run(main())
