"""What one worker shares with the others: nothing by itself, messages after a fork or in a directory."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from propylon.proxy.limit.rule import Spend
from propylon.stores import place as module
from propylon.stores.meeting import Meeting
from propylon.stores.place import enter, unique_name
from propylon.stores.shared import Shared
from propylon.stores.siblings import Message, lines
from propylon.stores.slot import Slot
from tests.stores.limit_stores import bucket
from tests.upstream.peer import run, until

GATEWAY = f"8000-{1:016x}"


async def nothing() -> None:
    """Run a loop for once: the first one of a process leaves descriptors open."""


def opened() -> int:
    """How many descriptors this process has."""
    run(nothing())
    return len(list(Path("/proc/self/fd").iterdir()))


def forked(work: Callable[[], None]) -> int:
    """A worker: a process of its own."""
    if (pid := os.fork()) == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    """Wait for its end."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# Alone


def test_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is opened, nobody is told, there is no place; it counts all the same."""
    before = opened()

    async def main() -> None:
        shared = Shared()
        heard: list[Message] = []
        shared.facts.hear("topic", heard.append)
        for _ in range(2):
            shared.start(asyncio.get_running_loop())
            shared.facts.tell("topic", {"number": 1})
            await shared.stop()
        await shared.stop()
        assert (heard, shared.place, shared.last_good) == ([], None, None)
        assert shared.limits().decide([Spend(bucket(), "a")])[0].allowed
        shared.sums().row(("a",), 3)[2] += 1

    run(main())
    assert opened() == before
    assert caplog.records == []


def test_a_doubt_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """At the start, and not again when the gateway starts again."""

    async def main() -> None:
        shared = Shared(doubt="nobody is told")
        for _ in range(2):
            shared.start(asyncio.get_running_loop())
            await shared.stop()

    run(main())
    assert [record.getMessage() for record in caplog.records] == ["nobody is told"]


# Forked


def talk(shared: Shared, at: int, said: int, awaited: int) -> None:
    """Be a worker: tell so many numbers, and wait until so many are heard."""

    async def main() -> None:
        heard: list[Message] = []
        shared.become(at)
        shared.facts.hear("topic", heard.append)
        shared.start(asyncio.get_running_loop())
        for number in range(said):
            shared.facts.tell("topic", {"from": shared.facts.name, "number": number})
        await until(lambda: len(heard) >= awaited)
        for name in {message["from"] for message in heard}:
            numbers = [one["number"] for one in heard if one["from"] == name]
            assert numbers == sorted(numbers)
        await shared.stop()

    run(main())


def test_forked_workers_tell_each_other(tmp_path: Path) -> None:
    """One that is killed in the middle holds nobody up; the one that takes its place hears again."""
    before = opened()
    place = enter(tmp_path, unique_name())
    with Shared(lines=lines(3), place=place, last_good=Slot()) as shared:
        assert shared.place == place.path
        victim = forked(lambda: talk(shared, 2, 100, 10**9))
        os.kill(victim, signal.SIGKILL)
        assert ended(victim) == -signal.SIGKILL
        pids = [forked(lambda at=at: talk(shared, at, 100, 100)) for at in range(2)]  # type: ignore[misc]
        assert [ended(pid) for pid in pids] == [0, 0]
        # What was told to its place waits for it.
        assert ended(forked(lambda: talk(shared, 2, 0, 200))) == 0
        # Workers leave the place to the process that made it.
        assert place.path.is_dir()
    assert list(tmp_path.iterdir()) == []
    assert opened() == before


# Met


def test_unrelated_workers_meet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Forked by nobody we know, or in one process: each makes its own, and all hear each other."""
    before = opened()

    async def main() -> None:
        here, there = (Shared(meeting=Meeting(tmp_path, GATEWAY)) for _ in range(2))
        assert here.place is None  # nothing is opened before the start
        heard: list[Message] = []
        there.facts.hear("topic", heard.append)
        for one in (here, there):
            one.start(asyncio.get_running_loop())
        assert here.place == there.place == tmp_path / f"propylon-{GATEWAY}"
        here.facts.tell("topic", {"number": 1})
        await until(lambda: heard)
        await here.stop()
        await here.stop()
        assert there.place is not None
        assert there.place.is_dir()
        await there.stop()

    run(main())
    assert list(tmp_path.iterdir()) == []
    assert opened() == before
    assert caplog.records == []


def test_nowhere_to_meet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and the worker goes on alone."""
    (tmp_path / "file").write_text("x")
    before = opened()

    async def main() -> None:
        shared = Shared(meeting=Meeting(tmp_path / "file" / "below", GATEWAY))
        shared.start(asyncio.get_running_loop())
        shared.facts.tell("topic", {"number": 1})
        await shared.stop()
        assert shared.place is None

    run(main())
    assert opened() == before
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(
        "server.state_dir cannot be used, so this worker shares nothing with others: "
    )


def test_a_directory_that_takes_no_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Some mounted ones do not: the same, and nothing is left in it."""

    class Refused(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(95, "Operation not supported")

    before = opened()

    async def main() -> None:
        shared = Shared(meeting=Meeting(tmp_path, GATEWAY))
        monkeypatch.setattr(socket, "socket", Refused)
        shared.start(asyncio.get_running_loop())
        monkeypatch.undo()
        await shared.stop()

    run(main())
    assert opened() == before
    assert list(tmp_path.iterdir()) == []
    assert "Operation not supported" in caplog.text


def test_little_room_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The workers meet all the same."""
    monkeypatch.setattr(module, "_ROOM", 2**62)

    async def main() -> None:
        shared = Shared(meeting=Meeting(tmp_path, GATEWAY))
        shared.start(asyncio.get_running_loop())
        assert shared.place is not None
        await shared.stop()

    run(main())
    assert "what the workers share may not fit into it" in caplog.text
