"""The files in which workers count limits: a worker that is killed, a file system that is full, keys that leave."""

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
from propylon.stores.limits.keys import BucketKeys
from propylon.stores.limits.records import PLACE, TICKS, Records
from propylon.stores.limits.segment import Segment
from propylon.stores.limits.workers import SharedLimits
from tests.stores.limit_stores import SECOND, Clock, bucket, window

# A worker that begins a transaction, spends, and is killed before it commits.
KILLED = """
import os, sys, time
from pathlib import Path
from propylon.stores.limits.keys import BucketKeys
from propylon.stores.limits.segment import Segment
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

# A worker that spends on its hot path until it is killed, and says each time that it may.
ADMITTING = """
import os, sys
from pathlib import Path
from propylon.proxy.limit.rule import Spend
from propylon.stores.limits.segment import Segment
from propylon.stores.limits.workers import SharedLimits
from tests.stores.limit_stores import bucket
store = SharedLimits(Segment.at(Path(sys.argv[1])), lambda: 10**15)
take = store.taker(bucket(7, 100_000), 1)
print("spending", flush=True)
for number in range(10**9):
    if take("a")[2] == 0:
        os.write(1, b".")
    if number % 4 == 0:  # so that it is killed while it changes the index, too
        store.decide([Spend(bucket(1, 1), f"{os.getpid()} {number}")])
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


def test_what_a_killed_worker_admitted_is_spent(file: File) -> None:
    """However often workers are killed, no more pass than the budget, and of each that dies at most one is lost."""
    file.clock.now = 10**12
    passed, killed = 0, 4
    for number in range(killed):
        with worker(ADMITTING, file.path) as process:
            assert process.stdout is not None
            # At least so many: then it has a record, and is killed somewhere in its loop.
            passed += len(process.stdout.read(500 + 111 * number))
            process.kill()
            passed += len(process.stdout.read())
        assert file.ask(Spend(bucket(1, 5, name=f"after-{number}"), "a"))
    take = file.store.taker(bucket(7, 100_000), 1)
    assert take is not None
    left = take("a")[0] + 1
    assert 100_000 - killed <= passed + left <= 100_000


def test_record_that_a_kill_cut_through(file: File) -> None:
    """Between the two words of a record, a bucket is less than a microsecond off, whichever way."""
    rule = bucket(7, 100)  # seven ticks in a microsecond: both words count
    keys = BucketKeys(file.segment, rule)
    words = file.segment.records.words
    now = file.clock.now
    with file.segment.begin():
        for before, after in [(10**6, 10**6 + 10**4), (7 * 10**6 - 1, 7 * 10**6), (3, 5)]:
            keys.put("a", now * 7 + before, now)
            at = keys.place("a")
            words[at + TICKS] = (now * 7 + after) % 7
            found = keys.find("a")
            assert found is not None
            assert abs(found - (now * 7 + before)) < 7


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


def test_record_of_a_key_that_left_is_nobody_elses(file: File) -> None:
    """A worker that remembers the record of a key which has left takes it neither for the key's nor for the next one's."""
    other = SharedLimits(Segment.at(file.path), file.clock)
    rule = bucket(1, 2)
    take = other.taker(rule, 1)
    assert take is not None
    assert take("a")[0] == 1
    file.clock.now += 100 * SECOND
    assert file.ask(Spend(bucket(1, 1, name="sweeps"), "x"))
    records = file.segment.records
    with file.segment.begin():
        assert not BucketKeys(file.segment, rule).place("a")
    hour = bucket(1, 2, 3600)
    assert [file.ask(Spend(hour, f"new-{number}")) for number in range(5)] == [True] * 5
    assert records.words[1] // 4 - 1 < 7, "records that are free again are used again"
    assert [take("a")[0] for _ in range(2)] == [1, 0]
    assert [file.ask(Spend(hour, f"new-{number}")) for number in range(5)] == [True] * 5
    other.close()


def test_handle_is_of_one_record_for_ever(tmp_path: Path) -> None:
    """A record that is free is given again, under a handle that leads to it alone; the old handle leads nowhere."""
    records = Records(tmp_path / "records")
    first, second = records.new(), records.new()
    records.free(first)
    records.free(first)  # once more: nothing
    assert records.place(first) == 0
    third, fourth = records.new(), records.new()
    assert third & PLACE == first & PLACE
    assert len({handle & PLACE for handle in (second, third, fourth)}) == 3
    assert len({first, second, third, fourth}) == 4
    assert all(records.place(handle) for handle in (second, third, fourth))
    records.close()


def test_index_that_fails_keeps_no_record(file: File) -> None:
    """Where the index cannot take a new key, its record is free again, and the worker counts for itself."""
    taken = file.segment.records

    def failing(_: int) -> bool:
        raise files.Unusable("MDB_MAP_FULL")

    conclude = file.segment.conclude
    file.segment.conclude = failing  # type: ignore[method-assign]
    assert [file.ask(Spend(bucket(1, 2, 3600), f"key-{number}")) for number in range(9)] == [
        True
    ] * 9
    file.segment.conclude = conclude  # type: ignore[method-assign]
    file.clock.now += SECOND
    used = taken.words[1]
    assert all(file.ask(Spend(bucket(1, 2, 3600), f"more-{number}")) for number in range(10))
    assert taken.words[1] == used + 4, "all but the first have got a record that was lost"
    assert [file.ask(Spend(bucket(1, 2, 3600), "key-1")) for _ in range(3)] == [True, True, False]


def test_deleted_files(file: File, caplog: pytest.LogCaptureFixture) -> None:
    """Files that are deleted serve those who have them open; when a worker has made new ones, all follow, and say so."""
    rule = bucket(1, 5, 3600)
    take = file.store.taker(rule, 1)
    assert take is not None
    assert take("a")[0] == 4
    file.path.unlink()  # not its lock and records: new files must not go on with these
    file.clock.now += SECOND
    assert [take("a")[0] for _ in range(2)] == [3, 2]
    made = subprocess.run(
        [sys.executable, "-c", SPENDING, str(file.path), "3"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.split() == ["spending", "3"]
    file.clock.now += SECOND
    assert [take("a")[0] for _ in range(3)] == [1, 4, 3]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "deleted while the gateway runs" in caplog.text
    assert take("b")[0] == 4


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
    file.segment._files.reserved = files._STEP + 50 * 4096
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
