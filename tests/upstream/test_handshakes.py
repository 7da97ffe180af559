"""Handshakes over real sockets: a connection for each, counted as long as it is open, and given back whatever happens."""

import asyncio
from typing import cast

import pytest

from propylon.errors import BadResponse, ConnectFailed, UpstreamReset, UpstreamTimeout
from propylon.upstream.handshakes import Switched
from propylon.upstream.ports import Outgoing, Timeouts
from propylon.wire.offer import Handshake
from tests.upstream.peer import OK, Collected, Line, Script, World, run, saying, until

AGREED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n"


def offer(world: World, timeouts: Timeouts | None = None) -> Outgoing:
    """A request that offers foo."""
    asked = world.out(timeouts=timeouts)
    asked.handshake = Handshake(b"foo")
    return asked


class Kept(asyncio.Protocol):
    """What takes a switched connection over."""

    def __init__(self, switched: Switched) -> None:
        self.switched = switched
        self.data = b""

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self.switched.released()


async def switched(world: World) -> Switched:
    """The upstream's 101."""
    return cast("Switched", await world.pool.send(offer(world), Collected()))


def test_a_tunnel_is_busy_and_takes_no_place_of_requests() -> None:
    """It counts for least_connections until it ends; `max_connections` is left to requests."""

    async def agree(line: Line) -> None:
        await line.head()
        line.send(AGREED if line is world.lines[0] else OK)

    async def main() -> None:
        async with world:
            answer = await switched(world)
            assert (answer.head.status, answer.rest, world.pool.busy, world.pool.open) == (
                101,
                b"",
                1,
                0,
            )
            kept = Kept(answer)
            transport = answer.take(kept)
            assert await world.ask() == (200, b"hello")
            assert world.state == (1, 1, 0)
            world.lines[0].send(b"abc")
            await until(lambda: kept.data == b"abc")
            transport.close()
            await until(lambda: world.pool.busy == 0)

    world = World(agree, limit=1)
    run(main())


def test_bytes_behind_the_101_are_kept() -> None:
    """What comes with it, and before it is taken, is not lost."""

    async def main() -> None:
        async with World(saying(AGREED + b"first ")) as world:
            answer = await switched(world)
            assert answer.rest == b"first "
            world.lines[0].send(b"second")
            await asyncio.sleep(0.02)
            kept = Kept(answer)
            answer.take(kept)
            await until(lambda: kept.data == b"second")
            answer.abort()
            await until(lambda: world.pool.busy == 0)

    run(main())


def test_a_refusal_is_an_answer() -> None:
    """It has its body, and its connection is not used again."""

    async def main() -> None:
        async with World(saying(OK)) as world:
            answer = await world.pool.send(offer(world), Collected())
            assert (answer.head.status, answer.body) == (200, b"hello")
            await until(lambda: world.lines[0].ended)
            assert world.pool.busy == 0

    run(main())


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (saying(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"), BadResponse),
        (saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: bar\r\nConnection: Upgrade\r\n\r\n"), BadResponse),
        (saying(b"SSH-2.0\r\n"), BadResponse),
    ],
)  # fmt: skip
def test_no_agreement_gives_the_place_back(script: Script, error: type[Exception]) -> None:
    """The connection is closed, and nothing stays counted."""

    async def main() -> None:
        async with World(script) as world:
            with pytest.raises(error):
                await world.pool.send(offer(world), Collected())
            await until(lambda: world.lines[0].ended)
            assert world.pool.busy == 0

    run(main())


def test_an_upstream_that_leaves_or_keeps_silent() -> None:
    """The time limits of any request hold, and nothing stays counted."""

    async def leave(line: Line) -> None:
        await line.head()
        line.reset()

    async def main() -> None:
        async with World(leave) as world:
            with pytest.raises(UpstreamReset):
                await world.pool.send(offer(world), Collected())
            assert world.pool.busy == 0
        async with World(saying()) as world:
            with pytest.raises(UpstreamTimeout):
                await world.pool.send(offer(world, Timeouts(first_byte=0.05)), Collected())
            assert world.pool.busy == 0

    run(main())


def test_nobody_listens() -> None:
    """A refused connection is the error of a refused connection."""

    async def main() -> None:
        async with World() as world:
            world.listener.close()
            await world.listener.wait_closed()
            with pytest.raises(ConnectFailed):
                await world.pool.send(offer(world), Collected())
            assert world.pool.busy == 0

    run(main())


def test_giving_up_while_connecting_or_waiting() -> None:
    """A client that leaves meanwhile leaves nothing open and nothing counted."""

    async def main() -> None:
        async with World(saying()) as world:
            for pause in (0.0, 0.001, 0.05):
                asking = asyncio.ensure_future(world.pool.send(offer(world), Collected()))
                await asyncio.sleep(pause)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                await until(lambda: world.pool.busy == 0)
            await until(lambda: all(line.ended for line in world.lines))

    run(main())


def test_a_connection_that_ends_before_it_is_taken() -> None:
    """Taking it is an error that passes for one of the upstream, before the client has its 101."""

    async def agree_and_leave(line: Line) -> None:
        await line.head()
        line.send(AGREED)
        line.reset()

    async def main() -> None:
        async with World(agree_and_leave) as world:
            answer = await switched(world)
            transport = answer._transport
            transport.abort()
            await until(lambda: world.pool.busy == 0)
            with pytest.raises(ConnectFailed):
                answer.take(Kept(answer))
            with pytest.raises(RuntimeError):
                answer.pipe(Collected())

    run(main())
