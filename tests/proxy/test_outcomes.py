"""What a request counts as in the end: for its connection, for the instance, for the breaker."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from propylon.errors import (
    CircuitOpen,
    ClientGone,
    GatewayError,
    PayloadTooLarge,
    ServiceUnavailable,
    UpstreamStalled,
)
from propylon.proxy.route import Route
from propylon.services.breaker import Breaker, Circuit, Outcome, Permit, State
from propylon.services.fleet import Ejection
from propylon.services.retry import Budget, Retry
from propylon.services.window import Tally
from propylon.upstream.ports import BodySink
from tests.proxy.attempts import (
    AT_ONCE,
    DOWN,
    LATE,
    NONSENSE,
    RESET,
    SILENT,
    STALE,
    Endless,
    Recorder,
    Up,
    counts,
    handle,
    of,
    told,
)
from tests.proxy.doubles import Upload, route, streamed, whole
from tests.support.virtual import run

# Connections that were closed meanwhile


def test_a_stale_connection_is_no_failure() -> None:
    """It is replaced at once, however few attempts there are; nobody is blamed."""
    up = Up(STALE, whole())
    to = of(up, retry=Retry(attempts=1), budget=Budget(0.0))
    found = told(to)
    assert (found.status, counts(up), found.seconds) == (200, [2], 0.0)
    assert found.exchange.flags == ("stale_connection",)
    assert to.instances[0].state.failures == 0


def test_a_stale_connection_costs_no_attempt() -> None:
    """Those that are wanted come after it."""
    up = Up(STALE, whole(503))
    told(of(up, retry=Retry(attempts=3, backoff=0.0)))
    assert counts(up) == [1 + 3]


def test_after_a_stale_connection_any_instance_will_do() -> None:
    """The one it belonged to has not been tried."""
    one, two = Up(STALE, whole(503), whole()), Up(whole(503))
    found = told(of(one, two, retry=AT_ONCE))
    assert (found.status, counts(one, two)) == (200, [3, 1])


def test_connections_that_are_always_stale() -> None:
    """At some point it is a failure like any other."""
    up = Up(STALE)
    to = of(up, retry=Retry(attempts=1))
    found = told(to)
    assert found.status == 502
    assert counts(up)[0] <= 3
    assert to.instances[0].state.failures == 1


# What it counts as: the instance


def test_each_attempt_counts_for_its_instance() -> None:
    """5xx, no connection, a broken answer: a failure each; anything else ends the row."""
    one, two = Up(whole(500), DOWN, RESET, NONSENSE, SILENT, whole(501), whole(404)), Up(whole(503))
    to = of(one, two, retry=Retry(attempts=1), ejection=Ejection(failures=100))
    seen = []
    for _ in range(7):
        told(to)
        seen.append(to.instances[0].state.failures)
    assert seen == [1, 2, 3, 4, 5, 6, 0]
    assert to.instances[1].state.failures == 0


def test_retries_count_for_whom_they_went_to() -> None:
    """Who failed has failed, though the request did not."""
    one, two = Up(whole(503)), Up()
    to = of(one, two, retry=AT_ONCE, ejection=Ejection(failures=3))
    for _ in range(2):
        assert told(to).status == 200
    assert [found.state.failures for found in to.instances] == [2, 0]
    told(to)
    assert [found.id for found in to.fleet.candidates()] == ["two:80"]
    told(to)
    assert counts(one, two) == [3, 4]


def test_a_body_that_breaks_off_is_a_failure() -> None:
    """The instance's, once; and of the one that the answer came from."""
    one, two = Up(DOWN), Up(streamed(b"a", error=RESET))
    to = of(one, two, retry=AT_ONCE)
    told(to)
    assert [found.state.failures for found in to.instances] == [1, 1]


def test_a_failure_counts_once() -> None:
    """Be it that an answer of 503 breaks off, too."""
    up = Up(streamed(b"a", status=503, error=RESET))
    to = of(up, retry=Retry(attempts=1))
    assert told(to).client.said == ["start", "write", "abort"]
    assert to.instances[0].state.failures == 1


def test_an_answer_that_breaks_off_does_not_look_well() -> None:
    """Its head ends no row of failures; only its end does."""
    up = Up(*[streamed(b"a", error=RESET)] * 3, streamed(b"a"))
    to = of(up)
    seen = []
    for _ in range(4):
        told(to)
        seen.append(to.instances[0].state.failures)
    assert seen == [1, 2, 3, 0]


# What it counts as: the breaker


S, F, N = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ([whole()], S),
        ([whole(404)], S),
        ([whole(429)], S),
        ([whole(501)], S),
        ([whole(500)], F),
        ([whole(502)], F),
        ([whole(503)], F),
        ([whole(504)], F),
        ([DOWN], F),
        ([LATE], F),
        ([RESET], F),
        ([NONSENSE], F),
        ([SILENT], F),
        ([whole(503), RESET, whole()], S),
        ([DOWN, whole(503), whole(500)], F),
        ([STALE, whole()], S),
        ([streamed(b"a")], S),
        ([streamed(b"a", error=RESET)], F),
        ([streamed(b"a", error=SILENT)], F),
        ([ClientGone("gone")], N),
        ([PayloadTooLarge("too large")], N),
        ([ServiceUnavailable("all connections in use")], N),
        ([ZeroDivisionError("a bug")], N),
    ],
)
def test_one_exchange_counts_once(steps: list[Any], outcome: Outcome) -> None:
    """By what came of it in the end, broken bodies included, and not by each attempt."""
    breaker = Recorder()
    told(of(Up(*steps), retry=AT_ONCE, breaker=breaker))
    assert (len(breaker.given), breaker.outcomes) == (1, [outcome])


def test_successes_are_counted_without_telling_the_breaker() -> None:
    """The first success is told to the breaker; the others are added to its tally until their slice is over."""
    breaker, _, later = real(failure_window=120.0, failure_rate=0.5)
    to = of(Up(*[whole()] * 8), breaker=breaker)
    told(to)
    assert breaker.permit is not None
    tally = breaker.permit.tally
    assert tally is not None
    assert (tally.successes, tally.left) == (1, 2.0)
    tally.until = math.inf
    told(to)
    assert (tally.successes, tally.until) == (2, math.inf)
    tally.until = -math.inf
    later(3)
    ended = told(to).exchange.ended
    assert (tally.successes, tally.until) == (1, ended + 2.0)
    assert breaker.snapshot().calls == 3


def test_an_open_breaker() -> None:
    """503 at once; no instance is asked, none is chosen, nothing is to be given back."""
    up, opened = Up(), CircuitOpen("open", details={"service": "orders", "retry_after": "x"})
    breaker = Recorder(opened=opened)
    found = told(of(up, breaker=breaker))
    assert (found.status, counts(up), found.seconds) == (503, [0], 0.0)
    assert found.exchange.error is opened
    assert (found.exchange.instance, found.exchange.attempts, breaker.outcomes) == (None, 0, [])


def test_a_route_without_a_breaker() -> None:
    """`circuit: false` neither asks nor tells it; the instance's failures count."""
    up = Up(whole(500))
    breaker = Recorder(opened=CircuitOpen("open"))
    to = of(up, breaker=breaker)
    assert told(route(of=to, circuit=False)).status == 500
    assert (counts(up), breaker.given, breaker.outcomes) == ([1], [], [])
    assert to.instances[0].state.failures == 1


def test_nobody_to_ask_is_not_the_breakers_business() -> None:
    """A probe that finds no instance gives its slot back."""
    breaker = Recorder(probe=True)
    assert told(of(breaker=breaker)).status == 503
    assert breaker.outcomes == [N]


def test_too_large_a_body_takes_no_slot() -> None:
    """It is refused before the breaker is asked."""
    breaker = Recorder()
    to = route(of=of(Up(), breaker=breaker), max_body=3)
    assert told(to, "POST", Upload(b"data")).status == 413
    assert breaker.given == []


def real(**rules: Any) -> tuple[Breaker, list[State], Callable[[float], None]]:
    """A breaker, the states that it has been in, and what moves its clock."""
    now, states = [0.0], [State.CLOSED]
    breaker = Breaker(
        "orders",
        Circuit(**{"failure_threshold": 3, "min_throughput": 3, **rules}),
        clock=lambda: now[0],
        wall=lambda: now[0],
        listener=lambda service, old, new, event: states.append(new),
    )

    def later(seconds: float) -> None:
        now[0] += seconds

    return breaker, states, later


def test_a_breaker_opens_and_closes() -> None:
    """Three failures, refusals at once, a probe that goes well, and all is as before."""
    breaker, states, later = real(recovery_timeout=60)
    up = Up(whole(500), whole(500), whole(500), whole())
    to = of(up, breaker=breaker)
    assert [told(to).status for _ in range(6)] == [500, 500, 500, 503, 503, 503]
    assert counts(up) == [3]
    later(60)
    assert [told(to).status for _ in range(3)] == [200] * 3
    assert states == [State.CLOSED, State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_retries_that_help_keep_it_closed() -> None:
    """It is told of exchanges, not of attempts."""
    breaker, states, _ = real()
    one, two = Up(whole(503)), Up()
    to = of(one, two, retry=AT_ONCE, breaker=breaker, budget=Budget(1.0))
    assert [told(to).status for _ in range(20)] == [200] * 20
    assert states == [State.CLOSED]


@pytest.mark.parametrize(
    "end", [ClientGone("gone"), ServiceUnavailable("in use"), ZeroDivisionError("a bug")]
)
def test_a_probe_never_wedges_it(end: BaseException) -> None:
    """However a probe ends that says nothing of the upstream: the next one may try."""
    breaker, states, later = real(recovery_timeout=60, probes=1)
    up = Up(*[whole(500)] * 3, end, end, whole())
    to = of(up, breaker=breaker)
    for _ in range(3):
        told(to)
    later(60)
    told(to)
    told(to)
    assert states[-1] is State.HALF_OPEN
    assert told(to).status == 200
    assert states[-1] is State.CLOSED


def test_one_probe_at_a_time() -> None:
    """Of a hundred that come at once while it is half open, one passes."""
    breaker, states, later = real(recovery_timeout=60)
    up = Up(*[whole(500)] * 3, (1.0, whole()))
    to = route(of=of(up, breaker=breaker))
    for _ in range(3):
        told(to)
    later(60)

    async def main() -> list[int]:
        found = await asyncio.gather(*(handle(to) for _ in range(100)))
        return [one.status for one in found]

    statuses = run(main())
    assert (statuses.count(200), statuses.count(503)) == (1, 99)
    assert counts(up) == [4]
    assert states[-1] is State.CLOSED


@pytest.mark.parametrize("first", [(), (STALE,)])
def test_a_probe_has_found_out_with_the_head(first: tuple[Any, ...]) -> None:
    """How long a body takes says nothing: a stream that does not end keeps nobody out."""
    breaker, states, later = real(recovery_timeout=60, half_open_timeout=30)
    up = Up(*[whole(500)] * 3, *first, Endless(), whole())
    to = route(of=of(up, breaker=breaker))
    for _ in range(3):
        told(to)
    later(60)

    async def main() -> None:
        streaming = asyncio.create_task(handle(to))
        await asyncio.sleep(1)
        assert states[-1] is State.CLOSED
        later(30)
        assert [(await handle(to)).status for _ in range(3)] == [200] * 3
        streaming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await streaming
        assert states[-1] is State.CLOSED

    run(main())


@pytest.mark.parametrize("first", [(), (STALE,)])
@pytest.mark.parametrize("error", [RESET, SILENT])
def test_a_probe_whose_body_breaks_off(first: tuple[Any, ...], error: GatewayError) -> None:
    """The breaker was told with the head, and once; what broke is the instance's failure, once, too."""
    breaker, states, later = real(recovery_timeout=60)
    to = of(Up(*[whole(500)] * 3, *first, streamed(b"a", error=error), whole()), breaker=breaker)
    for _ in range(3):
        told(to)
    later(60)
    failures = to.instances[0].state.failures
    assert told(to).client.said == ["start", "write", "abort"]
    assert (states[-1], breaker.snapshot().failures) == (State.CLOSED, 0)
    assert to.instances[0].state.failures == failures + 1
    assert told(to).status == 200


@pytest.mark.parametrize("end", [whole(503), RESET, DOWN, NONSENSE, SILENT])
def test_a_stale_probe_that_fails(end: Any) -> None:
    """Over the new connection it is the same probe: one failure, and one way to find that out."""
    breaker, states, later = real(recovery_timeout=60)
    one, two = Up(*[NONSENSE] * 3, STALE, end), Up()
    to = of(one, two, retry=AT_ONCE, breaker=breaker, ejection=Ejection(failures=100))
    for _ in range(3):
        told(to)
    later(60)
    found = told(to)
    assert found.exchange.flags[0] == "stale_connection"
    assert states == [State.CLOSED, State.OPEN, State.HALF_OPEN, State.OPEN]
    assert (counts(one, two), to.instances[0].state.failures) == ([5, 0], 4)


class Coming(Upload):
    """A body that its client is still sending."""

    def __init__(self) -> None:
        super().__init__(b"abc", length=100)
        self.complete = False

    def pipe(self, sink: BodySink) -> None:
        """Push what there is."""
        self.started = True
        sink.body_data(self.data)


def half_open(*steps: Any) -> tuple[Route, Up, Breaker, list[State], Callable[[float], None]]:
    """A route to an upstream that has failed three times, and is to show now that it is well."""
    breaker, states, later = real(recovery_timeout=60)
    up = Up(*[whole(500)] * 3, *steps)
    to = route(of=of(up, breaker=breaker))
    for _ in range(3):
        told(to)
    later(60)
    return to, up, breaker, states, later


@pytest.mark.parametrize("first", [(), (STALE,)])
@pytest.mark.parametrize("end", [whole(500), RESET, ClientGone("gone"), whole()])
def test_a_client_that_sends_slowly_keeps_nobody_out(first: tuple[Any, ...], end: Any) -> None:
    """Another probe takes its slot; what comes of the slow one in the end is one request of many."""
    to, up, breaker, states, later = half_open(*first, (60.0, end), whole())

    async def main() -> None:
        slow = asyncio.create_task(handle(to, "PUT", Coming()))
        await asyncio.sleep(20)
        later(20)
        assert (counts(up), states[-1]) == ([3 + len(first) + 1], State.HALF_OPEN)
        assert (await handle(to)).status == 200
        assert states[-1] is State.CLOSED
        await slow

    run(main())
    assert states[-1] is State.CLOSED
    assert breaker.snapshot().failures == 0


@pytest.mark.parametrize("body", [None, Upload(b"abc")])
def test_a_request_that_is_there_keeps_its_slot(body: Upload | None) -> None:
    """It is the upstream who is being waited for: nobody else is let through meanwhile."""
    to, up, _, states, later = half_open((60.0, whole()), whole())

    async def main() -> None:
        probe = asyncio.create_task(handle(to, "PUT" if body else "GET", body))
        await asyncio.sleep(20)
        later(20)
        assert [(await handle(to)).status for _ in range(3)] == [503] * 3
        assert (await probe).status == 200

    run(main())
    assert (counts(up), states[-1]) == ([4], State.CLOSED)


@pytest.mark.parametrize(
    ("answer", "state"), [(whole(401), State.CLOSED), (whole(503), State.OPEN)]
)
def test_an_answer_before_the_end_of_the_request(answer: Any, state: State) -> None:
    """It says as much of the upstream as any other, though the client is still sending."""
    to, _, _, states, _ = half_open(answer)
    told(to, "PUT", Coming())
    assert states[-1] is state


def test_a_client_that_leaves_before_the_end_of_its_request() -> None:
    """Nothing was found out, and the slot is free."""
    to, _, breaker, states, _ = half_open(ClientGone("gone"), whole())
    assert told(to, "PUT", Coming()).status == 499
    assert (states[-1], breaker.snapshot().probes_in_flight) == (State.HALF_OPEN, 0)
    assert told(to).status == 200
    assert states[-1] is State.CLOSED


@pytest.mark.parametrize("end", [whole(503), RESET, DOWN])
def test_a_probe_is_one_request(end: Any) -> None:
    """It is to find out, not to succeed: what fails is sent to nobody else meanwhile."""
    breaker, states, later = real(recovery_timeout=60)
    one, two = Up(*[NONSENSE] * 3, end), Up()
    to = of(one, two, retry=AT_ONCE, breaker=breaker)
    for _ in range(3):
        told(to)
    later(60)
    assert told(to).status in (502, 503)
    assert (counts(one, two), states[-1]) == ([4, 0], State.OPEN)


def test_a_permit_that_everybody_shares_is_asked_for_once() -> None:
    """While it is closed, what passes is at hand: nothing is to be decided."""
    breaker = Recorder()
    breaker.permit = Permit(tally=Tally(1.0))
    breaker.given = [breaker.permit]
    told(of(Up(whole(500)), breaker=breaker))
    assert (len(breaker.given), breaker.outcomes) == (1, [F])


@pytest.mark.parametrize("end", [whole(408), whole(500), whole(502), whole(504), RESET, NONSENSE])
def test_a_slow_upload_is_held_against_nobody(end: Any) -> None:
    """What an upstream does while the client has not sent its whole body counts neither for breaker nor instance."""
    breaker, states, _ = real(failure_threshold=1, min_throughput=1)
    to = of(Up(end, whole(500)), breaker=breaker)
    told(to, "POST", Coming())
    assert (states[-1], to.instances[0].state.failures) == (State.CLOSED, 0)
    assert breaker.snapshot().calls == 0
    told(to, "POST", Upload(b"whole"))
    assert (states[-1], to.instances[0].state.failures) == (State.OPEN, 1)


@pytest.mark.parametrize("end", [DOWN, LATE, UpstreamStalled("It reads nothing"), whole(503)])
def test_some_failures_are_the_upstreams_own_whatever_the_client_does(end: Any) -> None:
    """No connection, an upstream that stopped reading, and an overloaded one count although the body is not whole."""
    breaker, states, _ = real(failure_threshold=1, min_throughput=1)
    to = of(Up(end), retry=Retry(attempts=1), breaker=breaker)
    told(to, "POST", Coming())
    assert (states[-1], to.instances[0].state.failures) == (State.OPEN, 1)


def test_a_retry_that_succeeds_is_no_slow_upload_any_more() -> None:
    """The excuse of a failed attempt does not hold for the next one."""
    breaker = Recorder()
    told(of(Up(RESET, whole()), retry=AT_ONCE, breaker=breaker), "PUT", Coming())
    assert breaker.outcomes == [S]


@pytest.mark.parametrize("end", [whole(500), whole(408), RESET])
def test_a_probe_of_a_slow_upload_frees_its_slot(end: Any) -> None:
    """The breaker stays half open, and the next request is the probe."""
    to, up, _, states, _ = half_open(end, whole())
    told(to, "POST", Coming())
    assert states[-1] is State.HALF_OPEN
    told(to)
    assert (counts(up), states[-1]) == ([5], State.CLOSED)
