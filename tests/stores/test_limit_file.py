"""The file in which workers count limits: a worker that is killed, a file system that is full, keys that leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from propylon.proxy.limit.rule import Spend
from propylon.stores.limits import segment as files
from propylon.stores.limits.segment import Segment
from propylon.stores.limits.workers import SharedLimits
from tests.stores.limit_stores import SECOND, Clock, bucket, window

# A worker that begins a transaction, spends, and is killed before it commits.
KILLED = """
import os, sys, time
from pathlib import Path
from propylon.stores.limits.segment import BucketKeys, Segment
from tests.stores.limit_stores import bucket
segment = Segment.at(Path(sys.argv[1]))
with segment.begin():
    BucketKeys(segment, bucket(1, 5)).put("a", 10**18, 0)
    print("holding", flush=True)
    time.sleep(600)
"""
# A worker that spends as fast as it can, a transaction for each.
SPENDING = """
import sys
from pathlib import Path
from propylon.proxy.limit.rule import Spend
from propylon.stores.limits.segment import Segment
from propylon.stores.limits.workers import SharedLimits
from tests.stores.limit_stores import bucket
store = SharedLimits(Segment.at(Path(sys.argv[1])), lambda: 10**15)
print("spending", flush=True)
passed = 0
for _ in range(int(sys.argv[2])):
    passed += store.decide([Spend(bucket(1, 700), "a")])[0].allowed
print(passed, flush=True)
"""


class File:
    """A file and the stores over it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.segment = Segment.at(path)
        self.store = SharedLimits(self.segment, self.clock)

    def ask(self, *spends: Spend) -> bool:
        """Whether a request passes."""
        return all(self.all([list(spends)])[0])

    def all(self, many: list[list[Spend]]) -> list[list[bool]]:
        """The decisions of requests."""
        return [[one.allowed for one in self.store.decide(spends)] for spends in many]

    def entries(self) -> int:
        """How many keys are in the file."""
        with self.segment.begin():
            return self.segment.open.stat()["entries"]

    def close(self) -> None:
        """Let go of it."""
        self.store.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    """A file of this case."""
    made = File(tmp_path / "limits")
    yield made
    made.close()


@contextmanager
def worker(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process over the same file, as soon as it says that it is there; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() in ("holding", "spending")
            yield process
        finally:
            process.kill()


def test_killed_holder_blocks_nobody(file: File) -> None:
    """A worker that is killed with SIGKILL while it holds the file keeps no other one waiting, and has spent nothing."""
    with worker(KILLED, file.path):
        pass
    assert [file.ask(Spend(bucket(1, 5), "a")) for _ in range(7)] == [True] * 5 + [False] * 2


def test_workers_killed_in_the_middle_spoil_nothing(file: File) -> None:
    """Workers that are killed at any moment leave a file with which the others go on."""
    for _ in range(5):
        with worker(SPENDING, file.path, 10**9) as process:
            file.ask(Spend(bucket(1, 5), "b"))
        assert file.ask(Spend(bucket(1, 5, name=f"after-{process.pid}"), "a"))


def test_processes_share_exactly(file: File) -> None:
    """Four processes that spend at the same time get exactly the budget together."""
    with ExitStack() as stack:
        processes = [stack.enter_context(worker(SPENDING, file.path, 400)) for _ in range(4)]
        # From the same reader that has read the first line: it may hold the second one already.
        passed = [int(process.stdout.read()) for process in processes if process.stdout]
    assert sum(passed) == 700


def test_one_file_in_one_process(file: File) -> None:
    """Two gateways in one process have the same file open once, and the last one closes it."""
    before = len([*Path("/proc/self/fd").iterdir()])
    other = Segment.at(file.path)
    assert other is file.segment
    other.leave()
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert file.ask(Spend(bucket(), "a"))


def test_old_keys_leave(file: File) -> None:
    """Keys of which nothing is spent any more leave, as new ones come and as time goes by."""
    rules = (bucket(1, 1), window(1, 1))
    for rule in rules:
        file.all([[Spend(rule, f"old-{number}")] for number in range(1000)])
    assert file.entries() == 2000
    for number in range(40):
        file.clock.now += 10 * SECOND
        file.ask(Spend(rules[0], f"new-{number % 3}"))
    assert file.entries() <= 3


def test_key_in_use_stays_when_the_file_is_full(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of new keys pushes out no key that is in use; the new ones share budgets, and the file does not grow."""
    monkeypatch.setattr(files, "_SIZE", 100 * 4096)
    rule = bucket(1, 2, 3600)
    assert [file.ask(Spend(rule, "mine")) for _ in range(3)] == [True, True, False]
    for begin in range(0, 15_000, 1000):
        file.all([[Spend(rule, f"flood-{begin + number}")] for number in range(1000)])
    assert not file.ask(Spend(rule, "mine"))
    assert file.entries() <= 100 * 4096 / 40 + 1024
    # Each of the shared counters is a budget: together no more than 1024 of them.
    late = file.all([[Spend(rule, f"late-{number}")] for number in range(5000)])
    assert sum(one for [one] in late) <= 2 * 1024


def test_full_file_system_is_no_error(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no more room can be reserved, new keys share, and all go on being decided."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    file.segment._reserved = files._STEP + 50 * 4096
    rule = bucket(1, 1, 3600)
    for begin in range(0, 10_000, 1000):
        file.all([[Spend(rule, f"key-{begin + number}")] for number in range(1000)])
    assert file.entries() <= 50 * 4096 / 40 + 1024


def test_no_room_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even the beginning can be reserved, the file is not used, and nothing stays open."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            Segment.at(tmp_path / "limits")
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_file_that_fails_is_said_once(file: File, caplog: pytest.LogCaptureFixture) -> None:
    """While the file fails a worker counts for itself; it says so once, and once that it is over."""
    rule = bucket(1, 2, 3600)
    hold = file.segment.hold

    def failing() -> None:
        raise files.Unusable("MDB_MAP_FULL")

    file.segment.hold = failing  # type: ignore[assignment]
    assert [file.ask(Spend(rule, "a")) for _ in range(4)] == [True, True, False, False]
    file.segment.hold = hold
    assert file.ask(Spend(rule, "a"))
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "counted by this worker alone" in caplog.messages[0]


def test_closed_store_still_decides(file: File) -> None:
    """What is asked after the stop is decided by this worker alone: nothing waits for ever."""
    other = SharedLimits(Segment.at(file.path), file.clock)
    other.close()
    assert other.decide([Spend(bucket(), "a")])[0].allowed
