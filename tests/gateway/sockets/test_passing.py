"""WebSockets through both edges: the handshake, what passes, how it ends; and what never becomes a tunnel."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import guarded as guarded_by
from tests.support.client import RawClient, ask, request
from tests.support.excused import excused
from tests.support.gateway import EDGES, Config, Gateway, free_port
from tests.support.sockets import (
    BINARY,
    CLOSE,
    KEY,
    PING,
    PONG,
    TEXT,
    Socket,
    accept,
    agree,
    close,
    converse,
    echo,
    frame,
    handshake,
    read_frame,
)
from tests.support.topology import PATIENT
from tests.support.upstream import Arrived, Peer, Upstream

GOING_AWAY, UPSTREAM_GONE = 1001, 1011


def configuration(upstream: Upstream, closed_port: int) -> Config:
    """A gateway with routes that differ in what may be opened on them."""
    urls = {"up": upstream.port, "closed": closed_port}
    services = {
        name: {
            "url": f"http://127.0.0.1:{port}",
            "timeouts": dict(PATIENT),
            "retry": {"attempts": 1},
        }
        for name, port in urls.items()
    }
    routes: list[dict[str, Any]] = [
        {"path": "/ws", "service": "up"},
        {"path": "/only", "service": "up", "methods": ["WEBSOCKET"]},
        {"path": "/mixed", "service": "up", "methods": ["WEBSOCKET", "POST"]},
        {"path": "/get", "service": "up", "methods": ["GET"]},
        {"path": "/post", "service": "up", "methods": ["POST"]},
        {"path": "/closed", "service": "closed"},
        {"path": "/stripped", "service": "up", "strip_prefix": True},
        {"path": "/foo", "service": "up", "upgrade": ["foo"]},
    ]
    return {
        "services": services,
        "cors": {"origins": ["https://shop.example"]},
        "defaults": {"auth": "none", "circuit": False},
        "routes": routes,
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
    folder = tmp_path_factory.mktemp("sockets")
    running = guarded_by.Kept(EDGES, folder, configuration(upstream, free_port()))
    yield running
    running.close()


# What passes


def test_echo(socket: Socket, up: Upstream) -> None:
    """Text and binary pass both ways, and the upstream sees the handshake as it was sent."""
    socket.open("/ws/a?b=c%20d")
    assert socket.ask("hello") == "hello"
    socket.client.send(frame(BINARY, bytes(range(256))))
    found = socket.hear(data=True)
    assert (found.opcode, found.payload) == (BINARY, bytes(range(256)))
    arrived = up.last
    assert (arrived.method, arrived.target) == ("GET", b"/ws/a?b=c%20d")
    assert arrived.get("x-request-id") == (socket.answer and socket.answer.get("x-request-id"))
    assert arrived.get("x-forwarded-for") == "127.0.0.1"
    assert arrived.get("x-forwarded-proto") == "http"


def test_large_message(socket: Socket) -> None:
    """A message of 4 MB comes back whole."""
    socket.open("/ws")
    data = bytes(range(256)) * 16_384
    socket.client.send(frame(BINARY, data))
    assert socket.hear(data=True).payload == data


def test_fragments(socket: Socket) -> None:
    """A message in fragments arrives, with a ping between them."""
    socket.open("/ws")
    socket.client.send(frame(BINARY, b"one ", fin=False) + frame(PING, b"p"))
    socket.client.send(frame(0, b"two ", fin=False) + frame(0, b"three"))
    assert socket.hear(data=True).payload == b"one two three"


def test_byte_by_byte(socket: Socket) -> None:
    """Frames may come in single bytes."""
    socket.open("/ws")
    socket.client.trickle(frame(TEXT, b"slow") + frame(BINARY, b"x" * 200))
    assert [socket.hear(data=True).payload for _ in range(2)] == [b"slow", b"x" * 200]


def test_many_tiny_frames(socket: Socket) -> None:
    """Ten thousand of them in one write come back in order."""
    socket.open("/ws")
    socket.client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(10_000)))
    found = [socket.hear(data=True).payload for _ in range(10_000)]
    assert found == [b"%d" % number for number in range(10_000)]


def test_ping(edge: str, socket: Socket) -> None:
    """A ping is answered with its payload, by the upstream on the fast edge."""
    socket.open("/ws")
    socket.client.send(frame(PING, b"are you there"))
    found = socket.hear()
    assert (found.opcode, found.payload) == (PONG, b"are you there")


def test_subprotocol(socket: Socket, up: Upstream) -> None:
    """The client sees the one that the upstream has chosen."""
    socket.open("/ws", [("Sec-WebSocket-Protocol", "v2, v1")])
    assert socket.answer is not None
    assert socket.answer.get("sec-websocket-protocol") == "v2"
    assert up.last.all("sec-websocket-protocol") == [b"v2, v1"]


def test_headers_of_the_answer_pass(socket: Socket, up: Upstream) -> None:
    """So do cookies that the upstream sets with its 101."""
    up.on("/ws/cookie", with_cookie)
    socket.open("/ws/cookie", [("Cookie", "a=b"), ("X-Tenant", "t1")])
    assert socket.answer is not None
    assert socket.answer.all("set-cookie") == [b"id=1; HttpOnly", b"two=2"]
    assert up.last.get("cookie") == "a=b"
    assert up.last.get("x-tenant") == "t1"


def with_cookie(peer: Peer, arrived: Arrived) -> None:
    """Agree, and set two cookies."""
    agree(peer, arrived, more=b"\r\nSet-Cookie: id=1; HttpOnly\r\nSet-Cookie: two=2")
    converse(peer)


def test_a_stripped_prefix(socket: Socket, up: Upstream) -> None:
    """The route's rules for the path hold for handshakes."""
    socket.open("/stripped/room/7?x=1")
    assert up.last.target == b"/room/7?x=1"


def test_the_first_bytes_of_both_sides(edge: str, gateway: Gateway, up: Upstream) -> None:
    """What comes right behind the handshake, and right behind the 101, passes."""
    up.on("/ws/greets", greets)
    with RawClient(gateway.port) as client:
        client.send(handshake("/ws/greets") + frame(TEXT, b"early"))
        socket = Socket(client)
        assert client.read().status == 101
        assert socket.hear(data=True).payload == b"welcome"
        if not excused(edge, "upgrade"):  # uvicorn loses what comes with the handshake
            assert socket.hear(data=True).payload == b"early"


def greets(peer: Peer, arrived: Arrived) -> None:
    """Send a message with the 101."""
    sent: list[bytes] = []
    real, peer.send = peer.send, lambda data, **_: sent.append(data)  # type: ignore[method-assign]
    agree(peer, arrived)
    peer.send = real  # type: ignore[method-assign]
    peer.send(sent[0] + frame(TEXT, b"welcome", masked=False))
    converse(peer)


# The close


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "leaving"), (4321, "own code")])
def test_the_client_closes(
    gateway: Gateway, socket: Socket, up: Upstream, code: int, reason: str
) -> None:
    """Code and reason reach the upstream, its answer the client; the log has the code, and the bytes both ways."""
    socket.open("/ws")
    assert socket.ask("hello") == "hello"
    socket.client.send(close(code, reason))
    found = socket.hear()
    assert (found.opcode, found.code) == (CLOSE, code)
    assert socket.client.is_closed()
    assert up.wait(lambda: up.closes)
    assert up.closes == [(code, reason)]
    assert socket.answer is not None
    record = gateway.record(socket.answer)
    assert (record["status"], record["upstream_status"], record["close_code"]) == (101, 101, code)
    assert record["bytes_in"] >= 5
    assert record["bytes_out"] >= 5
    assert record["level"] == "info"


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1013, "later"), (4000, "x" * 100)])
def test_the_upstream_closes(socket: Socket, up: Upstream, code: int, reason: str) -> None:
    """Code and reason reach the client, and its answer the upstream."""
    socket.open("/ws").say(f"close {code} {reason}"[:64])
    found = socket.farewell()
    assert found.code == code
    assert reason.startswith(found.reason)
    assert up.wait(lambda: up.closes)


@pytest.mark.parametrize("word", ["die", "leave"])
def test_the_upstream_goes(gateway: Gateway, socket: Socket, word: str) -> None:
    """One that ends without a close frame closes the client with 1011."""
    socket.open("/ws").say(word)
    assert socket.farewell().code == UPSTREAM_GONE
    assert socket.answer is not None
    assert gateway.record(socket.answer)["close_code"] == UPSTREAM_GONE


def test_the_upstream_goes_in_the_middle_of_a_frame(gateway: Gateway, up: Upstream) -> None:
    """A close frame would be read as a part of the frame: the client is cut, or gets only whole messages."""
    up.on("/ws/torn", torn)
    with RawClient(gateway.port) as client:
        socket = Socket(client).open("/ws/torn")
        frames = []
        for one in socket.rest():
            frames.append(one.opcode)
            client.send(frame(CLOSE, one.payload[:2]))  # another server waits for it for seconds
    assert frames in ([], [CLOSE])


def torn(peer: Peer, arrived: Arrived) -> None:
    """Send half a frame, and leave."""
    agree(peer, arrived)
    peer.send(b"\x82\x7e\x01\x00half")
    peer.close()


def test_the_client_goes(gateway: Gateway, up: Upstream) -> None:
    """A client that vanishes takes the upstream's connection with it."""
    ended = []

    def note(peer: Peer, arrived: Arrived) -> None:
        agree(peer, arrived)
        try:
            while True:
                read_frame(peer)
        finally:
            ended.append(True)

    up.on("/ws/noted", note)
    with RawClient(gateway.port) as client:
        Socket(client).open("/ws/noted")
    assert up.wait(lambda: ended)


def test_a_slow_reader_is_waited_for(gateway: Gateway, up: Upstream) -> None:
    """60 MB to a client that does not read stay with the upstream, and arrive when it does."""
    with RawClient(gateway.port, window=4096) as client:
        socket = Socket(client).open("/ws")
        before = gateway.rss()
        socket.say("flood 960")
        assert not up.wait(lambda: gateway.rss() > before + 30_000_000, within=1.0)
        total = sum(len(socket.hear(data=True).payload) for _ in range(960))
        assert total == 960 * 65536
        assert socket.ask("still here") == "still here"


# Refusals


def test_a_plain_get_where_only_sockets_are(gateway: Gateway, up: Upstream) -> None:
    """It is 426 with what it would have to offer; a POST is 405, and Allow says GET."""
    answer = ask(gateway.port, target="/only")
    assert (answer.status, answer.json()["error"]["code"]) == (426, "UPGRADE_REQUIRED")
    assert answer.get("upgrade") == "websocket"
    assert b"upgrade" in [value.lower() for value in answer.all("connection")]
    answer = ask(gateway.port, "POST", "/only")
    assert (answer.status, answer.get("allow")) == (405, "GET")
    assert ask(gateway.port, "DELETE", "/mixed").get("allow") == "GET, POST"
    assert not up.raw


def test_a_preflight_names_get(gateway: Gateway, up: Upstream) -> None:
    """In CORS, a socket stands as the GET that its handshake is."""
    headers = [("Origin", "https://shop.example"), ("Access-Control-Request-Method", "GET")]
    answer = ask(gateway.port, "OPTIONS", "/only", headers)
    assert answer.get("access-control-allow-methods") == "GET"


def test_a_route_without_sockets(gateway: Gateway, up: Upstream) -> None:
    """A handshake there is the GET that it is: the offer does not reach the upstream."""
    up.on(
        "/get", lambda peer, arrived: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    )
    with RawClient(gateway.port) as client:
        answer = client.send(handshake("/get")).read()
    assert (answer.status, answer.body) == (200, b"ok")
    assert not {"upgrade", "connection"} & up.last.names


def test_a_route_without_get(gateway: Gateway, up: Upstream) -> None:
    """A handshake on a route that has neither is 405."""
    with RawClient(gateway.port) as client:
        answer = client.send(handshake("/post")).read()
    assert (answer.status, answer.get("allow")) == (405, "POST")
    assert not up.raw


def test_another_protocol(edge: str, gateway: Gateway, up: Upstream) -> None:
    """It is offered to the upstream on the fast edge; an ASGI server cannot tunnel it, so there it is dropped."""
    script(up, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "/foo")
    offer = [("Upgrade", "foo"), ("Connection", "Upgrade")]
    assert ask(gateway.port, target="/foo", headers=offer).body == b"ok"
    assert up.last.get("upgrade") == (None if excused(edge, "upgrade") else "foo")


def test_upstream_down(gateway: Gateway, up: Upstream) -> None:
    """It is 502 with the envelope, before the upgrade."""
    with RawClient(gateway.port) as client:
        answer = client.send(handshake("/closed")).read()
    assert (answer.status, answer.json()["error"]["code"]) == (502, "UPSTREAM_ERROR")


HOSTILE = {
    "no-key": handshake("/ws", without=("Sec-WebSocket-Key",)),
    "short-key": handshake("/ws", [("Sec-WebSocket-Key", "abc")], without=("Sec-WebSocket-Key",)),
    "two-keys": handshake("/ws", [("Sec-WebSocket-Key", KEY)]),
    "version-8": handshake(
        "/ws", [("Sec-WebSocket-Version", "8")], without=("Sec-WebSocket-Version",)
    ),
    "no-version": handshake("/ws", without=("Sec-WebSocket-Version",)),
    "two-upgrades": handshake("/ws", [("Upgrade", "h2c")]),
    "body": handshake("/ws", [("Content-Length", "3")]) + b"abc",
    "chunked": handshake("/ws", [("Transfer-Encoding", "chunked")]) + b"3\r\nabc\r\n0\r\n\r\n",
    "bad-protocol": handshake("/ws", [("Sec-WebSocket-Protocol", "a b")]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_handshake(edge: str, gateway: Gateway, up: Upstream, name: str) -> None:
    """It is refused, the connection ends, and what stands behind it is never answered."""
    with RawClient(gateway.port) as client:
        client.send(HOSTILE[name] + request(target="/ws/smuggled"))
        if excused(edge, "upgrade") and name in {"body", "chunked"}:
            # uvicorn never answers these; nothing of them may have come through.
            assert ask(gateway.port, target="/livez").status == 200
            assert not up.raw
            return
        answer = client.read()
        if not excused(edge, "upgrade"):
            assert answer.status == (426 if name == "version-8" else 400)
            assert b"close" in answer.all("connection")
        assert answer.status != 101
        if excused(edge, "upgrade") and name == "two-upgrades":
            return  # uvicorn takes the last one, and hands over an ordinary GET
        rest = client.rest()
    assert b"HTTP/1.1 200" not in rest
    assert [one.target for one in up.requests if b"smuggled" in one.target] == []


@pytest.mark.parametrize("name", ["no-connection", "http-1.0", "post", "head"])
def test_no_handshake_at_all(edge: str, gateway: Gateway, up: Upstream, name: str) -> None:
    """What lacks a part of the offer is the request that it is, and reaches the upstream without an offer."""
    script(up, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    sent = {
        "no-connection": handshake("/ws/plain", without=("Connection",)),
        "http-1.0": handshake("/ws/plain", version="1.0"),
        "post": handshake("/ws/plain", method="POST"),
        "head": handshake("/ws/plain", method="HEAD"),
    }[name]
    with RawClient(gateway.port) as client:
        answer = client.send(sent).read("HEAD" if name == "head" else "GET")
    if not excused(edge, "upgrade"):
        assert answer.status == 200
        assert all("upgrade" not in one.names for one in up.requests)
    elif name != "http-1.0":  # which uvicorn calls 1.1
        assert answer.status != 101


def script(up: Upstream, answer: bytes, path: str = "/ws/plain") -> None:
    """Have the upstream answer with these bytes."""

    def send(peer: Peer, arrived: Arrived) -> None:
        peer.send(answer)
        if b"Connection: close" in answer:
            peer.close()

    up.on(path, send)


@pytest.mark.parametrize(
    "status", ["200 OK", "401 Unauthorized", "426 Upgrade Required", "404 Not Found"]
)
def test_the_upstream_refuses(gateway: Gateway, up: Upstream, status: str) -> None:
    """Its answer passes; what the client sent behind its handshake is read neither as frames nor as a request."""
    script(up, b"HTTP/1.1 %b\r\nContent-Length: 4\r\nX-Why: no\r\n\r\nwhy?" % status.encode())
    with RawClient(gateway.port) as client:
        client.send(handshake("/ws/plain") + request(target="/ws/smuggled"))
        answer = client.read()
        assert (answer.status, answer.body, answer.get("x-why")) == (int(status[:3]), b"why?", "no")
        assert client.is_closed()
    assert [one.target for one in up.requests] == [b"/ws/plain"]


UNAGREED = {
    "no-upgrade": "Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}",
    "other-upgrade": "Upgrade: foo\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}",
    "no-connection": "Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}",
    "no-accept": "Upgrade: websocket\r\nConnection: Upgrade",
    "wrong-accept": "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {wrong}",
    "protocol": "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}"
    "\r\nSec-WebSocket-Protocol: unasked",
    "extension": "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}"
    "\r\nSec-WebSocket-Extensions: x-unasked",
}


@pytest.mark.parametrize("name", UNAGREED)
def test_an_upstream_that_did_not_agree(gateway: Gateway, up: Upstream, name: str) -> None:
    """A 101 that is none is 502, and the connection is not used any more."""

    def send(peer: Peer, arrived: Arrived) -> None:
        key = (arrived.get("sec-websocket-key") or "").encode()
        lines = UNAGREED[name].format(
            accept=accept(key).decode(), wrong=accept(key + b"x").decode()
        )
        peer.send(f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n\r\n".encode())
        arrived.body += peer.receive() if name == "no-upgrade" else b""

    up.on("/ws/plain", send)
    with RawClient(gateway.port) as client:
        answer = client.send(handshake("/ws/plain")).read()
    assert (answer.status, answer.json()["error"]["code"]) == (502, "UPSTREAM_ERROR")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_101_that_was_not_asked_for(gateway: Gateway, up: Upstream, method: str) -> None:
    """It is 502: no tunnel begins with an ordinary request."""
    answer = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )
    script(up, answer)
    assert ask(gateway.port, method, "/ws/plain").status == 502


def test_early_answers_of_the_upstream(gateway: Gateway, up: Upstream) -> None:
    """A 1xx answer before the 101 does no harm."""

    def hint(peer: Peer, arrived: Arrived) -> None:
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        echo(peer, arrived)

    up.on("/ws/hint", hint)
    with RawClient(gateway.port) as client:
        assert Socket(client).open("/ws/hint").ask("hello") == "hello"


# Origins


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        (None, "gw.test", 101),
        ("http://gw.test", "gw.test", 101),
        ("https://gw.test", "gw.test", 101),  # TLS may end before the gateway
        ("http://gw.test", "gw.test:80", 101),
        ("http://gw.test:8080", "gw.test:8080", 101),
        ("https://shop.example", "gw.test", 101),  # of cors.origins
        ("http://GW.test", "gw.TEST", 101),
        ("https://evil.test", "gw.test", 403),
        ("http://gw.test.evil.test", "gw.test", 403),
        ("http://gw.test:81", "gw.test", 403),
        ("http://gw.test", "gw.test:8080", 403),
        ("https://gw.test", "gw.test:80", 403),
        ("http://shop.example", "gw.test", 403),
        ("null", "gw.test", 403),
        ("", "gw.test", 403),
        ("http://gw.test/", "gw.test", 403),
        ("http://gw.test@evil.test", "gw.test", 403),
        ("file://", "gw.test", 403),
    ],
)
def test_origins(
    gateway: Gateway, up: Upstream, origin: str | None, host: str, status: int
) -> None:
    """A page of the gateway's own host may open a socket, and of a listed one; another may not."""
    headers = [] if origin is None else [("Origin", origin)]
    with RawClient(gateway.port) as client:
        answer = client.send(handshake("/ws", headers, host=host)).read()
        assert answer.status == status
        if status == 403:
            assert answer.json()["error"]["code"] == "AUTH_ERROR"
            error = gateway.record(answer)["error"]
            assert f'Origin "{origin}"' in error
            assert "websocket.origins" in error
            assert not up.raw


def test_two_origins(edge: str, gateway: Gateway, up: Upstream) -> None:
    """No browser sends two: they are refused, whatever they are."""
    headers = [("Origin", "http://gw.test"), ("Origin", "http://gw.test")]
    with RawClient(gateway.port) as client:
        answer = client.send(handshake("/ws", headers)).read()
        assert answer.status == (400 if excused(edge, "upgrade") else 403)
        assert not up.raw


# Metrics


def test_open_sockets_are_counted(gateway: Gateway, socket: Socket, up: Upstream) -> None:
    """The gauge goes up and down; the handshake is counted among the requests when the socket has ended."""

    def gauge() -> str:
        lines = ask(gateway.port, target="/metrics").body.decode().splitlines()
        found = [line for line in lines if line.startswith('propylon_open_sockets{route="/ws"')]
        return found[0].split()[-1] if found else ""

    assert up.wait(lambda: gauge() in {"", "0.0"})
    socket.open("/ws")
    assert gauge() == "1.0"
    socket.client.send(close(1000))
    assert up.wait(lambda: gauge() == "0.0")
    body = ask(gateway.port, target="/metrics").body
    assert b'propylon_requests_total{method="GET",route="/ws",service="up",status="101"}' in body
