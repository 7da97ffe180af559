"""Keep a number of workers alive: fork them, replace those that die, pass signals on.

The parent imports everything once and then only waits, so a replacement is ready within milliseconds. Forking is safe
because the parent has neither threads nor an event loop. Each worker reads the configuration file itself.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from propylon.process.console import PLAIN, Console
from propylon.process.hangup import note_hangups

__all__ = ["supervise"]

Work = Callable[[int, Callable[[], bool]], int]

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD}
# Passed on as they are; any other one is a stop.
_PASSED_ON = {signal.SIGHUP, signal.SIGUSR1}
# A worker that lives for less than this does not get a successor at once.
_HEALTHY_LIFE = 1.0
_BACKOFF = 1.0
# Seconds in which a worker that cannot start has given up.
_SETTLED = 10.0
# What a worker may take beyond its own time to stop.
_PATIENCE = 5.0


def supervise(
    work: Work,
    workers: int,
    *,
    patience: float,
    stopping: Callable[[], None],
    console: Console = PLAIN,
) -> int:
    """Run `work` in that many processes until a signal stops them; return the exit status.

    `work` gets the worker's place, from 0; a replacement has the place of the worker that died. It also gets a function
    that tells whether the others go on, so that a worker that is stopped alone is replaced. `patience` is how many
    seconds a stop may take before the parent kills the workers. `stopping` is called before the workers are told: the
    parent closes its listeners in it, because a client that connects meanwhile would wait in a queue that no worker
    empties.
    """
    return _Supervisor(work, patience + _PATIENCE, stopping, console).run(workers)


class _Supervisor:
    def __init__(
        self, work: Work, patience: float, stopping: Callable[[], None], console: Console
    ) -> None:
        self._console = console
        self._stopping = stopping
        self._work = work
        self._patience = patience
        self._born: dict[int, tuple[int, float]] = {}  # by process: its place, and when
        self._stopping_since: float | None = None
        self._status = 0
        # Once a worker has run for a while, one that cannot start must not take the others along.
        self._settled = False
        # Workers hold the reading end: it says EOF when the parent is gone, however it went.
        self._alive_read, self._alive_write = os.pipe()
        # The same for the stop of all: the parent closes the writing end before it tells the workers.
        self._going_read, self._going_write = os.pipe()

    def run(self, workers: int) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for place in range(workers):
            self._spawn(place)
        while self._born:
            self._obey(signal.sigtimedwait(_SIGNALS, self._timeout()))
        return self._status

    def _timeout(self) -> float:
        if self._stopping_since is None:
            return 3600.0
        return max(0.0, self._stopping_since + self._patience - time.monotonic())

    def _obey(self, found: signal.struct_siginfo | None) -> None:
        if found is None:
            if self._stopping_since is not None:
                self._signal(signal.SIGKILL)
            return
        if found.si_signo == signal.SIGCHLD:
            self._reap()
            return
        if found.si_signo in (signal.SIGTERM, signal.SIGINT) and self._stopping_since is None:
            self._begin_stop()
        # A terminal has sent SIGINT to the workers as well, which ignore it: they hear of it here, once.
        number = signal.Signals(found.si_signo)
        self._signal(number if number in _PASSED_ON else signal.SIGTERM)

    def _begin_stop(self) -> None:
        self._stopping_since = time.monotonic()
        os.close(self._going_write)
        self._stopping()

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._born:
            os.kill(pid, number)

    def _reap(self) -> None:
        for pid in list(self._born):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._replace(*self._born.pop(pid), os.waitstatus_to_exitcode(status))

    def _replace(self, place: int, born: float, code: int) -> None:
        if self._stopping_since is not None:
            return
        lived = time.monotonic() - born
        self._settled = self._settled or lived > _SETTLED
        if code > 0 and not self._settled:
            # It gave up by itself, and said why: its successor would, too.
            self._status = code
            self._begin_stop()
            self._signal(signal.SIGTERM)
            return
        why = f"exit status {code}" if code >= 0 else f"signal {-code}"
        self._console.warn(f"a worker died ({why}); starting another")
        if lived < _HEALTHY_LIFE or code > 0:
            time.sleep(_BACKOFF)
        self._spawn(place)

    def _spawn(self, place: int) -> None:
        pid = os.fork()
        if pid:
            self._born[pid] = (place, time.monotonic())
            return
        os.close(self._alive_write)
        if self._stopping_since is None:
            os.close(self._going_write)
        # Until there is a loop to hear it, a reload must not end the worker.
        note_hangups()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _follow(self._alive_read)
            code = self._work(place, partial(_is_open, self._going_read))
        except SystemExit as end:
            # A signal has come while it started: that is no reason to give up, and to take the others along.
            code = end.code if isinstance(end.code, int) else 1
        finally:
            if (error := sys.exc_info()[1]) is not None:
                sys.excepthook(type(error), error, error.__traceback__)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _is_open(pipe: int) -> bool:
    """Tell whether the other end of a pipe, over which nothing is ever sent, is still open."""
    return not select.select([pipe], [], [], 0)[0]


def _follow(pipe: int) -> None:
    """Have SIGTERM sent to this process when the other end of the pipe is closed."""
    import fcntl  # noqa: PLC0415 — Unix only, like fork
    import threading  # noqa: PLC0415

    fcntl.fcntl(pipe, fcntl.F_SETFD, fcntl.FD_CLOEXEC)

    def wait() -> None:
        os.read(pipe, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="propylon-parent", daemon=True).start()
