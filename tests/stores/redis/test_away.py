"""What becomes of limits while Redis is away, and how they come back: scripted servers, and a clock that jumps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from propylon.errors import ServiceUnavailable
from propylon.proxy.limit.rule import Rule, Spend, Taken
from propylon.stores.redis.limits import RedisLimits
from propylon.stores.redis.target import Login
from tests.stores.limit_stores import bucket
from tests.stores.redis.scripted import Command, Peer, decided, gateway, logged, ok, until
from tests.support.virtual import run

RULE = bucket(1, 5, 60)
ONE = Spend(RULE, "ann")
LOCAL = 4  # what is left in the machine's own store after one request


@asynccontextmanager
async def in_use(**options: Login) -> AsyncIterator[tuple[RedisLimits, Peer]]:
    """A gateway that uses a server."""
    peer = await Peer().listen()
    store = gateway(peer.address, **options)
    store.start()
    await store.tried()
    try:
        yield store, peer
    finally:
        await leave(store, peer)


async def leave(store: RedisLimits, peer: Peer) -> None:
    """Close both ends."""
    store.close()
    peer.close()
    await asyncio.sleep(0.01)


def available(store: RedisLimits) -> bool:
    """Whether all servers are in use."""
    return all(node.available for node in store.nodes.all())


def silent(command: Command) -> bytes | None:
    """Answer nothing."""
    del command


def refusing(text: str) -> object:
    """Answer calls of the script with an error."""

    def answer(command: Command) -> bytes | None:
        return f"-{text}\r\n".encode() if command[0] == b"EVALSHA" else ok(command)

    return answer


def test_logs_in_and_tries_before_use() -> None:
    """The gateway logs in, selects the database, and writes once, before a request depends on it."""

    async def main() -> None:
        async with in_use(login=Login("ann", "s3cret-of-redis", 3)) as (store, peer):
            assert available(store)
            assert peer.commands[:3] == [
                [b"AUTH", b"ann", b"s3cret-of-redis"],
                [b"SELECT", b"3"],
                [b"CLIENT", b"SETNAME", b"propylon"],
            ]
            assert peer.names[3:] == [b"EVALSHA"]
            assert (await decided(store, ONE))[0].allowed

    run(main())


def test_one_turn_is_one_call() -> None:
    """What is asked in one turn of the loop goes out as one command."""

    async def main() -> None:
        async with in_use() as (store, peer):
            before = len(peer.commands)
            asked = [store.decide([Spend(RULE, f"k{at}")]) for at in range(150)]
            for one in asked:
                assert not isinstance(one, list)
                assert (await one)[0].allowed
            assert len(peer.commands) == before + 1
            assert int(peer.commands[-1][2]) == 150

    run(main())


def test_hung_server_holds_a_request_for_50_ms() -> None:
    """The first request waits for 50 ms at most, and is decided here; later ones do not wait. The log says it once."""

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = silent
            loop = asyncio.get_running_loop()
            began = loop.time()
            with logged() as lines:
                asked = [store.decide([ONE]) for _ in range(20)]
                waited = [await one for one in asked if not isinstance(one, list)]
                assert loop.time() - began <= 0.05
                assert sum(one[0].allowed for one in waited) == 5
                assert isinstance(store.decide([ONE]), list)
            assert len(lines) == 1
            assert "is away: it does not answer in time" in lines[0]

    run(main())


@pytest.mark.parametrize("seconds", [3, 1_000])
def test_comes_back_by_itself_within_two_seconds(seconds: int) -> None:
    """However long Redis was away, two seconds after it answers limits are shared again. The log says it once."""

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = silent
            await decided(store, ONE)
            await asyncio.sleep(seconds)
            with logged() as lines:
                assert not available(store)
                peer.answer = ok
                began = asyncio.get_running_loop().time()
                await until(lambda: available(store))
                assert asyncio.get_running_loop().time() - began <= 2
            assert len(lines) == 1
            assert "is back after" in lines[0]
            assert not isinstance(store.decide([ONE]), list)

    run(main())


def test_closed_connection_costs_no_request_anything() -> None:
    """What waits when the connection ends is decided here, at once; a server that accepts is used again."""

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = silent
            asked = store.decide([ONE])
            assert not isinstance(asked, list)
            await asyncio.sleep(0)
            peer.hang_up()
            assert (await asked)[0].remaining == LOCAL
            peer.answer = ok
            await until(lambda: available(store))

    run(main())


ERRORS = {
    "READONLY You can't write against a read only replica. script: 1, on @user_script:1.": "READONLY",
    "OOM command not allowed when used memory > 'maxmemory'.": "OOM",
    "LOADING Redis is loading the dataset in memory": "LOADING",
    "MISCONF Redis is configured to save RDB snapshots": "MISCONF",
    "CLUSTERDOWN The cluster is down": "CLUSTERDOWN",
    "BUSY Redis is busy running a script.": "BUSY",
    "NOREPLICAS Not enough good replicas to write.": "NOREPLICAS",
    "NOPERM User default has no permissions to run the 'evalsha' command": "NOPERM",
    "MOVED 3999 127.0.0.1:6381": "it is a node of a Cluster: write redis+cluster://",
    "ERR Error running script: @user_script: 1: -OOM command not allowed": "OOM",
}


@pytest.mark.parametrize("error", ERRORS)
def test_server_that_cannot_decide(error: str) -> None:
    """A request whose decision is refused by Redis is decided here; the log says once why, and once that it is over."""

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = refusing(error)  # type: ignore[assignment]
            with logged() as lines:
                assert (await decided(store, ONE))[0].remaining == LOCAL
                await asyncio.sleep(5)
                assert (await decided(store, ONE))[0].remaining == LOCAL - 1
                assert len(lines) == 1
                assert ERRORS[error] in lines[0]
                peer.answer = ok
                await until(lambda: available(store))
                assert len(lines) == 2

    run(main())


def test_forgotten_script_is_loaded_again() -> None:
    """A server that was restarted or flushed gets the script again, and the request waits for nothing else."""

    async def main() -> None:
        async with in_use() as (store, peer):
            known = False

            def forgetful(command: Command) -> bytes | None:
                nonlocal known
                known = known or command[0] == b"SCRIPT"
                no = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
                return ok(command) if known or command[0] != b"EVALSHA" else no

            peer.answer = forgetful
            with logged() as lines:
                asked = [store.decide([Spend(RULE, f"k{at}")]) for at in range(500)]
                for one in asked:
                    assert not isinstance(one, list)
                    assert (await one)[0].allowed
            assert lines == []
            assert available(store)

    run(main())


def test_server_that_takes_no_script() -> None:
    """A user that may not load scripts is said to be so, and no request waits."""

    async def main() -> None:
        peer = await Peer().listen()

        def answer(command: Command) -> bytes | None:
            if command[0] == b"EVALSHA":
                return b"-NOSCRIPT No matching script.\r\n"
            return b"-NOPERM no permissions\r\n" if command[0] == b"SCRIPT" else ok(command)

        peer.answer = answer
        store = gateway(peer.address)
        with logged() as lines:
            store.start()
            await store.tried()
            assert isinstance(store.decide([ONE]), list)
        assert len(lines) == 1
        assert "it refuses the script: NOPERM" in lines[0]
        await leave(store, peer)

    run(main())


def test_refused_login_is_told_without_its_words() -> None:
    """A server that repeats the arguments of AUTH in its error does not bring the password into the log."""

    async def main() -> None:
        peer = await Peer().listen()

        def answer(command: Command) -> bytes | None:
            said = b" ".join(command)
            return b"-ERR unknown command, with args: %b\r\n" % said

        peer.answer = answer
        with logged() as lines:
            store = gateway(peer.address, login=Login("", "s3cret-of-redis"))
            store.start()
            await store.tried()
        assert len(lines) == 1
        assert "it refuses the login (ERR)" in lines[0]
        assert "s3cret" not in lines[0]
        await leave(store, peer)

    run(main())


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+OK\r\n+OK\r\n"])
def test_what_is_no_redis(answer: bytes) -> None:
    """Something else at the address is found out before a request depends on it."""

    async def main() -> None:
        peer = await Peer().listen()
        peer.answer = lambda _: answer
        store = gateway(peer.address)
        with logged() as lines:
            store.start()
            await store.tried()
            assert not available(store)
        assert len(lines) == 1
        await leave(store, peer)

    run(main())


def test_none_at_the_start() -> None:
    """A Redis that is not there yet costs a start one line; when it comes, it is used."""

    async def main() -> None:
        peer = await Peer().listen()
        peer.close()
        store = gateway(peer.address)
        with logged() as lines:
            store.start()
            await store.tried()
            assert (await decided(store, ONE))[0].remaining == LOCAL
            await asyncio.sleep(60)
            assert len(lines) == 1
            assert "is away: connection refused" in lines[0]
            await peer.listen()
            await until(lambda: available(store))
            assert len(lines) == 2
        await leave(store, peer)

    run(main())


def test_idle_gateway_finds_out_before_a_request_does() -> None:
    """A server that hangs while no request comes is away two seconds later."""

    async def main() -> None:
        async with in_use() as (store, peer):
            await asyncio.sleep(10)
            assert available(store)
            assert b"PING" in peer.names
            peer.answer = silent
            await asyncio.sleep(2)
            assert not available(store)

    run(main())


def test_too_much_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """When more requests wait than memory should hold, the next ones are decided here."""
    monkeypatch.setattr("propylon.stores.redis.limits._MOST_GATHERED", 1100)

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = silent
            for at in range(1102):
                assert not isinstance(store.decide([Spend(RULE, f"k{at}")]), list)
                await asyncio.sleep(0)
            assert isinstance(store.decide([ONE]), list)
            assert available(store)

    run(main())


def test_stopping_gateway_decides_what_waits() -> None:
    """A gateway that stops leaves no request without a decision."""

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = silent
            first = store.decide([ONE])
            await asyncio.sleep(0)
            second = store.decide([ONE])
            store.close()
            for asked in (first, second):
                assert not isinstance(asked, list)
                assert (await asked)[0].allowed

    run(main())


# Each limit says what becomes of it


def test_closed_limit_refuses_with_503() -> None:
    """`on_store_failure: closed` is a 503 with Retry-After: 1, for waiting requests and for later ones."""

    async def main() -> None:
        closed = Spend(bucket(1, 5, on_failure="closed"), "ann")
        async with in_use() as (store, peer):
            peer.answer = silent
            for _ in range(2):
                with pytest.raises(ServiceUnavailable) as caught:
                    await decided(store, ONE, closed)
                assert caught.value.headers == ((b"Retry-After", b"1"),)
            # It has spent nothing of the limit beside it.
            assert (await decided(store, ONE))[0].remaining == LOCAL

    run(main())


def test_open_limit_lets_all_pass() -> None:
    """`on_store_failure: open` counts nothing meanwhile, and limits beside it count on."""

    async def main() -> None:
        free = Spend(bucket(1, 2, name="free", on_failure="open"), "ann")
        async with in_use() as (store, peer):
            peer.answer = silent
            told = [await decided(store, free, ONE) for _ in range(7)]
            assert [one[0].allowed for one in told] == [True] * 7
            assert [one[1].allowed for one in told] == [True] * 5 + [False] * 2
            told = [await decided(store, free) for _ in range(9)]
            assert [tuple(one[0]) for one in told] == [(True, 2, 0, 0)] * 9

    run(main())


def test_shadow_limit_is_never_closed() -> None:
    """A limit in shadow mode refuses nothing, also while Redis is away."""

    async def main() -> None:
        shadow = Spend(bucket(1, 5, shadow=True, on_failure="closed"), "ann")
        async with in_use() as (store, peer):
            peer.answer = silent
            assert (await decided(store, shadow))[0].allowed

    run(main())


def test_busy_gateway_gathers() -> None:
    """While two calls are in flight requests gather for the next one, and none waits longer than 50 ms in all."""

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = silent
            before = len(peer.commands)
            loop = asyncio.get_running_loop()
            began, waited = loop.time(), []
            for at in range(40):
                waited.append(store.decide([Spend(RULE, f"k{at}")]))
                await asyncio.sleep(0.0005)
            assert len(peer.commands) == before + 2
            for one in waited:
                assert not isinstance(one, list)
                assert (await one)[0].allowed
            assert loop.time() - began <= 0.05

    run(main())


def test_gathered_requests_go_out_with_the_next_answer() -> None:
    """What has gathered is one call, as soon as one of those in flight is answered."""

    async def main() -> None:
        async with in_use() as (store, peer):
            before = len(peer.commands)
            asked = []
            for at in range(12):
                asked.append(store.decide([Spend(RULE, f"k{at}")]))
                if at < 2:
                    await asyncio.sleep(0)
            for one in asked:
                assert not isinstance(one, list)
                assert (await one)[0].allowed
            assert [int(command[2]) for command in peer.commands[before:]] == [1, 1, 10]

    run(main())


# The short form, charges, and what is carried over


async def taken(store: RedisLimits, rule: Rule, key: str = "ann") -> Taken:
    """What the hot path says."""
    take = store.taker(rule, 1)
    assert take is not None
    found = take(key)
    return await found if isinstance(found, Awaitable) else found


def test_hot_path_while_redis_is_away() -> None:
    """The hot path says the same as the long way: waiting, away, open and closed."""

    async def main() -> None:
        async with in_use() as (store, peer):
            assert await taken(store, RULE) == (4, 60, 0)
            peer.answer = silent
            # Redis has said that one of five is spent.
            assert await taken(store, RULE) == (3, 120, 0)
            assert await taken(store, RULE) == (2, 180, 0)
            assert await taken(store, bucket(1, 2, on_failure="open")) == (2, 0, 0)
            with pytest.raises(ServiceUnavailable):
                await taken(store, bucket(1, 2, on_failure="closed"))

    run(main())


def test_charges_while_redis_is_away() -> None:
    """What answers have cost is charged here, and told to Redis; what waited for an answer of Redis, too."""
    charged = bucket(1, 10, 60, charged=True)
    numbers: list[list[int]] = []

    def noting(command: Command) -> bytes | None:
        if command[0] == b"EVALSHA":
            numbers.append(json.loads(command[-1])[1])
        return ok(command)

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = silent
            store.charge([Spend(charged, "ann", 3), Spend(bucket(on_failure="open"), "ann", 3)])
            await until(lambda: not available(store))
            store.charge([Spend(charged, "ann", 4)])
            assert (await decided(store, Spend(charged, "ann", 0)))[0].remaining == 3
            peer.answer = noting
            await until(lambda: available(store))
            carried = [one for one in numbers if one[0] == 2]
            assert len(carried) == 1
            assert 6 * charged.unit < carried[0][3] <= 7 * charged.unit

    run(main())


def test_answer_in_another_form_is_none() -> None:
    """An answer that is no list of numbers decides nothing: the machine does."""

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = lambda _: b"+OK\r\n"
            assert (await decided(store, ONE))[0].remaining == LOCAL

    run(main())


def test_return_takes_a_second_at_most() -> None:
    """If Redis is too slow to take over what was spent, the rest is left, and the log says of how many keys."""

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = silent
            for at in range(3000):
                await decided(store, Spend(RULE, f"k{at}"))
            loop = asyncio.get_running_loop()

            def slow(command: Command) -> bytes | None:
                if command[0] == b"EVALSHA":
                    loop.now += 0.04  # type: ignore[attr-defined]
                return ok(command)

            peer.answer = slow
            with logged() as lines:
                await until(lambda: available(store))
            assert "keys have spent meanwhile was not carried over" in lines[0]

    run(main())


def test_return_that_fails_loses_nothing() -> None:
    """If Redis goes away again while it is told what was spent, it is told the next time."""
    carried: list[int] = []

    async def main() -> None:
        async with in_use() as (store, peer):
            peer.answer = silent
            for at in range(150):
                await decided(store, Spend(RULE, f"k{at}"))
            failed = False

            def failing(command: Command) -> bytes | None:
                nonlocal failed
                if command[0] == b"EVALSHA" and json.loads(command[-1])[1][0] == 2:
                    if not failed:
                        failed = True
                        return b"-LOADING\r\n"
                    carried.append(int(command[2]))
                return ok(command)

            peer.answer = failing
            await until(lambda: available(store))
            assert sum(carried) == 150

    run(main())
