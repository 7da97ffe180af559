"""Connections to upstreams: kept, thrown away when in doubt, and never a request sent twice."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.support import answers
from tests.support.client import RawClient, ask, request
from tests.support.gateway import Gateway
from tests.support.topology import BOUND, BRIEF, CURT, PATIENT
from tests.support.upstream import Arrived, Peer, Upstream

FIVE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def idle_since(up: Upstream, last: Arrived) -> list[Peer]:
    """Every idle connection, as soon as that of the last request is one."""
    assert up.wait(lambda: last.connection in {peer.number for peer in up.idle})
    return up.idle


def gone(up: Upstream, peers: list[Peer]) -> bool:
    """Whether the gateway closes these connections."""
    return up.wait(lambda: not set(peers) & up._peers)


def test_connection_is_used_again(gateway: Gateway, up: Upstream) -> None:
    """Requests one after the other share one connection to the upstream."""
    for _ in range(5):
        assert ask(gateway.port).status == 200
    assert len({arrived.connection for arrived in up.requests}) == 1


def test_connection_close_of_an_upstream_is_obeyed(gateway: Gateway, up: Upstream) -> None:
    """An answer with `Connection: close` ends the upstream's connection, not the client's."""
    up.on("/close", answers.plain(headers=["Connection: close"], body=b"x", end=answers.close))
    with RawClient(gateway.port) as client:
        for _ in range(3):
            answer = client.send(request(target="/up/close")).read()
            assert (answer.status, answer.complete) == (200, True)
            assert (answer.get("connection") or "").lower() != "close"
    assert len({arrived.connection for arrived in up.requests}) == 3


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_bytes_behind_an_answer_reach_nobody(gateway: Gateway, up: Upstream, pause: float) -> None:
    """A second answer pushed behind the first one is thrown away with its connection."""
    up.on("/extra", answers.raw(FIVE, EVIL, pause=pause) if pause else answers.raw(FIVE + EVIL))
    assert ask(gateway.port, target="/up/extra").body == b"hello"
    assert gone(up, [peer for peer in up._peers if peer.number == up.last.connection])
    answer = ask(gateway.port, target="/up/mine")
    assert answer.body.startswith(b"GET /mine ")
    assert up.requests[0].connection != up.requests[1].connection


@pytest.mark.parametrize(
    "pushed",
    [
        EVIL,
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"garbage",
        b"\r\n",
    ],
    ids=["200", "408", "garbage", "blank"],
)
def test_unsolicited_bytes_on_an_idle_connection_reach_nobody(
    gateway: Gateway, up: Upstream, pushed: bytes
) -> None:
    """What an upstream says unasked on an idle connection is never an answer to the next request."""
    assert ask(gateway.port).status == 200
    idle = idle_since(up, up.last)
    for peer in idle:
        peer.send(pushed)
    assert gone(up, idle)
    answer = ask(gateway.port, target="/up/mine")
    assert (answer.status, answer.body[:10]) == (200, b"GET /mine ")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
def test_idle_connection_that_was_closed_is_no_failure(
    gateway: Gateway, up: Upstream, method: str
) -> None:
    """An idle connection that the upstream closed a while ago is not used."""
    assert ask(gateway.port).status == 200
    idle = idle_since(up, up.last)
    for peer in idle:
        peer.sock.shutdown(socket.SHUT_WR)  # it stays until the gateway closes its end, too
    assert gone(up, idle)
    assert ask(gateway.port, method, "/up/again", body=b"x").status == 200
    assert [arrived.method for arrived in up.requests if arrived.target == b"/again"] == [method]


def close_first(peer: Peer, arrived: Arrived) -> None:
    """Read the request and close without a word."""
    peer.read_body(arrived)
    peer.close()


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_request_that_may_not_be_repeated_is_sent_once(
    gateway: Gateway, up: Upstream, method: str
) -> None:
    """A kept-alive connection that closes just as a POST arrives: 502, and never a second POST."""
    assert ask(gateway.port).status == 200  # the connection is now a kept-alive one
    up.on("/once", close_first)
    assert ask(gateway.port, method, "/up/once", body=b"x").status == 502
    assert up.wait(lambda: up.requests[1:])
    assert ask(gateway.port, target="/up/after").status == 200
    assert len([arrived for arrived in up.requests if arrived.target == b"/once"]) == 1


def test_get_on_a_connection_that_had_been_closed_is_sent_again(
    gateway: Gateway, up: Upstream
) -> None:
    """The same with a GET: one more try on a new connection, and the client never knows."""
    assert ask(gateway.port).status == 200
    up.on("/twice", answers.in_turn(close_first, answers.plain(body=b"second")))
    answer = ask(gateway.port, target="/up/twice")
    assert (answer.status, answer.body) == (200, b"second")
    assert len([arrived for arrived in up.requests if arrived.target == b"/twice"]) == 2


def test_get_that_always_breaks_is_502_soon(gateway: Gateway, up: Upstream) -> None:
    """An upstream that closes every time is 502 after a few tries, not a loop."""
    up.on("/never", close_first)
    assert ask(gateway.port, target="/up/never").status == 502
    assert len(up.requests) <= 4


def test_answer_that_has_begun_is_never_asked_for_again(gateway: Gateway, up: Upstream) -> None:
    """Once a byte of an answer is there, the request is not repeated, whatever its method."""
    assert ask(gateway.port).status == 200
    up.on("/begun", answers.raw(b"HTTP/1.1 200 OK\r\nContent-Le", end=answers.close))
    assert ask(gateway.port, target="/up/begun").status == 502
    assert len([arrived for arrived in up.requests if arrived.target == b"/begun"]) == 1


def test_dripping_body_ends_by_max_duration(gateway: Gateway, up: Upstream) -> None:
    """A body that drips for ever ends where the route says so, visibly cut."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    up.on("/bounded", answers.endless(b"1\r\nx\r\n", head, pause=0.1))
    started = time.monotonic()
    answer = ask(gateway.port, target="/bounded")
    assert answer.ended in ("cut", "reset")
    assert time.monotonic() - started > BOUND * 0.6
    assert up.wait(lambda: up.last.cancelled)


def test_dripping_head_ends_by_the_total(gateway: Gateway, up: Upstream) -> None:
    """A head that comes byte by byte does not outlast the deadline."""
    up.on("/curt", answers.endless(b"x", b"HTTP/1.1 200 OK\r\nX-A: ", pause=0.05))
    started = time.monotonic()
    assert ask(gateway.port, target="/curt").status == 504
    assert CURT * 0.6 < time.monotonic() - started < PATIENT["total"] * 0.8


def test_body_longer_than_the_timeouts_is_not_cut(gateway: Gateway, up: Upstream) -> None:
    """A body that goes on for longer than `total`, never silent for `idle`, arrives whole."""
    pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", *[b"x"] * 6]
    up.on("/brief/long", answers.raw(*pieces, pause=BRIEF / 5))
    answer = ask(gateway.port, target="/brief/long")
    assert (answer.body, answer.complete) == (b"x" * 6, True)


def test_hanging_upstream_delays_nobody_else(gateway: Gateway, up: Upstream) -> None:
    """While fifty requests hang in one path, another one is answered."""
    go = threading.Event()

    def held(peer: Peer, arrived: Arrived) -> None:
        go.wait(20)
        answers.plain(body=b"late")(peer, arrived)

    up.on("/held", held)
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(50)]
        for client in clients:
            client.send(request(target="/up/held"))
        assert up.wait(lambda: len(up.requests) == 50)
        assert ask(gateway.port).status == 200
        go.set()
        assert {client.read().body for client in clients} == {b"late"}


def test_concurrent_requests_get_their_own_answers(gateway: Gateway, up: Upstream) -> None:
    """Forty clients at once, five requests each: every answer is the one to its own request."""

    def talk(number: int) -> list[bytes]:
        with RawClient(gateway.port) as client:
            targets = [f"/up/c{number}-{turn}" for turn in range(5)]
            return [
                client.send(request(target=target)).read().body.split()[1] for target in targets
            ]

    with ThreadPoolExecutor(40) as threads:
        found = list(threads.map(talk, range(40)))
    assert found == [[f"/c{n}-{turn}".encode() for turn in range(5)] for n in range(40)]


def test_client_gone_in_mid_answer_lets_the_upstream_go(gateway: Gateway, up: Upstream) -> None:
    """A client that leaves while its answer comes frees the upstream's connection."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    up.on("/big/stream", answers.endless(b"400\r\n" + b"x" * 1024 + b"\r\n", head, pause=0.01))
    client = RawClient(gateway.port).send(request(target="/big/stream"))
    client.receive()
    client.reset()
    assert up.wait(lambda: up.last.cancelled)


@pytest.mark.parametrize("size", [70_000, 150_000, 250_000, 1_000_000, 5_000_000])
def test_connection_of_a_slow_reader_is_as_good_as_new(
    gateway: Gateway, up: Upstream, size: int
) -> None:
    """A connection that was paused for a slow client's sake reads again for whoever is next."""
    up.on("/blob", answers.plain(body=b"x" * size))
    with RawClient(gateway.port, window=4096) as slow:
        slow.send(request(target="/up/blob"))
        assert up.wait(lambda: up.requests)
        time.sleep(0.1)
        assert [ask(gateway.port, target=f"/up/{n}").status for n in range(3)] == [200] * 3
        assert slow.read().body == b"x" * size
    for _ in range(3):
        assert ask(gateway.port, target="/up/blob").complete
        assert ask(gateway.port).status == 200
