"""Fetching a small document: whole, in time, and never more of it than was asked for."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import (
    BadResponse,
    ConnectFailed,
    GatewayError,
    StaleConnection,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.upstream.fetch import Fetched, fetch
from propylon.upstream.pool import Address, Pool
from propylon.wire.headers import values
from tests.proxy.doubles import Asked, streamed, whole
from tests.support import virtual
from tests.upstream.peer import OK, Line, Script, World, polite, run, saying, until

LINE = b"GET /keys?x=1"
BLOCK = b"\r\nHost: issuer.test\r\nAccept: application/json"


async def ask(
    upstream: Any,
    line: bytes = LINE,
    *,
    body: bytes | None = None,
    within: float = 20.0,
    limit: int = 1000,
) -> Fetched:
    """Fetch."""
    return await fetch(upstream, line, BLOCK, body=body, within=within, limit=limit)


def fetched(script: Script, *, left: int = 0, **options: Any) -> Fetched:
    """Fetch once from a peer that behaves like that; so many connections are left, all of them idle."""

    async def main() -> Fetched:
        async with World(script) as world:
            found = await ask(world.pool, **options)
            assert world.state == (left, left, 0)
            return found

    return run(main())


def failed(script: Script, error: type[GatewayError], **options: Any) -> GatewayError:
    """Fail once; the connection is closed, ours and the peer's end of it."""

    async def main() -> GatewayError:
        async with World(script) as world:
            with pytest.raises(error) as caught:
                await ask(world.pool, **options)
            assert world.state == (0, 0, 0)
            await until(lambda: all(line.ended for line in world.lines))
            return caught.value

    return run(main())


# A request and its answer


def test_what_is_sent_and_what_comes_back() -> None:
    """The line with the version, the block as it is; status, header block and body; nothing is added."""
    heads: list[bytes] = []

    async def script(line: Line) -> None:
        heads.append(await line.head())
        line.send(b"HTTP/1.1 203 Well\r\nX-A: 1\r\nContent-Length: 2\r\n\r\n{}")

    found = fetched(script, left=1)
    assert heads == [LINE + b" HTTP/1.1" + BLOCK + b"\r\n\r\n"]
    assert (found.status, found.body) == (203, b"{}")
    assert values(found.block, b"x-a") == [b"1"]


@pytest.mark.parametrize("body", [b"", b"token=abc", b"x" * 100_000])
def test_a_body(body: bytes) -> None:
    """It goes out whole, with its length."""
    got: list[bytes] = []

    async def script(line: Line) -> None:
        got.append(await line.head())
        got.append(await line.reader.readexactly(len(body)))
        line.send(OK)

    assert fetched(script, left=1, line=b"POST /introspect", body=body).body == b"hello"
    assert got[0].startswith(b"POST /introspect HTTP/1.1\r\nHost: issuer.test\r\n")
    assert values(got[0][:-4], b"content-length") == [b"%d" % len(body)]
    assert got[1] == body


BODIES: dict[str, tuple[bytes, int, bytes]] = {
    "with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 1, b"hello"),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        1,
        b"hello",
    ),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1, b""),
    "empty and chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        1,
        b"",
    ),
    "none": (b"HTTP/1.1 204 No Content\r\n\r\n", 1, b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 1, b""),
    "after others": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, 1, b"hello"),
    "last": (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        0,
        b"hello",
    ),
}


@pytest.mark.parametrize("whole_at_once", [True, False])
@pytest.mark.parametrize("name", BODIES)
def test_an_answer_however_it_is_framed(name: str, whole_at_once: bool) -> None:
    """In one piece or byte by byte: the body is what was meant, and a clean connection is kept."""
    sent, left, body = BODIES[name]

    async def script(line: Line) -> None:
        await line.head()
        if whole_at_once:
            line.send(sent)
            return
        for at in range(len(sent)):
            line.send(sent[at : at + 1])
            await asyncio.sleep(0)

    assert fetched(script, left=left).body == body


def test_an_answer_that_ends_with_its_connection() -> None:
    """Without a length it is whole when the connection is closed."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\n\r\nhel")
        await asyncio.sleep(0.01)
        line.send(b"lo")
        line.close()

    assert fetched(script).body == b"hello"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    """A redirect is an answer like any other: its Location is not requested."""

    async def main() -> None:
        async with World() as other:
            target = b"http://127.0.0.1:%d/keys" % other.port
            head = b"HTTP/1.1 %d Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n"
            async with World(saying(head % (status, target))) as world:
                assert (await ask(world.pool)).status == status
                assert len(world.lines) == 1
            assert other.lines == []

    run(main())


def test_one_connection_for_one_after_the_other() -> None:
    """The connection is kept and used again."""

    async def main() -> None:
        async with World(polite) as world:
            for _ in range(3):
                assert (await ask(world.pool)).body == b"hello"
            assert len(world.lines) == 1

    run(main())


def test_a_connection_that_was_closed_meanwhile() -> None:
    """That the upstream had closed a kept-alive connection is no failure: another one is used."""

    async def main() -> None:
        asked = Asked(StaleConnection("closed meanwhile"), whole())
        assert (await ask(asked)).body == b"hello"
        assert [line for line, _, _ in asked.got] == [LINE + b" HTTP/1.1"] * 2

    virtual.run(main())


# Too much


def big(size: int, framing: str, *, pieces: int = 1) -> Script:
    """Answer with so many bytes."""
    data = b"x" * size
    head = b"HTTP/1.1 200 OK\r\n"
    if framing == "length":
        head += b"Content-Length: %d\r\n\r\n" % size
    elif framing == "chunked":
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        data = b"%x\r\n%b\r\n0\r\n\r\n" % (size, data)
    else:
        head += b"\r\n"

    async def script(line: Line) -> None:
        await line.head()
        sent = head + data
        step = -(-len(sent) // pieces)
        for at in range(0, len(sent), step):
            line.send(sent[at : at + step])
            await asyncio.sleep(0.002 if pieces > 1 else 0)
        if framing == "close":
            line.close()

    return script


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_exactly_as_much_as_may_be(framing: str, pieces: int) -> None:
    """The limit itself is no more than the limit."""
    left = 0 if framing == "close" else 1
    assert len(fetched(big(1000, framing, pieces=pieces), left=left).body) == 1000


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("size", [1001, 50_000, 5_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_too_much(framing: str, size: int, pieces: int) -> None:
    """An error that says so, however the answer is framed and however it arrives."""

    async def main() -> None:
        async with World(big(size, framing, pieces=pieces)) as world:
            with pytest.raises(BadResponse, match="larger than 1000 bytes"):
                await ask(world.pool)

    run(main())


@pytest.mark.parametrize("sizes", [[1001], [600, 401], [0, 5000, 0]])
def test_too_much_that_is_there_at_once(sizes: list[int]) -> None:
    """A body that is complete as soon as it is asked for is too large all the same."""

    async def main() -> None:
        answer = streamed(*(b"x" * size for size in sizes))
        with pytest.raises(BadResponse, match="larger than 1000 bytes"):
            await ask(Asked(answer))

    virtual.run(main())


def test_nobody_reads_what_nobody_wants() -> None:
    """An endless answer is cut off as soon as it is too large, and holds no memory until then."""
    sent = 0

    async def script(line: Line) -> None:
        nonlocal sent
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while not line.writer.transport.is_closing():
            line.send(b"x" * 10_000)
            sent += 10_000
            await line.writer.drain()
            await asyncio.sleep(0)

    error = failed(script, BadResponse, limit=100_000)
    assert "100000 bytes" in error.message
    assert sent < 50_000_000


# Too late, broken, not there


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
)
def test_silence(sent: bytes) -> None:
    """However far it has come by then: too late is too late, and the connection is closed."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(sent)

    failed(script, UpstreamTimeout, within=0.05)


def test_a_trickle() -> None:
    """A byte now and then is no progress: the time is for all of it."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        while not line.writer.transport.is_closing():
            line.send(b"x")
            await asyncio.sleep(0.005)

    failed(script, UpstreamTimeout, within=0.05)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", UpstreamReset),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", UpstreamReset),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", UpstreamReset),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello", BadResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", BadResponse),
        (b"SSH-2.0-OpenSSH_9.9\r\n", BadResponse),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", BadResponse),
    ],
)
def test_a_broken_answer(sent: bytes, error: type[GatewayError]) -> None:
    """Half an answer is none."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(sent)
        line.close()

    failed(script, error)


def test_nobody_listens() -> None:
    """As for any request."""

    async def main() -> None:
        async with World() as world:
            port = world.port
        loop = asyncio.get_running_loop()
        address = Address("127.0.0.1", port)
        pool = Pool(address, limit=1, ticker=Ticker(loop, 0.005), outbox=Outbox(loop), loop=loop)
        with pytest.raises(ConnectFailed):
            await ask(pool)

    run(main())


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nhel"])
def test_nobody_waits_any_more(head: bytes) -> None:
    """A caller that is cancelled leaves no connection behind."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(head)

    async def main() -> None:
        async with World(script) as world:
            task = asyncio.create_task(ask(world.pool))
            await until(lambda: world.lines)
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert world.state == (0, 0, 0)
            await until(lambda: world.lines[0].ended)

    run(main())


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 100))
def test_all_of_it_or_an_error(pieces: list[bytes], limit: int) -> None:
    """Whatever the pieces: the body is all of them together, or it is too large."""
    body = b"".join(pieces)

    async def main() -> bytes:
        return (await ask(Asked(streamed(*pieces)), limit=limit)).body

    if len(body) <= limit:
        assert virtual.run(main()) == body
    else:
        with pytest.raises(BadResponse):
            virtual.run(main())
