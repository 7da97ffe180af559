"""A value that forked processes share in memory: the last one that was saved whole, whoever died meanwhile."""

import fcntl
import os
import signal
import time
from collections.abc import Callable

import pytest

from propylon.stores import slot as module
from propylon.stores.slot import Slot


def forked(work: Callable[[], None]) -> int:
    """Run it in a process of its own; return its number."""
    if (pid := os.fork()) == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def ended(pid: int) -> int:
    """Wait for a process; return how it ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_what_was_saved_last_is_found() -> None:
    """By the process that saved it and by all others, whoever it was."""
    slot = Slot()
    assert slot.load() is None
    for number in range(5):
        value = b"%d" % number * (1 + 1000 * (5 - number))
        if number % 2:
            assert ended(forked(lambda value=value: slot.save(value))) == 0  # type: ignore[misc]
        else:
            slot.save(value)
        assert slot.load() == value
    slot.save(b"")
    assert slot.load() == b""
    slot.close()
    assert slot.load() is None


def test_many_save_at_once() -> None:
    """All workers do after a reload: what is found is what one of them saved, whole."""
    slot = Slot()
    values = [bytes([65 + number]) * (50_000 + 1000 * number) for number in range(4)]

    def save(value: bytes) -> None:
        for _ in range(25):
            slot.save(value)

    pids = [forked(lambda value=value: save(value)) for value in values]  # type: ignore[misc]
    while pids:
        assert slot.load() in {None, *values}
        done, status = os.waitpid(pids[0], os.WNOHANG)
        if done:
            assert status == 0
            pids.pop(0)
    assert slot.load() in values
    slot.close()


def test_one_that_is_killed_in_the_middle_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved before is found; the next one to save is not kept from it."""
    slot = Slot()
    slot.save(b"before")

    def half_written(half: int, number: int, value: bytes) -> None:
        os.ftruncate(half, 0)
        os.pwrite(half, b"half of it", 0)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_write", half_written)
        assert ended(forked(lambda: slot.save(b"lost"))) == -signal.SIGKILL
    assert slot.load() == b"before"
    slot.save(b"after")
    assert slot.load() == b"after"
    slot.save(b"later")
    assert slot.load() == b"later"
    slot.close()


def test_one_that_is_stopped_in_the_middle_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on without saving: they would save the same."""
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    slot = Slot()
    slot.save(b"before")
    reading, writing = os.pipe()

    def stopped() -> None:
        fcntl.lockf(slot._halves[0], fcntl.LOCK_EX)
        os.write(writing, b"x")
        time.sleep(60)

    pid = forked(stopped)
    os.read(reading, 1)
    slot.save(b"not now")
    assert slot.load() == b"before"
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    slot.save(b"after")
    assert slot.load() == b"after"
    slot.close()
    os.close(reading)
    os.close(writing)


def test_where_there_is_no_such_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept: a file would hold secrets."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    slot = Slot()
    slot.save(b"value")
    assert slot.load() is None
    slot.close()
