"""One socket, one exchange at a time, against a scripted upstream."""

import asyncio

import pytest

from propylon.errors import (
    BadResponse,
    GatewayError,
    StaleConnection,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.upstream.connection import Connection
from propylon.upstream.ports import Timeouts
from propylon.wire.message import CHUNKED
from tests.upstream.peer import OK, Collected, Line, Script, World, run, saying, until, upload

CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_1000 = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


async def slowly(line: Line, data: bytes) -> None:
    """Send byte by byte."""
    for i in range(len(data)):
        line.send(data[i : i + 1])
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (OK, b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (CHUNKED_HEAD + b"5\r\nhello\r\n1;x\r\n!\r\n0\r\nA: b\r\n\r\n", b"hello!"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hint\r\nA: b\r\n\r\n" + OK, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
    ],
)
@pytest.mark.parametrize("pace", ["whole", "slow"])
def test_an_answer_is_read(raw: bytes, body: bytes, pace: str) -> None:
    """However its bytes arrive; the connection is used again."""

    async def script(line: Line) -> None:
        for _ in range(2):
            await line.head()
            if pace == "whole":
                line.send(raw)
            else:
                await slowly(line, raw)

    async def main() -> None:
        async with World(script) as world:
            for _ in range(2):
                _, data = await world.ask()
                assert data == body
            assert (len(world.lines), world.state) == (1, (1, 1, 0))

    run(main())


@pytest.mark.parametrize(
    ("length", "framing"),
    [
        (4, b"Content-Length: 4"),
        (0, b"Content-Length: 0"),
        (CHUNKED, b"Transfer-Encoding: chunked"),
    ],
)
def test_framing_is_our_own(length: int, framing: bytes) -> None:
    """The connection writes it, in the one spelling that everyone reads alike, and last."""
    heads: list[bytes] = []

    async def script(line: Line) -> None:
        heads.append(await line.head())
        line.send(OK)

    async def main() -> None:
        async with World(script) as world:
            body = None if length == 0 else upload(b"abcd", length=length)[0]
            out = world.out("POST", body=body)
            out.length = length
            assert (await world.pool.send(out, Collected())).head.status == 200

    run(main())
    assert heads[0].endswith(b"\r\n" + framing + b"\r\n\r\n")


def test_interim_answers_reach_the_sink() -> None:
    """All but 100, which answers us: 103 is for the client."""

    async def main() -> None:
        raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hint\r\nLink: x\r\n\r\n" + OK
        async with World(saying(raw)) as world:
            sink = Collected()
            answer = await world.pool.send(world.out(), sink)
            assert (answer.head.status, sink.interims) == (200, [103])

    run(main())


def test_an_answer_until_close() -> None:
    """It ends with the connection, which is gone then."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\n\r\nhel")
        await asyncio.sleep(0.01)
        line.send(b"lo")
        line.close()

    async def main() -> None:
        async with World(script) as world:
            assert await world.ask() == (200, b"hello")
            assert world.state == (0, 0, 0)

    run(main())


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"x",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        CHUNKED_HEAD + b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_what_is_not_clean_is_not_used_again(raw: bytes) -> None:
    """More bytes than announced, or a connection that says it ends."""

    async def main() -> None:
        async with World(saying(raw)) as world:
            assert await world.ask() == (200, b"hello")
            assert world.state == (0, 0, 0)
            await until(lambda: world.lines[0].ended)

    run(main())


def test_unsolicited_bytes_close_an_idle_connection() -> None:
    """They must never be paired with the next request."""

    async def main() -> None:
        async with World() as world:
            await world.ask()
            world.lines[0].send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            await until(lambda: world.state == (0, 0, 0))
            assert await world.ask() == (200, b"hello")
            assert len(world.lines) == 2

    run(main())


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"SSH-2.0-OpenSSH\r\n", BadResponse),
        (b"\x15\x03\x01\x00\x02\x02\x28", BadResponse),
        (b"HTTP/2.0 200 OK\r\n\r\n", BadResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", BadResponse),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", BadResponse),
        (b"HTTP/1.1 103 Hint\r\n\r\n" * 101 + OK, BadResponse),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000, BadResponse),
        (CHUNKED_HEAD + b"5\r\nhelloX\r\n", BadResponse),
        (CHUNKED_HEAD + b"0x5\r\nhello\r\n", BadResponse),
    ],
)
def test_nonsense_is_a_bad_response(raw: bytes, error: type[GatewayError]) -> None:
    """502 and the connection is closed, though the upstream keeps it open."""

    async def main() -> None:
        async with World(saying(raw)) as world:
            with pytest.raises(error):
                await world.ask()
            assert world.state == (0, 0, 0)
            await until(lambda: world.lines[0].ended)

    run(main())


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", UpstreamReset),
        (b"HTTP/1.1 200 OK\r\nConte", BadResponse),
        (HEAD_1000 + b"x" * 999, UpstreamReset),
        (CHUNKED_HEAD + b"5\r\nhello\r\n", UpstreamReset),
        (b"HTTP/1.1 100 Continue\r\n\r\n", UpstreamReset),
    ],
)
def test_an_answer_that_breaks_off(raw: bytes, error: type[GatewayError]) -> None:
    """Wherever it does, it is an error of the upstream's, and no stale connection."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(raw)
        line.close()

    async def main() -> None:
        async with World(script) as world:
            with pytest.raises(error) as caught:
                await world.ask()
            assert not isinstance(caught.value, StaleConnection)
            assert world.state == (0, 0, 0)

    run(main())


@pytest.mark.parametrize("reset", [True, False])
def test_a_kept_connection_that_was_closed(reset: bool) -> None:
    """Closed as the next request arrives: stale, so that it may be asked again."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(OK)
        await line.head()
        (line.reset if reset else line.close)()

    async def main() -> None:
        async with World(script) as world:
            await world.ask()
            with pytest.raises(StaleConnection):
                await world.ask()

    run(main())


def test_a_kept_connection_that_had_begun_to_answer_is_not_stale() -> None:
    """An upstream that has sent a byte of an answer has read the request: sending it again could repeat it."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(OK)
        await line.head()
        line.send(b"HTTP/1.1 1")
        await asyncio.sleep(0.02)
        line.close()

    async def main() -> None:
        async with World(script) as world:
            await world.ask()
            with pytest.raises(BadResponse):
                await world.ask()

    run(main())


# Timeouts


async def silent(line: Line) -> None:
    """Read the request and say nothing."""
    await line.head()


async def stuck_body(line: Line) -> None:
    """Stop in the middle of the answer."""
    await line.head()
    line.send(HEAD_1000 + b"x")


async def trickling(line: Line) -> None:
    """Never be silent for long, and never come to an end."""
    await line.head()
    line.send(CHUNKED_HEAD)
    while not line.writer.transport.is_closing():
        line.send(b"1\r\nx\r\n")
        await asyncio.sleep(0.01)


async def only_interims(line: Line) -> None:
    """Hint for ever."""
    await line.head()
    while not line.writer.transport.is_closing():
        line.send(b"HTTP/1.1 103 Hint\r\n\r\n")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "timeouts", "total"),
    [
        (silent, Timeouts(first_byte=0.05), None),
        (silent, Timeouts(), 0.05),
        (only_interims, Timeouts(first_byte=0.1), None),
        (stuck_body, Timeouts(idle=0.05), None),
        (stuck_body, Timeouts(max_duration=0.05), None),
        (trickling, Timeouts(max_duration=0.1), None),
    ],
)
def test_timeouts(script: Script, timeouts: Timeouts, total: float | None) -> None:
    """Each kind of silence ends in 504, and the connection with it."""

    async def main() -> None:
        async with World(script) as world:
            with pytest.raises(UpstreamTimeout):
                await world.ask(timeouts=timeouts, total=total)
            assert world.state == (0, 0, 0)
            await until(lambda: world.lines[0].ended or world.lines[0].writer.is_closing())

    run(main())


def test_total_ends_with_the_head() -> None:
    """A long answer may take longer than `total`."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(HEAD_1000)
        for _ in range(10):
            await asyncio.sleep(0.06)
            line.send(b"x" * 100)

    async def main() -> None:
        async with World(script) as world:
            assert await world.ask(total=0.4) == (200, b"x" * 1000)

    run(main())


def test_an_upload_is_not_waited_for_as_an_answer() -> None:
    """`first_byte` runs from the end of the request's body."""

    async def main() -> None:
        async with World() as world:
            body, _ = upload(length=4, end=False)
            timeouts = Timeouts(first_byte=0.3, idle=0.3, total=20.0)
            asking = world.asking("PUT", body=body, timeouts=timeouts)
            await asyncio.sleep(0.5)
            world_script_read = len(world.lines)
            body.feed(b"data")
            body.end()
            assert await asking == (200, b"hello")
            assert world_script_read == 1

    run(main())


# Request bodies


@pytest.mark.parametrize("length", [11, CHUNKED])
def test_a_body_goes_out(length: int) -> None:
    """What was there first, then what comes; framed as announced."""
    got: list[bytes] = []

    async def script(line: Line) -> None:
        await line.head()
        got.append(
            await line.reader.readexactly(11)
            if length == 11
            else await line.reader.readuntil(b"0\r\n\r\n")
        )
        line.send(OK)

    async def main() -> None:
        async with World(script) as world:
            body, _ = upload(b"hello", length=length, end=False)
            asking = world.asking("POST", body=body)
            await until(lambda: body.started)
            body.feed(b" world")
            body.end()
            assert await asking == (200, b"hello")
            assert world.state == (1, 1, 0)

    run(main())
    expected = b"hello world" if length == 11 else b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    assert got == [expected]


def test_an_early_answer_during_an_upload() -> None:
    """It is the answer; the connection, with half a request on it, is closed."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")

    async def main() -> None:
        async with World(script) as world:
            body, _ = upload(b"x" * 10, length=1000, end=False)
            assert await world.ask("POST", body=body) == (413, b"no")
            assert world.state == (0, 0, 0)
            body.feed(b"x" * 10)  # is dropped, without an error

    run(main())


def test_an_upstream_that_reads_slowly_has_the_client_wait() -> None:
    """Back-pressure: what comes in is bounded by what goes out."""

    async def script(line: Line) -> None:
        await line.head()
        await asyncio.sleep(0.1)
        await line.reader.readexactly(1 << 24)
        line.send(OK)

    async def main() -> None:
        async with World(script) as world:
            body, tap = upload(length=1 << 24, end=False)
            asking = world.asking("PUT", body=body)
            await until(lambda: body.started)
            rest, most = 1 << 24, 0
            while rest:
                if tap.paused:
                    await asyncio.sleep(0.001)
                    continue
                body.feed(b"x" * min(rest, 1 << 16))
                rest -= min(rest, 1 << 16)
                sending = next(iter(world.ticker._watched))
                assert isinstance(sending, Connection)
                assert sending._transport is not None
                most = max(most, sending._transport.get_write_buffer_size())
                await asyncio.sleep(0)
            body.end()
            assert await asking == (200, b"hello")
            assert tap.pauses > 0
            assert most < 1 << 22

    run(main())


# Flow of the answer


def test_a_slow_client_has_the_upstream_wait() -> None:
    """Paused, nothing more is read; resumed, the rest comes; silence meanwhile is not the upstream's fault."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 8_000_000)

    async def main() -> None:
        async with World(script) as world:
            sink = Collected()
            answer = await world.pool.send(world.out(timeouts=Timeouts(idle=0.5)), sink)
            ended = answer.pipe(sink)
            answer.pause()
            await asyncio.sleep(0.02)
            held = len(sink.data)
            await asyncio.sleep(0.7)
            assert len(sink.data) == held < 8_000_000
            answer.resume()
            await ended
            assert len(sink.data) == 8_000_000
            assert world.state == (1, 1, 0)

    run(main())


def test_an_answer_waits_until_it_is_piped() -> None:
    """Until the answer is piped, its body stays with the upstream, not in memory."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000)

    async def main() -> None:
        async with World(script) as world:
            sink = Collected()
            answer = await world.pool.send(world.out(), sink)
            await asyncio.sleep(0.05)
            sending = next(iter(world.ticker._watched))
            assert isinstance(sending, Connection)
            assert sum(map(len, sending._early_body)) < 1_000_000
            await answer.pipe(sink)
            assert len(sink.data) == 20_000_000

    run(main())


class Choosy(Collected):
    """A sink that has its flow wait at the first piece."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: object = None

    def write(self, data: bytes) -> None:
        """Take it, and say that this is enough for now."""
        first = not self.data
        super().write(data)
        if first:
            self.answer.pause()  # type: ignore[attr-defined]


@pytest.mark.parametrize("when", ["in the first write", "before pipe"])
def test_a_pause_is_not_forgotten_by_pipe(when: str) -> None:
    """A client that is slow already when the body begins has the upstream wait all the same."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 100)
        await asyncio.sleep(0.02)
        line.send(b"x" * 8_999_900)

    async def main() -> None:
        async with World(script) as world:
            sink = Choosy() if when == "in the first write" else Collected()
            answer = await world.pool.send(world.out(), sink)
            if isinstance(sink, Choosy):
                sink.answer = answer
            else:
                answer.pause()
            answer.pipe(sink)
            await asyncio.sleep(0.15)
            assert len(sink.data) < 9_000_000
            answer.abort()

    run(main())


# Giving up


@pytest.mark.parametrize("script", [silent, stuck_body])
def test_a_task_that_is_cancelled_closes_its_connection(script: Script) -> None:
    """The upstream hears of it at once."""

    async def main() -> None:
        async with World(script) as world:
            asking = world.asking()
            await until(lambda: len(world.lines) == 1)
            await asyncio.sleep(0.03)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await asyncio.wait_for(until(lambda: world.lines[0].ended), 20.0)
            assert world.state == (0, 0, 0)

    run(main())


def test_abort_closes_the_connection() -> None:
    """What was not read to its end cannot be used again."""

    async def main() -> None:
        async with World(stuck_body) as world:
            sink = Collected()
            answer = await world.pool.send(world.out(), sink)
            answer.abort()
            await asyncio.wait_for(until(lambda: world.lines[0].ended), 20.0)
            assert world.state == (0, 0, 0)

    run(main())


def test_an_answer_lets_go_of_its_connection() -> None:
    """Aborting an answer that has ended does not close the connection under the next exchange."""

    async def main() -> None:
        async with World(saying(OK, CHUNKED_HEAD + b"0\r\n\r\n", OK)) as world:
            sink = Collected()
            first = await world.pool.send(world.out(), sink)
            second = await world.pool.send(world.out(), sink)
            await second.pipe(sink)
            first.abort()
            second.abort()
            second.pause()
            assert await world.ask() == (200, b"hello")
            assert (len(world.lines), world.state) == (1, (1, 1, 0))

    run(main())


def test_an_answer_nobody_took_closes_its_connection() -> None:
    """A task that is cancelled while its answer is on the way to it leaves no connection behind."""

    async def main() -> None:
        async with World(silent) as world:
            asking = world.asking()
            await until(lambda: bool(world.lines))
            sending = next(thing for thing in world.ticker._watched)
            assert isinstance(sending, Connection)
            await until(lambda: sending._answered is not None)
            sending.data_received(HEAD_1000)  # the task wakes in the next turn of the loop
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await asyncio.sleep(0.05)
            assert world.state == (0, 0, 0)

    run(main())


def test_an_answer_that_was_reset_before_it_was_piped_is_not_whole() -> None:
    """A body until close ends with a close, never with a reset."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")

    async def main() -> None:
        async with World(script) as world:
            sink = Collected()
            answer = await world.pool.send(world.out(), sink)
            sending = next(thing for thing in world.ticker._watched)
            assert isinstance(sending, Connection)
            transport = sending._transport
            assert transport is not None
            sending.connection_lost(ConnectionResetError())
            transport.abort()
            with pytest.raises(UpstreamReset):
                await answer.pipe(sink)

    run(main())


def test_a_head_that_repeats_is_read_the_same() -> None:
    """The same bytes to HEAD and GET are two answers: one has a body."""

    async def main() -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        async with World(saying(head + b"hello", head, head + b"hello", head)) as world:
            assert await world.ask() == (200, b"hello")
            assert await world.ask("HEAD") == (200, b"")
            assert await world.ask() == (200, b"hello")
            assert await world.ask("HEAD") == (200, b"")
            assert len(world.lines) == 1

    run(main())


def test_representations() -> None:
    """They tell the state, for logs."""

    async def main() -> None:
        async with World() as world:
            await world.ask()
            assert repr(world.pool._idle[0]) == "<Connection idle uses=1>"
            assert "open=1 idle=1 queued=0" in repr(world.pool)

    run(main())
