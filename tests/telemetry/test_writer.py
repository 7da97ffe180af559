"""Writing lines without ever waiting for their reader."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator

import orjson
import pytest

from propylon.telemetry import writer as module
from propylon.telemetry.writer import LineWriter, to_descriptor
from tests.upstream.peer import run, until

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe, which may have been closed by its case."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def read_all(end: int) -> bytes:
    """Everything until the other end is closed."""
    data = b""
    while piece := os.read(end, 65536):
        data += piece
    return data


def in_thread(read: Callable[[], bytes]) -> tuple[threading.Thread, list[bytes]]:
    """Read in the background."""
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(read()))
    thread.start()
    return thread, got


def test_lines_come_out_soon_and_in_order(pipe: Pipe) -> None:
    """By themselves, in batches."""

    async def main() -> None:
        writer = LineWriter(to_descriptor(pipe[1]), asyncio.get_running_loop())
        os.set_blocking(pipe[0], False)
        for number in range(100):
            writer.write(b"%d\n" % number)
        got = b""

        def arrived() -> bool:
            nonlocal got
            try:
                got += os.read(pipe[0], 65536)
            except BlockingIOError:
                return False
            return got.count(b"\n") == 100

        await until(arrived)
        assert got == b"".join(b"%d\n" % number for number in range(100))
        writer.close()

    run(main())


def test_close_writes_what_is_left(pipe: Pipe) -> None:
    """Nothing is lost with the process."""

    async def main() -> None:
        writer = LineWriter(to_descriptor(pipe[1]), asyncio.get_running_loop())
        writer.write(b"last\n")
        writer.close()
        os.close(pipe[1])

    run(main())
    assert read_all(pipe[0]) == b"last\n"


def test_a_reader_that_is_stuck(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it; what does not fit is dropped, and the log says how much was."""
    monkeypatch.setattr(module, "_MAX_WAITING", 100_000)
    line = b"x" * 999 + b"\n"

    async def main() -> None:
        writer = LineWriter(to_descriptor(pipe[1]), asyncio.get_running_loop())
        for _ in range(50):
            for _ in range(20):
                writer.write(line)
            writer.flush()
        assert writer._dropped > 500
        dropped = writer._dropped
        thread, got = in_thread(lambda: read_all(pipe[0]))
        await until(lambda: not writer.waiting)
        writer.write(b"after\n")
        writer.close()
        os.close(pipe[1])
        thread.join(20)
        lines = got[0].splitlines(keepends=True)
        assert lines.count(line) == 1000 - dropped
        assert b"after\n" in lines
        notice = next(orjson.loads(one) for one in lines if one.startswith(b"{"))
        assert notice == {"level": "warning", "event": "log lines dropped", "count": dropped}

    run(main())


def test_close_does_not_wait_for_ever(pipe: Pipe) -> None:
    """A reader that is stuck does not keep the process from ending."""

    async def main() -> None:
        writer = LineWriter(to_descriptor(pipe[1]), asyncio.get_running_loop())
        writer.write(b"x" * 1_000_000)
        began = time.monotonic()
        writer.close()
        assert time.monotonic() - began < 20
        drain, _ = in_thread(lambda: os.read(pipe[0], 65536) and read_all(pipe[0]))
        await until(lambda: not writer._thread.is_alive())
        os.close(pipe[1])
        drain.join(20)

    run(main())


def test_a_reader_that_has_gone(pipe: Pipe) -> None:
    """There is no place left to say so: the gateway goes on."""

    async def main() -> None:
        os.close(pipe[0])
        writer = LineWriter(to_descriptor(pipe[1]), asyncio.get_running_loop())
        for _ in range(3):
            writer.write(b"x\n")
            writer.flush()
        await until(lambda: not writer.waiting)
        assert writer._thread.is_alive()
        writer.close()
        assert not writer._thread.is_alive()

    run(main())


def test_a_descriptor_that_does_not_block(pipe: Pipe) -> None:
    """Somebody who shares it may have made it so: no line is lost."""

    async def main() -> None:
        os.set_blocking(pipe[1], False)
        writer = LineWriter(to_descriptor(pipe[1]), asyncio.get_running_loop())
        writer.write(b"x" * 500_000 + b"\n")
        writer.flush()
        thread, got = in_thread(lambda: read_all(pipe[0]))
        await until(lambda: not writer.waiting)
        writer.close()
        os.close(pipe[1])
        thread.join(20)
        assert len(got[0]) == 500_001

    run(main())
