"""A scripted upstream on a real socket, and the client side that asks it, on one uvloop."""

import asyncio
import contextlib
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from propylon.edge.body import Body
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import NEVER, Ticker
from propylon.upstream.pool import Address, Pool
from propylon.upstream.ports import Outgoing, Timeouts
from propylon.wire.message import NO_BODY, Response

T = TypeVar("T")

PATIENCE = 30.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run under uvloop, for a minute at the most; what is left open when it ends well is a failure."""

    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await main

    # Recorded, not raised: uvloop warns while it closes the loop, and would hang if it could not.
    with warnings.catch_warnings(record=True) as left_open:
        warnings.filterwarnings("always", "unclosed resource", ResourceWarning)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(bounded())
    for warning in left_open:
        raise warning.message if isinstance(warning.message, Warning) else AssertionError(warning)
    return result


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


class Line:
    """One connection, as the upstream sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.ended = False  # the other side closed it

    async def head(self) -> bytes:
        """The next request's head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        """Write."""
        self.writer.write(data)

    def close(self) -> None:
        """End the connection."""
        self.writer.close()

    def reset(self) -> None:
        """Break it."""
        self.writer.transport.abort()


Script = Callable[[Line], Awaitable[None]]


async def polite(line: Line) -> None:
    """Answer every request with five bytes."""
    while True:
        await line.head()
        line.send(OK)


def saying(*answers: bytes) -> Script:
    """Answer the requests of a connection one by one, then wait."""

    async def script(line: Line) -> None:
        for answer in answers:
            await line.head()
            line.send(answer)

    return script


class World:
    """A peer, and a pool that leads to it."""

    def __init__(self, script: Script = polite, *, limit: int = 10) -> None:
        self.lines: list[Line] = []
        self.script = script
        self.limit = limit
        self.held: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        self.ticker = Ticker(loop, 0.005)
        self.outbox = Outbox(loop)
        address = Address("127.0.0.1", self.port)
        self.pool = Pool(
            address, limit=self.limit, ticker=self.ticker, outbox=self.outbox, loop=loop
        )
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        self.lines.append(line)
        try:
            await self.script(line)
            while await reader.read(65536):
                await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, OSError):
            line.ended = True
        line.ended = True
        with contextlib.suppress(OSError):
            writer.close()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for thing in list(self.ticker._watched):
            abort = getattr(thing, "abort", None)
            if abort is not None:
                abort()
        self.pool.close()
        self.listener.close()
        for line in self.lines:
            line.writer.transport.abort()
        await asyncio.sleep(0.01)

    def out(
        self,
        method: str = "GET",
        body: Body | None = None,
        timeouts: Timeouts | None = None,
        total: float | None = None,
    ) -> Outgoing:
        """A request."""
        deadline = NEVER if total is None else asyncio.get_running_loop().time() + total
        line = b"%b / HTTP/1.1" % method.encode()
        length = NO_BODY if body is None else body.length
        block = b"\r\nHost: a"
        return Outgoing(method, line, block, body, timeouts or Timeouts(), deadline, length=length)

    async def ask(self, method: str = "GET", **options: Any) -> tuple[int, bytes]:
        """Ask, and read the answer to its end."""
        sink = Collected()
        answer = await self.pool.send(self.out(method, **options), sink)
        if answer.body is not None:
            return answer.head.status, answer.body
        await answer.pipe(sink)
        assert sink.finished
        return answer.head.status, sink.data

    def asking(self, method: str = "GET", **options: Any) -> "asyncio.Task[tuple[int, bytes]]":
        """Ask in the background."""
        return asyncio.create_task(self.ask(method, **options))

    @property
    def state(self) -> tuple[int, int, int]:
        """Open, idle and queued."""
        return self.pool.open, len(self.pool._idle), len(self.pool._queue)


class Collected:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.finished = False
        self.interims: list[int] = []

    def write(self, data: bytes) -> None:
        """Keep a piece."""
        self.data += data

    def finish(self, trailers: bytes = b"") -> None:
        """Note the end."""
        assert not self.finished
        self.finished = True

    def interim(self, head: Response) -> None:
        """Note a 1xx answer."""
        self.interims.append(head.status)


class Tap:
    """Where a request's body comes from: counts how often it was told to wait."""

    def __init__(self) -> None:
        self.paused = False
        self.pauses = 0

    def pause(self) -> None:
        """Wait."""
        self.paused = True
        self.pauses += 1

    def resume(self) -> None:
        """Go on."""
        self.paused = False


def upload(data: bytes = b"", *, length: int | None = None, end: bool = True) -> tuple[Body, Tap]:
    """A request body with some bytes in it already."""
    tap = Tap()
    body = Body(len(data) if length is None else length, tap, None)
    body.limit = 1 << 30
    if data:
        body.feed(data)
    if end:
        body.end()
    return body, tap
