"""The rules of `websocket`: silence, age, size and number of messages, pings, and how many sockets a caller may have."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import guarded as guarded_by
from tests.support.client import Ended, RawClient, ask
from tests.support.excused import excused
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.sockets import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Socket,
    agree,
    echo,
    frame,
    handshake,
    read_frame,
)
from tests.support.topology import PATIENT
from tests.support.upstream import Arrived, Gone, Peer, Upstream

GOING_AWAY, POLICY, TOO_BIG = 1001, 1008, 1009
SOON = 0.6  # seconds, of what is waited for


def configuration(upstream: Upstream) -> Config:
    """Routes with one rule each."""
    rules: dict[str, Any] = {
        "idle": {"idle": SOON},
        "old": {"max_lifetime": SOON},
        "small": {"max_message": 1000},
        "slow": {"max_rate": "5/m"},
        "ping": {"ping": 0.3},
        "few": {"max_open": 2},
    }
    routes = [
        {"path": f"/{name}", "service": "up", "websocket": rule} for name, rule in rules.items()
    ]
    return {
        "services": {
            "up": {"url": f"http://127.0.0.1:{upstream.port}", "timeouts": dict(PATIENT)},
            "broken": {
                "url": f"http://127.0.0.1:{upstream.port}",
                "circuit": {"failure_threshold": 2, "min_throughput": 2, "recovery_timeout": "60s"},
                "retry": {"attempts": 1},
                "ejection": {"failures": 100},
            },
        },
        "defaults": {"auth": "none"},
        "routes": [
            *routes,
            {"path": "/broken", "service": "broken"},
            {"path": "/unbroken", "service": "broken", "circuit": False},
        ],
    }


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A strict upstream that echoes."""
    with Upstream(fallback=echo, upgrades=True) as running:
        yield running


@pytest.fixture(scope="module")
def kept_gateways(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[guarded_by.Kept]:
    """The gateways of both edges."""
    running = guarded_by.Kept(EDGES, tmp_path_factory.mktemp("limits"), configuration(upstream))
    yield running
    running.close()


@pytest.mark.parametrize("path", ["/idle", "/old"])
def test_silence_and_age(gateway: Gateway, socket: Socket, up: Upstream, path: str) -> None:
    """A socket without a byte for `idle`, or older than `max_lifetime`, is closed with 1001 on both sides."""
    socket.open(path)
    assert socket.farewell().code == GOING_AWAY
    assert up.wait(lambda: up.closes)
    assert up.closes[0][0] == GOING_AWAY
    assert socket.answer is not None
    assert gateway.record(socket.answer)["close_code"] == GOING_AWAY


def test_whoever_speaks_is_not_idle(socket: Socket) -> None:
    """Messages keep a socket open; an old one is closed in the middle of them."""
    socket.open("/idle")
    end = time.monotonic() + 3 * SOON
    while time.monotonic() < end:
        assert socket.ask("hello") == "hello"
        time.sleep(0.05)


def test_a_client_that_never_reads(gateway: Gateway, up: Upstream) -> None:
    """It counts as idle although the upstream would send for ever: both sides end."""
    ended = []

    def flood(peer: Peer, arrived: Arrived) -> None:
        agree(peer, arrived)
        try:
            while True:
                peer.send(frame(BINARY, b"x" * 65536, masked=False))
        finally:
            ended.append(True)

    up.on("/idle/flood", flood)
    with RawClient(gateway.port, window=4096) as client:
        Socket(client).open("/idle/flood")
        assert up.wait(lambda: ended)


def test_a_message_that_is_too_large(gateway: Gateway, socket: Socket, up: Upstream) -> None:
    """It closes the socket with 1009, and nothing of it reaches the upstream."""
    socket.open("/small")
    socket.client.send(frame(BINARY, b"y" * 1000))
    assert len(socket.hear(data=True).payload) == 1000
    socket.client.send(frame(BINARY, b"z" * 1001))
    assert socket.farewell().code == TOO_BIG
    assert up.wait(lambda: up.closes)
    assert b"zzzz" not in up.raw


def test_fragments_of_a_message_that_is_too_large(socket: Socket) -> None:
    """The sum of its fragments counts."""
    socket.open("/small")
    socket.client.send(frame(BINARY, b"y" * 600, fin=False) + frame(0, b"z" * 600))
    assert socket.farewell().code == TOO_BIG


def test_messages_that_come_too_often(socket: Socket) -> None:
    """So many at once pass; one more closes the socket with 1008."""
    socket.open("/slow")
    for _ in range(5):
        assert socket.ask("hello") == "hello"
    socket.say("one more")
    assert socket.farewell().code == POLICY


def test_pings(edge: str, up: Upstream, gateway: Gateway) -> None:
    """The gateway pings both sides between their frames; one that does not answer is gone (1001)."""
    pinged = []

    def deaf(peer: Peer, arrived: Arrived) -> None:
        agree(peer, arrived)
        while True:
            found = read_frame(peer)
            pinged.append(found.opcode)
            if found.opcode == CLOSE:
                up.closes.append((found.code, found.reason))
                raise Gone

    up.on("/ping/deaf", deaf)
    with RawClient(gateway.port) as client:
        socket = Socket(client).open("/ping/deaf")
        if not excused(edge, "upgrade"):  # uvicorn has pings of its own
            found = socket.hear()
            assert (found.opcode, found.payload) == (PING, b"")
            client.send(frame(PONG))
        assert socket.farewell().code == GOING_AWAY
    assert up.wait(lambda: up.closes)
    assert set(pinged) <= {PING, PONG, CLOSE}
    assert PING in pinged


def test_who_answers_pings_stays(socket: Socket) -> None:
    """A client and an upstream that do are left alone, message or not."""
    socket.open("/ping")
    end = time.monotonic() + 1.5
    socket.client.sock.settimeout(0.1)
    while time.monotonic() < end:
        try:
            found = socket.hear()
        except TimeoutError:
            continue
        assert found.opcode in {PING, PONG}
        if found.opcode == PING:
            socket.client.send(frame(PONG, found.payload))
    socket.client.sock.settimeout(20)
    assert socket.ask("still here") == "still here"


def test_open_sockets_of_a_caller(gateway: Gateway, up: Upstream) -> None:
    """One more than `max_open` is 429 before the upgrade; when one has ended, another may be opened."""
    with RawClient(gateway.port) as one, RawClient(gateway.port) as two:
        first, second = Socket(one).open("/few"), Socket(two).open("/few")
        with RawClient(gateway.port) as three:
            answer = Socket(three).shake("/few")
            assert (answer.status, answer.json()["error"]["code"]) == (429, "RATE_LIMIT")
            assert answer.get("retry-after")
        assert len(up.requests) == 2
        first.client.send(frame(CLOSE, b"\x03\xe8"))
        assert first.hear().opcode == CLOSE

        def opens() -> bool:
            with RawClient(gateway.port) as again:
                return Socket(again).shake("/few").status == 101

        assert up.wait(opens)
        assert second.ask("hello") == "hello"


def test_a_refused_handshake_gives_its_seat_back(gateway: Gateway, up: Upstream) -> None:
    """What the upstream refuses is no open socket."""

    def refuse(peer: Peer, arrived: Arrived) -> None:
        peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    up.on("/few/closed", refuse)
    for _ in range(4):
        with RawClient(gateway.port) as client:
            assert client.send(handshake("/few/closed")).read().status == 403


def test_a_handshake_counts_for_the_breaker(gateway: Gateway, up: Upstream) -> None:
    """Failed ones open it, unless the route says `circuit: false`: then each is tried."""

    def fail(peer: Peer, arrived: Arrived) -> None:
        peer.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")

    up.on("/broken", fail)
    up.on("/unbroken", fail)
    for path, last in (("/unbroken", 500), ("/broken", 503)):
        for _ in range(10):
            with RawClient(gateway.port) as client:
                status = client.send(handshake(path)).read().status
        assert status == last, path
    assert len([one for one in up.requests if one.target == b"/unbroken"]) == 10
    assert len([one for one in up.requests if one.target == b"/broken"]) == 2


def test_a_tiny_frame_flood_is_bounded(gateway: Gateway, up: Upstream) -> None:
    """10^5 frames to an upstream that does not read wait with the client, not in memory."""
    done = threading.Event()

    def deaf(peer: Peer, arrived: Arrived) -> None:
        agree(peer, arrived)
        done.wait(30)
        peer.reset()

    up.on("/idle/deaf", deaf)
    before = gateway.rss()
    with RawClient(gateway.port) as client:
        Socket(client).open("/idle/deaf")
        client.sock.settimeout(0.5)
        data = frame(TEXT, b"x") * 100_000
        try:
            for _ in range(50):
                client.sock.sendall(data)
        except (TimeoutError, OSError):
            pass
        assert gateway.rss() < before + 40_000_000
        done.set()  # its end is the client's
        if gateway.edge != "fast":
            return  # uvicorn waits ten seconds for a close frame that cannot come
        client.sock.settimeout(20)
        try:
            while client.receive():
                continue
        except Ended:
            return


def test_the_gateway_serves_on(gateway: Gateway) -> None:
    """After all of that it is as well as before."""
    assert ask(gateway.port, target="/livez").status == 200
