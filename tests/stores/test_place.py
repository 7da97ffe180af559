"""A directory that processes share: whose it is, when it goes, and what is refused."""

import errno
import fcntl
import os
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from propylon.stores import place as module
from propylon.stores.place import (
    Place,
    UnsafeDirectory,
    check_base,
    enter,
    lack_of_room,
    private_bases,
    unique_name,
)

NOBODY = 65534


@contextmanager
def process(work: Callable[[], object]) -> Iterator[int]:
    """Another process, which has done its work and lives until the block ends or it is killed."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            work()
            os.write(writing, b"x")
            signal.pause()
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"x"
        yield pid
    finally:
        os.close(reading)
        kill(pid)


def kill(pid: int) -> None:
    """End a process as the kernel does when memory runs out."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def names(base: Path) -> list[str]:
    """What is in a directory."""
    return sorted(found.name for found in base.iterdir())


def give_away(directory: Path) -> None:
    """Make it another user's, where that is allowed."""
    try:
        os.chown(directory, NOBODY, NOBODY)
    except PermissionError:
        pytest.skip("only root can make another user's directory")


# Coming and going


def test_a_directory_is_ours_alone(tmp_path: Path) -> None:
    """Mode 0700, the base as well if it is made; the name says which process."""
    base = tmp_path / "deep" / "state"
    place = enter(base, unique_name())
    for directory in (base, place.path):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert place.path.parent == base
    assert place.path.name.startswith(f"propylon-{os.getpid()}-")
    place.leave()
    assert names(base) == []  # which stays itself


def test_the_last_one_to_leave_removes_it(tmp_path: Path) -> None:
    """With all that is in it; those who left before it removed nothing."""
    first, second = (enter(tmp_path, f"1-{0:016x}") for _ in range(2))
    assert first.path == second.path
    (first.path / "file").write_text("x")
    first.leave()
    assert (second.path / "file").read_text() == "x"
    second.leave()
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Whatever it was in the middle of."""

    def work() -> None:
        place = enter(tmp_path, unique_name())
        (place.path / "file").write_text("x")

    with process(work) as victim:
        [left] = names(tmp_path)
        other = enter(tmp_path, unique_name())
        assert left in names(tmp_path)  # it lives
        kill(victim)
        assert left in names(tmp_path)
        another = enter(tmp_path, unique_name())
        assert names(tmp_path) == sorted([other.path.name, another.path.name])
    other.leave()
    another.leave()


def test_forked_processes_keep_it(tmp_path: Path) -> None:
    """As long as one of them lives that a killed parent forked, its directory is in use."""
    reading, writing = os.pipe()

    def work() -> None:
        enter(tmp_path, unique_name())
        if (child := os.fork()) == 0:
            os.close(reading)
            signal.pause()
        os.write(writing, child.to_bytes(8))

    with process(work) as parent:
        child = int.from_bytes(os.read(reading, 8))
        [left] = names(tmp_path)
        kill(parent)
        enter(tmp_path, unique_name()).leave()
        assert names(tmp_path) == [left]
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 20  # it is not our child, whose end we could wait for
    while names(tmp_path) and time.monotonic() < deadline:
        enter(tmp_path, unique_name()).leave()
    assert names(tmp_path) == []
    os.close(reading)
    os.close(writing)


def test_a_number_that_is_used_again_is_nobody(tmp_path: Path) -> None:
    """A directory with the number of a process that lives, but that does not use it, is a dead one's."""
    left = tmp_path / f"propylon-{os.getpid()}-{0:016x}"
    left.mkdir()
    enter(tmp_path, unique_name()).leave()
    assert names(tmp_path) == []


def test_a_process_of_another_container_is_alive(tmp_path: Path) -> None:
    """Its number says nothing here: the directory of one that we cannot see stays as long as it is in use."""
    with process(lambda: enter(tmp_path, f"1-{0:016x}")):
        for _ in range(3):
            enter(tmp_path, unique_name()).leave()
        assert names(tmp_path) == [f"propylon-1-{0:016x}"]


def test_only_what_is_ours_is_removed(tmp_path: Path) -> None:
    """Files and directories of other names, links, and files of such a name stay."""
    ours = f"propylon-1-{0:016x}"
    target = tmp_path / "target"
    target.mkdir()
    (target / "precious").write_text("x")
    base = tmp_path / "base"
    base.mkdir(0o700)
    for name in ("propylon-data", "propylon-1-abc", "x" + ours, "users"):
        (base / name).mkdir()
    (base / "propylon-users.db").write_text("x")
    (base / ours[:-1]).write_text("x")
    (base / (ours[:-1] + "1")).write_text("x")
    (base / (ours[:-1] + "2")).symlink_to(target)
    before = names(base)
    enter(base, unique_name()).leave()
    assert names(base) == before
    assert names(target) == ["precious"]


def test_another_users_left_overs_are_not_ours(tmp_path: Path) -> None:
    """In /dev/shm everybody may make one that is called as ours are."""
    theirs = tmp_path / f"propylon-1-{0:016x}"
    theirs.mkdir()
    give_away(theirs)
    enter(tmp_path, unique_name()).leave()
    assert theirs.exists()
    with pytest.raises(PermissionError):
        enter(tmp_path, f"1-{0:016x}")
    assert theirs.exists()


def test_one_that_is_being_removed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes while another process removes it waits for that, and gets one that is there."""
    path = tmp_path / f"propylon-1-{0:016x}"
    path.mkdir()
    lock = os.open(path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            path.rmdir()
            os.close(lock)

    monkeypatch.setattr(module.time, "sleep", pause)
    place = enter(tmp_path, f"1-{0:016x}")
    assert place.path == path
    assert path.is_dir()
    assert len(pauses) == 3
    place.leave()


def test_one_that_was_removed_while_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process took it for left over before it was locked: it is made once more."""
    path = tmp_path / f"propylon-1-{0:016x}"
    opening, removed = os.open, []

    def opened(name: Path, flags: int) -> int:
        if not removed:
            removed.append(name)
            path.rmdir()
        return opening(name, flags)

    monkeypatch.setattr(module.os, "open", opened)
    place = enter(tmp_path, f"1-{0:016x}")
    monkeypatch.undo()
    assert removed == [path]
    assert path.is_dir()
    place.leave()
    assert names(tmp_path) == []


def test_nothing_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped while it removed the directory keeps others from it, but not from going on."""
    path = tmp_path / f"propylon-1-{0:016x}"
    path.mkdir()
    lock = os.open(path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    with pytest.raises(OSError, match="busy"):
        enter(tmp_path, f"1-{0:016x}")
    os.close(lock)


def test_one_that_was_removed_under_us(tmp_path: Path) -> None:
    """To leave it is no error, and the one that another process made since is not touched."""
    place = enter(tmp_path, f"1-{0:016x}")
    place.path.rmdir()
    with process(lambda: enter(tmp_path, f"1-{0:016x}")):
        place.leave()
        assert names(tmp_path) == [f"propylon-1-{0:016x}"]


def test_long_paths_are_short_enough_for_a_socket(tmp_path: Path) -> None:
    """The kernel takes 107 bytes, and an operator names what he likes."""
    place = enter(tmp_path / ("long" * 50), unique_name())
    assert len(str(place.at("worker-1"))) < 107
    place.at("worker-1").write_text("x")
    assert (place.path / "worker-1").read_text() == "x"
    place.leave()


def test_without_proc_the_path_is_the_path(tmp_path: Path) -> None:
    """Elsewhere than on Linux."""
    place = Place(tmp_path, -1)
    assert place.at("worker-1") == tmp_path / "worker-1"


# What is refused


def message(base: Path) -> str:
    """What is said of a directory that the operator named; nothing: it is accepted."""
    try:
        check_base(base)
    except UnsafeDirectory as error:
        return str(error)
    return ""


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o500])
def test_what_others_cannot_write_to_is_accepted(tmp_path: Path, mode: int) -> None:
    """Also what they can read: what we make in it is ours alone."""
    base = tmp_path / "base"
    base.mkdir()
    base.chmod(mode)
    assert message(base) == ""
    base.chmod(0o700)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_what_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """They could put their own in the place of ours."""
    base = tmp_path / "base"
    base.mkdir()
    base.chmod(mode)
    assert message(base) == (
        f'others may write into "{base}" (mode {mode:04o}); chmod go-w it,'
        f' or write "{base}/propylon", which the gateway makes for itself'
    )
    assert message(base / "propylon") == ""


def test_what_belongs_to_another_user_is_refused(tmp_path: Path) -> None:
    """That user could."""
    base = tmp_path / "base"
    base.mkdir(0o700)
    give_away(base)
    assert message(base) == (
        f'"{base}" belongs to another user (uid {NOBODY});'
        f' write "{base}/propylon", which the gateway makes for itself'
    )


def test_a_file_is_refused(tmp_path: Path) -> None:
    """A directory is meant."""
    base = tmp_path / "base"
    base.write_text("x")
    assert message(base) == f'"{base}" is no directory; write one, such as /run/propylon'


def test_what_is_not_there_is_accepted(tmp_path: Path) -> None:
    """It will be made."""
    assert message(tmp_path / "a" / "b") == ""
    assert names(tmp_path) == []


# Where there is no room


def test_a_base_that_cannot_be_written(tmp_path: Path) -> None:
    """It is an OSError with the reason, and leaves nothing open."""
    file = tmp_path / "file"
    file.write_text("x")
    before = names(Path("/proc/self/fd"))
    for base, code in (
        (file, errno.EEXIST),
        (file / "below", errno.ENOTDIR),
        (Path("/proc/x"), errno.ENOENT),
    ):
        with pytest.raises(OSError) as failed:
            enter(base, unique_name())
        assert failed.value.errno == code
    assert names(Path("/proc/self/fd")) == before


def test_little_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than 16 MB: what it means, and what to do about it."""
    place = enter(tmp_path, unique_name())
    assert lack_of_room(place) is None
    found = os.statvfs(tmp_path)
    few = os.statvfs_result((*found[:4], 3 * 2**20 // found.f_frsize, *found[5:]))
    monkeypatch.setattr(module.os, "statvfs", lambda path: few)
    assert (lack_of_room(place) or "").startswith(
        f"{tmp_path} has 3 MB free: what the workers share may not fit"
    )
    place.leave()


def test_where_a_private_one_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, else where the session keeps its own, else where temporary files go, if there is such a place."""
    shm, temporary = Path("/dev/shm"), Path(tempfile.gettempdir())
    assert [*private_bases({})] == [shm, temporary]
    assert [*private_bases({"XDG_RUNTIME_DIR": "/run/user/7"})] == [
        shm,
        Path("/run/user/7"),
        temporary,
    ]

    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(module.tempfile, "gettempdir", nowhere)
    assert [*private_bases({})] == [shm]
