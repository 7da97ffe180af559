"""What is sent again, how often, and what never is."""

import pytest

from tests.gateway.retries.attempts import (
    BACKOFF,
    EARLY,
    ILL,
    OK,
    Behind,
    Retrying,
    arrived_at,
    check_error,
    gaps,
    lost,
    script,
)
from tests.support import answers
from tests.support.upstream import Script

# What is tried again, and how often


@pytest.mark.parametrize("statuses", [(502, 502), (503, 504)], ids=str)
def test_a_get_that_goes_well_the_third_time(
    retrying: Retrying, behind: Behind, statuses: tuple[int, int]
) -> None:
    """The client sees only how it ended, and the log how often it was sent."""
    failures = [answers.plain(f"{status} Failed", ["X-Failed: yes"]) for status in statuses]
    script(behind.one, *failures, OK)
    answer = retrying.ask(retrying.fresh("one"))
    assert (answer.status, answer.body, answer.complete) == (200, b"at last", True)
    assert (answer.get("x-failed"), answer.get("x-error-source")) == (None, None)
    record = retrying.gateway.record(answer)
    assert (record["attempts"], record["status"], record["upstream_status"]) == (3, 200, 200)
    assert (record["error"], record["level"], record["flags"]) == (None, "info", [])
    assert len(arrived_at(behind.one)) == 3


def test_pauses_grow(retrying: Retrying, behind: Behind) -> None:
    """Half of each is fixed and half is chance: one to two times `backoff`, then two to four."""
    script(behind.one, ILL, ILL, OK)
    assert retrying.ask(retrying.fresh("spaced")).status == 200
    first, second = gaps(behind.one)
    assert BACKOFF - EARLY <= first < 20 * BACKOFF
    assert 2 * BACKOFF - EARLY <= second < 40 * BACKOFF


def test_the_last_answer_is_passed_on_unchanged(retrying: Retrying, behind: Behind) -> None:
    """When every attempt fails, the client gets what the last one got, marked as the upstream's."""
    texts = ("502 First", "503 Second", "504 Third")
    failures = [answers.plain(text, [f"X-Which: {text}"], text.encode()) for text in texts]
    script(behind.one, *failures)
    answer = retrying.ask(retrying.fresh("one"))
    assert (answer.status, answer.get("x-which"), answer.body) == (504, texts[2], texts[2].encode())
    assert answer.head.startswith(b"HTTP/1.1 504 ")
    assert answer.get("x-error-source") == "upstream"
    assert (len(arrived_at(behind.one)), retrying.attempts(answer)) == (3, 3)


@pytest.mark.parametrize(
    "said",
    [
        answers.plain("500 Broken", body=b"no"),
        answers.plain("501 Never", body=b"no"),
        answers.plain("404 Not Found", body=b"no"),
        answers.plain("429 Too Many Requests", ["Retry-After: 1"], b"no"),
    ],
    ids=["500", "501", "404", "429"],
)
def test_an_answer_that_is_no_better_later(
    retrying: Retrying, behind: Behind, said: Script
) -> None:
    """It is passed on at once, Retry-After and all."""
    script(behind.one, said, OK)
    answer = retrying.ask(retrying.fresh("one"))
    assert (answer.body, answer.get("x-error-source")) == (b"no", "upstream")
    assert answer.get("retry-after") == ("1" if answer.status == 429 else None)
    assert (len(arrived_at(behind.one)), retrying.attempts(answer)) == (1, 1)


@pytest.mark.parametrize("how", [answers.close, answers.reset], ids=["close", "reset"])
def test_a_connection_that_breaks_before_an_answer(
    retrying: Retrying, behind: Behind, how: answers.End
) -> None:
    """It is tried again over another; when all break it is 502, after as many as may be."""
    broken = answers.raw(end=how)
    script(behind.one, broken, OK)
    answer = retrying.ask(retrying.fresh("one"))
    assert (answer.status, retrying.attempts(answer)) == (200, 2)
    behind.one.reset()
    script(behind.one, broken)
    check_error(retrying.ask(retrying.fresh("one")), 502, "UPSTREAM_ERROR")
    assert len(arrived_at(behind.one)) == 3


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ],
    ids=["no-http", "half-a-head", "two-lengths"],
)
def test_an_answer_that_is_none_is_not_asked_for_again(
    retrying: Retrying, behind: Behind, said: bytes
) -> None:
    """What is no HTTP, or could be read in two ways, is 502, and goes to no second instance."""
    for up in (behind.one, behind.two):
        script(up, answers.raw(said, end=answers.close))
    check_error(retrying.ask(retrying.fresh("two")), 502, "UPSTREAM_ERROR")
    assert len(arrived_at(behind.one) + arrived_at(behind.two)) == 1


def test_where_there_is_one_attempt(retrying: Retrying, behind: Behind) -> None:
    """`attempts: 1`: nothing is tried again, not even what never left."""
    script(behind.one, ILL, OK)
    answer = retrying.ask(retrying.fresh("once"))
    assert (answer.status, answer.body, retrying.attempts(answer)) == (503, b"ill", 1)
    assert len(arrived_at(behind.one)) == 1
    assert retrying.attempts(retrying.ask(retrying.fresh("refused-once"))) == 1


# Whose request may leave twice


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_a_method_that_may_arrive_twice(retrying: Retrying, behind: Behind, method: str) -> None:
    """It is sent again, as the same method."""
    script(behind.one, ILL, OK)
    assert retrying.ask(retrying.fresh("one"), method).status == 200
    assert [arrived.method for arrived in arrived_at(behind.one)] == [method, method]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(("failure", "status"), [(ILL, 503), (lost, 502)], ids=["503", "lost"])
def test_a_method_that_must_not_arrive_twice(
    retrying: Retrying, behind: Behind, method: str, failure: Script, status: int
) -> None:
    """Once a byte of it was sent it never leaves again, though another instance is there."""
    for up in (behind.one, behind.two):
        script(up, failure)
    answer = retrying.ask(retrying.fresh("two"), method, body=b"order")
    assert (answer.status, retrying.attempts(answer)) == (status, 1)
    assert len(arrived_at(behind.one) + arrived_at(behind.two)) == 1


def test_a_post_that_the_service_may_get_twice(retrying: Retrying, behind: Behind) -> None:
    """`non_idempotent: true`: it is sent again, its body with it."""
    script(behind.one, ILL, lost, OK)
    assert retrying.ask(retrying.fresh("opted"), "POST", body=b"order").status == 200
    assert [bytes(arrived.body) for arrived in arrived_at(behind.one)] == [b"order"] * 3


# Too late to try again


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"half"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",),
    ],
    ids=["length", "head-alone", "chunked"],
)
def test_nothing_is_tried_again_once_the_client_has_a_byte(
    retrying: Retrying, behind: Behind, method: str, pieces: tuple[bytes, ...]
) -> None:
    """An answer that breaks off in its body is cut for the client, too, and asked for once."""
    for up in (behind.one, behind.two):
        script(up, answers.raw(*pieces, pause=0.05, end=answers.close))
    answer = retrying.ask(retrying.fresh("two"), method, body=b"x" if method == "PUT" else b"")
    assert (answer.status, answer.complete) == (200, False)
    assert answer.ended in ("cut", "reset")
    assert len(arrived_at(behind.one) + arrived_at(behind.two)) == 1
    record = retrying.gateway.record(answer)
    assert (record["attempts"], "cut" in record["flags"]) == (1, True)


# The breaker, which counts exchanges and not attempts


def test_what_goes_well_in_the_end_is_no_failure(retrying: Retrying, behind: Behind) -> None:
    """A breaker that opens at the first failure stays closed over 502, 502, 200."""
    name, bad = retrying.fresh("fragile"), answers.plain("502 Bad")
    script(behind.one, bad, bad, OK)
    assert [retrying.ask(name).status for _ in range(3)] == [200, 200, 200]
    assert len(arrived_at(behind.one)) == 5


def test_what_fails_at_every_attempt_is_one_failure(retrying: Retrying, behind: Behind) -> None:
    """Two of them open a breaker for two; then nobody is asked, but by a route without breaker."""
    name = retrying.fresh("brittle")
    script(behind.one, ILL)
    assert [retrying.ask(name).get("x-error-source") for _ in range(2)] == ["upstream"] * 2
    assert len(arrived_at(behind.one)) == 6
    refused = retrying.ask(name)
    check_error(refused, 503, "CIRCUIT_OPEN")
    assert retrying.attempts(refused) == 0
    assert int(refused.get("retry-after") or 0) > 0
    assert len(arrived_at(behind.one)) == 6
    assert retrying.ask(f"stubborn/{name}").get("x-error-source") == "upstream"
