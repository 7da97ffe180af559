"""Run tests in several processes, all of them forked from the one that has collected the tests.

pytest-xdist starts new interpreters. Each of them imports and collects every test again, which took a tenth
of the whole run, and more on a fresh checkout, where each of them compiles every file. Here the tests are
collected once.

A worker takes one file after the other from a queue, for the tests of a file share gateways. It tells how each
test went; the parent shows and counts it, as if the test had run there. A worker that dies fails its test,
and another one goes on behind that test. A worker whose parent has been killed stops, and tears down what it
has set up.

    pytest -n 4          so many workers; 0 or 1: everything in this process; without it four more than there are cores
    pytest --shuffle 7   the files, and the tests within each of them, in an order that the number decides
"""

import contextlib
import gc
import itertools
import multiprocessing
import os
import random
import signal
import struct
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

import pytest

_FORK = multiprocessing.get_context("fork")
_NUMBER = struct.Struct("I")
_PATIENCE = 20.0  # seconds, of a worker that was asked to end: it stops its gateways first

Message = tuple[str, Any]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know `-n` and `--shuffle`."""
    group = parser.getgroup("spread", "tests in several processes")
    # Small letters are for pytest itself, says pytest; people know this one from xdist.
    group._addoption("-n", "--processes", default="auto", metavar="N", help="so many workers")
    group.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in another order")


@pytest.hookimpl(wrapper=True, specname="pytest_collection_modifyitems")
def pytest_shuffle(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Shuffle the tests of each file before pytest groups those that share a fixture, and the files after it."""
    seed = config.getoption("shuffle")
    if seed is None:
        return (yield)
    chance = random.Random(seed)
    items[:] = _shuffled(items, chance, within=True)
    yield
    items[:] = _shuffled(items, chance, within=False)


def _shuffled(
    items: list[pytest.Item], chance: random.Random, *, within: bool
) -> list[pytest.Item]:
    """The tests file by file, either the tests within each file or the files in another order."""
    files = _by_file(items)
    for shuffled in files if within else [files]:
        chance.shuffle(shuffled)
    return list(itertools.chain.from_iterable(files))


def _by_file(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    return list(files.values())


def _count(config: pytest.Config) -> int:
    """How many workers there are to be.

    A worker waits for a gateway, or for time to pass, for two thirds of its time (measured: four of them left a third of two
    cores idle).
    """
    if config.getoption("usepdb") or config.getoption("collectonly"):
        return 0
    if (said := config.getoption("processes")) != "auto":
        return int(said)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    return cores + 4


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests, if they are to be spread."""
    files = _by_file(session.items)
    count = min(_count(session.config), len(files))
    if count < 2 or session.testsfailed:
        return None
    _Parent(session, files).run(count)
    return True


@dataclass
class _Worker:
    """A worker, and the test that it runs."""

    process: ForkProcess
    test: str = ""


class _Parent:
    """Where the workers are forked and heard."""

    def __init__(self, session: pytest.Session, files: list[list[pytest.Item]]) -> None:
        self._session = session
        self._hook = session.config.hook
        self._files = files
        self._numbers = itertools.count()
        self._workers: dict[Connection, _Worker] = {}
        # The pipe is the queue: a read takes the next number, whoever reads.
        self._queue, fill = os.pipe()
        for number in range(len(files)):
            os.write(fill, _NUMBER.pack(number))
        os.close(fill)

    def run(self, count: int) -> None:
        """Run all tests in so many workers."""
        reporter = self._session.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and self._session.config.option.verbose <= 0:
            reporter.showfspath = (
                False  # a line for each test, for its file is another one than the last
            )
        try:
            for _ in range(count):
                self._fork([])
            while self._workers:
                for told in wait(list(self._workers)):
                    assert isinstance(told, Connection)
                    self._hear(told)
                self._stop_if_asked()
        finally:
            self._end()

    def _fork(self, first: list[pytest.Item]) -> None:
        told, tell = _FORK.Pipe(duplex=False)
        base = self._session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        work = _Work(self._session, self._files, self._queue, tell)
        process = _FORK.Process(target=work.run, args=(first, base / f"w{next(self._numbers)}"))
        process.start()
        tell.close()  # the worker alone has it: its end is heard
        self._workers[told] = _Worker(process)

    def _hear(self, told: Connection) -> None:
        worker = self._workers[told]
        verb, what = _message(told)
        if verb == "ended":
            self._ended(self._workers.pop(told))
            told.close()
        elif verb == "begins":
            worker.test = what
        elif verb == "warning":
            self._hook.pytest_warning_recorded.call_historic(kwargs=_warned(*what))
        else:
            worker.test = ""
            self._report(what)

    def _report(self, done: dict[str, Any]) -> None:
        config, name = self._session.config, {key: done[key] for key in ("nodeid", "location")}
        self._hook.pytest_runtest_logstart(**name)
        for data in done["reports"]:
            report = self._hook.pytest_report_from_serializable(config=config, data=data)
            self._hook.pytest_runtest_logreport(report=report)
        self._hook.pytest_runtest_logfinish(**name)

    def _ended(self, worker: _Worker) -> None:
        worker.process.join()
        status = worker.process.exitcode
        if status == 0:
            return
        if not worker.test:
            raise RuntimeError(f"a worker ended with status {status} outside of any test")
        [rest] = [
            items[at + 1 :]
            for items in self._files
            for at, item in enumerate(items)
            if item.nodeid == worker.test
        ]
        longrepr = f"the worker ended with status {status} during {worker.test}"
        location = (worker.test.partition("::")[0], None, worker.test)
        report = pytest.TestReport(worker.test, location, {}, "failed", longrepr, "call")
        self._hook.pytest_runtest_logreport(report=report)
        self._fork(rest)

    def _stop_if_asked(self) -> None:
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _end(self) -> None:
        """End the workers that still run: they tear down what they have set up."""
        os.close(self._queue)
        running = [worker.process for worker in self._workers.values()]
        for process in running:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGINT)
        for told in self._workers:
            told.close()  # a worker that still tells something is not waited for
        for process in running:
            process.join(_PATIENCE)
            process.kill()
            process.join()


def _message(told: Connection) -> Message:
    with contextlib.suppress(EOFError):
        found: Message = told.recv()
        return found
    return "ended", None


class _Work:
    """What a worker does; in it the hooks of a test run as they always do, but tell the parent."""

    def __init__(
        self,
        session: pytest.Session,
        files: list[list[pytest.Item]],
        queue: int,
        tell: Connection,
    ) -> None:
        self._session = session
        self._files = files
        self._queue = queue
        self._tell = tell
        self._reports: list[dict[str, Any]] = []
        self._begun = False
        self._parent = os.getpid()
        # What no summary shows is not told: a passed set-up or tear-down, unless its time is asked for.
        self._whole = session.config.getoption("durations") is not None

    def run(self, first: list[pytest.Item], base: Any) -> None:
        """Run those tests, and what is in the queue, with that directory for temporary files."""
        # The parent ends its workers by it. A shell has it ignored in what it starts in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        config = self._session.config
        base.mkdir()
        config._tmp_path_factory._basetemp = base  # type: ignore[attr-defined]
        plugins = config.pluginmanager
        plugins.unregister(name="terminalreporter")
        # The parent's captured output is in files with one position for all who have them open.
        capture = plugins.getplugin("capturemanager")
        if capture is not None:
            capture.stop_global_capturing()
            capture.start_global_capturing()
            capture.suspend_global_capture()
        plugins.register(self)
        self._begun = True
        try:
            for item, following in itertools.pairwise(self._tests(first)):
                assert item is not None
                config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if self._session.shouldfail or self._session.shouldstop:
                    return
                if os.getppid() != self._parent:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            self._session._setupstate.teardown_exact(None)
            raise

    def _tests(self, first: list[pytest.Item]) -> Iterator[pytest.Item | None]:
        yield from first
        while number := os.read(self._queue, _NUMBER.size):
            _set_aside()
            yield from self._files[_NUMBER.unpack(number)[0]]
        yield None

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say which test begins."""
        self._reports = []
        self._tell.send(("begins", nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report until the test is over."""
        if self._whole or report.when == "call" or not report.passed:
            config = self._session.config
            data = config.hook.pytest_report_to_serializable(config=config, report=report)
            self._reports.append(data)

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        """Say how the test went."""
        done = {"nodeid": nodeid, "location": location, "reports": self._reports}
        self._tell.send(("done", done))

    def pytest_warning_recorded(
        self,
        warning_message: warnings.WarningMessage,
        when: str,
        nodeid: str,
        location: Any,
    ) -> None:
        """Tell of a warning that is not an error."""
        if not self._begun:
            return  # with its registration pytest repeats to a plugin what was before it
        one = warning_message
        told = (str(one.message), one.category, one.filename, one.lineno)
        self._tell.send(("warning", (told, when, nodeid, location)))


def _set_aside() -> None:
    """Keep what lives on after a file out of later collections: each would look at all of it again."""
    gc.collect()
    gc.freeze()


def _warned(told: Any, when: str, nodeid: str, location: Any) -> dict[str, Any]:
    message = warnings.WarningMessage(*told)
    return {"warning_message": message, "when": when, "nodeid": nodeid, "location": location}
