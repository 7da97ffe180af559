"""Unix sockets: connected to by their path, also when their queue is full."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from propylon.errors import ConnectFailed, ConnectTimeout
from propylon.upstream.connection import Connection
from propylon.upstream.dial import Address, Dialer
from tests.upstream.peer import Line, World, polite, run, until


def made(world: World) -> Connection:
    """A connection that is not open yet."""
    return Connection(world.pool, world.ticker, world.outbox)


def test_a_unix_socket_has_no_name() -> None:
    """What identifies the instance is its path, and there is nothing to look up."""
    address = Address("localhost", 0, path="/run/app.sock")
    assert (address.authority, address.is_named) == ("unix:/run/app.sock", False)
    assert Address("localhost", 80).is_named
    assert not Address("::1", 80).is_named


def test_it_is_asked_like_any_other(tmp_path: Path) -> None:
    """Connections are kept, and used again."""

    async def main() -> None:
        async with World() as world:
            path = tmp_path / "s"
            lines: list[Line] = []

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                lines.append(Line(reader, writer))
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    await polite(lines[-1])
                writer.close()

            listener = await asyncio.start_unix_server(serve, path)
            world.pool.address = Address("localhost", 0, path=str(path))
            for _ in range(3):
                assert await world.ask() == (200, b"hello")
            assert (len(lines), world.state) == (1, (1, 1, 0))
            assert not world.pool._stray_check._active
            world.pool.close()
            listener.close()
            await asyncio.sleep(0.01)

    run(main())


def test_no_socket_there(tmp_path: Path) -> None:
    """The reason names the socket, and what the system says."""

    async def main() -> None:
        async with World() as world:
            world.pool.address = Address("localhost", 0, path=str(tmp_path / "none"))
            with pytest.raises(ConnectFailed) as failed:
                await world.ask("POST")
            assert failed.value.unsent
            said = f"unix:{tmp_path}/none: [Errno 2] No such file or directory"
            assert failed.value.reason == said

    run(main())


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    """A connect that fails because the queue is full is tried again until the time is over, as TCP would."""
    path = tmp_path / "full"
    address = Address("localhost", 0, path=str(path))

    async def main() -> None:
        async with World() as world:
            with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as queue:
                listener.bind(str(path))
                listener.listen(0)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        waiting = queue.enter_context(socket.socket(socket.AF_UNIX))
                        waiting.setblocking(False)
                        waiting.connect(str(path))
                dialer = Dialer(asyncio.get_running_loop())
                with pytest.raises(ConnectTimeout):
                    await dialer.open(address, lambda: made(world), 0.05)
                opening = asyncio.create_task(dialer.open(address, lambda: made(world), 20.0))
                await asyncio.sleep(0.03)
                assert not opening.done()
                accepted = [queue.enter_context(listener.accept()[0])]
                connection = await opening
                assert connection.usable
                assert accepted
                connection.abort()
                await until(lambda: not world.ticker._watched)

    run(main())
