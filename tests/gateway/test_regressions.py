"""Faults that were found once: each of them stays found."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.support import answers
from tests.support.client import Answer, Ended, RawClient, ask, chunked, request
from tests.support.excused import excused
from tests.support.gateway import Config, Gateway
from tests.support.topology import BODY, MAX_HEADER, SMALL_BODY, Upstreams, configuration
from tests.support.upstream import Arrived, Peer, Upstream, ok

GROWTH = 20_000_000  # bytes; the faults took hundreds of megabytes
LOCAL = 600  # more than one burst of answers, less than one read of the socket
SMUGGLED = b"GET /up/SMUGGLED HTTP/1.1\r\nHost: gw.test\r\n\r\n"
BLOCK = b"x" * 10_000
_LISTEN = "0A"  # a state in /proc/net/tcp


def roomy(upstreams: Upstreams) -> Config:
    """The shared configuration, with large heads, a trusted proxy and a pool of two."""
    config = configuration(upstreams, max_header=65536, trusted_proxies=["127.0.0.1/32"])
    main = config["services"]["main"]
    config["services"]["narrow"] = {**main, "max_connections": 2}
    config["routes"].append({"path": "/narrow", "service": "narrow", "max_body": SMALL_BODY})
    return config


@pytest.fixture(scope="module")
def wide(
    edge: str, upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway with the roomy configuration, one a module and edge."""
    running = Gateway(edge, roomy(upstreams), tmp_path_factory.mktemp(edge))
    running.wait_ready()
    yield running
    running.kill()


def logged(gateway: Gateway, path: str, within: float = 20.0) -> bool:
    """Whether the exchange for that path has ended, as the access log tells."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if any(line.get("path") == path and "duration_ms" in line for line in gateway.lines()):
            return True
        time.sleep(0.03)
    return False


# Pipelined requests that the gateway answers itself


def _local_then_upload() -> bytes:
    identities = [f"{number:032x}" for number in range(LOCAL)]
    gets = [request(target="/nowhere", headers=[("X-Request-ID", one)]) for one in identities]
    head = request("POST", "/up/upload", [("Content-Length", str(len(SMUGGLED)))])
    return b"".join(gets) + head


@pytest.mark.parametrize("pause", [None, 0.0, 0.0005, 0.001, 0.002, 0.004, 0.008])
def test_body_behind_many_local_answers_stays_a_body(
    gateway: Gateway, up: Upstream, client: RawClient, pause: float | None
) -> None:
    """However the writes fall, what a length claims is a body and never a request."""
    if pause is None:
        client.send(_local_then_upload() + SMUGGLED)
    else:
        client.send(_local_then_upload())
        time.sleep(pause)
        client.send(SMUGGLED)
    got = [client.read() for _ in range(LOCAL)]
    assert {answer.status for answer in got} == {404}
    assert [answer.get("x-request-id") for answer in got] == [f"{n:032x}" for n in range(LOCAL)]
    assert client.read("POST").status == 200
    assert [arrived.target for arrived in up.requests] == [b"/upload"]
    assert (bytes(up.last.body), up.last.complete) == (SMUGGLED, True)
    assert not client.buffer


def test_local_answers_come_in_order(wide: Gateway, upstreams: Upstreams) -> None:
    """Pipelined in writes of any size, the n-th answer is that to the n-th request."""
    upstreams.reset()
    with RawClient(wide.port) as client:
        client.trickle(_local_then_upload() + SMUGGLED, size=1000)
        got = [client.read() for _ in range(LOCAL)]
        assert client.read("POST").status == 200
    assert [answer.get("x-request-id") for answer in got] == [f"{n:032x}" for n in range(LOCAL)]
    assert [arrived.target for arrived in upstreams.main.requests] == [b"/upload"]
    assert bytes(upstreams.main.last.body) == SMUGGLED


# Connections to an upstream


@pytest.mark.parametrize("first", [500, SMALL_BODY + 200], ids=["later", "at-once"])
def test_refused_upload_takes_no_connection_with_it(
    wide: Gateway, upstreams: Upstreams, first: int
) -> None:
    """Bodies that grow too large while they wait for a connection leave the pool as it was."""
    upstreams.reset()

    def both_held() -> bool:
        return [one.target for one in upstreams.main.requests].count(b"/narrow/hold") == 2

    for _ in range(2):
        upstreams.main.requests.clear()
        release = threading.Event()

        def hold(peer: Peer, arrived: Arrived, release: threading.Event = release) -> None:
            release.wait(20)
            ok(peer, arrived)

        upstreams.main.on("/narrow/hold", hold)
        clients = [RawClient(wide.port) for _ in range(4)]
        try:
            for client in clients[:2]:
                client.send(request(target="/narrow/hold"))
            assert upstreams.main.wait(both_held)
            head = request("POST", "/narrow/large", [("Transfer-Encoding", "chunked")])
            for client in clients[2:]:
                client.send(head + b"%x\r\n%b\r\n" % (first, b"x" * first))
            time.sleep(0.1)
            for client in clients[2:]:
                client.send(chunked(b"x" * 600))
            time.sleep(0.05)
            release.set()
            assert [client.read().status for client in clients[:2]] == [200, 200]
            for client in clients[2:]:
                try:
                    assert client.read("POST").status == 413
                except Ended:
                    assert excused(wide.edge, "linger")
            large = [one for one in upstreams.main.requests if one.target == b"/narrow/large"]
            assert not any(one.complete for one in large)
        finally:
            release.set()
            for client in clients:
                client.sock.close()
    served = [ask(wide.port, "POST", "/narrow/after", body=b"x").status for _ in range(3)]
    assert served == [200] * 3


# Clients that do not read


def held(gateway: Gateway) -> int:
    """How many connections of clients the gateway holds; the kernel's own have no inode."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    port = f":{gateway.port:04X}"
    return sum(row[1].endswith(port) and row[3] != _LISTEN and row[9] != "0" for row in rows)


def let_go(gateway: Gateway, within: float = 20 * BODY) -> bool:
    """Whether it holds no client any more, in time; `idle` is longer than that."""
    deadline = time.monotonic() + within
    while held(gateway):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_client_that_only_asks_costs_no_memory(impatient: Gateway, up: Upstream) -> None:
    """One that pipelines and never reads is not read from for long, and is cut."""
    if excused(impatient.edge, "pipelining"):
        pytest.skip("uvicorn reads on by itself, and has no limit for one that does not read")
    up.on("/much", answers.plain(body=BLOCK))
    before = impatient.rss()
    grown = 0
    ended = False
    deadline = time.monotonic() + 20 * BODY
    with RawClient(impatient.port, timeout=0.1, window=4096) as client:
        while not ended and time.monotonic() < deadline:
            try:
                client.sock.send(request(target="/up/much") * 100)
            except TimeoutError:
                grown = max(grown, impatient.rss() - before)
            except OSError:
                ended = True
    assert max(grown, impatient.rss() - before) < GROWTH
    assert ended


def test_client_that_does_not_fetch_its_last_answer_is_let_go(
    impatient: Gateway, up: Upstream
) -> None:
    """A complete answer before a close is kept for as long as a body may take, no longer."""
    if impatient.edge != "fast":
        pytest.skip("uvicorn has no limit for a client that does not read")
    assert let_go(impatient)
    clients = []
    try:
        # What the kernel holds is about 4 MB, and some more comes in one piece: one of them is
        # complete, and not sent.
        for size in range(2 << 20, 7 << 20, 1 << 18):
            path = f"/up/last-{size}"
            up.on(path[3:], answers.plain(body=b"x" * size))
            clients.append(RawClient(impatient.port, window=2048))
            clients[-1].send(request(target=path, headers=[("Connection", "close")]))
        assert logged(impatient, f"/up/last-{2 << 20}")
        assert let_go(impatient)
    finally:
        for client in clients:
            client.sock.close()


def test_client_that_ends_its_body_and_does_not_read_is_cut(
    impatient: Gateway, up: Upstream
) -> None:
    """An answer that began early: the end of the request's body does not end the patience."""
    if impatient.edge != "fast":
        pytest.skip("uvicorn has no limit for a client that does not read")
    assert let_go(impatient)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20)
    up.on("/big/early", answers.raw(head, *[b"x" * 65536] * 1024, early=True))
    with RawClient(impatient.port, window=4096) as client:
        client.send(request("POST", "/big/early", [("Content-Length", "10")]) + b"12345")
        time.sleep(0.4)
        client.send(b"67890")
        assert let_go(impatient)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_that_leaves_in_an_answer_is_no_fault(
    gateway: Gateway, up: Upstream, how: str
) -> None:
    """It is logged as a client that has left, and as nothing else."""
    path = f"/big/left-{how}"
    first = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20)
    up.on(path, answers.endless(b"x" * 65536, first, pause=0.002))
    before = len(gateway.said())
    client = RawClient(gateway.port, window=4096)
    client.send(request(target=path))
    assert client.receive(1000).startswith(b"HTTP/1.1 200 ")
    time.sleep(0.3)
    if how == "reset":
        client.reset()
    client.sock.close()
    assert logged(gateway, path)
    time.sleep(0.1)
    said = gateway.said()[before:]
    assert "Traceback" not in said
    assert "Exception" not in said


# Heads


def test_many_connection_tokens_cost_nothing_lasting(wide: Gateway, upstreams: Upstreams) -> None:
    """15,000 names in a Connection header, new ones each time, leave nothing in memory."""
    upstreams.reset()

    def tokens(number: int) -> str:
        return ",".join(f"{(number * 15_000 + one) % 0x10000:x}" for one in range(12_500))

    assert ask(wide.port, headers=[("Connection", tokens(0))]).status in (200, 400, 431)
    before = wide.rss()
    statuses = {
        ask(wide.port, headers=[("Connection", tokens(number))]).status for number in range(100)
    }
    assert statuses <= {200, 400, 431}
    assert len(statuses) == 1
    assert wide.rss() - before < GROWTH
    assert upstreams.faults == []


@pytest.mark.parametrize("where", ["target", "header"])
def test_head_limit_holds_for_later_requests_too(
    gateway: Gateway, up: Upstream, client: RawClient, where: str
) -> None:
    """The second head of a connection may be no larger than the first."""
    if excused(gateway.edge, "head-size"):
        pytest.skip("uvicorn reads a head of any size before the app sees it")
    assert client.send(request(target="/up/a")).read().status == 200
    much = "x" * (MAX_HEADER * 3)
    if where == "target":
        client.send(request(target=f"/up/{much}"))
    else:
        client.send(request(headers=[("X-Much", much)]))
    assert client.read().status in (414, 431)
    assert client.is_closed()
    assert [arrived.target for arrived in up.requests] == [b"/a"]


def test_half_closed_client_gets_every_answer(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """`printf … | nc` with three requests wants three answers."""
    if excused(gateway.edge, "half-close"):
        pytest.skip("uvicorn takes the client's end of input for its departure")
    client.send(b"".join(request(target=f"/up/{n}") for n in range(3))).half_close()
    got = [client.read() for _ in range(3)]
    assert [(answer.status, answer.body[:6]) for answer in got] == [
        (200, b"GET /%d" % number) for number in range(3)
    ]
    assert client.is_closed()


@pytest.mark.parametrize("pieces", [(b"\r", b"\n\r\n"), (b"\r\n\r", b"\n"), (b"\r\n", b"\r\n")])
def test_empty_line_in_two_pieces_is_still_ignored(
    gateway: Gateway, up: Upstream, client: RawClient, pieces: tuple[bytes, bytes]
) -> None:
    """Empty lines before a request are ignored, wherever the segments are cut."""
    client.send(pieces[0])
    time.sleep(0.05)
    client.send(pieces[1] + request(target="/up/x"))
    assert client.read().status == 200
    assert [arrived.target for arrived in up.requests] == [b"/x"]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (["http, https"], "https"),
        (["https, http"], "http"),
        (["https", "http"], "http"),
        (["http", "http,https"], "https"),
        (["https, gopher"], "http"),
    ],
)
def test_nearest_proxy_says_the_scheme(
    wide: Gateway, upstreams: Upstreams, sent: list[str], told: str
) -> None:
    """Of several schemes the last counts: what came before it is a client's word."""
    upstreams.reset()
    chain = [("X-Forwarded-For", "9.9.9.9"), *(("X-Forwarded-Proto", one) for one in sent)]
    assert ask(wide.port, headers=chain).status == 200
    assert upstreams.main.last.get("x-forwarded-proto") == told


# Stopping


def test_interrupt_from_a_terminal_finishes_what_is_in_flight(
    edge: str, start: Start, upstreams: Upstreams
) -> None:
    """Control-C reaches every process of the group; the request in flight completes, exit 0."""
    if edge != "fast":
        pytest.skip("uvicorn's workers are uvicorn's")
    upstreams.reset()
    gateway = start(configuration(upstreams, workers=2))
    upstreams.main.on("/slow", answers.after(0.6, answers.plain(body=b"finished")))
    got: list[Answer] = []
    thread = threading.Thread(target=lambda: got.append(ask(gateway.port, target="/up/slow")))
    thread.start()
    assert upstreams.main.wait(lambda: upstreams.main.requests)
    os.killpg(gateway.process.pid, signal.SIGINT)
    thread.join(20)
    assert [(answer.body, answer.complete) for answer in got] == [(b"finished", True)]
    assert gateway.process.wait(30) == 0
    assert re.search(r"Traceback|KeyboardInterrupt", gateway.said()) is None
