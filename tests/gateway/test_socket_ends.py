"""How open sockets fare in a stop, with a replaced worker and after a reload; and tunnels of other protocols."""

import contextlib
import os
import signal
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_run import children, until
from tests.support.client import Ended, RawClient, request
from tests.support.gateway import Config, Gateway
from tests.support.sockets import Socket, agree, echo, frame, handshake
from tests.support.tokens import SECRET, mint
from tests.support.upstream import Arrived, Peer, Upstream

GOING_AWAY, POLICY, RESTART = 1001, 1008, 1012


@pytest.fixture
def up() -> Iterator[Upstream]:
    """A strict upstream that echoes."""
    with Upstream(fallback=echo, upgrades=True, identified=True) as running:
        yield running
        assert running.faults == []


def configuration(up: Upstream, **server: Any) -> Config:
    """A gateway with a few routes to it."""
    return {
        "server": {"drain": "20s", **server},
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "services": {"up": {"url": f"http://127.0.0.1:{up.port}"}},
        "routes": [
            {"path": "/ws", "service": "up", "auth": "none"},
            {"path": "/mine", "service": "up", "scopes": ["read"]},
            {"path": "/foo", "service": "up", "auth": "none", "upgrade": ["foo", "bar/2"]},
        ],
    }


Start = Callable[..., Gateway]


@pytest.fixture
def start(up: Upstream, tmp_path: Path) -> Iterator[Start]:
    """Start a gateway on the fast edge; it ends with the case."""
    with contextlib.ExitStack() as stack:

        def run(**server: Any) -> Gateway:
            database = f"sqlite:///{tmp_path}/t.db"
            config = configuration(up, **server)
            config["auth"]["tokens"]["database"] = database
            gateway = Gateway("fast", config, tmp_path)
            stack.callback(gateway.kill)
            gateway.wait_ready()
            return gateway

        yield run


@contextlib.contextmanager
def sockets(gateway: Gateway, count: int, path: str = "/ws") -> Iterator[list[Socket]]:
    """So many open sockets."""
    with contextlib.ExitStack() as stack:
        yield [
            Socket(stack.enter_context(RawClient(gateway.port))).open(path) for _ in range(count)
        ]


def farewells(opened: list[Socket]) -> set[int]:
    """The codes by which they are closed; all answer at once, because the gateway does not wait for long."""
    with ThreadPoolExecutor(len(opened)) as pool:
        return {found.code for found in pool.map(Socket.farewell, opened)}


# A stop


def test_a_stop_closes_sockets(start: Start, up: Upstream) -> None:
    """Each client and each upstream gets 1001 once, and then the process ends in order."""
    gateway = start()
    with sockets(gateway, 10) as opened:
        gateway.ask_to_stop()
        assert farewells(opened) == {GOING_AWAY}
        assert gateway.status() == 0
        answers = [one.answer for one in opened if one.answer is not None]
    assert [gateway.record(answer)["close_code"] for answer in answers] == [GOING_AWAY] * 10
    assert up.wait(lambda: len(up.closes) == 10)
    assert {code for code, _ in up.closes} == {GOING_AWAY}
    assert "cutting" not in gateway.said()


def test_a_stop_waits_for_the_end_of_a_frame(start: Start, up: Upstream) -> None:
    """The close frame stands behind a frame that is under way, in both directions."""

    def halves(peer: Peer, arrived: Arrived) -> None:
        agree(peer, arrived)
        data = frame(2, b"y" * 200, masked=False)
        peer.send(data[:100])
        assert peer.receive()
        peer.send(data[100:])
        peer.buffer.clear()
        while True:
            peer.receive()

    up.on("/ws/halves", halves)
    gateway = start()
    with RawClient(gateway.port) as client:
        socket = Socket(client).open("/ws/halves")
        message = frame(1, b"x" * 300)
        client.send(message[:50])
        client.has_come(b"yyy")
        gateway.ask_to_stop()
        assert until(lambda: "stopping" in gateway.said())
        client.send(message[50:])
        assert socket.hear().payload == b"y" * 200
        assert socket.hear().code == GOING_AWAY
    assert gateway.status() == 0


@pytest.mark.parametrize("under_way", [b"", b"\x81\xfe\x10\x00mask"])
def test_a_silent_client_does_not_keep_a_stop(start: Start, under_way: bytes) -> None:
    """A client that never answers, or never ends its frame, is cut after a few seconds."""
    gateway = start()
    with sockets(gateway, 1) as (one,):
        one.client.send(under_way)
        assert one.client.buffer == b""
        gateway.ask_to_stop()
        assert gateway.status() == 0


def test_a_replaced_worker_says_so(start: Start) -> None:
    """If one worker alone is stopped, its clients get 1012: another one is there for them."""
    gateway = start(workers=2)
    with sockets(gateway, 8) as opened:
        pids = children(gateway.process.pid)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        assert farewells(opened) == {RESTART}
        assert until(lambda: len(set(children(gateway.process.pid)) - set(pids)) == 2)
    with sockets(gateway, 8) as opened:
        gateway.ask_to_stop()
        assert farewells(opened) == {GOING_AWAY}
    assert gateway.status() == 0


# A reload


def reload(gateway: Gateway, change: Callable[[Config], None]) -> None:
    """Change the file, and wait until the gateway goes by it."""
    config = yaml.safe_load(gateway.file.read_text())
    change(config)
    gateway.file.write_text(yaml.safe_dump(config, sort_keys=False))
    before = gateway.said().count("reload: ")
    gateway.process.send_signal(signal.SIGHUP)
    assert until(lambda: gateway.said().count("reload: ") > before)


def test_a_reload_leaves_unchanged_routes_alone(start: Start) -> None:
    """A new route beside it, or a new limit of the server, does not touch an open socket."""
    gateway = start()

    def change(config: Config) -> None:
        config["routes"].append({"path": "/new", "service": "up", "auth": "none"})
        config["server"]["max_body"] = "1MB"

    with sockets(gateway, 3) as opened:
        for _ in range(2):
            reload(gateway, change if "/new" not in gateway.file.read_text() else lambda _: None)
        assert [one.ask("still here") for one in opened] == ["still here"] * 3


def test_a_route_that_is_gone_closes_its_sockets(start: Start) -> None:
    """They get 1008; the others stay."""
    gateway = start()
    with sockets(gateway, 2) as (one, two), RawClient(gateway.port) as client:
        kept = Socket(client).open(f"/mine?token={mint(scope='read')}")
        reload(gateway, lambda config: config["routes"].pop(0))
        assert [one.farewell().code, two.farewell().code] == [POLICY, POLICY]
        assert kept.ask("still here") == "still here"


@pytest.mark.parametrize(
    ("change", "admitted"),
    [
        ({"scopes": ["read", "write"]}, True),
        ({"scopes": ["admin"]}, False),
        ({"methods": ["GET"]}, False),
        ({"methods": ["WEBSOCKET"]}, True),
        ({"timeouts": {"total": "9s"}}, True),
        ({"issuers": ["https://other.example"]}, False),
    ],
)
def test_rules_that_no_longer_admit(start: Start, change: Config, admitted: bool) -> None:
    """A socket is closed (1008) if its own handshake would be refused now, and left alone otherwise."""
    gateway = start()
    token = mint(scope="read write")
    with RawClient(gateway.port) as client:
        socket = Socket(client).open("/mine", [("Sec-WebSocket-Protocol", f"bearer.{token}")])
        reload(gateway, lambda config: config["routes"][1].update(change))
        if admitted:
            assert socket.ask("still here") == "still here"
        else:
            assert socket.farewell().code == POLICY


def test_another_secret_closes_sockets(start: Start) -> None:
    """A token that no key verifies any more does not keep a socket open."""
    gateway = start()
    with RawClient(gateway.port) as client:
        socket = Socket(client).open(f"/mine?token={mint(scope='read')}")
        reload(gateway, lambda config: config["auth"]["jwt"].update(secret=SECRET[::-1]))
        assert socket.farewell().code == POLICY


# Other protocols


def offer(target: str, protocol: str, method: str = "GET") -> bytes:
    """A request that offers another protocol."""
    return request(method, target, [("Upgrade", protocol), ("Connection", "Upgrade")])


def foo(peer: Peer, arrived: Arrived) -> None:
    """Agree to what is offered, and send back what comes, in capitals, to the end."""
    name = arrived.get("upgrade") or "none"
    peer.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n"
        % name.encode()
    )
    while data := peer.buffer or peer.sock.recv(65536):
        peer.send(bytes(data).upper())
        peer.buffer = bytearray()
    peer.send(b"the end")
    peer.close()


def test_a_protocol_that_the_route_names(start: Start, up: Upstream) -> None:
    """It is tunnelled both ways, and one side may end before the other."""
    up.on("/foo", foo)
    gateway = start()
    named = {"foo": "foo", "FOO": "foo", "bar/2": "bar/2", "h2c, bar/2, foo": "bar/2"}
    for sent, agreed in named.items():
        with RawClient(gateway.port) as client:
            client.send(offer("/foo", sent))
            answer = client.read()
            assert (answer.status, answer.get("upgrade")) == (101, agreed), sent
            client.send(b"abc\x00\xff").has_come(b"ABC\x00\xff")
            client.half_close()
            assert client.rest() == b"ABC\x00\xffthe end", sent
        record = gateway.record(answer)
        assert (record["status"], record["bytes_in"], record["bytes_out"]) == (101, 5, 12), sent


def test_any_other_offer_is_dropped(start: Start, up: Upstream) -> None:
    """The request is served without it."""
    plain(up, "/foo")
    gateway = start()
    for protocol in ("h2c", "other", "bar", "bar/3", "websocket/13"):
        with RawClient(gateway.port) as client:
            assert client.send(offer("/foo", protocol)).read().body == b"ok", protocol
        assert not {"upgrade", "connection"} & up.last.names, protocol


def plain(up: Upstream, path: str) -> None:
    """Have the upstream answer as if nothing had been offered."""
    up.on(path, lambda peer, arrived: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))


def test_a_stop_ends_tunnels(start: Start, up: Upstream) -> None:
    """Another protocol has no close frame: its connections are closed."""
    up.on("/foo", foo)
    gateway = start()
    with RawClient(gateway.port) as client:
        assert client.send(offer("/foo", "foo")).read().status == 101
        gateway.ask_to_stop()
        with contextlib.suppress(Ended):
            client.rest()
    assert gateway.status() == 0


def test_a_socket_on_a_route_with_upgrades(start: Start) -> None:
    """Both may be offered on the same route."""
    gateway = start()
    with RawClient(gateway.port) as client:
        client.send(handshake("/foo", [("Sec-WebSocket-Protocol", "chat")]))
        assert client.read().status == 101
        client.send(frame(8, struct.pack("!H", 1000)))
        assert Socket(client).hear().code == 1000
