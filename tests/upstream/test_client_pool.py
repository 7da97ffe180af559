"""Connections that belong to one client each, because they began with a header that names it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from propylon.errors import UpstreamBusy
from propylon.upstream.client_pool import ClientPool
from propylon.upstream.dial import Address
from propylon.upstream.pools import Pools
from propylon.upstream.ports import Reachable
from propylon.wire.proxy_header import Ends, ProxyVersion, local_header, proxy_header
from tests.upstream.peer import OK, Collected, Line, World, run, until

ONE, OTHER = (proxy_header("v1", Ends("192.0.2.1", port, "192.0.2.9", 80)) for port in (1, 2))


class Told(World):
    """A peer that reads a header first, and keeps it."""

    def __init__(self, version: ProxyVersion = "v1", limit: int = 10) -> None:
        super().__init__(self._told, limit=limit)
        self.version: ProxyVersion = version
        self.headers: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def _told(self, line: Line) -> None:
        if self.version == "v1":
            self.headers.append(await line.reader.readuntil(b"\n"))
        else:
            self.headers.append(await line.reader.readexactly(16))
        while True:
            await line.head()
            await self.gate.wait()
            line.send(OK)

    async def ask_as(self, header: bytes, method: str = "GET") -> int:
        """Ask as a client; return the status."""
        outgoing = self.out(method)
        outgoing.header = header
        answer = await self.pool.send(outgoing, Collected())
        return answer.head.status


def play(script: Callable[[Told], Awaitable[None]], **options: Any) -> None:
    """Run a script over a peer and a pool for it."""

    async def main() -> None:
        async with Told(**options) as world:
            pools = Pools(asyncio.get_running_loop(), world.ticker, world.outbox)
            address = Address("127.0.0.1", world.port, proxy=world.version)
            world.pool = pools.connect(address, world.limit)
            assert isinstance(world.pool, ClientPool)
            await script(world)
            pools.close()

    run(main())


def test_a_client_keeps_its_connection() -> None:
    """Its requests go over one, though others come in between; and theirs over another."""

    async def script(world: Told) -> None:
        for header in (ONE, OTHER, ONE, OTHER, ONE):
            assert await world.ask_as(header) == 200
        assert world.headers == [ONE, OTHER]

    play(script)


def test_two_requests_of_one_client_at_a_time() -> None:
    """Each has a connection that says the same; both are idle afterwards."""

    async def script(world: Told) -> None:
        world.gate.clear()
        asking = [asyncio.create_task(world.ask_as(ONE)) for _ in range(2)]
        await until(lambda: len(world.headers) == 2)
        world.gate.set()
        assert await asyncio.gather(*asking) == [200, 200]
        assert world.headers == [ONE, ONE]
        assert world.state == (2, 2, 0)
        assert await world.ask_as(ONE) == 200
        assert len(world.headers) == 2

    play(script)


def test_a_full_pool_makes_room_for_another_client() -> None:
    """The connection that is idle for longest is closed."""

    async def script(world: Told) -> None:
        for header in (ONE, OTHER, ONE):
            assert await world.ask_as(header) == 200
        assert world.headers == [ONE, OTHER, ONE]
        assert world.state == (1, 1, 0)
        assert list(cast("ClientPool", world.pool)._own) == [ONE]

    play(script, limit=1)


def test_the_queue_is_for_new_connections() -> None:
    """A connection that comes free is closed, and the request that waits gets one with its own header."""

    async def script(world: Told) -> None:
        world.gate.clear()
        first = asyncio.create_task(world.ask_as(ONE))
        await until(lambda: world.headers)
        second = asyncio.create_task(world.ask_as(OTHER))
        await until(lambda: world.state == (1, 0, 1))
        with pytest.raises(UpstreamBusy):
            await world.ask_as(ONE)
        world.gate.set()
        assert (await first, await second) == (200, 200)
        assert world.headers == [ONE, OTHER]
        await until(lambda: world.state == (1, 1, 0))

    play(script, limit=1)


def test_a_request_that_must_not_come_twice() -> None:
    """A POST gets a new connection if the client's own is not fresh."""

    async def script(world: Told) -> None:
        assert await world.ask_as(ONE) == 200
        world.pool._idle[0].idle_since -= 2.0
        assert await world.ask_as(ONE, "POST") == 200
        assert world.headers == [ONE, ONE]

    play(script)


def test_a_connection_that_the_upstream_closes() -> None:
    """It is forgotten, and the client's next request opens another."""

    async def script(world: Told) -> None:
        assert await world.ask_as(ONE) == 200
        world.lines[0].close()
        await until(lambda: world.state == (0, 0, 0))
        assert cast("ClientPool", world.pool)._own == {}
        assert await world.ask_as(ONE) == 200

    play(script)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_gateway_itself_asks(version: ProxyVersion) -> None:
    """A request without a client, and a connection without a request, begin with the header that says so."""

    async def script(world: Told) -> None:
        assert await world.ask_as(b"") == 200
        pool: Any = world.pool
        assert isinstance(pool, Reachable)
        await pool.reach(20.0)
        await until(lambda: len(world.headers) == 2)
        assert world.headers == [local_header(version)] * 2
        await until(lambda: world.state == (1, 1, 0))

    play(script, version=version)


def test_idle_connections_do_not_stay_long() -> None:
    """Only one client can use it again, so it is closed sooner than others."""

    async def script(world: Told) -> None:
        assert await world.ask_as(ONE) == 200
        connection = world.pool._idle[0]
        assert connection.deadline - world.ticker.now <= 5.0

    play(script)
