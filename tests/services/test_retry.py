"""What is tried again, after which pause, and how often."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.config.models.resilience import RetryConfig
from propylon.errors import (
    BadResponse,
    ClientGone,
    ConnectFailed,
    ConnectTimeout,
    GatewayError,
    InternalError,
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    ServiceUnavailable,
    StaleConnection,
    UpstreamError,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.services.retry import Budget, Retry, retry_after_seconds

DEFAULT = Retry()
KINDS = frozenset({"connect-failure", "reset", "timeout"})


def test_defaults_are_those_of_the_file() -> None:
    """A service that says nothing of retries has those that the documentation shows."""
    written = RetryConfig()
    assert (
        Retry(
            attempts=written.attempts,
            backoff=written.backoff,
            max_backoff=written.max_backoff,
            statuses=written.statuses,
            kinds=written.kinds,
            non_idempotent=written.non_idempotent,
        )
        == Retry()
    )


def always(value: float) -> Callable[[], float]:
    """Chance that says the same each time."""
    return lambda: value


# What is tried again


@pytest.mark.parametrize("status", [502, 503, 504])
def test_statuses_that_are_tried_again(status: int) -> None:
    """Something on the way to the answer is broken, and may not be on another way."""
    assert DEFAULT.triggered_by_status(status)


@pytest.mark.parametrize("status", [200, 301, 400, 404, 408, 429, 500, 501, 505, 507])
def test_statuses_that_are_not(status: int) -> None:
    """An answer is an answer: a bug gives the same one the next time."""
    assert not DEFAULT.triggered_by_status(status)


def test_statuses_are_the_operators_choice() -> None:
    """Nothing is tried again that was not asked for."""
    rules = Retry(statuses=frozenset({500}))
    assert [status for status in range(500, 600) if rules.triggered_by_status(status)] == [500]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectFailed, "connect-failure"),
        (ConnectTimeout, "connect-failure"),
        (UpstreamReset, "reset"),
        (StaleConnection, "reset"),
        (UpstreamTimeout, "timeout"),
    ],
)
def test_errors_and_their_triggers(error: type[GatewayError], kind: str) -> None:
    """Each failure to get an answer has one name, and no other name stands for it."""
    assert Retry(kinds=frozenset({kind})).triggered_by(error("x"))
    assert not Retry(kinds=KINDS - {kind}).triggered_by(error("x"))


@pytest.mark.parametrize(
    "error",
    [
        BadResponse,
        UpstreamError,
        ServiceUnavailable,
        ClientGone,
        RequestTimeout,
        PayloadTooLarge,
        InvalidRequest,
        InternalError,
    ],
)
def test_errors_that_are_never_tried_again(error: type[GatewayError]) -> None:
    """What is ambiguous stays so elsewhere; and the client's faults are not the upstream's."""
    assert not Retry(kinds=KINDS).triggered_by(error("x"))


def test_timeouts_are_not_tried_again_by_default() -> None:
    """Whoever waited long is not made to wait as long again, unless the operator says so."""
    assert not DEFAULT.triggered_by(UpstreamTimeout("x"))


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_idempotent_methods_may_arrive_twice(method: str) -> None:
    """RFC 9110 says that twice is the same as once."""
    assert DEFAULT.allows(method, unsent=False)


@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK", "get", "WEBSOCKET"])
def test_other_methods_must_not_arrive_twice(method: str) -> None:
    """Unless no byte left, or the operator knows that it does no harm."""
    assert not DEFAULT.allows(method, unsent=False)
    assert DEFAULT.allows(method, unsent=True)
    assert Retry(non_idempotent=True).allows(method, unsent=False)


# After which pause


@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [(1, 0.1, 0.2), (2, 0.2, 0.4), (3, 0.4, 0.8), (4, 0.8, 1.6), (5, 1.0, 2.0), (99, 1.0, 2.0)],
)
def test_pauses(attempt: int, least: float, most: float) -> None:
    """They double, half of each is chance, and they end at the longest."""
    assert DEFAULT.pause(attempt, always(0.0)) == pytest.approx(least)
    assert DEFAULT.pause(attempt, always(0.5)) == pytest.approx((least + most) / 2)
    assert DEFAULT.pause(attempt, always(1.0)) == pytest.approx(most)


def test_pauses_of_one_length() -> None:
    """Where the longest is the shortest there is nothing left to chance."""
    rules = Retry(backoff=1.0, max_backoff=1.0)
    pauses = {rules.pause(attempt, always(0.7)) for attempt in range(1, 9)}
    assert pauses == {1.0}


@given(
    backoff=st.floats(0.001, 10.0),
    factor=st.floats(1.0, 100.0),
    attempt=st.integers(1, 10_000),
    chances=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)
def test_pauses_grow_and_stay_within_bounds(
    backoff: float, factor: float, attempt: int, chances: tuple[float, float]
) -> None:
    """Never shorter than backoff, never longer than max_backoff; longer each time until then."""
    rules = Retry(backoff=backoff, max_backoff=backoff * factor)
    first, second = (rules.pause(attempt + at, always(one)) for at, one in enumerate(chances))
    for pause in (first, second):
        assert backoff <= pause <= rules.max_backoff
    if first < rules.max_backoff / 2:
        assert first < second


def test_an_upstream_may_ask_for_a_longer_pause() -> None:
    """Its Retry-After is the least; a shorter one does not make ours shorter."""
    assert DEFAULT.pause(1, always(0.0), asked=1.0) == 1.0
    assert DEFAULT.pause(4, always(0.5), asked=1.0) == pytest.approx(1.2)


def test_an_upstream_that_asks_for_too_long_a_pause_is_not_asked_again() -> None:
    """Its answer is for the client, who may have more time."""
    assert DEFAULT.triggered_by_status(503, asked=2.0)
    assert not DEFAULT.triggered_by_status(503, asked=3.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1", 1.0),
        (b"0", 0.0),
        (b"0120", 120.0),
        (b"9999999999", 9_999_999_999.0),
        (b"Sat, 21 Nov 2026 09:52:00 GMT", 0.0),
        (b"-1", 0.0),
        (b"+1", 0.0),
        (b"1.5", 0.0),
        (b"1_0", 0.0),
        ("\N{ARABIC-INDIC DIGIT ONE}".encode(), 0.0),
        (b"9" * 5000, 0.0),
        (b"", 0.0),
    ],
)
def test_what_retry_after_asks_for(value: bytes, seconds: float) -> None:
    """Whole seconds are understood; whatever else stands there asks for nothing."""
    assert retry_after_seconds(b"\r\nServer: x\r\nRETRY-after: " + value) == seconds


def test_retry_after_that_is_missing_or_repeated() -> None:
    """Two of them contradict each other."""
    assert retry_after_seconds(b"\r\nServer: x") == 0.0
    assert retry_after_seconds(b"\r\nRetry-After: 1\r\nRetry-After: 2") == 0.0


# How often


def taken(budget: Budget, now: float) -> int:
    """How many retries there are at this moment."""
    count = 0
    while budget.take(now):
        count += 1
    return count


def test_ten_retries_are_free() -> None:
    """A service that is seldom asked has retries, too."""
    budget = Budget(0.2)
    assert taken(budget, 1000.0) == 10
    assert not budget.take(1000.9)


def test_a_share_of_the_requests_may_be_retries() -> None:
    """A fifth of a hundred, and the ten."""
    budget = Budget(0.2)
    for _ in range(100):
        budget.note_request(5.0)
    assert taken(budget, 5.0) == 30


def test_a_budget_of_nothing_leaves_the_free_ones() -> None:
    """However many requests there are."""
    budget = Budget(0.0)
    for _ in range(1000):
        budget.note_request(5.0)
    assert taken(budget, 5.0) == 10


@pytest.mark.parametrize(("later", "left"), [(9.0, 30), (10.0, 10), (1e6, 10)])
def test_requests_count_for_ten_seconds(later: float, left: int) -> None:
    """In whole seconds: the tenth is over."""
    budget = Budget(0.2)
    for _ in range(100):
        budget.note_request(5.0)
    assert taken(budget, 5.0 + later) == left


@pytest.mark.parametrize(("later", "left"), [(9.0, 0), (10.0, 10), (1e6, 10)])
def test_retries_count_for_ten_seconds(later: float, left: int) -> None:
    """What is used up comes back."""
    budget = Budget(0.2)
    assert taken(budget, 5.5) == 10
    assert taken(budget, 5.5 + later) == left


def test_seconds_begin_on_the_second() -> None:
    """What happens at its very beginning counts for that second, not for the one before."""
    budget = Budget(0.2)
    budget.note_request(5.5)
    for _ in range(100):
        budget.note_request(6.0)
    assert taken(budget, 15.0) == 30
    assert taken(budget, 25.0) == 10
    assert taken(budget, 34.0) == 0


def test_retries_cannot_become_the_load() -> None:
    """A minute in which everything fails and each request wants nine more attempts."""
    budget = Budget(0.2)
    retries = 0
    for at in range(6000):
        now = at / 100
        budget.note_request(now)
        retries += sum(budget.take(now) for _ in range(9))
    assert retries <= 0.2 * 6000 + 10 * 6


@given(
    share=st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]),
    events=st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, 9.75, 40.0]), st.integers(0, 30)),
        max_size=40,
    ),
)
def test_budget_is_what_is_counted_by_hand(share: float, events: list[tuple[float, int]]) -> None:
    """Beside a list of everything that ever happened."""
    budget = Budget(share)
    now = 0.0
    requests: list[int] = []
    retries: list[int] = []
    for wait, count in events:
        now += wait
        second = int(now)
        for _ in range(count):
            budget.note_request(now)
        requests += [second] * count
        for _ in range(count):
            had = sum(at > second - 10 for at in requests)
            made = sum(at > second - 10 for at in retries)
            allowed = made + 1 <= share * had + 10
            assert budget.take(now) is allowed
            retries += [second] * allowed
