"""What an upstream sends unasked never becomes the answer to the next request, however early that one comes."""

import asyncio
import socket

import pytest

from propylon.loop.outbox import Outbox
from propylon.loop.ticker import NEVER, Ticker
from propylon.upstream.pool import Address, Pool
from propylon.upstream.ports import Outgoing, Timeouts
from propylon.wire.message import NO_BODY
from tests.upstream.peer import OK, Collected, run, upload

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


class Plain:
    """A pool, and the other ends of its connections as plain sockets, so that a write is done when it returns."""

    def __init__(self, limit: int = 4) -> None:
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.ticker = Ticker(loop, 0.005)
        self.outbox = Outbox(loop)
        address = Address("127.0.0.1", self.listener.getsockname()[1])
        self.pool = Pool(address, limit=limit, ticker=self.ticker, outbox=self.outbox, loop=loop)
        self.lines: list[socket.socket] = []

    def ask(self, method: str = "GET", *, closes: bool = False) -> "asyncio.Task[bytes | None]":
        """Send a request in this turn of the loop; with `closes`, over a connection of its own."""
        body = upload(b"hello")[0] if closes else None
        line, length = b"%b / HTTP/1.1" % method.encode(), 5 if closes else NO_BODY
        out = Outgoing(method, line, b"\r\nHost: a", body, Timeouts(), NEVER, length=length)
        out.closes = closes
        sent = self.pool.send(out, Collected())

        async def answer() -> bytes | None:
            return (await sent).body

        return self.loop.create_task(answer())

    async def accept(self) -> socket.socket:
        """The next connection."""
        line, _ = await self.loop.sock_accept(self.listener)
        self.lines.append(line)
        return line

    async def request(self, line: socket.socket) -> bytes:
        """What came in on a connection; nothing if it was closed, by a reset where something was left unread."""
        line.setblocking(False)
        try:
            return await self.loop.sock_recv(line, 65536)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        """Close all sockets."""
        self.pool.close()
        for sock in (self.listener, *self.lines):
            sock.close()


@pytest.mark.parametrize("sent", [POISON, b"x", b""], ids=["answer", "byte", "FIN"])
def test_what_waits_in_the_socket_is_seen_before_reuse(sent: bytes) -> None:
    """A connection in whose socket something waits is closed, although the loop has not read it yet."""

    async def main() -> None:
        world = Plain()
        first = world.ask()
        line = await world.accept()
        await world.request(line)
        line.send(OK)
        assert await first == b"hello"
        # In one turn of the loop: nothing is read in between.
        line.send(sent) if sent else line.shutdown(socket.SHUT_WR)
        second = world.ask()
        fresh = await world.accept()
        await world.request(fresh)
        fresh.send(OK)
        assert await second == b"hello"
        assert await world.request(line) == b""  # closed, and no request was sent over it
        world.close()

    run(main())


def test_what_waits_in_the_socket_is_seen_before_the_queue_gets_it() -> None:
    """A request in the queue gets a new connection, not the one whose answer came together with another."""

    async def main() -> None:
        world = Plain(limit=1)
        first, second = world.ask(), world.ask()
        line = await world.accept()
        await world.request(line)
        line.send(OK + POISON)
        assert await first == b"hello"
        fresh = await world.accept()
        await world.request(fresh)
        fresh.send(OK)
        assert await second == b"hello"
        world.close()

    run(main())


def test_a_request_that_closes_has_a_connection_of_its_own() -> None:
    """It leaves the idle connections to others, says `Connection: close`, and its connection is not used again."""

    async def main() -> None:
        world = Plain()
        for closes in (False, True, False):
            asked = world.ask(closes=closes)
            if len(world.lines) < 1 + closes:
                await world.accept()
            line = world.lines[closes]
            head = await world.request(line)
            assert (b"\r\nConnection: close\r\n" in head) is closes
            line.send(OK)
            assert await asked == b"hello"
        assert await world.request(world.lines[1]) == b""
        assert world.pool.open == 1
        world.close()

    run(main())
