"""One instance of several is sick, or has no room: the others are well, and so is the service."""

import asyncio

import pytest

from propylon.errors import UpstreamBusy
from propylon.services.breaker import Breaker, Circuit, State
from propylon.services.fleet import Ejection
from propylon.services.retry import Budget, Retry
from tests.proxy.attempts import AT_ONCE, RESET, Endless, Recorder, Up, counts, handle, of, told
from tests.proxy.doubles import Upload, route, streamed, whole
from tests.support.virtual import run

BUSY = UpstreamBusy("in use")
ONCE = Retry(attempts=1)


def breaker(threshold: int = 3) -> tuple[Breaker, list[State]]:
    """A breaker that opens after so many failures, and the states that it went to."""
    states: list[State] = []
    made = Breaker(
        "orders",
        Circuit(failure_threshold=threshold, min_throughput=threshold),
        clock=lambda: 0.0,
        wall=lambda: 0.0,
        listener=lambda service, old, new, event: states.append(new),
    )
    return made, states


def test_one_that_is_left_out_does_not_close_the_service() -> None:
    """With the same threshold for both, the instance goes and the service stays."""
    made, states = breaker()
    one, two = Up(whole(500)), Up()
    to = of(one, two, retry=ONCE, breaker=made, ejection=Ejection(failures=3))
    assert [told(to).status for _ in range(9)] == [500] * 3 + [200] * 6
    assert states == []


def test_what_it_did_before_is_forgotten() -> None:
    """The breaker begins anew: as many failures of the others as before close the service."""
    made, states = breaker()
    one, two = Up(whole(500)), Up(whole(200), whole(500))
    to = of(one, two, retry=ONCE, breaker=made, ejection=Ejection(failures=2))
    assert [told(to).status for _ in range(3)] == [500, 500, 200]
    # The failure that ejected it was told after that, and is the only one that counts.
    assert made.snapshot().failures == 1
    assert [told(to).status for _ in range(3)] == [500, 500, 503]
    assert states == [State.OPEN]


def test_the_last_one_is_the_breakers_business() -> None:
    """One instance alone is never ejected, and its failures count."""
    made, states = breaker()
    to = of(Up(whole(500)), retry=ONCE, breaker=made, ejection=Ejection(failures=1))
    assert [told(to).status for _ in range(4)] == [500, 500, 500, 503]
    assert states == [State.OPEN]


def test_a_body_that_breaks_off_is_forgiven_as_well() -> None:
    """Its failure is noted when the exchange has ended; the ejection is the same."""
    made, states = breaker()
    one, two = Up(streamed(b"a", error=RESET)), Up()
    to = of(one, two, retry=ONCE, breaker=made, ejection=Ejection(failures=3))
    for _ in range(5):
        told(to)
    assert (counts(one, two), states) == ([3, 2], [])


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("retry", [AT_ONCE, ONCE], ids=["retries", "no-retries"])
def test_one_without_room_is_passed_over(method: str, retry: Retry) -> None:
    """Nothing was sent: any method goes elsewhere, at once, and it costs no attempt and no budget."""
    one, two = Up(BUSY), Up()
    to = of(one, two, retry=retry, budget=Budget(0.0))
    found = told(to, method, Upload(b"data") if method == "POST" else None)
    assert (found.status, counts(one, two), found.seconds) == (200, [1, 1], 0.0)
    assert [instance.state.failures for instance in to.instances] == [0, 0]


def test_nobody_has_room() -> None:
    """503 that names the service; nobody has failed, and nobody was asked twice."""
    one, two, seen = Up(BUSY), Up(BUSY), Recorder()
    to = of(one, two, retry=AT_ONCE, breaker=seen)
    found = told(to)
    assert (found.status, counts(one, two)) == (503, [1, 1])
    assert found.exchange.error is not None
    assert found.exchange.error.details == {"service": to.name}
    assert [instance.state.failures for instance in to.instances] == [0, 0]
    assert [outcome.name for outcome in seen.outcomes] == ["NEUTRAL"]


def test_a_retry_that_finds_no_room_goes_on() -> None:
    """The third is asked for what the first could not do."""
    one, two, three = Up(whole(503)), Up(BUSY), Up()
    to = of(one, two, three, retry=AT_ONCE)
    assert told(to).status == 200
    assert counts(one, two, three) == [1, 1, 1]


def test_a_probe_that_fails_has_found_out_with_the_head() -> None:
    """A 503 whose body does not end holds no slot, and hides nothing when its client leaves."""
    now, states = [0.0], [State.CLOSED]
    made = Breaker(
        "orders",
        Circuit(failure_threshold=1, min_throughput=1, recovery_timeout=60),
        clock=lambda: now[0],
        wall=lambda: now[0],
        listener=lambda service, old, new, event: states.append(new),
    )
    to = route(of=of(Up(whole(500), Endless(503), whole()), retry=ONCE, breaker=made))
    told(to)
    now[0] = 60.0

    async def main() -> None:
        streaming = asyncio.create_task(handle(to))
        await asyncio.sleep(1)
        assert states[-2:] == [State.HALF_OPEN, State.OPEN]
        streaming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await streaming
        assert states[-1] is State.OPEN

    run(main())
