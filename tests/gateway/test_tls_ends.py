"""TLS connections end as those without TLS do: half-closed by either side, lingering, cut."""

import hashlib
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.answers import after, flood, hang, plain
from tests.support.client import Ended, RawClient, request
from tests.support.gateway import Gateway
from tests.support.sockets import BINARY, Socket, close, echo, frame
from tests.support.tls import TlsClient
from tests.support.upstream import Upstream
from tests.support.waiting import wait
from tests.upstream.test_dial import _certificate

SIZE = 65536 * 4
HEADER = 1  # seconds for a handshake, and for a head
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def up() -> Iterator[Upstream]:
    """An upstream behind the gateway."""
    with Upstream(upgrades=True) as upstream:
        upstream.on("/ws", echo)
        upstream.on("/slow", after(0.4, plain(body=b"late")))
        upstream.on("/hang", hang)
        upstream.on("/large", flood(SIZE)[0])
        yield upstream


@pytest.fixture(scope="module")
def gateway(up: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """`propylon run` with a certificate. Nothing but records may be in its log."""
    folder = tmp_path_factory.mktemp("tls")
    _certificate(folder, "localhost")
    pem = str(folder / "both.pem")
    running = Gateway(
        "fast",
        {
            "server": {"timeouts": {"header": HEADER, "body": 5}, "drain": 5},
            "tls": {"certificate": pem, "key": pem},
            "defaults": {"auth": "none", "circuit": False},
            "services": {"orders": {"url": f"http://127.0.0.1:{up.port}"}},
            "routes": [{"path": "/", "service": "orders", "max_body": "100MB"}],
        },
        folder,
    )
    wait(lambda: _listens(running.port))
    yield running
    assert running.stop() == 0
    assert all(json.loads(line) for line in running.said().splitlines())


def _lines(gateway: Gateway) -> list[str]:
    """What it has said, without the records of requests: those of the last case may come late."""
    return [line for line in gateway.said().splitlines() if '"duration_ms"' not in line]


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


ENDS: dict[str, Callable[[TlsClient], object]] = {
    "close_notify": TlsClient.send_close_notify,
    "fin": TlsClient.send_fin,
    "both": lambda client: client.send_close_notify().send_fin(),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ENDS)
def test_a_half_closed_client_gets_its_answer(
    gateway: Gateway, how: str, version: ssl.TLSVersion
) -> None:
    """A client that says that it will send no more is served, and the gateway ends with a close_notify."""
    with TlsClient(gateway.port, version=version) as client:
        client.send(request(target="/slow"))
        ENDS[how](client)
        answer = client.read()
        assert (answer.status, answer.body, answer.ended) == (200, b"late", "whole")
        assert client.is_closed()


@pytest.mark.parametrize("how", ENDS)
def test_a_half_closed_client_waits_a_second(gateway: Gateway, up: Upstream, how: str) -> None:
    """If no answer has begun by then, the upstream is cancelled, and the log says that the client is gone."""
    with TlsClient(gateway.port) as client:
        client.send(request(target="/hang", headers=[("X-Request-ID", f"waits-{how}")]))
        wait(lambda: any(one.target == b"/hang" for one in up.requests))
        ENDS[how](client)
        assert client.rest() == b""
    record = gateway.records(f"waits-{how}")[0]
    assert "client_gone" in record["flags"]


@pytest.mark.parametrize("how", ENDS)
def test_an_end_in_mid_body(gateway: Gateway, up: Upstream, how: str) -> None:
    """A request that will never be whole is dropped."""
    identity = f"half-{how}"
    head = request("POST", "/x", [("Content-Length", "10"), ("X-Request-ID", identity)])
    with TlsClient(gateway.port) as client:
        client.send(head + b"12345")
        wait(lambda: any(identity.encode() in one.head for one in up.requests))
        ENDS[how](client)
        assert client.rest() == b""
    assert "client_gone" in gateway.records(identity)[0]["flags"]


def test_a_client_that_leaves(gateway: Gateway) -> None:
    """The upstream is cancelled."""
    with TlsClient(gateway.port) as client:
        client.send(request(target="/hang", headers=[("X-Request-ID", "leaves")]))
        time.sleep(0.1)
        client.reset()
    assert "client_gone" in gateway.records("leaves")[0]["flags"]


def test_an_answer_is_not_lost_while_input_comes(gateway: Gateway) -> None:
    """The answer arrives whole, with a close_notify, though the client goes on sending."""
    for _ in range(15):
        with TlsClient(gateway.port) as client:
            client.send(request(target="/large", headers=[("Connection", "close")]))
            client.send(b"x" * 10_000)
            time.sleep(0.02)
            client.send(b"x" * 20_000)
            answer = client.read()
            assert (answer.status, len(answer.body), answer.ended) == (200, SIZE, "whole")
            with pytest.raises(Ended, match="close"):
                client.receive()


@pytest.mark.parametrize("version", VERSIONS)
def test_bodies_pass_both_ways(gateway: Gateway, up: Upstream, version: ssl.TLSVersion) -> None:
    """Megabytes arrive as they were sent, over one connection, with pauses in which the client reads nothing."""
    body = bytes(range(256)) * 20_000
    digest = hashlib.sha256(body).hexdigest()
    with TlsClient(gateway.port, version=version) as client, ThreadPoolExecutor(1) as threads:
        for _ in range(2):
            threads.submit(client.send, request("PUT", "/echo", body=body)).result()
            assert client.read().body.decode().split()[2] == digest
        up.on("/download", flood(65536 * 100)[0])
        client.send(request(target="/download"))
        time.sleep(0.3)
        answer = client.read()
        assert (len(answer.body), answer.ended) == (65536 * 100, "whole")


def test_requests_byte_by_byte(gateway: Gateway) -> None:
    """A record for each byte of a head is a head, and two requests in a record are answered in order."""
    with TlsClient(gateway.port) as client:
        client.trickle(request(target="/x"), 1)
        assert client.read().status == 200
        client.send(request(target="/slow") + request(target="/x"))
        assert client.read().body == b"late"
        assert client.read().status == 200


@pytest.mark.parametrize(
    "data",
    [b"", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\x80\x2e\x01\x00\x02"],
)
def test_what_is_no_handshake_is_closed(gateway: Gateway, data: bytes) -> None:
    """Silence, garbage and half a message end within the time for a head, and leave no line in the log."""
    before = _lines(gateway)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as sock:
        sock.sendall(data)
        try:
            while sock.recv(1000):
                pass
        except ConnectionResetError:
            pass
    assert _lines(gateway) == before


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("step", [1, 100_000])
def test_plain_http_is_told_of_https(gateway: Gateway, method: str, step: int) -> None:
    """A person who wrote http:// reads one sentence, not an error of TLS; a line in the log says who it was."""
    before = len(_lines(gateway))
    with RawClient(gateway.port) as client:
        client.trickle(request(method, "/x", [("Content-Length", "9000")]) + b"x" * 9000, step)
        answer = client.read()
        assert (answer.status, answer.get("content-type")) == (400, "text/plain; charset=utf-8")
        assert b"https://" in answer.body
        assert client.is_closed()
    wait(lambda: len(_lines(gateway)) > before)
    (line,) = _lines(gateway)[before:]
    assert "plain HTTP from 127.0.0.1" in line


def test_garbage_in_mid_stream_ends_the_connection(gateway: Gateway) -> None:
    """A record that does not decrypt is the end of the connection, and of what was under way."""
    with TlsClient(gateway.port) as client:
        client.send(request(target="/hang", headers=[("X-Request-ID", "garbage")]))
        time.sleep(0.1)
        client.sock.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        assert client.sock.recv(100) is not None
    assert "client_gone" in gateway.records("garbage")[0]["flags"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_websocket_over_tls(gateway: Gateway, version: ssl.TLSVersion) -> None:
    """Frames pass both ways behind the handshake, and both sides close."""
    with TlsClient(gateway.port, version=version) as client:
        opened = Socket(client)
        opened.open("/ws")
        assert opened.ask("hello") == "hello"
        data = bytes(range(256)) * 4096
        client.send(frame(BINARY, data))
        assert opened.hear(data=True).payload == data
        client.send(close(1000))
        with pytest.raises(Ended):
            while client.receive():
                pass


@pytest.mark.parametrize("how", ["close_notify", "fin"])
def test_a_websocket_whose_client_ends_without_a_close(gateway: Gateway, how: str) -> None:
    """The tunnel ends on both sides: neither TLS nor the gateway keeps half of it open."""
    with TlsClient(gateway.port) as client:
        opened = Socket(client)
        opened.open("/ws")
        assert opened.ask("hello") == "hello"
        client.send_close_notify() if how == "close_notify" else client.send_fin()
        with pytest.raises(Ended):
            while client.receive():
                pass
