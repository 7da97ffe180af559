"""Asking again: what for, whom, after which pause, and how often."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import ClientGone, GatewayError, PayloadTooLarge, ServiceUnavailable
from propylon.services.breaker import Outcome
from propylon.services.instance import HealthRules
from propylon.services.retry import Budget, Retry
from propylon.services.service import Instance
from propylon.upstream.ports import Timeouts
from propylon.wire.headers import values
from tests.proxy.attempts import (
    ALL,
    AT_ONCE,
    DOWN,
    LATE,
    NONSENSE,
    RESET,
    SILENT,
    STALE,
    Recorder,
    Up,
    counts,
    handle,
    of,
    told,
)
from tests.proxy.doubles import Upload, route, streamed, whole
from tests.support.virtual import run

# What is tried again


@pytest.mark.parametrize(
    ("step", "again"),
    [
        (DOWN, True),
        (LATE, True),
        (RESET, True),
        (SILENT, False),
        (NONSENSE, False),
        (whole(502), True),
        (whole(503), True),
        (whole(504), True),
        (whole(500), False),
        (whole(501), False),
        (whole(429), False),
        (whole(404), False),
        (whole(200), False),
        (streamed(b"x", status=503), True),
    ],
)
def test_what_is_tried_again(step: Any, again: bool) -> None:
    """By default: no connection, a connection that broke, 502, 503, 504; an answer is an answer."""
    one, two = Up(step), Up()
    found = told(of(one, two, retry=AT_ONCE))
    assert counts(one, two) == [1, int(again)]
    assert found.exchange.attempts == 1 + again
    if again:
        assert (found.status, found.exchange.error) == (200, None)
        assert found.exchange.instance is not None
        assert found.exchange.instance.id == "two:80"
        assert values(two.blocks[0], b"host") == [b"two"]


@pytest.mark.parametrize(
    ("retry", "step", "again"),
    [
        (Retry(backoff=0.0, kinds=ALL), SILENT, True),
        (Retry(backoff=0.0, kinds=ALL), NONSENSE, False),
        (Retry(backoff=0.0, kinds=frozenset()), DOWN, False),
        (Retry(backoff=0.0, kinds=frozenset({"timeout"})), RESET, False),
        (Retry(backoff=0.0, statuses=frozenset({500})), whole(500), True),
        (Retry(backoff=0.0, statuses=frozenset({500})), whole(503), False),
        (Retry(attempts=1), DOWN, False),
        (Retry(attempts=1), whole(503), False),
    ],
)
def test_what_the_operator_wants(retry: Retry, step: Any, again: bool) -> None:
    """Only that, and not at all where there is one attempt."""
    one, two = Up(step), Up()
    told(of(one, two, retry=retry))
    assert counts(one, two) == [1, int(again)]


# Whose request may be sent twice


@pytest.mark.parametrize("method", ["POST", "PATCH", "PROPFIND"])
@pytest.mark.parametrize("step", [RESET, SILENT, STALE, whole(503)])
def test_what_may_have_been_acted_upon_is_not_sent_again(step: Any, method: str) -> None:
    """Once a byte of a request that is not idempotent was sent, it leaves no second time."""
    one, two = Up(step), Up()
    found = told(of(one, two, retry=Retry(backoff=0.0, kinds=ALL)), method)
    assert counts(one, two) == [1, 0]
    assert found.status in (502, 503, 504)


@pytest.mark.parametrize("method", ["POST", "PATCH", "GET"])
@pytest.mark.parametrize("step", [DOWN, LATE])
def test_nothing_was_sent(step: GatewayError, method: str) -> None:
    """Without a connection any request may go elsewhere, its body with it."""
    one, two = Up(step), Up()
    found = told(of(one, two), method, Upload(b"data"))
    assert (counts(one, two), found.status) == ([1, 1], 200)
    assert (one.bodies, two.bodies) == ([], [b"data"])


@pytest.mark.parametrize("step", [RESET, whole(503)])
def test_the_operator_takes_it_upon_himself(step: Any) -> None:
    """`non_idempotent: true`: POST, too."""
    one, two = Up(step), Up()
    retry = Retry(backoff=0.0, non_idempotent=True)
    assert told(of(one, two, retry=retry), "POST", Upload(b"data")).status == 200
    assert (one.bodies, two.bodies) == ([b"data"], [b"data"])


@pytest.mark.parametrize("step", [RESET, whole(503), STALE, DOWN])
def test_a_body_that_is_gone(step: Any) -> None:
    """What was too large to keep is sent once, and what came of it is the answer."""
    one, two = Up(step), Up()
    found = told(of(one, two, retry=AT_ONCE), "PUT", Upload(b"data", replayable=False))
    assert counts(one, two) == [1, 0]
    assert found.status in (502, 503)


def test_a_body_is_sent_whole_each_time() -> None:
    """From its first byte."""
    one, two, three = Up(whole(503)), Up(RESET), Up()
    assert told(of(one, two, three, retry=AT_ONCE), "PUT", Upload(b"data")).status == 200
    assert [up.bodies for up in (one, two, three)] == [[b"data"]] * 3


def test_a_bodys_limit_is_no_failure_of_the_upstream() -> None:
    """What the client did wrong is not tried again, and counts for nobody."""
    one, two = Up(PayloadTooLarge("too large")), Up()
    to = of(one, two, retry=AT_ONCE)
    assert told(to, "PUT", Upload(b"x")).status == 413
    assert counts(one, two) == [1, 0]
    assert to.instances[0].state.failures == 0


# Whom


def test_another_instance_first() -> None:
    """All others have their turn before one is asked a second time, whatever balance says."""
    for attempts, expected in ((2, [1, 1, 0]), (3, [1, 1, 1])):
        ups = [Up(whole(503)) for _ in range(3)]
        told(of(*ups, retry=Retry(attempts=attempts, backoff=0.0)))
        assert counts(*ups) == expected
    ups = [Up(whole(503)) for _ in range(3)]
    told(of(*ups, retry=Retry(attempts=7, backoff=0.0)))
    assert sum(counts(*ups)) == 7


def test_balance_chooses_among_the_others() -> None:
    """It is shown only those that were not tried yet."""
    shown: list[list[str]] = []

    def choose(candidates: Any) -> Instance:
        shown.append([one.id for one in candidates])
        last: Instance = candidates[-1]
        return last

    ups = [Up(whole(503)), Up(whole(503)), Up(whole(503))]
    told(of(*ups, retry=AT_ONCE, choose=choose))
    assert shown == [["one:80", "two:80", "three:80"], ["one:80", "two:80"]]
    assert counts(*ups) == [1, 1, 1]


def test_the_only_instance_is_asked_again() -> None:
    """There is nobody else."""
    up = Up(whole(503), RESET, whole())
    assert told(of(up, retry=AT_ONCE)).status == 200
    assert counts(up) == [3]


def test_who_is_ill_is_not_asked() -> None:
    """Only those that probes found well."""
    one, two, three = Up(whole(503)), Up(), Up()
    to = of(one, two, three, retry=AT_ONCE, health=HealthRules())
    ill = to.instances[1]
    to.fleet.checked(ill, ok=False, answered=True, at=1.0, latency=0.1, reason="")
    assert told(to).status == 200
    assert counts(one, two, three) == [1, 0, 1]


def test_nobody_is_well() -> None:
    """503 that says when somebody last looked, and nobody is asked."""
    up = Up()
    to = of(up, retry=AT_ONCE, health=HealthRules())
    to.fleet.checked(
        to.instances[0], ok=False, answered=False, at=1_800_000_000.0, latency=0.1, reason=""
    )
    found = told(to)
    assert (found.status, counts(up), found.exchange.attempts) == (503, [0], 0)
    error = found.exchange.error
    assert isinstance(error, ServiceUnavailable)
    assert error.details == {"service": "orders", "last_check": "2027-01-15T08:00:00Z"}
    assert "no healthy instance" in error.message


# When


def test_no_pause_where_nothing_is_gained_by_one() -> None:
    """Nobody was reached and there is somebody else: at once."""
    one, two, three = Up(DOWN), Up(LATE), Up()
    assert told(of(one, two, three), chance=0.999).seconds == 0.0


@pytest.mark.parametrize("step", [RESET, whole(503)])
def test_a_pause_where_somebody_is_in_trouble(step: Any) -> None:
    """Each longer than the one before, and part of it chance."""
    one, two, three = Up(step), Up(step), Up()
    retry = Retry(backoff=0.1, max_backoff=2.0)
    found = told(of(one, two, three, retry=retry), chance=0.5)
    first, second = retry.pause(1, lambda: 0.5), retry.pause(2, lambda: 0.5)
    assert second > first > 0.1
    assert found.seconds == pytest.approx(first + second)
    began = one.asked[0]
    assert two.asked == [pytest.approx(began + first)]
    assert three.asked == [pytest.approx(began + first + second)]


def test_a_pause_before_the_only_one() -> None:
    """Where it cannot be reached, an instance is not asked again at once."""
    up = Up(DOWN, whole())
    assert told(of(up, retry=Retry(backoff=0.25))).seconds == pytest.approx(0.25)


def test_retry_after() -> None:
    """An answer that asks for a pause gets it; one that asks for more than the longest is passed on."""
    for asked, expected, seconds in ((b"1", [2], 1.0), (b"3", [1], 0.0)):
        busy = whole(503, block=b"\r\nRetry-After: %b\r\nContent-Length: 5" % asked)
        up = Up(busy, whole())
        found = told(of(up, retry=Retry(backoff=0.1, max_backoff=2.0)))
        assert (counts(up), found.seconds) == (expected, seconds)


def test_what_is_tried_again_is_let_go_of_first() -> None:
    """The answer that nobody reads holds no connection while the pause lasts."""
    busy = streamed(b"x", status=503)
    up = Up(busy, whole())
    aborted: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, lambda: aborted.append(busy.aborted))
        await handle(route(of=of(up, retry=Retry(backoff=0.1))))

    run(main())
    assert aborted == [1]


# Never beyond the deadline


def test_never_beyond_total() -> None:
    """What would begin after `timeouts.total` does not; the answer that is there passes."""
    up = Up((0.4, whole(503)))
    retry = Retry(attempts=10, backoff=0.2, max_backoff=0.2)
    found = told(route(of=of(up, retry=retry), timeouts=Timeouts(total=1.0)))
    assert (found.status, found.exchange.upstream_status) == (503, 503)
    # At 0, 0.6; the next one would begin at 1.2.
    assert (counts(up), found.seconds) == ([2], pytest.approx(1.0))


def test_the_deadline_is_the_same_for_all_attempts() -> None:
    """It is not pushed back by trying again."""
    one, two = Up((0.5, RESET)), Up()
    told(route(of=of(one, two, retry=AT_ONCE), timeouts=Timeouts(total=3.0)))
    assert two.got[0].deadline == one.asked[0] + 3.0


def test_total_begins_when_the_request_is_there() -> None:
    """With a body it is counted from its end, and holds for what follows."""
    up = Up((2.0, whole(503)))
    to = route(of=of(up, retry=AT_ONCE), timeouts=Timeouts(total=1.5))
    found = told(to, "PUT", Upload(b"data"))
    assert (counts(up), found.status) == ([1], 503)


def test_an_attempt_that_is_not_made_costs_nothing() -> None:
    """The budget is for requests that are sent again, not for those that come too late for it."""
    budget = Budget(0.0)
    up = Up((1.0, whole(503)))
    late = route(of=of(up, retry=AT_ONCE, budget=budget), timeouts=Timeouts(total=1.0))

    async def main() -> int:
        for _ in range(30):
            asyncio.get_running_loop().now = 1000.0  # type: ignore[attr-defined]
            await handle(late)
        return [budget.take(1000.0) for _ in range(20)].count(True)

    assert run(main()) == 10
    assert counts(up) == [30]


# How often


@pytest.mark.parametrize("attempts", [1, 2, 3, 10])
def test_so_many_attempts(attempts: int) -> None:
    """The first one counts."""
    up = Up(whole(503))
    found = told(of(up, retry=Retry(attempts=attempts, backoff=0.0)))
    assert (counts(up), found.exchange.attempts, found.status) == ([attempts], attempts, 503)


def test_retries_cannot_become_the_load() -> None:
    """Whatever fails, no more than a fifth is sent again, and ten more."""
    up = Up(whole(503))
    to = route(of=of(up, retry=AT_ONCE, budget=Budget(0.2)))

    async def main() -> set[int]:
        return {(await handle(to)).status for _ in range(200)}

    assert run(main()) == {503}
    assert counts(up) == [200 + 40 + 10]


def test_the_budget_is_shared_by_the_routes_of_a_service() -> None:
    """And by what is tried again for whichever reason; when it is spent, the last outcome stands."""
    one, two = Up(DOWN), Up(whole(503))
    to = of(one, two, retry=Retry(attempts=2, backoff=0.0), budget=Budget(0.0))
    routes = [route(of=to), route(of=to)]

    async def main() -> list[int]:
        return [(await handle(routes[number % 2])).status for number in range(20)]

    statuses = run(main())
    assert sum(counts(one, two)) == 20 + 10
    assert set(statuses) == {502, 503}


# The outcome


def test_the_last_answer_passes_unchanged() -> None:
    """Whatever was tried: its status, its headers, its body."""
    last = whole(503, b"sorry", b"\r\nX-Mine: 1\r\nContent-Length: 5")
    one, two = Up(whole(502)), Up(last)
    found = told(of(one, two, retry=Retry(attempts=2, backoff=0.0)))
    [(said, head, block, body)] = found.client.events
    assert (said, head.status, body) == ("respond", 503, b"sorry")
    assert values(block, b"x-mine") == [b"1"]
    assert values(block, b"x-error-source") == [b"upstream"]
    assert found.exchange.error is None


def test_the_last_error_is_told() -> None:
    """Where the last attempt brought no answer."""
    one, two = Up(whole(503)), Up(RESET)
    found = told(of(one, two, retry=Retry(attempts=2, backoff=0.0)))
    assert (found.status, found.exchange.error) == (502, RESET)


def test_nothing_is_tried_again_once_the_client_has_a_byte() -> None:
    """An answer that breaks off is cut."""
    one, two = Up(streamed(b"a", error=RESET)), Up()
    found = told(of(one, two, retry=AT_ONCE))
    assert found.client.said == ["start", "write", "abort"]
    assert (counts(one, two), found.exchange.flags) == ([1, 0], ("cut",))


def test_a_client_that_has_gone() -> None:
    """Nothing is tried again for it, and that is no failure of the instance."""
    gone = ClientGone("gone")
    one, two = Up(gone), Up()
    to = of(one, two, retry=AT_ONCE)
    assert told(to).exchange.error is gone
    assert counts(one, two) == [1, 0]
    assert to.instances[0].state.failures == 0


def test_a_client_that_leaves_during_the_pause() -> None:
    """Nobody is asked for it any more; the breaker's slot is free."""
    up = Up(whole(503))
    breaker = Recorder()
    to = route(of=of(up, retry=Retry(backoff=1.0), breaker=breaker))

    async def main() -> None:
        task = asyncio.create_task(handle(to))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(5)

    run(main())
    assert counts(up) == [1]
    assert breaker.outcomes == [Outcome.NEUTRAL]


# All together


STEPS = st.sampled_from(
    [
        DOWN,
        LATE,
        RESET,
        SILENT,
        NONSENSE,
        STALE,
        *(whole(status) for status in (200, 404, 500, 503)),
    ]
)


@given(
    st.lists(st.lists(STEPS, min_size=1, max_size=6), min_size=1, max_size=3),
    st.sampled_from(["GET", "PUT", "POST"]),
    st.booleans(),
    st.integers(1, 4),
)
def test_whatever_happens(
    scripts: list[list[Any]], method: str, replayable: bool, attempts: int
) -> None:
    """One outcome, counted once; never more attempts than wanted; nothing unsafe is sent twice."""
    ups = [Up(*script) for script in scripts]
    breaker = Recorder()
    retry = Retry(attempts=attempts, backoff=0.0, kinds=ALL)
    body = Upload(b"data", replayable=replayable) if method != "GET" else None
    found = told(of(*ups, retry=retry, breaker=breaker), method, body)
    assert len(breaker.outcomes) == 1
    assert sum(counts(*ups)) == found.exchange.attempts <= attempts + 2
    sent = [data for up in ups for data in up.bodies]
    if method == "POST" or (body is not None and not replayable):
        assert len(sent) <= 1
    assert set(sent) <= {b"data"}
    assert found.client.said == ["respond"]
    if found.exchange.error is None:
        assert found.status == found.exchange.upstream_status
