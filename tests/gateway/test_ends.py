"""How connections end: too many of them, with input still coming, and in a stop."""

import contextlib
import socket
import threading
import time
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.answers import flood, plain
from tests.support.client import Answer, Ended, RawClient, ask, request
from tests.support.excused import excused
from tests.support.gateway import Config, Gateway
from tests.support.sockets import Socket, echo
from tests.support.upstream import Arrived, Peer, Upstream
from tests.support.waiting import wait

LARGE = 200_000


def config(upstream: Upstream, **server: Any) -> Config:
    """One service on every path."""
    return {
        "server": {"drain": 10, **server},
        "defaults": {"auth": "none", "circuit": False},
        "services": {"orders": {"url": f"http://127.0.0.1:{upstream.port}"}},
        "routes": [{"path": "/", "service": "orders"}],
    }


# Too many


class Holding:
    """An upstream that keeps requests under way, and clients that wait for their answers."""

    def __init__(self, gateway: Gateway, upstream: Upstream) -> None:
        self.go = threading.Event()
        self._gateway = gateway
        self._upstream = upstream
        self._clients: list[RawClient] = []
        upstream.on("/held", self._hold)

    def _hold(self, peer: Peer, arrived: Arrived) -> None:
        self.go.wait(60)
        plain()(peer, arrived)

    def take(self, number: int) -> None:
        """Have so many requests under way, each on a connection of its own."""
        before = len(self._upstream.requests)
        for _ in range(number):
            client = RawClient(self._gateway.port)
            self._clients.append(client.send(request(target="/held")))
        wait(lambda: len(self._upstream.requests) == before + number)

    def end(self) -> list[int]:
        """Have all of them answered; return their statuses."""
        self.go.set()
        found = [client.read().status for client in self._clients]
        for client in self._clients:
            client.sock.close()
        return found


def refused(gateway: Gateway) -> Answer:
    """Ask on a connection that is one too many, and see that it is closed."""
    with RawClient(gateway.port) as client:
        answer = client.send(request(target="/x")).read()
        assert client.is_closed()
    assert answer.status == 503
    assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert answer.get("connection") == "close"
    assert answer.get("retry-after")
    return answer


def admitted(gateway: Gateway) -> bool:
    """Whether a request gets through."""
    with contextlib.suppress(OSError, Ended):
        return ask(gateway.port, target="/x").status == 200
    return False


def test_too_many_connections(start: Start) -> None:
    """The connection beyond `max_connections` is answered 503 and closed, those before it go on, and one that ends makes room."""
    with Upstream() as upstream:
        gateway = start(config(upstream, max_connections=3))
        holding = Holding(gateway, upstream)
        wait(lambda: admitted(gateway))
        holding.take(3)
        answer = refused(gateway)
        assert "server.max_connections" in gateway.record(answer)["error"]
        assert not [one for one in upstream.requests if one.target == b"/x"][1:]
        assert holding.end() == [200] * 3
        wait(lambda: admitted(gateway))


def test_idle_connections_count(start: Start) -> None:
    """On the fast edge a connection counts while it is open; another server tells the gateway only of requests."""
    with Upstream() as upstream:
        gateway = start(config(upstream, max_connections=3))
        if gateway.edge == "portable":
            pytest.skip("an ASGI app sees requests, and no connections")
        wait(lambda: admitted(gateway))
        idle = [RawClient(gateway.port) for _ in range(3)]
        for client in idle:
            assert client.send(request(target="/y")).read().status == 200
        refused(gateway)
        with RawClient(gateway.port) as silent:
            assert silent.is_closed(within=20)
        for client in idle:
            client.sock.close()
        wait(lambda: admitted(gateway))


def test_open_sockets_count(start: Start) -> None:
    """A WebSocket counts while it is open, and makes room once when it ends."""
    with Upstream(upgrades=True) as upstream:
        upstream.on("/ws", echo)
        gateway = start(config(upstream, max_connections=2))
        wait(lambda: admitted(gateway))
        for _ in range(3):
            with RawClient(gateway.port) as first, RawClient(gateway.port) as second:
                sockets = [Socket(first), Socket(second)]
                for opened in sockets:
                    opened.open("/ws")
                    assert opened.ask("hello") == "hello"
                refused(gateway)
            wait(lambda: admitted(gateway))


def test_too_many_connections_of_one_client(start: Start) -> None:
    """Beyond `max_connections_per_client` a client is refused; another client's address is not."""
    with Upstream() as upstream:
        gateway = start(config(upstream, max_connections_per_client=2))
        holding = Holding(gateway, upstream)
        wait(lambda: admitted(gateway))
        holding.take(2)
        answer = refused(gateway)
        assert "max_connections_per_client" in gateway.record(answer)["error"]
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.connect(("127.0.0.1", gateway.port))
            other.sendall(request(target="/x"))
            assert other.recv(100).startswith(b"HTTP/1.1 200 ")
        assert holding.end() == [200] * 2


def test_a_trusted_proxy_is_no_single_client(start: Start) -> None:
    """The limit for one client never counts for `trusted_proxies`."""
    with Upstream() as upstream:
        gateway = start(
            config(upstream, max_connections_per_client=2, trusted_proxies=["127.0.0.1"])
        )
        holding = Holding(gateway, upstream)
        holding.take(5)
        assert admitted(gateway)
        assert holding.end() == [200] * 5


def test_the_limit_is_in_force_after_a_reload(start: Start) -> None:
    """SIGHUP sets another limit, for the connections that come from then on."""
    with Upstream() as upstream:
        gateway = start(config(upstream, max_connections=100))
        if gateway.edge == "portable":
            pytest.skip("a reload by SIGHUP is `propylon run`'s")
        holding = Holding(gateway, upstream)
        holding.take(3)
        text = gateway.file.read_text().replace("max_connections: 100", "max_connections: 3")
        gateway.file.write_text(text)
        gateway.process.send_signal(1)
        wait(lambda: not admitted(gateway))
        refused(gateway)
        assert holding.end() == [200] * 3


# Input that still comes


def test_an_answer_is_not_lost_while_input_comes(start: Start) -> None:
    """A client that goes on sending behind its last request gets the whole answer, not a reset."""
    with Upstream() as upstream:
        gateway = start(config(upstream))
        if excused(gateway.edge, "linger"):
            return
        upstream.on("/large", flood(LARGE - LARGE % 65536)[0])
        size = LARGE - LARGE % 65536
        for _ in range(15):
            with RawClient(gateway.port, window=8192) as client:
                client.send(request(target="/large", headers=[("Connection", "close")]))
                client.send(b"GET /more HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
                time.sleep(0.02)
                client.send(b"x" * 20_000)
                answer = client.read()
                assert (answer.status, len(answer.body), answer.ended) == (200, size, "whole")
        assert not [one for one in upstream.requests if one.target == b"/more"]


def test_a_refused_client_that_reads_late_gets_its_answer(start: Start) -> None:
    """The gateway lingers as long as the client still reads what was sent."""
    with Upstream() as upstream:
        gateway = start(config(upstream))
        if excused(gateway.edge, "linger"):
            return
        upstream.on("/large", flood(65536 * 64)[0])
        with RawClient(gateway.port, window=4096) as client:
            client.send(request(target="/large", headers=[("Connection", "close")]))
            client.send(b"x" * 1000)
            time.sleep(2.5)
            client.send(b"x" * 1000)
            answer = client.read()
        assert (len(answer.body), answer.ended) == (65536 * 64, "whole")


# A stop


def test_half_a_head_is_served_in_a_stop(start: Start) -> None:
    """A request whose head has begun when SIGTERM comes is served if the rest arrives within its time."""
    with Upstream() as upstream:
        gateway = start(config(upstream))
        if excused(gateway.edge, "header-time"):
            return
        head = request(target="/late")
        with RawClient(gateway.port) as client, RawClient(gateway.port) as idle:
            assert idle.send(request(target="/x")).read().status == 200
            client.send(head[:20])
            time.sleep(0.1)
            gateway.ask_to_stop()
            assert idle.is_closed()
            time.sleep(0.5)
            client.send(head[20:])
            answer = client.read()
            assert (answer.status, answer.get("connection")) == (200, "close")
        assert gateway.status() == 0


def test_half_a_head_that_does_not_end_is_refused_in_a_stop(start: Start) -> None:
    """The time for a head holds in a stop, too: 408, and the gateway ends."""
    with Upstream() as upstream:
        gateway = start(config(upstream, timeouts={"header": 1}))
        if excused(gateway.edge, "header-time"):
            return
        with RawClient(gateway.port) as client:
            client.send(request()[:20])
            time.sleep(0.1)
            gateway.ask_to_stop()
            assert client.read().status == 408
        assert gateway.status() == 0
