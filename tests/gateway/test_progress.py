"""Transfers that progress are not cut: slow uploads, early heads, event streams."""

import hashlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from propylon.loop import sendqueue
from tests.conftest import Start
from tests.support.client import RawClient, ask, request
from tests.support.gateway import Gateway
from tests.support.upstream import Arrived, Peer, Upstream

LARGE = 4_000_000
SHORT = 0.6  # seconds: how long the upstream may be silent


@pytest.fixture
def up() -> Iterator[Upstream]:
    """An upstream with a small receive buffer, so that the gateway notices how fast it reads."""
    with Upstream() as upstream:
        upstream.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        yield upstream
        assert upstream.faults == []


def started(start: Start, up: Upstream, timeouts: dict[str, Any]) -> Gateway:
    """A gateway with these timeouts for its service."""
    return start(
        {
            "defaults": {"auth": "none"},
            "services": {
                "orders": {
                    "url": f"http://127.0.0.1:{up.port}",
                    "timeouts": timeouts,
                    "retry": {"attempts": 1},
                }
            },
            "routes": [
                {"path": "/", "service": "orders"},
                {"path": "/own", "service": "orders", "timeouts": {"idle": SHORT}},
            ],
        }
    )


def reads_slowly(peer: Peer, arrived: Arrived) -> None:
    """Read the body at two megabytes a second, and answer with its digest."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    peer.read_body(arrived, slowly=0.02)
    said = arrived.hash.hexdigest().encode()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))


def test_an_upload_that_is_read_slowly(start: Start, up: Upstream) -> None:
    """An upstream that reads for longer than every timeout, but goes on reading, gets the whole body and is waited for."""
    gateway = started(start, up, {"idle": SHORT, "first_byte": SHORT, "total": SHORT})
    up.on("/slow", reads_slowly)
    body = bytes(range(256)) * (LARGE // 256)
    with RawClient(gateway.port) as client:
        answer = client.send(request("PUT", "/slow", body=body)).read()
    assert (answer.status, answer.body.decode()) == (200, hashlib.sha256(body).hexdigest())


def test_an_upstream_that_stops_reading(start: Start, up: Upstream) -> None:
    """When the upstream reads nothing more, it is late: 504, though the body is not whole."""
    gateway = started(start, up, {"idle": SHORT})
    up.on("/stuck", lambda peer, _: peer.pause(20))
    with RawClient(gateway.port) as client, ThreadPoolExecutor(1) as threads:
        sending = threads.submit(client.send, request("PUT", "/stuck", body=b"x" * 30_000_000))
        assert client.read().status == 504
        client.sock.close()
        sending.cancel()


def answers_early(peer: Peer, arrived: Arrived) -> None:
    """Begin the answer at once, and end it when the body is whole."""
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n")
    peer.read_body(arrived)
    peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(arrived.body), bytes(arrived.body)))


def test_an_upload_goes_on_behind_an_early_head(start: Start, up: Upstream) -> None:
    """The upstream that has begun to answer may be silent while the client still sends."""
    gateway = started(start, up, {"idle": SHORT})
    up.on("/early", answers_early)
    with RawClient(gateway.port) as client:
        client.send(request("POST", "/early", [("Content-Length", "6")])).has_come(b"early")
        for piece in (b"ab", b"cd", b"ef"):
            time.sleep(SHORT * 1.5)
            client.send(piece)
        answer = client.read()
    assert (answer.status, answer.body, answer.ended) == (200, b"earlyabcdef", "whole")


def sends_events(peer: Peer, arrived: Arrived) -> None:
    """Send two events, the second one later than a written `idle` allows."""
    peer.read_body(arrived)
    peer.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    peer.send(b"3\r\none\r\n", pause=SHORT * 2.5)
    peer.send(b"3\r\ntwo\r\n0\r\n\r\n")


def test_a_written_idle_holds_for_event_streams(start: Start, up: Upstream) -> None:
    """Without `idle` an event stream goes on in silence; `idle` of the route, or of the service, cuts it."""
    for path in ("/events", "/own"):
        up.on(path, sends_events)
    gateway = started(start, up, {"first_byte": 10})
    assert ask(gateway.port, target="/events").body == b"onetwo"
    answer = ask(gateway.port, target="/own")
    assert (answer.body, answer.complete) == (b"one", False)
    written = started(start, up, {"idle": SHORT})
    answer = ask(written.port, target="/events")
    assert (answer.body, answer.complete) == (b"one", False)


def test_the_queue_of_a_socket_that_is_gone() -> None:
    """Where the kernel cannot be asked, the transport's own buffer counts."""

    class Transport:
        def get_write_buffer_size(self) -> int:
            return 7

        def get_extra_info(self, _: str) -> socket.socket | None:
            return gone

    gone: socket.socket | None = None
    assert sendqueue.unsent(Transport()) == 7  # type: ignore[arg-type]
    gone = socket.socket()
    gone.close()
    assert sendqueue.unsent(Transport()) == 7  # type: ignore[arg-type]
