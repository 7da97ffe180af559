"""Connections that died without a word, and clients whose slowness is not the upstream's."""

import asyncio

import pytest

from propylon.errors import (
    ClientGone,
    RequestTimeout,
    StaleConnection,
    UpstreamBusy,
    UpstreamTimeout,
)
from propylon.upstream.ports import Timeouts
from tests.upstream.peer import Collected, Line, World, polite, run, until, upload

BRIEF = Timeouts(max_duration=0.05)
LARGE = 1 << 20


class Forgetful:
    """Resets what it is asked over a connection that it has been told to forget."""

    def __init__(self) -> None:
        self.forgotten: set[Line] = set()

    async def __call__(self, line: Line) -> None:
        """Answer every request, until then."""
        while True:
            await line.head()
            if line in self.forgotten:
                line.reset()
                return
            line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


def test_one_dead_connection_speaks_for_the_others() -> None:
    """Those that were idle for as long are closed: each would have cost a request its attempt."""

    async def main() -> None:
        script = Forgetful()
        async with World(script) as world:
            await asyncio.gather(*(world.ask() for _ in range(8)))
            assert world.state == (8, 8, 0)
            script.forgotten.update(world.lines)
            with pytest.raises(StaleConnection):
                await world.ask()
            assert world.state == (0, 0, 0)
            assert await world.ask() == (200, b"hello")
            assert len(world.lines) == 9

    run(main())


def test_a_connection_used_since_is_trusted() -> None:
    """It has shown that it lives."""

    async def main() -> None:
        script = Forgetful()
        async with World(script) as world:
            await asyncio.gather(*(world.ask() for _ in range(3)))
            dead, alive = world.pool._idle[0], world.pool._idle[2]
            await asyncio.sleep(0.02)  # the ticker's time, by which idleness is told
            assert await world.ask() == (200, b"hello")
            assert alive.idle_since > dead.idle_since
            world.pool.close_idle_since(dead.idle_since)
            assert world.state == (1, 1, 0)

    run(main())


async def reading(line: Line) -> None:
    """Take whatever comes, and never answer."""
    while await line.reader.read(65536):
        pass


def test_a_client_that_sends_slowly_is_not_the_upstreams_failure() -> None:
    """`max_duration` ends its request with 408, of which no breaker hears."""

    async def main() -> None:
        async with World(reading) as world:
            body, _ = upload(b"x", length=100, end=False)
            with pytest.raises(RequestTimeout):
                await world.ask("POST", body=body, timeouts=BRIEF)
            await until(lambda: world.state == (0, 0, 0))

    run(main())


async def deaf(line: Line) -> None:
    """Read the head and not the body."""
    await line.head()
    await asyncio.sleep(60)


@pytest.mark.parametrize("sent", [True, False], ids=["whole", "half"])
def test_an_upstream_that_does_not_read_is_its_own_failure(sent: bool) -> None:
    """Be the client still sending: what it sent lies here."""

    async def main() -> None:
        async with World(deaf) as world:
            data = b"x" * 16 * LARGE
            body, _ = upload(data, length=len(data) + (not sent), end=sent)
            with pytest.raises(UpstreamTimeout):
                await world.ask("POST", body=body, timeouts=BRIEF)

    run(main())


async def pouring(line: Line) -> None:
    """Answer with more than fits into any buffer."""
    await line.head()
    line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (16 * LARGE))
    line.send(b"x" * 16 * LARGE)


def test_a_client_that_reads_slowly_is_not_the_upstreams_failure() -> None:
    """`max_duration` cuts its answer, of which no breaker hears."""

    async def main() -> None:
        async with World(pouring) as world:
            sink = Collected()
            answer = await world.pool.send(world.out(timeouts=Timeouts(max_duration=1)), sink)
            ended = answer.pipe(sink)
            answer.pause()
            with pytest.raises(ClientGone):
                await ended

    run(main())


def test_an_upstream_that_sends_for_ever_is_its_own_failure() -> None:
    """Its client would have read it all."""

    async def main() -> None:
        async def trickling(line: Line) -> None:
            await line.head()
            line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while True:
                line.send(b"x")
                await asyncio.sleep(0.005)

        async with World(trickling) as world:
            with pytest.raises(UpstreamTimeout):
                await world.ask(timeouts=BRIEF)

    run(main())


def test_polite_upstreams_are_not_suspected() -> None:
    """A connection that the upstream closes with a FIN leaves the pool alone, without the others."""

    async def main() -> None:
        async with World(polite) as world:
            await asyncio.gather(*(world.ask() for _ in range(3)))
            world.lines[0].close()
            await until(lambda: world.state == (2, 2, 0))
            assert await world.ask() == (200, b"hello")
            assert len(world.lines) == 3

    run(main())


@pytest.mark.parametrize("complete", [True, False], ids=["whole", "coming"])
def test_the_total_holds_until_the_client_is_waited_for(complete: bool) -> None:
    """A place in the queue, a connection that does not come: that is no client's time."""

    async def main() -> None:
        async with World(reading, limit=1) as world:
            first = world.asking()
            await until(lambda: world.state == (1, 0, 0))
            body, _ = upload(b"abcd", length=4 + (not complete), end=complete)
            before = asyncio.get_running_loop().time()
            with pytest.raises(UpstreamBusy):
                await world.ask("PUT", body=body, total=0.05)
            assert asyncio.get_running_loop().time() - before < Timeouts().connect / 2
            first.cancel()

    run(main())
