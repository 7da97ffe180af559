"""Reading an answer line by line: however it is cut, however slow the reader, however it ends."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import BadResponse, UpstreamReset, UpstreamTimeout
from propylon.upstream import lines as module
from propylon.upstream.lines import Lines, open_lines
from tests.support.examples import examples
from tests.upstream.peer import Line, Script, World, run, until

LINE = b"GET /events"
BLOCK = b"\r\nHost: engine"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def read(script: Script, *, limit: int = 1000, silence: float = 20.0) -> tuple[int, list[bytes]]:
    """All lines of an answer, and its status."""

    async def main() -> tuple[int, list[bytes]]:
        async with (
            World(script) as world,
            open_lines(world.pool, LINE, BLOCK, within=20, silence=silence, limit=limit) as lines,
        ):
            return lines.status, [line async for line in lines]

    return run(main())


@given(st.lists(st.binary(max_size=6), max_size=8), st.lists(st.integers(0, 60), max_size=6))
@examples(100)
def test_lines_do_not_depend_on_how_they_arrive(texts: list[bytes], cuts: list[int]) -> None:
    """Pieces are put together; a last line without an end is one."""
    whole = b"\n".join(texts)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    edges = sorted({0, *(cut % (len(whole) + 1) for cut in cuts), len(whole)})

    async def main() -> list[bytes]:
        lines = Lines(1000)
        for begin, end in pairwise(edges):
            lines.write(whole[begin:end])
        lines._end()
        return [line async for line in lines]

    assert asyncio.run(main()) == expected


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\na\nb",
        b"HTTP/1.1 404 No\r\n\r\na\nb\n",
    ],
)
def test_an_answer_that_ends(answer: bytes) -> None:
    """By its length, or with the connection."""

    async def script(line: Line) -> None:
        assert (await line.head()).startswith(LINE + b" HTTP/1.1" + BLOCK)
        line.send(answer)
        if b"Length" not in answer:
            line.close()

    assert read(script) == (404, [b"a", b"b"])


async def breaks(line: Line) -> None:
    """It is cut in the midst of a line."""
    await line.head()
    line.send(CHUNKED + chunk(b"a\nb"))
    await line.writer.drain()
    line.reset()


async def falls_silent(line: Line) -> None:
    """Nothing more comes."""
    await line.head()
    line.send(CHUNKED + chunk(b"a\n"))
    await line.reader.read()


async def goes_on(line: Line) -> None:
    """A line that has no end."""
    await line.head()
    line.send(CHUNKED)
    while not line.writer.is_closing():
        line.send(chunk(b"x" * 500))
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("script", "error"),
    [(breaks, UpstreamReset), (falls_silent, UpstreamTimeout), (goes_on, BadResponse)],
)
def test_an_answer_that_breaks_off(script: Script, error: type[Exception]) -> None:
    """It is an error, which comes behind the lines that were whole."""
    with pytest.raises(error):
        read(script, silence=0.1)


def test_a_slow_reader_slows_the_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded; read, all of it comes."""
    monkeypatch.setattr(module, "_MOST_WAITING", 10_000)
    count = 20_000

    async def script(line: Line) -> None:
        await line.head()
        line.send(CHUNKED)
        for at in range(count):
            line.send(chunk(b"%099d\n" % at))
            await line.writer.drain()
        line.send(b"0\r\n\r\n")

    async def main() -> None:
        async with (
            World(script) as world,
            open_lines(world.pool, LINE, BLOCK, within=20, silence=20, limit=1000) as lines,
        ):
            await until(lambda: lines._is_paused)
            seen = [int(line) async for line in lines]
            assert seen == list(range(count))

    run(main())


def test_leaving_closes_the_connection() -> None:
    """An answer without end is not read for ever; what waits can be skipped."""

    async def main() -> None:
        async with World(falls_silent) as world:
            async with open_lines(
                world.pool, LINE, BLOCK, within=20, silence=20, limit=1000
            ) as lines:
                await until(lambda: lines._lines)
                lines.skip()
                assert not lines._lines
            assert world.state == (0, 0, 0)
            await until(lambda: all(line.ended for line in world.lines))

    run(main())
