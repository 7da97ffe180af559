"""What an attempt carries: the same request each time, and a body that fits in 64 KiB."""

import hashlib

import pytest

from tests.gateway.retries.attempts import (
    ILL,
    KEPT,
    OK,
    Behind,
    Retrying,
    arrived_at,
    lost,
    script,
)
from tests.support import answers
from tests.support.client import Answer, RawClient, chunked, request
from tests.support.upstream import Script

# Bodies


def put(retrying: Retrying, behind: Behind, body: bytes, framing: str) -> Answer:
    """Send a body in one of the two framings, when its head has arrived at the instance."""
    if framing == "length":
        headers, coded = [("Content-Length", str(len(body)))], body
    else:
        pieces = [body[start : start + 10_000] for start in range(0, len(body), 10_000)]
        headers, coded = [("Transfer-Encoding", "chunked")], chunked(*pieces)
    with RawClient(retrying.gateway.port) as client:
        client.send(request("PUT", f"/{retrying.fresh('one')}/x", headers))
        assert behind.one.wait(lambda: arrived_at(behind.one))
        return client.send(coded).read("PUT")


def made_up(size: int) -> bytes:
    """So many bytes, no piece like another."""
    numbers = b"".join(number.to_bytes(4) for number in range(size // 4 + 1))
    return numbers[:size]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [1, 20_000, KEPT])
def test_a_body_is_sent_again_byte_for_byte(
    retrying: Retrying, behind: Behind, size: int, framing: str
) -> None:
    """What fits in 64 KiB is replayed whole at every attempt, framed as the client framed it."""
    script(behind.one, ILL, lost, OK)
    body = made_up(size)
    assert put(retrying, behind, body, framing).status == 200
    found = arrived_at(behind.one)
    digest = hashlib.sha256(body).digest()
    assert [(one.length, one.hash.digest()) for one in found] == [(size, digest)] * 3
    length = str(size) if framing == "length" else None
    assert [one.get("content-length") for one in found] == [length] * 3
    coding = None if framing == "length" else "chunked"
    assert [one.get("transfer-encoding") for one in found] == [coding] * 3


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("size", "failure", "status"), [(KEPT + 1, ILL, 503), (1_000_000, lost, 502)]
)
def test_a_body_too_large_to_keep_is_sent_once(
    retrying: Retrying, behind: Behind, size: int, failure: Script, status: int, framing: str
) -> None:
    """What came of the only attempt is the answer."""
    script(behind.one, failure, OK)
    body = made_up(size)
    answer = put(retrying, behind, body, framing)
    assert (answer.status, retrying.attempts(answer)) == (status, 1)
    assert [one.hash.digest() for one in arrived_at(behind.one)] == [hashlib.sha256(body).digest()]


@pytest.mark.parametrize("sent", [5_000, 0], ids=["half", "told-to-wait"])
def test_an_upload_that_was_answered_before_its_end(
    retrying: Retrying, behind: Behind, sent: int
) -> None:
    """The next attempt has it from its first byte; whoever is told to go on is told once."""
    early = answers.raw(b"HTTP/1.1 503 Not Now\r\nContent-Length: 0\r\n\r\n", early=True)
    script(behind.one, early, OK)
    body, target = made_up(20_000), f"/{retrying.fresh('one')}/x"
    expectation = [] if sent else [("Expect", "100-continue")]
    head = request("PUT", target, [*expectation, ("Content-Length", str(len(body)))])
    with RawClient(retrying.gateway.port) as client:
        client.send(head + body[:sent])
        assert behind.one.wait(lambda: len(arrived_at(behind.one)) == 2)
        answer = client.send(body[sent:]).read("PUT")
    assert [interim.status for interim in answer.interim] == ([] if sent else [100])
    assert answer.status == 200
    assert arrived_at(behind.one)[1].hash.digest() == hashlib.sha256(body).digest()


# What each attempt says


def test_every_attempt_is_the_same_request(retrying: Retrying, behind: Behind) -> None:
    """Byte for byte: one request id, one trace, one chain of addresses, and nothing hop by hop."""
    script(behind.one, ILL, ILL, OK)
    trace = "0af7651916cd43dd8448eb211c80319c"
    hop = [("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "9"), ("X-User-Id", "root")]
    sent = [("X-Request-ID", "same-1"), ("traceparent", f"00-{trace}-b7ad6b7169203331-01"), *hop]
    answer = retrying.ask(retrying.fresh("one"), "PUT", sent, b"body")
    first, second, third = arrived_at(behind.one)
    assert first.head == second.head == third.head
    assert (answer.status, answer.get("x-request-id")) == (200, "same-1")
    assert first.get("x-request-id") == "same-1"
    assert (first.get("traceparent") or "").startswith(f"00-{trace}-")
    assert first.names & {"x-hop", "keep-alive", "x-user-id"} == set()
