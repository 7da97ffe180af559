"""Requests that an upstream reads slowly, answers before their end, or does not read at all."""

import asyncio
import socket

import pytest

from propylon.errors import RequestTimeout, UpstreamStalled, UpstreamTimeout
from propylon.upstream.ports import Timeouts
from propylon.upstream.sending import Sending
from propylon.wire.message import CHUNKED
from tests.upstream.peer import OK, Line, Script, World, run, until, upload

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
STREAM = HEAD + b"Content-Type: Text/Event-Stream; charset=utf-8\r\n\r\n"
LARGE = 3_000_000


def looks(*left: int) -> list[float | None]:
    """Look at a queue that has become so long, each time at the moment that the last look gave."""
    sending = Sending(100.0, 110.0)
    now: float | None = sending.first_look
    found: list[float | None] = [now]
    for bytes_left in left:
        assert now is not None
        now = sending.look(now, bytes_left)
        found.append(now)
    return found


@pytest.mark.parametrize(
    ("left", "times"),
    [
        ([0, 0], [101.0, 110.0, None]),
        ([500, 500], [101.0, 110.0, None]),
        ([500, 499, 499], [101.0, 110.0, 120.0, None]),
        ([500, 400, 0, 0], [101.0, 110.0, 120.0, 130.0, None]),
        ([500, 600], [101.0, 110.0, None]),
    ],
)
def test_looks(left: list[int], times: list[float | None]) -> None:
    """An upstream that has read nothing since the last look is late, and another one gets its time anew."""
    assert looks(*left) == times


async def slowly(line: Line) -> None:
    """Read what has come every tenth of a second, never as much as the socket holds; answer at the end."""
    read = 0
    await line.head()
    while read < LARGE:
        read += len(await line.reader.read(100_000))
        await asyncio.sleep(0.04)
    line.send(OK)


@pytest.mark.parametrize("length", [LARGE, CHUNKED])
def test_a_slow_reader_is_not_cut(length: int) -> None:
    """The times for the upstream begin anew while it reads, before the end of the body and behind it."""
    hasty = Timeouts(idle=0.3, first_byte=0.3, total=0.3)

    async def main() -> None:
        async with World(slowly) as world:
            # A receive buffer that held the whole body would hide that the upstream reads slowly.
            for sock in world.listener.sockets:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            body, tap = upload(
                b"x" * LARGE if length > 0 else b"x" * 60_000, length=length, end=False
            )
            asking = world.asking("PUT", body=body, timeouts=hasty)
            if length == CHUNKED:
                for _ in range(49):
                    await until(lambda: not tap.paused)
                    body.feed(b"x" * 60_000)
            body.end()
            assert await asking == (200, b"hello")

    run(main())


async def stuck(line: Line) -> None:
    """Read the head and nothing more."""
    await line.head()
    await asyncio.sleep(20)


@pytest.mark.parametrize("whole", [True, False])
def test_an_upstream_that_reads_nothing_is_late(*, whole: bool) -> None:
    """It is a failure of the upstream, whether the client has sent the whole body or not."""

    async def main() -> None:
        async with World(stuck) as world:
            body, _ = upload(b"x" * 20_000_000, length=30_000_000, end=False)
            if whole:
                body, _ = upload(b"x" * 20_000_000)
            with pytest.raises(UpstreamStalled):
                await world.ask("PUT", body=body, timeouts=Timeouts(idle=0.2, first_byte=0.2))

    run(main())


def test_a_small_request_is_late_without_a_look() -> None:
    """Nothing of it waits to be read, so the upstream is late, not stuck."""

    async def main() -> None:
        async with World(stuck) as world:
            body, _ = upload(b"x" * 1000)
            with pytest.raises(UpstreamTimeout) as failed:
                await world.ask("PUT", body=body, timeouts=Timeouts(first_byte=0.1))
            assert type(failed.value) is UpstreamTimeout

    run(main())


async def early(line: Line) -> None:
    """Answer with a head at once, and with a body when the request is there."""
    await line.head()
    line.send(HEAD + b"\r\n4\r\nfour\r\n")
    await line.reader.readexactly(300)
    line.send(b"3\r\nend\r\n0\r\n\r\n")


def test_an_upload_goes_on_behind_an_early_head() -> None:
    """The silence of an upstream that waits for the client's body is not limited by `idle`."""

    async def main() -> None:
        async with World(early) as world:
            body, _ = upload(length=300, end=False)
            asking = world.asking("PUT", body=body, timeouts=Timeouts(idle=0.15))
            for _ in range(3):
                await asyncio.sleep(0.3)
                body.feed(b"x" * 100)
            body.end()
            assert await asking == (200, b"fourend")

    run(main())


async def never_ending(line: Line) -> None:
    """Answer with a head at once, and stay silent when the request is there."""
    await line.head()
    line.send(HEAD + b"\r\n4\r\nfour\r\n")
    await asyncio.sleep(20)


def test_the_silence_behind_the_upload_is_limited() -> None:
    """When the request is complete, `idle` runs for the upstream that began to answer early."""

    async def main() -> None:
        async with World(never_ending) as world:
            body, _ = upload(length=3, end=False)
            asking = world.asking("PUT", body=body, timeouts=Timeouts(idle=0.1))
            await asyncio.sleep(0.3)
            body.feed(b"abc")
            body.end()
            with pytest.raises(UpstreamTimeout):
                await asking

    run(main())


def test_a_bound_for_all_is_the_clients_fault_while_it_uploads() -> None:
    """`max_duration` ends an upload behind an early head, and says nothing about the upstream."""

    async def main() -> None:
        async with World(never_ending) as world:
            body, _ = upload(length=3, end=False)
            with pytest.raises(RequestTimeout):
                await world.ask("PUT", body=body, timeouts=Timeouts(max_duration=0.2))

    run(main())


def streaming(head: bytes) -> Script:
    """Send two events, silent for a while between them."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(head)
        line.send(b"3\r\none\r\n")
        await asyncio.sleep(0.4)
        line.send(b"3\r\ntwo\r\n0\r\n\r\n")

    return script


def test_events_may_be_far_apart() -> None:
    """The silence in an event stream has a limit of its own, whatever the spelling of its type."""

    async def main() -> None:
        async with World(streaming(STREAM)) as world:
            assert await world.ask(timeouts=Timeouts(idle=0.1, stream=20.0)) == (200, b"onetwo")
        async with World(streaming(STREAM)) as world:
            with pytest.raises(UpstreamTimeout):
                await world.ask(timeouts=Timeouts(idle=20.0, stream=0.1))

    run(main())


@pytest.mark.parametrize("kind", [b"text/event-streams", b"text/html", b"x, text/event-stream"])
def test_other_answers_are_no_event_streams(kind: bytes) -> None:
    """For any other type, `idle` is the limit, on the same connection, too."""

    async def main() -> None:
        other = HEAD + b"Content-Type: " + kind + b"\r\n\r\n"
        async with World(streaming(other)) as world:
            with pytest.raises(UpstreamTimeout):
                await world.ask(timeouts=Timeouts(idle=0.1, stream=20.0))

    run(main())
