"""Bodies pass through as they come, both ways, in whatever size, at the price of no memory."""

import hashlib
import os
import threading
import time

import pytest

from tests.support import answers
from tests.support.client import RawClient, ask, chunked, post_chunked, request
from tests.support.gateway import Gateway
from tests.support.upstream import Arrived, Peer, Upstream

HUNDRED = 100 * (1 << 20)
GROWTH = 20 * (1 << 20)
BLOCK = bytes(range(256)) * 256  # 64 KiB


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_random_upload_arrives_as_it_was(gateway: Gateway, up: Upstream, framing: str) -> None:
    """5 MB of chance, with a length or in chunks, have the same digest at the upstream."""
    body = os.urandom(5_000_000)
    digest = hashlib.sha256(body).hexdigest()
    with RawClient(gateway.port) as client:
        if framing == "length":
            client.send(request("POST", "/big/r", body=body))
        else:
            pieces = [body[start : start + 70_001] for start in range(0, len(body), 70_001)]
            client.send(post_chunked("/big/r", chunked(*pieces)))
        answer = client.read()
    assert (answer.status, answer.body.split()[2]) == (200, digest.encode())
    kept = "content-length" if framing == "length" else "transfer-encoding"
    assert kept in up.last.names


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_random_download_arrives_as_it_was(gateway: Gateway, up: Upstream, framing: str) -> None:
    """5 MB of chance, however delimited, have the same digest at the client."""
    body = os.urandom(5_000_000)
    if framing == "length":
        script = answers.plain(body=body)
    elif framing == "chunked":
        pieces = [body[start : start + 70_001] for start in range(0, len(body), 70_001)]
        script = answers.raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunked(*pieces)
        )
    else:
        script = answers.raw(b"HTTP/1.1 200 OK\r\n\r\n", body, end=answers.close)
    up.on("/big/d", script)
    answer = ask(gateway.port, target="/big/d")
    assert (answer.complete, hashlib.sha256(answer.body).digest()) == (
        True,
        hashlib.sha256(body).digest(),
    )


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 262_144])
def test_body_of_an_awkward_size_passes(gateway: Gateway, up: Upstream, size: int) -> None:
    """Sizes around every buffer's edge are no special case, neither up nor down."""
    body = b"\r\n" * (size // 2) + b"0" * (size % 2)

    def mirror(peer: Peer, arrived: Arrived) -> None:
        peer.read_body(arrived)
        answers.plain(body=bytes(arrived.body))(peer, arrived)

    up.on("/mirror", mirror)
    headers = [] if body else [("Content-Length", "0")]
    answer = ask(gateway.port, "POST", "/up/mirror", headers, body)
    assert (answer.status, answer.body) == (200, body)
    assert up.last.get("content-length") == str(size)


def test_request_without_a_body_has_no_framing(gateway: Gateway, up: Upstream) -> None:
    """A GET without a body arrives without Content-Length and Transfer-Encoding."""
    ask(gateway.port)
    assert up.last.names & {"content-length", "transfer-encoding"} == set()


def test_first_byte_of_an_upload_is_there_before_the_last_is_sent(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """Uploads stream: the upstream has the first half before the client has sent the second."""
    client.send(request("POST", "/up/s", [("Content-Length", "20")]) + b"x" * 10)
    arrived = up.arrived("/s")
    assert up.wait(lambda: arrived.length == 10)
    assert client.send(b"y" * 10).read().status == 200
    assert bytes(arrived.body) == b"x" * 10 + b"y" * 10


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_first_byte_of_a_download_is_there_before_the_last_is_sent(
    gateway: Gateway, up: Upstream, client: RawClient, framing: str
) -> None:
    """Downloads stream: the client has the first event while the second one is not yet known."""
    go = threading.Event()
    head = {
        "length": b"Content-Length: 6\r\n",
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "close": b"",
    }

    def script(peer: Peer, arrived: Arrived) -> None:
        first, second = (
            (b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n")
            if framing == "chunked"
            else (b"one", b"two")
        )
        peer.send(b"HTTP/1.1 200 OK\r\n" + head[framing] + b"\r\n" + first)
        assert go.wait(20)
        peer.send(second)
        if framing == "close":
            peer.close()

    up.on("/big/s", script)
    client.send(request(target="/big/s"))
    seen = b""
    while b"one" not in seen:
        seen += client.receive()
    assert b"two" not in seen
    go.set()
    while b"two" not in seen:
        seen += client.receive()


def test_answer_while_the_upload_goes_on(gateway: Gateway, up: Upstream, client: RawClient) -> None:
    """Both directions at once: an echo that answers each piece as it comes."""

    def echo(peer: Peer, arrived: Arrived) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(3):
            before = arrived.length
            while arrived.length < before + 2:
                peer._read_length(arrived, 2)
            peer.send(bytes(arrived.body[-2:]))

    up.on("/big/echo", echo)
    client.send(request("POST", "/big/echo", [("Content-Length", "6")]))
    seen = b""
    for piece in (b"<1", b"2>", b"<>"):
        client.send(piece)
        while piece not in seen:
            seen += client.receive()
    assert seen.endswith(b"<12><>")


def test_upload_of_100_mb_costs_no_memory(gateway: Gateway, up: Upstream) -> None:
    """100 MB up to an upstream that reads slowly at first: the process grows by less than 20 MB."""
    digest = hashlib.sha256()

    def slowly(peer: Peer, arrived: Arrived) -> None:
        peer.pause(0.4)
        answers.plain(body=b"")(peer, arrived)

    up.on("/big/up", slowly)
    assert ask(gateway.port).status == 200
    before = gateway.rss()
    peak = 0
    with RawClient(gateway.port, timeout=20) as client:
        client.send(request("POST", "/big/up", [("Content-Length", str(HUNDRED))]))
        for number in range(HUNDRED // len(BLOCK)):
            client.send(BLOCK)
            digest.update(BLOCK)
            if number % 100 == 0:
                peak = max(peak, gateway.rss())
        assert client.read().status == 200
    arrived = up.arrived("/big/up")
    assert (arrived.length, arrived.hash.hexdigest()) == (HUNDRED, digest.hexdigest())
    assert max(peak, gateway.rss()) - before < GROWTH


def test_download_of_100_mb_by_a_slow_reader_costs_no_memory(
    gateway: Gateway, up: Upstream
) -> None:
    """100 MB down to a client that reads nothing at first: less than 20 MB, and nobody else waits."""
    script, expected = answers.flood(HUNDRED)
    up.on("/big/down", script)
    assert ask(gateway.port).status == 200
    before = gateway.rss()
    digest, peak, size = hashlib.sha256(), 0, 0
    with RawClient(gateway.port, timeout=20, window=65536) as client:
        client.send(request(target="/big/down"))
        time.sleep(0.4)
        peak = gateway.rss()
        assert ask(gateway.port, target="/up/other").status == 200
        head = client._head()
        assert head.get("content-length") == str(HUNDRED)
        piece = bytes(client.buffer)
        while True:
            digest.update(piece)
            size += len(piece)
            if size >= HUNDRED:
                break
            if size % 50 == 0:
                peak = max(peak, gateway.rss())
            piece = client.receive()
    assert (size, digest.hexdigest()) == (HUNDRED, expected)
    assert max(peak, gateway.rss()) - before < GROWTH


def test_twenty_uploads_at_once_stay_apart(gateway: Gateway, up: Upstream) -> None:
    """Interleaved uploads arrive each as its own."""
    clients = [RawClient(gateway.port) for _ in range(20)]
    try:
        for client in clients:
            client.send(request("POST", "/big/many", [("Content-Length", "100000")]))
        for _ in range(10):
            for number, client in enumerate(clients):
                client.send(bytes([number]) * 10_000)
        digests = {client.read().body.split()[2].decode() for client in clients}
    finally:
        for client in clients:
            client.sock.close()
    assert digests == {hashlib.sha256(bytes([n]) * 100_000).hexdigest() for n in range(20)}
