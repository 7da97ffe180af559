"""What the workers of one gateway tell each other: whole, in order, past whoever is full or dead."""

import asyncio
import errno
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from propylon.stores import siblings as module
from propylon.stores.siblings import MISSED, Line, Lines, Siblings, lines
from tests.support.zygote import ROOT
from tests.upstream.peer import run, until

Message = dict[str, Any]
TOPIC = "test"


class Worker(Siblings):
    """A worker that keeps what it hears."""

    def __init__(self, among: tuple[Line, ...], place: int) -> None:
        super().__init__()
        self.channel = Lines(among, place)
        self.heard: list[Message] = []
        self.hear(TOPIC, self.heard.append)

    def listen(self) -> None:
        """Hear and tell from now on."""
        self.start(asyncio.get_running_loop(), self.channel)

    def say(self, message: Message, to: str | None = None) -> None:
        """Tell on the one topic."""
        self.tell(TOPIC, message, to)

    def queued(self) -> dict[str, int]:
        """How many messages wait for each of the others, beyond what the kernel holds."""
        return {name: len(self._waiting.get(sock, ())) for name, sock in self.channel.ways(None)}


def packed(message: Message) -> bytes:
    """A message as the sockets carry it."""
    return orjson.dumps((TOPIC, message))


@contextmanager
def workers(number: int) -> Iterator[tuple[Worker, ...]]:
    """So many workers in one process, none of which listens yet."""
    made = lines(number)
    found = tuple(Worker(made, place) for place in range(number))
    try:
        yield found
    finally:
        for one in found:
            one.close()
        for line in made:
            line.close()


def numbered(count: int, **more: Any) -> list[Message]:
    """Messages that differ."""
    return [{"number": number, **more} for number in range(count)]


# What arrives


def test_all_others_hear_it_in_order() -> None:
    """Everybody but the one who tells; what two tell crosses, what one tells does not."""

    async def main() -> None:
        with workers(3) as (one, two, three):
            for worker in (one, two, three):
                worker.listen()
            for message in numbered(50):
                one.say({**message, "by": 1})
                two.say({**message, "by": 2})
            await until(lambda: len(three.heard) == 100)
            await until(lambda: len(one.heard) == len(two.heard) == 50)
            assert one.heard == numbered(50, by=2)
            assert two.heard == numbered(50, by=1)
            for teller in (1, 2):
                assert [m for m in three.heard if m["by"] == teller] == numbered(50, by=teller)

    run(main())


def test_one_of_them_hears_it() -> None:
    """What is told to a place reaches nobody else; to one's own place, nobody."""

    async def main() -> None:
        with workers(3) as (one, two, three):
            for worker in (one, two, three):
                worker.listen()
            one.say({"for": 3}, to="2")
            one.say({"for": 1}, to="0")
            one.say({"for": "all"})
            await until(lambda: two.heard and len(three.heard) == 2)
            assert two.heard == [{"for": "all"}]
            assert three.heard == [{"for": 3}, {"for": "all"}]
            assert one.heard == []

    run(main())


def test_messages_keep_their_bounds() -> None:
    """Empty, tiny, odd and as large as may be: each arrives as what was told, one by one."""
    most = module._LARGEST - len(packed({"text": ""}))
    texts = ["", "x", '"\n\0', "ż€𝄞" * 999, "y" * (most - 1), "z" * most, "the last"]

    async def main() -> None:
        with workers(2) as (one, two):
            two.listen()
            one.listen()
            for text in texts:
                one.say({"text": text})
            await until(lambda: len(two.heard) == len(texts))
            assert two.heard == [{"text": text} for text in texts]

    run(main())


def test_what_is_too_long_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """It is an error in the log, and neither ends nor holds up anything."""
    long = "x" * module._LARGEST

    async def main() -> None:
        with workers(2) as (one, two):
            one.listen()
            two.listen()
            one.say({"text": long})
            one.say({"text": "short"})
            await until(lambda: two.heard)
            assert two.heard == [{"text": "short"}]

    with caplog.at_level(logging.ERROR):
        run(main())
    assert [record.getMessage() for record in caplog.records] == [
        f"too long to be told to the other workers: {len(long) + len(packed({'text': ''}))} bytes"
    ]


def test_alone_there_is_nobody_to_tell() -> None:
    """Without lines, or with one's own only: nothing is told, nothing is heard, nothing fails."""

    async def main() -> None:
        alone = Worker((), 0)
        alone.listen()
        alone.say({"number": 1})
        alone.close()
        assert alone.heard == []
        with workers(1) as (single,):
            single.listen()
            single.say({"number": 1})
            await asyncio.sleep(0.01)
            assert single.heard == []

    run(main())


def test_closed_it_hears_nothing() -> None:
    """What comes later waits for whoever reads next; closing twice is closing once."""

    async def main() -> None:
        with workers(2) as (one, two):
            one.listen()
            two.listen()
            two.close()
            two.close()
            one.say({"number": 1})
            await asyncio.sleep(0.01)
            assert two.heard == []
            two.listen()
            await until(lambda: two.heard)

    run(main())


# A sibling that does not read


def test_a_full_line_holds_nobody_up() -> None:
    """More than a socket takes: who tells goes on at once, another hears all, and so does the late one."""
    text = "x" * 1000

    async def main() -> None:
        with workers(3) as (one, two, late):
            one.listen()
            two.listen()
            for message in numbered(2000, text=text):
                one.say(message)
            await until(lambda: len(two.heard) == 2000)
            # There is room again, but others have waited for longer.
            line = late.channel.open()
            assert line is not None
            heard = [orjson.loads(line.recv(module._LARGEST))[1] for _ in range(50)]
            one.say({"number": "last"})
            late.listen()
            await until(lambda: len(late.heard) == 1951)
            heard += late.heard
            assert heard == [*numbered(2000, text=text), {"number": "last"}]
            await until(lambda: two.heard == heard)
            # What had to wait is no longer waited for: the next goes out by itself.
            assert one._waiting == {}

    run(main())


def test_what_waits_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A sibling that is stopped loses what is too much, and hears that it did; later it hears all again."""
    monkeypatch.setattr(module, "_WAITING", 8)
    text = "x" * 100_000

    async def main() -> None:
        with workers(2) as (one, stopped):
            one.listen()
            for message in numbered(100, text=text):
                one.say(message)
                assert all(len(waiting) <= 8 for waiting in one._waiting.values())
            stopped.listen()
            await until(lambda: one._waiting == {})
            one.say({"number": "last"})
            await until(lambda: stopped.heard and stopped.heard[-1] == {"number": "last"})
            lost = stopped.heard.index(MISSED)
            before, after = stopped.heard[:lost], stopped.heard[lost + 1 : -1]
            # What the kernel held, without a gap; then the newest, without a gap.
            assert before == numbered(100, text=text)[: len(before)]
            assert after == numbered(100, text=text)[-len(after) :]
            assert 0 < len(before) + len(after) < 100

    with caplog.at_level(logging.ERROR):
        run(main())
    assert {record.getMessage() for record in caplog.records} == {
        "a worker does not hear the others; it will have to ask what it missed"
    }


def test_who_stops_leaves_nothing_behind() -> None:
    """Closed with messages that still wait: the loop watches no socket of it any more."""

    async def main() -> None:
        with workers(2) as (one, two):
            one.listen()
            for message in numbered(2000, text="x" * 1000):
                one.say(message)
            assert one._waiting
            one.close()
            assert one._waiting == {}
            loop = asyncio.get_running_loop()
            assert not any(loop.remove_writer(sock) for _, sock in one.channel.ways(None))
            two.listen()
            await until(lambda: two.heard)

    run(main())


# A sibling that dies


SCRIPT = """
import asyncio, os, signal, sys
from propylon.stores.siblings import Lines, Siblings, lines

PRIVATE, PUBLIC = 400, 40
among = lines(3)

def work(place, tells, awaited):
    async def main():
        siblings, heard = Siblings(), []
        siblings.hear("test", heard.append)
        siblings.start(asyncio.get_running_loop(), Lines(among, place))
        for number in range(tells):
            # More than the line to an empty place takes; what is for all, the living have room for.
            text = "x" * 500 if number < PRIVATE else ""
            to = "2" if number < PRIVATE else None
            siblings.tell("test", {"by": place, "number": number, "text": text}, to=to)
        async with asyncio.timeout(8):
            while len(heard) < awaited:
                await asyncio.sleep(0.002)
        for teller in {message["by"] for message in heard}:
            numbers = [message["number"] for message in heard if message["by"] == teller]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers
        siblings.close()
    asyncio.run(main())

def forked(*arguments):
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work(*arguments)
        status = 0
    finally:
        os._exit(status)

victim = forked(2, 0, 10**9)
os.kill(victim, signal.SIGKILL)
os.waitpid(victim, 0)
# Its place is empty: the other two talk past it, and to it.
talking = [forked(place, PRIVATE + PUBLIC, PUBLIC) for place in (0, 1)]
ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in talking]
replacement = forked(2, 0, int(sys.argv[1]))
print(ended, os.waitstatus_to_exitcode(os.waitpid(replacement, 0)[1]))
"""


def test_a_dead_one_holds_nobody_up_and_its_successor_reads_on() -> None:
    """Kill -9 of a worker: the others hear each other, and who takes its place hears what was told."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "100"],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[0, 0] 0\n", "")


def test_a_worker_whose_parent_is_gone_does_not_spin() -> None:
    """Its line says that it has ended, once: the loop looks at it no more."""

    async def main() -> None:
        made = lines(2)
        worker = Worker(made, 0)
        worker.listen()
        made[0].write.close()
        loop = asyncio.get_running_loop()
        while loop.remove_reader(made[0].read):
            loop.add_reader(made[0].read, worker._read, made[0].read)
            await asyncio.sleep(0.001)
        worker.close()
        for line in made:
            line.close()

    run(main())


# What is no message


@pytest.mark.parametrize("garbage", [b"{", b"\xff\xfe", b"no json", b'{"number": 1}}', b"\0" * 999])
def test_garbage_ends_nothing(garbage: bytes) -> None:
    """What is no JSON is a complaint of the loop's, and the next message is heard."""
    complaints: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context.get("exception")))
        with workers(2) as (one, two):
            one.listen()
            two.listen()
            [(_, way)] = one.channel.ways("1")
            way.send(garbage)
            one.say({"number": 2})
            await until(lambda: two.heard)
            assert two.heard == [{"number": 2}]

    run(main())
    assert [type(complaint) for complaint in complaints] == [orjson.JSONDecodeError]


def test_a_listener_with_a_bug_hears_on() -> None:
    """What it raises is a complaint of the loop's, for that one message."""
    heard: list[Message] = []
    complaints: list[object] = []

    def hear(message: Message) -> None:
        heard.append(message)
        if message["number"] == 1:
            raise ZeroDivisionError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context.get("exception")))
        with workers(2) as (one, two):
            one.listen()
            two.hear(TOPIC, hear)
            two.listen()
            for message in numbered(3):
                one.say(message)
            await until(lambda: len(heard) == 3)

    run(main())
    assert [type(complaint) for complaint in complaints] == [ZeroDivisionError]


def test_lines_wait_for_nobody() -> None:
    """Neither end blocks: a loop that waits for a sibling would serve nobody."""
    for line in lines(3):
        with line.read, line.write:
            assert not line.read.getblocking()
            assert not line.write.getblocking()
            assert line.read.family == socket.AF_UNIX


# Topics


def test_topics_are_told_apart() -> None:
    """Each has its callback; what was missed may have been on any of them; a topic of another version is passed over."""

    async def main() -> None:
        with workers(2) as (one, two):
            other: list[Message] = []
            two.hear("other", other.append)
            one.listen()
            two.listen()
            one.tell("other", {"number": 1})
            one.tell("of another version", {"number": 2})
            one.say({"number": 3})
            [(_, way)] = one.channel.ways("1")
            way.send(orjson.dumps(("", MISSED)))
            await until(lambda: len(two.heard) == 2)
            assert two.heard == [{"number": 3}, MISSED]
            assert other == [{"number": 1}, MISSED]

    run(main())


def test_a_system_that_cannot_send(caplog: pytest.LogCaptureFixture) -> None:
    """A message is lost, and the log says so; the next one is told again."""

    class Short:
        def send(self, data: bytes) -> int:
            raise OSError(errno.ENOBUFS, "No buffer space available")

    async def main() -> None:
        with workers(2) as (one, two):
            one.listen()
            two.listen()
            ways = one.channel._others
            sound, ways["1"] = ways["1"], Short()  # type: ignore[assignment]
            one.say({"number": 1})
            ways["1"] = sound
            one.say({"number": 2})
            await until(lambda: two.heard)
            assert two.heard == [{"number": 2}]

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "a message is lost: [Errno 105] No buffer space available" in caplog.text
