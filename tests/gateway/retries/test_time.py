"""Pauses, budgets and deadlines of attempts, and clients that do not wait for them."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.gateway.retries.attempts import (
    BACKOFF,
    EARLY,
    HASTE,
    ILL,
    OK,
    TOTAL,
    Behind,
    Retrying,
    arrived_at,
    check_error,
    gaps,
    script,
)
from tests.support import answers
from tests.support.client import RawClient, request

# Retry-After


def test_an_upstream_that_says_when(retrying: Retrying, behind: Behind) -> None:
    """If it asks for no more than is ever waited, it is asked again then, and no sooner."""
    script(behind.one, answers.plain("503 Later", ["Retry-After: 1"]), OK)
    answer = retrying.ask(retrying.fresh("one"))
    assert (answer.status, retrying.attempts(answer)) == (200, 2)
    assert answer.get("retry-after") is None
    assert gaps(behind.one)[0] >= 1.0 - EARLY


@pytest.mark.parametrize(
    ("kind", "asked"), [("one", "3"), ("bounded", "1")], ids=["too-long", "past-the-deadline"]
)
def test_an_upstream_that_asks_for_too_long_a_pause(
    retrying: Retrying, behind: Behind, kind: str, asked: str
) -> None:
    """Its answer is for the client, who may have more time."""
    script(behind.one, answers.plain("503 Later", [f"Retry-After: {asked}"], b"later"), OK)
    answer = retrying.ask(retrying.fresh(kind))
    assert (answer.status, answer.get("retry-after"), answer.body) == (503, asked, b"later")
    assert len(arrived_at(behind.one)) == 1


# The budget


def test_retries_never_become_the_load(retrying: Retrying, behind: Behind) -> None:
    """A service that always fails gets a fifth more requests, and ten; each client its answer."""
    script(behind.one, ILL)
    name, requests = retrying.fresh("usual"), 60
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: retrying.ask(name), range(requests)))
    spans = 1 + int((time.monotonic() - began) / 9)  # ten seconds' retries are forgotten after them
    assert {(answer.status, answer.body) for answer in found} == {(503, b"ill")}
    retries = len(arrived_at(behind.one)) - requests
    assert 10 <= retries <= requests // 5 + 10 * spans


# Deadlines


def test_an_answer_that_does_not_come(retrying: Retrying, behind: Behind) -> None:
    """Silence for `first_byte` is 504, and no reason to ask again; the upstream's work is cancelled."""
    script(behind.one, answers.hang)
    answer = retrying.ask(retrying.fresh("hasty"))
    check_error(answer, 504, "UPSTREAM_TIMEOUT")
    record = retrying.gateway.record(answer)
    assert (record["attempts"], record["upstream_status"]) == (1, None)
    assert record["duration_ms"] >= 750 * HASTE
    assert behind.one.wait(lambda: behind.one.last.cancelled)
    assert len(arrived_at(behind.one)) == 1


def test_an_answer_that_does_not_come_where_that_is_tried_again(
    retrying: Retrying, behind: Behind
) -> None:
    """With `on: [timeout]` it is, after the first attempt was given up; and nothing else is."""
    script(behind.one, answers.hang, OK)
    answer = retrying.ask(retrying.fresh("hasty-again"))
    record = retrying.gateway.record(answer)
    assert (answer.status, record["attempts"]) == (200, 2)
    assert record["duration_ms"] >= 750 * HASTE
    assert behind.one.wait(lambda: len(arrived_at(behind.one)) == 2)
    first, second = arrived_at(behind.one)
    assert first.connection != second.connection
    behind.one.reset()
    script(behind.one, ILL, OK)
    assert retrying.ask(retrying.fresh("hasty-again")).status == 503


@pytest.mark.parametrize(
    ("kind", "status", "code", "attempts"),
    [("refused", 502, "UPSTREAM_ERROR", 3), ("silent", 504, "UPSTREAM_TIMEOUT", 2)],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_connection_at_all(
    retrying: Retrying, method: str, kind: str, status: int, code: str, attempts: int
) -> None:
    """Refused is 502, not in time is 504, after as many attempts as may be: nothing ever left."""
    answer = retrying.ask(retrying.fresh(kind), method)
    check_error(answer, status, code)
    assert retrying.attempts(answer) == attempts


def test_the_total_covers_all_attempts(retrying: Retrying, behind: Behind) -> None:
    """A second attempt has only what the first one left: then it is 504, and cancelled."""
    script(behind.one, ILL, answers.hang)
    answer = retrying.ask(retrying.fresh("bounded"))
    check_error(answer, 504, "UPSTREAM_TIMEOUT")
    record = retrying.gateway.record(answer)
    assert (record["attempts"], record["upstream_status"]) == (2, None)
    assert record["duration_ms"] >= 750 * TOTAL
    assert behind.one.wait(lambda: behind.one.last.cancelled)


@pytest.mark.parametrize("body", [b"", b"data"], ids=["GET", "PUT"])
def test_no_attempt_that_could_not_end_in_time(
    retrying: Retrying, behind: Behind, body: bytes
) -> None:
    """A pause that would outlast `total` is not begun: the client gets what there is, at once."""
    script(behind.one, ILL, OK)
    method = "PUT" if body else "GET"
    answer = retrying.ask(retrying.fresh("leisurely"), method, body=body)
    assert (answer.status, answer.body) == (503, b"ill")
    assert len(arrived_at(behind.one)) == 1
    assert retrying.gateway.record(answer)["duration_ms"] < 3000  # the shortest pause has 5000


def test_attempts_end_with_the_total(retrying: Retrying, behind: Behind) -> None:
    """Each lasts a backoff, and between them are 1, 2 and 4: in ten of them there is room for three."""
    script(behind.one, answers.after(BACKOFF, ILL))
    assert retrying.ask(retrying.fresh("crowded")).status in (503, 504)
    assert len(arrived_at(behind.one)) <= 3


# Clients that leave


def leave(retrying: Retrying, behind: Behind, kind: str, attempts: int) -> dict[str, Any]:
    """Ask, leave when so many attempts have arrived, and return the record."""
    identity = f"left-{kind}-{retrying.gateway.edge}"
    target = f"/{retrying.fresh(kind)}/x"
    client = RawClient(retrying.gateway.port)
    client.send(request(target=target, headers=[("X-Request-ID", identity)]))
    assert behind.one.wait(lambda: len(arrived_at(behind.one)) == attempts)
    client.reset()
    records = retrying.gateway.records(identity, within=5)
    assert [record["status"] for record in records] == [499]
    return records[0]


def test_a_client_that_leaves_in_a_pause(retrying: Retrying, behind: Behind) -> None:
    """Nobody asks again on its behalf."""
    script(behind.one, ILL)
    record = leave(retrying, behind, "waiting", 1)
    assert (record["attempts"], "client_gone" in record["flags"]) == (1, True)
    assert len(arrived_at(behind.one)) == 1


def test_a_client_that_leaves_in_a_second_attempt(retrying: Retrying, behind: Behind) -> None:
    """That attempt is cancelled, and is the last one."""
    script(behind.one, ILL, answers.hang)
    record = leave(retrying, behind, "one", 2)
    assert record["attempts"] == 2
    assert behind.one.wait(lambda: behind.one.last.cancelled)
    assert len(arrived_at(behind.one)) == 2
