"""Sums of all workers: what one adds, all tell; what a dead one added stays."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.stores.sums import LocalSums
from propylon.stores.tally import SharedSums
from tests.support.examples import examples

A, B = ("a", "GET"), ("b", "GET")


def files(folder: Path) -> list[str]:
    """What is in the directory."""
    return sorted(path.name for path in folder.iterdir())


def dies(work: Callable[[], None]) -> None:
    """Do it in a process that is killed."""
    if (pid := os.fork()) == 0:
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_row_is_the_same_each_time(tmp_path: Path) -> None:
    """It starts with zeros, as one of `LocalSums` does."""
    sums = SharedSums(tmp_path)
    row = sums.row(A, 3)
    assert [*row] == [0.0, 0.0, 0.0]
    row[1] += 2
    sums.row(B, 3)[0] += 1
    assert sums.row(A, 3) is row
    assert dict(sums.rows()) == {A: [0.0, 2.0, 0.0], B: [1.0, 0.0, 0.0]}


def test_each_tells_the_sum_of_all(tmp_path: Path) -> None:
    """At once, without a message."""
    one, other = SharedSums(tmp_path), SharedSums(tmp_path)
    one.row(A, 2)[0] += 1
    other.row(A, 2)[0] += 2
    other.row(B, 2)[1] += 0.5
    expected = {A: [3.0, 0.0], B: [0.0, 0.5]}
    assert dict(one.rows()) == dict(other.rows()) == expected


def test_what_a_killed_worker_added_stays(tmp_path: Path) -> None:
    """The next one takes its file over and goes on in its rows: no sum falls, and no file is added."""
    living = SharedSums(tmp_path)
    living.row(A, 1)[0] += 1

    def count() -> None:
        SharedSums(tmp_path).row(A, 1)[0] += 10

    for dead in range(1, 6):
        dies(count)
        assert dict(living.rows()) == {A: [1.0 + 10 * dead]}
    assert len(files(tmp_path)) == 2


def test_two_dead_workers_may_have_the_same_row(tmp_path: Path) -> None:
    """Both of their rows count, and one is gone on with."""
    first, second = SharedSums(tmp_path), SharedSums(tmp_path)
    first.row(A, 1)[0] += 1
    second.row(A, 1)[0] += 2
    first.close()
    second.close()
    third = SharedSums(tmp_path)
    third.row(A, 1)[0] += 4
    assert dict(third.rows()) == {A: [7.0]}
    assert len(files(tmp_path)) == 2


def test_the_file_of_one_that_lives_is_left_to_it(tmp_path: Path) -> None:
    """Two that added to one file would lose what the other added."""
    one = SharedSums(tmp_path)
    one.row(A, 1)[0] += 1
    other = SharedSums(tmp_path)
    other.row(A, 1)[0] += 1
    assert len(files(tmp_path)) == 2


def test_a_full_file_is_followed_by_another(tmp_path: Path) -> None:
    """However many rows there are, none is lost."""
    sums = SharedSums(tmp_path, size=512)
    for at in range(100):
        sums.row((str(at), "GET"), 5)[4] += at
    assert len(files(tmp_path)) > 5
    expected = {(str(at), "GET"): [0.0, 0.0, 0.0, 0.0, float(at)] for at in range(100)}
    assert dict(sums.rows()) == expected
    sums.close()
    assert dict(SharedSums(tmp_path).rows()) == expected


def test_without_room_it_counts_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so once; the file is not left behind."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    sums = SharedSums(tmp_path)
    sums.row(A, 1)[0] += 1
    sums.row(B, 1)[0] += 2
    assert dict(sums.rows()) == {A: [1.0], B: [2.0]}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert files(tmp_path) == []


def test_labels_that_no_file_holds_are_counted(tmp_path: Path) -> None:
    """By this worker alone."""
    sums = SharedSums(tmp_path, size=256)
    huge = ("x" * 1000,)
    sums.row(huge, 1)[0] += 1
    assert dict(sums.rows()) == {huge: [1.0]}


@pytest.mark.parametrize("content", [b"", b"\0" * 3, b"\0" * 8, b"\0" * 64])
def test_a_file_that_is_being_made_is_passed_over(tmp_path: Path, content: bytes) -> None:
    """Its worker may have died in the middle."""
    (tmp_path / ("sums-" + "0" * 32)).write_bytes(content)
    (tmp_path / "sums-of-somebody").write_bytes(b"x" * 100)
    sums = SharedSums(tmp_path)
    assert dict(sums.rows()) == {}
    sums.row(A, 1)[0] += 1
    assert dict(sums.rows()) == {A: [1.0]}
    assert dict(SharedSums(tmp_path).rows()) == {A: [1.0]}


def test_without_its_directory_it_knows_its_own(tmp_path: Path) -> None:
    """An operator may clean up under a running gateway."""
    folder = tmp_path / "shared"
    folder.mkdir()
    sums = SharedSums(folder)
    sums.row(A, 1)[0] += 1
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    sums.row(A, 1)[0] += 1
    assert dict(sums.rows()) == {A: [2.0]}


LABELS = st.lists(st.text(max_size=12), min_size=1, max_size=3).map(tuple)


@examples(100)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), LABELS, st.integers(0, 4), st.integers(1, 100)), max_size=30
    )
)
def test_it_sums_as_one_worker_would(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, tuple[str, ...], int, int]]
) -> None:
    """Whichever of three workers counts, and whichever of them ends and begins anew."""
    folder = tmp_path_factory.mktemp("sums")
    workers = [SharedSums(folder, size=1024) for _ in range(3)]
    single = LocalSums()
    for who, labels, column, amount in steps:
        workers[who].row(labels, 5)[column] += amount
        single.row(labels, 5)[column] += amount
        if amount > 90:
            workers[who].close()
            workers[who] = SharedSums(folder, size=1024)
    expected = {labels: [*row] for labels, row in single.rows()}
    for worker in workers:
        assert dict(worker.rows()) == expected
        worker.close()
