"""Server-sent events, long polls and trailers: what the upstream sends arrives as it is sent, and is accounted for."""

import threading

import pytest

from tests.support.client import RawClient, chunked, request
from tests.support.excused import excused
from tests.support.gateway import Gateway
from tests.support.topology import LULL
from tests.support.upstream import Arrived, Peer, Upstream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(number: int) -> bytes:
    """One event, as one chunk."""
    data = b"id: %d\ndata: tick\n\n" % number
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_each_event_arrives_before_the_next_is_sent(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """The upstream waits until the client has read an event; nothing is held back on the way."""
    read = threading.Semaphore(0)

    def ticks(peer: Peer, arrived: Arrived) -> None:
        peer.send(HEAD)
        for number in range(5):
            peer.send(event(number))
            assert read.acquire(timeout=10)
        peer.send(b"0\r\n\r\n")

    up.on("/events", ticks)
    client.send(
        request(
            target="/up/events",
            headers=[("Accept", "text/event-stream"), ("Last-Event-ID", "41")],
        )
    )
    client.has_come(b"\r\n\r\n")
    for number in range(5):
        client.has_come(b"id: %d\ndata: tick\n\n" % number)
        read.release()
    answer = client.read()
    assert (answer.status, answer.get("content-type")) == (200, "text/event-stream")
    assert answer.body == b"".join(b"id: %d\ndata: tick\n\n" % number for number in range(5))
    assert up.last.get("last-event-id") == "41"
    assert up.last.get("accept") == "text/event-stream"


def test_a_stream_may_take_longer_than_total(gateway: Gateway, up: Upstream) -> None:
    """`total` ends with the head of the answer; the events behind it come as long as they come."""

    def ticks(peer: Peer, arrived: Arrived) -> None:
        peer.send(HEAD)
        for number in range(8):
            peer.send(event(number), pause=0.1)
        peer.send(b"0\r\n\r\n")

    up.on("/curt/events", ticks)
    with RawClient(gateway.port) as client:
        answer = client.send(request(target="/curt/events")).read()
    assert (answer.body.count(b"tick"), answer.complete) == (8, True)


def test_a_broken_stream_is_accounted_for(gateway: Gateway, up: Upstream) -> None:
    """What was sent before the upstream broke off is in the record; the client sees that more was to come."""

    def break_off(peer: Peer, arrived: Arrived) -> None:
        peer.send(HEAD + event(1) + event(2))
        peer.close()

    up.on("/events", break_off)
    with RawClient(gateway.port) as client:
        answer = client.send(request(target="/up/events")).read()
    assert not answer.complete
    record = gateway.record(answer)
    assert record["bytes_out"] == len(answer.body) == 2 * len(b"id: 1\ndata: tick\n\n")
    assert record["flags"] == ["cut"]


def test_a_long_poll(gateway: Gateway, up: Upstream) -> None:
    """An answer that comes late is waited for as long as the route says."""

    def late(peer: Peer, arrived: Arrived) -> None:
        peer.pause(LULL * 2)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnews")

    up.on("/poll", late)
    with RawClient(gateway.port) as client:
        assert client.send(request(target="/up/poll")).read().body == b"news"


TRAILERS = (
    b"grpc-status: 0\r\nX-Checksum: abc\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nX-Request-ID: 1\r\n"
    b"X_User_Id: root\r\nAuthorization: Basic eA==\r\n"
)


@pytest.mark.parametrize(
    ("te", "passing"),
    [
        ("trailers", b"grpc-status: 0\r\nX-Checksum: abc\r\n"),
        ("gzip, Trailers", b"grpc-status: 0\r\nX-Checksum: abc\r\n"),
        ("gzip", b""),
        (None, b""),
    ],
)
def test_trailers(
    edge: str, gateway: Gateway, up: Upstream, te: str | None, passing: bytes
) -> None:
    """They pass to a client that keeps them, but for those that may not be trailers; never on the portable edge."""

    def call(peer: Peer, arrived: Arrived) -> None:
        peer.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n"
            + chunked(b"answer", trailers=TRAILERS)
        )

    up.on("/call", call)
    headers = [] if te is None else [("TE", te), ("Connection", "TE")]
    with RawClient(gateway.port) as client:
        answer = client.send(request(target="/up/call", headers=headers)).read()
        assert (answer.body, answer.complete) == (b"answer", True)
        assert answer.trailers == (b"" if excused(edge, "trailers") else passing)
        assert client.send(request(target="/up/x")).read().status == 200
