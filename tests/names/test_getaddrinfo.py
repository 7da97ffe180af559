"""getaddrinfo in threads: bounded, shared, fair to other names, and not waited for at the exit."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from propylon.names import getaddrinfo as system
from propylon.names.getaddrinfo import Infos, System
from tests.upstream.peer import run, until

FOUND: Infos = [(2, 1, 6, "", ("10.0.0.1", 0))]


class Resolving:
    """What stands in for getaddrinfo: names that begin with `dead` hang until a test lets them go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = threading.Event()

    def __call__(self, host: str, *_: Any, **__: Any) -> Infos:
        """Answer."""
        self.asked.append(host)
        if host.startswith("dead"):
            self.gate.wait(10)
        if host == "broken":
            msg = "embedded null character"
            raise ValueError(msg)
        return FOUND


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolving]:
    """Stand in for getaddrinfo; at the end no thread is left behind."""
    resolving = Resolving()
    monkeypatch.setattr(system.socket, "getaddrinfo", resolving)
    yield resolving
    resolving.gate.set()
    for thread in threading.enumerate():
        if thread.name == "propylon-names":
            thread.join()


def asking(names: System, *hosts: str) -> "list[asyncio.Task[Infos]]":
    """Ask in the background."""
    return [asyncio.create_task(names.ask(host)) for host in hosts]


def dead(count: int) -> list[str]:
    """Names that hang."""
    return [f"dead{number}" for number in range(count)]


async def give_up(tasks: "list[asyncio.Task[Infos]]") -> list[str]:
    """What the callers get: errors as text."""
    return [str(told) for told in await asyncio.gather(*tasks, return_exceptions=True)]


def test_names_that_hang_leave_the_others_alone(resolving: Resolving) -> None:
    """There are more threads than a loop has, and a caller gets TimeoutError when a lookup takes too long."""

    async def main() -> None:
        names = System(timeout=0.5)
        lost = asking(names, *dead(20))
        await until(lambda: len(resolving.asked) == 20)
        assert await names.ask("alive") == FOUND
        assert set(await give_up(lost)) == {"it has not ended after 0.5 s"}

    run(main())


def test_a_name_is_asked_for_once_at_a_time(resolving: Resolving) -> None:
    """Others share the answer, also when the first to ask has given up, and also late ones."""

    async def main() -> None:
        names = System(timeout=5.0)
        first, second = asking(names, "dead", "dead")
        await until(lambda: resolving.asked)
        first.cancel()
        await asyncio.sleep(0.01)
        (third,) = asking(names, "dead")
        await asyncio.sleep(0.01)
        resolving.gate.set()
        assert await asyncio.gather(second, third) == [FOUND, FOUND]
        assert resolving.asked == ["dead"]
        await until(lambda: not names._asked)
        assert await names.ask("dead") == FOUND
        assert resolving.asked == ["dead"] * 2

    run(main())


def test_names_wait_for_a_thread(resolving: Resolving) -> None:
    """A burst of them is no reason to fail."""

    async def main() -> None:
        names = System(threads=2)
        lost = asking(names, *dead(2))
        others = asking(names, *(f"alive{number}" for number in range(20)))
        await until(lambda: len(names._waiting) == 20)
        assert len(resolving.asked) == 2
        resolving.gate.set()
        assert await asyncio.gather(*lost, *others) == [FOUND] * 22
        await until(lambda: not names._running)

    run(main())


def test_when_all_threads_hang_nobody_waits(resolving: Resolving) -> None:
    """They are told at once, and what waited in vain is not looked up afterwards."""

    async def main() -> None:
        names = System(threads=2, timeout=0.2, slow=0.1)
        lost = asking(names, *dead(2), "early")
        await until(lambda: len(resolving.asked) == 2)
        await until(lambda: all(time.monotonic() - q.begun > 0.1 for q in names._running))
        with pytest.raises(TimeoutError, match="name lookups hang"):
            await names.ask("alive")
        assert len(await give_up(lost)) == 3
        await asyncio.sleep(0.02)
        resolving.gate.set()
        await until(lambda: not names._running)
        assert sorted(resolving.asked) == dead(2)
        assert (names._asked, list(names._waiting)) == ({}, [])
        assert await names.ask("alive") == FOUND

    run(main())


def test_slow_names_take_up_half_of_the_threads(resolving: Resolving) -> None:
    """Names that hung before are looked up again, but never so many at once that no thread is left for others."""

    async def main() -> None:
        names = System(threads=4, slow=0.5)
        first = asking(names, *dead(4))
        await until(lambda: len(resolving.asked) == 4)
        await asyncio.sleep(0.6)
        resolving.gate.set()
        await asyncio.gather(*first)
        await until(lambda: not names._running)
        resolving.gate.clear()
        again = asking(names, *dead(4))
        await until(lambda: len(resolving.asked) == 6)
        assert await names.ask("alive") == FOUND
        resolving.gate.set()
        assert await asyncio.gather(*again) == [FOUND] * 4
        # A name that is answered in time is slow no more.
        await until(lambda: not names._running)
        assert await names.ask("dead0") == FOUND
        await until(lambda: "dead0" not in names._slow_names)

    run(main())


def test_whatever_is_raised_is_told(resolving: Resolving) -> None:
    """No caller waits for a thread that has died: it gets the exception."""

    async def main() -> None:
        names = System()
        with pytest.raises(ValueError, match="null"):
            await names.ask("broken")
        assert await names.ask("alive") == FOUND

    run(main())


def test_no_thread_is_to_be_had(resolving: Resolving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the container: an error, and no more than that."""

    async def main() -> None:
        names = System()

        def start(_: threading.Thread) -> None:
            msg = "can't start new thread"
            raise RuntimeError(msg)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(OSError, match="new thread"):
                await names.ask("alive")
        assert await names.ask("alive") == FOUND

    run(main())


_STOP = """
import asyncio, socket, time, uvloop
from propylon.names.getaddrinfo import System
socket.getaddrinfo = lambda *_, **__: time.sleep(60)
async def main():
    asking = [asyncio.create_task(System().ask("dead")) for _ in range(8)]
    await asyncio.sleep(0.05)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


def test_the_exit_does_not_wait() -> None:
    """For threads that hang: neither the loop's end nor the interpreter's."""
    done = subprocess.run(
        [sys.executable, "-c", _STOP], capture_output=True, timeout=30, check=True
    )
    assert done.stderr == b""
