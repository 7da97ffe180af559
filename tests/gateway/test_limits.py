"""Limits on what a client may send: refused with the right status, memory bounded, others served."""

import time

import pytest

from tests.support.client import Ended, RawClient, ask, chunked, post_chunked, request
from tests.support.excused import excused
from tests.support.gateway import Gateway
from tests.support.topology import MAX_BODY, MAX_HEADER, SMALL_BODY, Upstreams
from tests.support.upstream import Upstream

TOO_MUCH: dict[str, bytes] = {
    "target-100k": request(target="/up/" + "a" * 100_000),
    "query-100k": request(target="/up/x?" + "a" * 100_000),
    "header-1m": request(headers=[("X-Big", "v" * 1_000_000)]),
    "header-name-100k": request(headers=[("X-" + "n" * 100_000, "v")]),
    "10000-headers": request(headers=[(f"X-{n}", "v") for n in range(10_000)]),
    "1000-short-headers": request(headers=[("A", "b")] * 1000),
    "cookie-50k": request(
        headers=[("Cookie", "; ".join(f"c{n}=" + "v" * 150 for n in range(300)))]
    ),
    "one-over": request(headers=[("X-Big", "v" * MAX_HEADER)]),
    "endless-line": b"GET /" + b"a" * 200_000,
    "endless-method": b"G" * 200_000,
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_head_that_is_too_large_is_refused(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, name: str
) -> None:
    """A head over the limit, or of too many fields, is 414 or 431 and the end; nobody hears of it."""
    before = gateway.rss()
    with RawClient(gateway.port) as client:
        client.send(TOO_MUCH[name])
        if excused(gateway.edge, "head-size"):
            client.half_close()
            try:
                assert client.read().status in (400, 414, 431)
            except Ended:
                assert upstreams.nothing_arrived()
        else:
            # An endless method is known to be none before it is known to be too long.
            statuses = (400, 414, 431) if name == "endless-method" else (414, 431)
            answer = client.read()
            assert (answer.status in statuses, answer.complete) == (True, True)
            assert client.is_closed()
    assert upstreams.nothing_arrived()
    # Memory comes in pieces: of a small head some megabytes are no sign.
    assert gateway.rss() - before < 8_000_000 + 100 * len(TOO_MUCH[name])


def test_head_under_the_limit_passes(gateway: Gateway, up: Upstream) -> None:
    """A head that is large, but within the limit, passes whole."""
    value = "v" * (MAX_HEADER - 400)
    assert ask(gateway.port, headers=[("X-Big", value)]).status == 200
    assert up.last.get("x-big") == value


def test_hundred_headers_pass(gateway: Gateway, up: Upstream) -> None:
    """A hundred fields are many, but not too many."""
    assert ask(gateway.port, headers=[(f"X-N{n}", str(n)) for n in range(100)]).status == 200
    assert len([name for name in up.last.names if name.startswith("x-n")]) == 100


def test_head_in_pieces_is_limited_too(
    gateway: Gateway, up: Upstream, upstreams: Upstreams
) -> None:
    """The limit holds for a head that comes in small pieces and never ends."""
    with RawClient(gateway.port) as client:
        client.send(b"GET /up/x HTTP/1.1\r\nHost: gw.test\r\n")
        for _ in range(40):
            client.send(b"X-A: " + b"v" * 1000 + b"\r\n")
            time.sleep(0.002)
        if not excused(gateway.edge, "head-size"):
            assert client.read().status == 431
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize("size", [SMALL_BODY + 1, SMALL_BODY * 100])
def test_length_over_the_limit_is_413(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, size: int
) -> None:
    """A Content-Length over the route's limit is 413 before anything is asked of the upstream."""
    answer = ask(gateway.port, "POST", "/small", body=b"x" * size)
    assert (answer.status, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert upstreams.nothing_arrived()


def test_length_over_the_servers_limit_is_413(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, client: RawClient
) -> None:
    """Where a route says nothing, the server's limit holds."""
    client.send(request("POST", "/up/x", [("Content-Length", str(MAX_BODY + 1))]))
    assert client.read().status == 413
    assert upstreams.nothing_arrived()


def test_chunked_body_over_the_limit_is_413(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """A chunked body is cut off where it passes the limit, and never looks whole upstream."""
    client.send(post_chunked("/small", chunked(*[b"x" * 500] * 10)))
    answer = client.read()
    assert (answer.status, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert client.is_closed()
    assert up.wait(lambda: not up.requests or not up.last.complete)
    assert all(not arrived.complete and arrived.length <= SMALL_BODY for arrived in up.requests)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_of_exactly_the_limit_passes(gateway: Gateway, up: Upstream, framing: str) -> None:
    """The limit itself is still allowed."""
    body = b"x" * SMALL_BODY
    with RawClient(gateway.port) as client:
        if framing == "length":
            client.send(request("POST", "/small", body=body))
        else:
            client.send(post_chunked("/small", chunked(body[:300], body[300:])))
        answer = client.read()
    arrived = up.of(answer)
    assert (answer.status, arrived.length, arrived.complete) == (200, SMALL_BODY, True)


def test_many_tiny_chunks_cost_neither_memory_nor_time(gateway: Gateway, up: Upstream) -> None:
    """200,000 chunks of one byte arrive as 200,000 bytes, memory flat, time linear."""
    count = 200_000
    before, started = gateway.rss(), time.monotonic()
    with RawClient(gateway.port, timeout=60) as client:
        client.send(request("POST", "/big/t", [("Transfer-Encoding", "chunked")]))
        client.send(b"1\r\nx\r\n" * count + b"0\r\n\r\n")
        assert client.read().status == 200
    assert up.arrived("/big/t").length == count
    # Quadratic it would be minutes; the bound is for hanging, not for speed.
    assert time.monotonic() - started < 60
    assert gateway.rss() - before < 20_000_000


def test_slow_client_does_not_slow_the_others(gateway: Gateway, up: Upstream) -> None:
    """A hundred clients that have stopped in the middle of their heads keep nobody waiting."""
    stalled = [RawClient(gateway.port).send(b"GET /up/x HT") for _ in range(100)]
    try:
        assert ask(gateway.port).status == 200
    finally:
        for client in stalled:
            client.sock.close()
