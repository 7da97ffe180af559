"""The pools of a process: shared by address, found again, and closed when no service uses them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from propylon.errors import ConnectFailed
from propylon.upstream.dial import Address
from propylon.upstream.pool import Pool
from propylon.upstream.pools import Pools
from tests.upstream.peer import Collected, World, run


def play(script: Callable[[World, Pools], Any]) -> None:
    """Run a script over a peer and pools."""

    async def main() -> None:
        async with World() as world:
            pools = Pools(asyncio.get_running_loop(), world.ticker, world.outbox)
            await script(world, pools)
            pools.close()

    run(main())


async def ask(world: World, pool: Pool) -> int:
    """Ask over a pool; return how many connections it has then."""
    answer = await pool.send(world.out(), Collected())
    assert answer.body == b"hello"
    return pool.open


def test_one_pool_for_an_address() -> None:
    """And a limit; another of either is another pool."""

    async def script(world: World, pools: Pools) -> None:
        address = Address("127.0.0.1", world.port)
        pool = pools.connect(address, 5)
        assert pools.connect(Address("127.0.0.1", world.port), 5) is pool
        assert (pool.address, pool.limit) == (address, 5)
        others = [
            pools.connect(address, 6),
            pools.connect(Address("a", 1), 5),
            pools.connect(Address("a", 1, name="b"), 5),
        ]
        assert len({id(one) for one in [pool, *others]}) == 4
        assert await ask(world, pool) == 1

    play(script)


def test_a_fresh_pool() -> None:
    """It is not shared, only its owner closes it, and it connects only to permitted addresses."""

    async def script(world: World, pools: Pools) -> None:
        address = Address("127.0.0.1", world.port)
        first, second = pools.fresh(address, 5), pools.fresh(address, 5)
        assert len({id(one) for one in (first, second, pools.connect(address, 5))}) == 3
        assert await ask(world, first) == 1
        pools.close()
        assert first.open == 1
        first.close()
        assert first.open == 0
        with pytest.raises(ConnectFailed, match="may be asked"):
            await ask(world, pools.fresh(address, 5, lambda _: False))

    play(script)


def test_a_pool_is_dropped() -> None:
    """Its idle connections are closed; the address gets a new one, and others are left alone."""

    async def script(world: World, pools: Pools) -> None:
        address = Address("127.0.0.1", world.port)
        pool, other = pools.connect(address, 5), pools.connect(address, 6)
        assert (await ask(world, pool), await ask(world, other)) == (1, 1)
        pools.drop(pool)
        pools.drop(pool)
        assert (pool.open, other.open) == (0, 1)
        assert await ask(world, pool) == 0  # it may still be used, but keeps no connection
        assert pools.connect(address, 5) is not pool
        assert pools.connect(address, 6) is other

    play(script)


def test_what_nobody_uses_is_closed() -> None:
    """After a reload: what it kept keeps its connections."""

    async def script(world: World, pools: Pools) -> None:
        address = Address("127.0.0.1", world.port)
        kept, gone = pools.connect(address, 5), pools.connect(address, 6)
        assert (await ask(world, kept), await ask(world, gone)) == (1, 1)
        pools.keep([kept])
        assert (kept.open, gone.open) == (1, 0)
        assert pools.connect(address, 5) is kept
        pools.close()
        assert kept.open == 0

    play(script)
