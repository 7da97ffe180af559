"""Stored answers that the workers of a machine share, and those that machines share."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.test_cache import (
    ADMIN,
    FRESH,
    PURGE,
    cached,
    configuration,
    numbered,
    said,
    together,
)
from tests.support import answers
from tests.support.client import RawClient, ask, request
from tests.support.gateway import Gateway
from tests.support.redis import RedisServer, running
from tests.support.topology import Upstreams
from tests.support.upstream import Arrived, Peer, Upstream
from tests.support.waiting import wait

WORKERS = 3
# However busy the machine is: nobody may give up waiting for another worker, nor for Redis.
PATIENT: dict[str, Any] = {"defaults": {"cache": {"wait": "30s"}}}
KEYED = [
    cached("pay", None, idempotency={}),
    cached("anyhow", None, idempotency={"on_store_failure": "forward"}),
]
_fresh = count()


@pytest.fixture(scope="module")
def workers(
    guarded_upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway with several workers; what they share is not written: it is what there is without a word."""
    config = {**configuration(guarded_upstreams.main.port), **PATIENT}
    config["server"] = {"workers": WORKERS}
    config["routes"] += KEYED
    gateway = Gateway("fast", config, tmp_path_factory.mktemp("shared"))
    try:
        gateway.wait_ready()
        yield gateway
    finally:
        gateway.kill()


@pytest.fixture
def up(guarded_upstreams: Upstreams) -> Upstream:
    """What stands behind it, with an empty record."""
    guarded_upstreams.reset()
    return guarded_upstreams.main


@pytest.fixture
def path() -> Callable[[str], str]:
    """Paths that no other case has."""
    return lambda route: f"/{route}/shared-{next(_fresh)}"


def owner(client: RawClient, gateway: Gateway) -> int:
    """The worker that has accepted a client's connection, as the kernel knows it."""
    ours, theirs = client.sock.getsockname()[1], client.sock.getpeername()[1]
    # One search of the whole text: it has a line for each connection of the last minute, thousands of them.
    row = rf"^ *\d+: \S+:{theirs:04X} \S+:{ours:04X} (.*)$"
    for found in re.finditer(row, Path("/proc/net/tcp").read_text(), re.MULTILINE):
        inode = found[1].split()[6]
        for pid in gateway.pids():
            with suppress(OSError):
                for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                    if str(descriptor.readlink()) == f"socket:[{inode}]":
                        return pid
    return 0


def accepted(gateway: Gateway, *, other_than: int = 0) -> tuple[RawClient, int]:
    """A connection that a worker has accepted; not this one."""
    while True:
        client = RawClient(gateway.port)
        client.send(request(target="/api/v1/health/live"))
        client.read()
        pid = owner(client, gateway)
        if pid and pid != other_than:
            return client, pid
        client.sock.close()


@pytest.mark.parametrize("size", [0, 150_000])
def test_workers_share_what_one_has_fetched(
    workers: Gateway, up: Upstream, path: Callable[[str], str], size: int
) -> None:
    """Whoever is asked: the service has been asked once."""
    target = up.on(path("open"), numbered(FRESH, size=size))
    first, pid = accepted(workers)
    first.send(request(target=target)).read()
    second, _ = accepted(workers, other_than=pid)
    got = second.send(request(target=target)).read()
    assert got.body == b"answer 1".ljust(size, b".")
    assert said(got).startswith("propylon; hit; ttl=")
    assert len(up.requests) == 1
    for client in (first, second):
        client.sock.close()


@pytest.mark.parametrize("size", [0, 150_000])
def test_many_at_once_are_one_request_of_the_machine(
    workers: Gateway, up: Upstream, path: Callable[[str], str], size: int
) -> None:
    """Whichever workers they come to."""
    target = up.on(path("open"), answers.after(0.3, numbered(FRESH, size=size)))
    got = together(workers, 48, target)
    assert {one.body for one in got} == {b"answer 1".ljust(size, b".")}
    assert len(up.requests) == 1


def test_forty_visitors_get_forty_cookies(
    workers: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """What is for one client is for one client, whichever worker has asked for it."""
    number = count()

    def script(peer: Peer, arrived: Arrived) -> None:
        peer.pause(0.1)
        answers.plain(headers=(FRESH, f"Set-Cookie: s={next(number)}"), body=b"hi")(peer, arrived)

    target = up.on(path("open"), script)
    cookies = [one.get("set-cookie") for one in together(workers, 40, target)]
    assert len(set(cookies)) == 40


def test_a_worker_that_is_killed_lets_another_one_ask(
    workers: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """SIGKILL, while others wait for its answer: the kernel gives its lease back."""
    target = up.on(path("open"), answers.in_turn(answers.hang, numbered(FRESH)))
    first, pid = accepted(workers)
    second, _ = accepted(workers, other_than=pid)
    before = len(workers.pids())
    first.send(request(target=target))
    wait(lambda: len(up.requests) == 1)
    second.send(request(target=target))
    os.kill(pid, signal.SIGKILL)
    assert second.read().body == b"answer 1"
    assert len(up.requests) == 2
    for client in (first, second):
        client.sock.close()
    wait(lambda: len(workers.pids()) == before and pid not in workers.pids())


def test_a_client_that_leaves_lets_another_worker_ask(
    workers: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """The first one's request is cancelled: it was the one that all workers waited for."""
    target = up.on(path("open"), answers.in_turn(answers.hang, numbered(FRESH)))
    first, pid = accepted(workers)
    second, _ = accepted(workers, other_than=pid)
    first.send(request(target=target))
    wait(lambda: len(up.requests) == 1)
    second.send(request(target=target))
    first.reset()
    assert second.read().body == b"answer 1"
    second.sock.close()


@pytest.mark.parametrize("how", ["POST", "route=open", "path=", "tag=shared"])
def test_what_is_deleted_is_deleted_in_all_workers(
    workers: Gateway, up: Upstream, path: Callable[[str], str], how: str
) -> None:
    """When a purge is answered, and when whoever has changed a resource has the answer."""
    fresh = numbered(FRESH, "Cache-Tag: shared")

    def script(peer: Peer, arrived: Arrived) -> None:
        (fresh if arrived.method == "GET" else answers.plain())(peer, arrived)

    target = up.on(path("open"), script)
    clients, pids = [], set[int]()
    while len(pids) < WORKERS:
        client, pid = accepted(workers)
        clients.append(client)
        pids.add(pid)
    assert {one.send(request(target=target)).read().body for one in clients} == {b"answer 1"}
    if how == "POST":
        assert ask(workers.port, "POST", target, body=b"x").status == 200
        # Another worker's memory hears of it a moment later.
        wait(lambda: ask(workers.port, target=target).body == b"answer 2")
        wait(
            lambda: {one.send(request(target=target)).read().body for one in clients}
            == {b"answer 2"}
        )
    else:
        chosen = how + (target if how == "path=" else "")
        assert ask(workers.port, "DELETE", f"{PURGE}?{chosen}", headers=ADMIN).status == 204
        assert {one.send(request(target=target)).read().body for one in clients} == {b"answer 2"}
    for client in clients:
        client.sock.close()


def test_workers_share_idempotency_keys(
    workers: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """Whichever worker the request comes to the second time."""
    target = up.on(path("pay"), numbered())
    again = request("POST", target, headers=[("Idempotency-Key", "a")], body=b"x")
    first, pid = accepted(workers)
    second, _ = accepted(workers, other_than=pid)
    assert [one.send(again).read().body for one in (first, second)] == [b"answer 1"] * 2
    assert len(up.requests) == 1
    for client in (first, second):
        client.sock.close()


# Machines


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis of which the cases may dispose."""
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def machines(
    guarded_upstreams: Upstreams, server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways that know nothing of each other but a Redis."""
    config = {
        **configuration(guarded_upstreams.main.port),
        **PATIENT,
        "redis": {"url": server.url, "timeout": "5s"},
        "cache": {"store": "redis"},
    }
    config["routes"] += KEYED
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            made.append(Gateway("fast", config, tmp_path_factory.mktemp(name)))
            stack.callback(made[-1].kill)
        for one in made:
            one.wait_ready()
            wait(lambda one=one: one.said().count("is in use") >= 3)  # type: ignore[misc]
        yield made[0], made[1]


def test_machines_share_what_one_has_fetched(
    machines: tuple[Gateway, Gateway],
    server: RedisServer,
    up: Upstream,
    path: Callable[[str], str],
) -> None:
    """What one has stored is a hit in the other; nothing of the request is to be read in the keys."""
    target = up.on(path("maybe") + "-visible-path", numbered(FRESH))
    cookie = [("Cookie", "session=visible-secret")]
    assert ask(machines[0].port, target=target, headers=cookie).body == b"answer 1"
    wait(lambda: any(b":cache:" in key for key in server.stored()))
    wait(lambda: "hit" in said(ask(machines[1].port, target=target, headers=cookie)))
    assert ask(machines[1].port, target=target, headers=cookie).body == b"answer 1"
    assert ask(machines[1].port, target=target).body == b"answer 2"
    assert not any(b"visible" in key for key in server.stored())


@pytest.mark.parametrize("how", ["POST", "route=open", "path=", "tag=shared"])
def test_what_is_deleted_is_deleted_on_other_machines(
    machines: tuple[Gateway, Gateway], up: Upstream, path: Callable[[str], str], how: str
) -> None:
    """At once on the one that is told, and soon in the memory of the other."""
    fresh = numbered(FRESH, "Cache-Tag: shared")

    def script(peer: Peer, arrived: Arrived) -> None:
        (fresh if arrived.method == "GET" else answers.plain())(peer, arrived)

    target = up.on(path("open"), script)
    here, there = (one.port for one in machines)
    ask(here, target=target)
    wait(lambda: "hit" in said(ask(there, target=target)))
    if how == "POST":
        assert ask(here, "POST", target, body=b"x").status == 200
    else:
        chosen = how + (target if how == "path=" else "")
        assert ask(here, "DELETE", f"{PURGE}?{chosen}", headers=ADMIN).status == 204
    before = ask(here, target=target).body
    assert before != b"answer 1"
    wait(lambda: ask(there, target=target).body != b"answer 1")


def test_without_redis_each_machine_goes_on(
    machines: tuple[Gateway, Gateway],
    server: RedisServer,
    up: Upstream,
    path: Callable[[str], str],
) -> None:
    """Killed in the middle: misses, no error; a purge says that others have not heard of it, and they do when it is back.

    Idempotency keys cannot be kept meanwhile, and the route says what that means.
    """
    target, other = up.on(path("open"), numbered(FRESH)), up.on(path("open"), numbered(FRESH))
    paid, anyhow = up.on(path("pay"), numbered()), up.on(path("anyhow"), numbered())
    key = [("Idempotency-Key", "a")]
    here, there = (one.port for one in machines)
    ask(here, target=target)
    wait(lambda: "hit" in said(ask(there, target=target)))
    known = ask(there, target=target).body  # its own, if it was faster than the store
    server.kill()
    try:
        got = [ask(port, target=other) for port in (here, there)]
        assert [one.status for one in got] == [200, 200]
        refused = ask(here, "DELETE", f"{PURGE}?path={target}", headers=ADMIN)
        assert refused.status == 503
        assert ask(here, target=target).body not in {b"answer 1", known}
        assert ask(here, "POST", paid, headers=key, body=b"x").status == 503
        assert ask(here, "POST", anyhow, headers=key, body=b"x").body == b"answer 1"
    finally:
        server.start()
    wait(lambda: ask(there, target=target).body != known)


def test_machines_share_idempotency_keys(
    machines: tuple[Gateway, Gateway], up: Upstream, path: Callable[[str], str]
) -> None:
    """Sent to one, and again to the other."""
    target = up.on(path("pay"), numbered())
    ports = [machines[0].port, *[one.port for one in machines]]
    key = [("Idempotency-Key", "a")]
    # The case before has taken Redis away from both for a while.
    for port in ports:
        wait(lambda port=port: ask(port, "POST", target, headers=key, body=b"x").status == 200)  # type: ignore[misc]
    got = [ask(port, "POST", target, headers=key, body=b"x") for port in ports]
    assert {one.body for one in got} == {b"answer 1"}
    assert len(up.requests) == 1
