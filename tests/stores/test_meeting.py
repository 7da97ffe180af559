"""Workers that nobody forked meet in a directory: they find each other, outlive each other, and leave nothing."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from propylon.stores import siblings as module
from propylon.stores.meeting import Meeting
from propylon.stores.siblings import MISSED, Message, Siblings
from tests.support.zygote import ROOT
from tests.upstream.peer import run, until

TOPIC = "test"
GATEWAY = f"8000-{1:016x}"
OTHER_GATEWAY = f"8000-{2:016x}"


class Worker(Siblings):
    """A worker that keeps what it hears."""

    def __init__(self, base: Path, gateway: str = GATEWAY) -> None:
        super().__init__()
        self.meeting = Meeting(base, gateway)
        self.heard: list[Message] = []
        self.hear(TOPIC, self.heard.append)
        self.start(asyncio.get_running_loop(), self.meeting)

    def say(self, number: int, to: str | None = None, **more: Any) -> None:
        """Tell a number."""
        self.tell(TOPIC, {"number": number, **more}, to)

    @property
    def numbers(self) -> list[int]:
        """Those that it has heard."""
        return [message["number"] for message in self.heard]


@asynccontextmanager
async def workers(base: Path, *gateways: str) -> AsyncIterator[tuple[Worker, ...]]:
    """Workers of these gateways; then nothing may be left of them."""
    made = tuple(Worker(base, gateway) for gateway in gateways)
    try:
        yield made
    finally:
        for one in made:
            one.close()
    assert list(base.iterdir()) == []


def sockets(base: Path) -> list[str]:
    """The names of the sockets in all gateways' directories."""
    return sorted(found.name for found in base.glob("*/*"))


# Meeting


def test_they_find_each_other(tmp_path: Path) -> None:
    """Each tells all others, in order, or one of them; whoever comes later hears what is told from then on."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, GATEWAY) as (one, two):
            for number in range(50):
                one.say(number)
            await until(lambda: len(two.heard) == 50)
            assert two.numbers == list(range(50))
            late = Worker(tmp_path)
            two.say(50)
            two.say(51, to=late.name)
            two.say(52, to=two.name)
            two.say(53, to="nobody")
            late.say(54)
            await until(lambda: len(one.heard) == len(late.heard) == 2)
            assert (one.numbers, late.numbers) == ([50, 54], [50, 51])
            await until(lambda: two.numbers[-1] == 54)
            late.close()

    run(main())


def test_other_gateways_are_in_another_room(tmp_path: Path) -> None:
    """In the same directory, two gateways hear nothing of each other."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, OTHER_GATEWAY, GATEWAY) as (one, stranger, two):
            stranger.say(1)
            one.say(2)
            await until(lambda: two.heard)
            await asyncio.sleep(0.01)
            assert (one.numbers, two.numbers, stranger.numbers) == ([], [2], [])

    run(main())


def test_topics_are_told_apart(tmp_path: Path) -> None:
    """What is told on one is not heard on another; what nobody hears is no error."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, GATEWAY) as (one, two):
            other: list[Message] = []
            two.hear("other", other.append)
            one.tell("nobody's", {"number": 1})
            one.tell("other", {"number": 2})
            one.say(3)
            await until(lambda: two.heard)
            assert (two.numbers, other) == ([3], [{"number": 2}])

    run(main())


def test_a_worker_may_start_again(tmp_path: Path) -> None:
    """Under another name: what was for the one before is not for it."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, GATEWAY) as (one, two):
            before = two.name
            two.close()
            one.say(1)
            two.start(asyncio.get_running_loop(), two.meeting)
            assert two.name != before
            one.say(2, to=before)
            one.say(3)
            await until(lambda: two.heard)
            assert two.numbers == [3]

    run(main())


def test_more_than_the_kernel_holds(tmp_path: Path) -> None:
    """It waits, and arrives in order."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, GATEWAY) as (one, two):
            for number in range(500):
                one.say(number, text="x" * 2000)
            assert one._waiting
            await until(lambda: len(two.heard) == 500)
            assert two.numbers == list(range(500))
            assert one._waiting == {}

    run(main())


# Leaving


def test_one_that_has_left_holds_nobody_up(tmp_path: Path) -> None:
    """It is told nothing any more, and the others hear on."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, GATEWAY, GATEWAY) as (one, two, three):
            one.say(1)
            await until(lambda: two.heard and three.heard)
            two.close()
            for number in range(2, 40):
                one.say(number)
            await until(lambda: len(three.heard) == 39)
            assert two.numbers == [1]
            assert two.name not in one.meeting._others

    run(main())


def test_one_that_leaves_with_messages_that_wait(tmp_path: Path) -> None:
    """For it, or from it: neither stays in the loop."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, GATEWAY) as (one, two):
            loop = asyncio.get_running_loop()
            loop.remove_reader(two.meeting._mine)  # type: ignore[arg-type]
            for number in range(500):
                one.say(number)
            assert one._waiting
            two.close()
            await until(lambda: not one._waiting)
            three = Worker(tmp_path)
            loop.remove_reader(three.meeting._mine)  # type: ignore[arg-type]
            for number in range(500):
                one.say(number)
            assert one._waiting
            one.close()
            assert not one._waiting
            three.close()

    run(main())


SCRIPT = """
import asyncio, sys
from pathlib import Path
from propylon.stores.meeting import Meeting
from propylon.stores.siblings import Siblings

async def main():
    siblings = Siblings()
    siblings.hear("test", lambda message: (print(message["number"], flush=True)))
    siblings.start(asyncio.get_running_loop(), Meeting(Path(sys.argv[1]), sys.argv[2]))
    print(siblings.name, flush=True)
    siblings.tell("test", {"number": -1})
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    siblings.close()

asyncio.run(main())
"""


class Process:
    """A worker in a process of its own, which nobody here forked."""

    def __init__(self, base: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(base), GATEWAY],
            env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.name = self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    async def hears(self) -> int:
        """The next number that it hears; what we tell goes on meanwhile."""
        return int(await asyncio.to_thread(self._line))

    def kill(self) -> None:
        """End it as the kernel does when memory runs out."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def leave(self) -> None:
        """Have it leave in an orderly way."""
        self.process.communicate(timeout=20)
        assert self.process.returncode == 0


def test_unrelated_processes_meet(tmp_path: Path) -> None:
    """Each hears the other; one that is killed holds nobody up, and what it left is removed."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY) as (one,):
            first = Process(tmp_path)
            await until(lambda: one.numbers == [-1])
            second = Process(tmp_path)
            assert await first.hears() == -1
            await until(lambda: one.numbers == [-1, -1])
            one.say(1)
            assert [await first.hears(), await second.hears()] == [1, 1]

            first.kill()
            assert len(sockets(tmp_path)) == 3
            for number in range(2, 40):
                one.say(number)
            assert [await second.hears() for _ in range(2, 40)] == list(range(2, 40))
            assert sockets(tmp_path) == sorted([one.name, second.name])

            replacement = Process(tmp_path)
            assert await second.hears() == -1
            await until(lambda: len(one.heard) == 3)
            one.say(40)
            assert [await second.hears(), await replacement.hears()] == [40, 40]
            second.leave()
            replacement.kill()

    run(main())


def test_the_last_one_was_killed(tmp_path: Path) -> None:
    """Whoever comes next, of whichever gateway, finds its directory in nobody's use."""
    killed = Process(tmp_path)
    killed.kill()
    assert sockets(tmp_path) == [killed.name]

    async def main() -> None:
        async with workers(tmp_path, OTHER_GATEWAY) as (one,):
            assert sockets(tmp_path) == [one.name]

    run(main())


def test_a_reused_number_is_not_taken_for_a_living_worker(tmp_path: Path) -> None:
    """A socket with the number of a process that lives, but which it never bound, is a dead one's."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, GATEWAY) as (one, two):
            assert one.meeting.place is not None
            left = one.meeting.place.at(f"worker-{os.getpid()}-{0:016x}")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
                bound.bind(str(left))
            one.say(1)
            await until(lambda: two.heard)
            assert sockets(tmp_path) == sorted([one.name, two.name])

    run(main())


# What is no worker


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """A socket that is not finished yet, and whatever else lies there, is neither told nor removed."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, GATEWAY) as (one, two):
            [directory] = tmp_path.iterdir()
            others = ["counters.mdb", f"worker-1-{0:016x}.new", "worker-x"]
            for name in others:
                (directory / name).write_text("x")
            one.say(1)
            one.say(2, to="../" + directory.name + "/" + two.name)
            await until(lambda: two.heard)
            assert sockets(tmp_path) == sorted([one.name, two.name, *others])
            assert two.numbers == [1]

    run(main())


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"\xff\xfe", b"[]", b"[1]", b"5", b"[[], {}]", b'"ab"']
)
def test_garbage_ends_nothing(tmp_path: Path, garbage: bytes) -> None:
    """At the most it is a complaint of the loop's; the next message is heard."""

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with workers(tmp_path, GATEWAY, GATEWAY) as (one, two):
            [(_, way)] = one.meeting.ways(None)
            way.send(garbage)
            one.say(1)
            await until(lambda: two.heard)
            assert two.numbers == [1]

    run(main())


def test_one_that_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds nobody up, fills no memory, and hears on every topic that it missed something."""
    monkeypatch.setattr(module, "_WAITING", 8)

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, GATEWAY, GATEWAY) as (one, stopped, reading):
            other: list[Message] = []
            stopped.hear("other", other.append)
            loop, mine = asyncio.get_running_loop(), stopped.meeting._mine
            assert mine is not None
            loop.remove_reader(mine)
            for number in range(500):
                one.say(number)
                await until(lambda told=number: reading.numbers[-1:] == [told])  # type: ignore[misc]
            loop.add_reader(mine, stopped._read, mine)
            await until(lambda: stopped.heard and stopped.heard[-1] == {"number": 499})
            lost = stopped.heard.index(MISSED)
            before = [message["number"] for message in stopped.heard[:lost]]
            after = [message["number"] for message in stopped.heard[lost + 1 :]]
            assert before == list(range(len(before)))
            assert after == list(range(500 - len(after), 500))
            assert other == [MISSED]
            assert reading.numbers == list(range(500))

    with caplog.at_level(logging.ERROR):
        run(main())
    assert {record.getMessage() for record in caplog.records} == {
        "a worker does not hear the others; it will have to ask what it missed"
    }


def left_in(base: Path) -> Iterable[str]:
    """What is in it."""
    return [found.name for found in base.iterdir()]


def test_a_directory_that_is_taken_away(tmp_path: Path) -> None:
    """Those who know each other hear on; nobody fails, and leaving leaves nothing."""

    async def main() -> None:
        async with workers(tmp_path, GATEWAY, GATEWAY) as (one, two):
            one.say(1)
            await until(lambda: two.heard)
            [directory] = tmp_path.iterdir()
            for found in directory.iterdir():
                found.unlink()
            directory.rmdir()
            one.say(2)
            await until(lambda: two.numbers == [1, 2])

    run(main())


def test_a_directory_that_others_may_write_to(tmp_path: Path) -> None:
    """It may have become so since the gateway was made: nothing is opened in it, and nothing is left."""
    tmp_path.chmod(0o777)

    async def main() -> None:
        with pytest.raises(OSError, match="others may write"):
            Worker(tmp_path)

    run(main())
    assert left_in(tmp_path) == []
    tmp_path.chmod(0o700)


def test_a_long_path(tmp_path: Path) -> None:
    """Longer than a socket's name may be: they meet all the same."""
    base = tmp_path / ("long" * 50)

    async def main() -> None:
        async with workers(base, GATEWAY, GATEWAY) as (one, two):
            one.say(1)
            await until(lambda: two.heard)

    run(main())
