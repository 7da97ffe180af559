"""An event loop on which waiting takes no time: when nobody can go on, its clock jumps to what is due next.

Strategy. The loop sleeps for one reason only: a thread is at work (a password's hash, SQLite, a plain `def`), and its
result wakes it. Time stands still meanwhile, so that no timeout depends on how fast the machine is. Which threads are
at work is counted where work is handed to them: `run_in_executor`, anyio's threads and aiosqlite's.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn, TypeVar, TypeVarTuple
from unittest import mock

import anyio.to_thread

from propylon.testing.refused import NotInMemory

__all__ = ["VirtualLoop", "threads_counted"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
# Seconds of the loop's clock that a test's call may wait: longer than any timeout that somebody means.
_LONGEST = 7 * 86400.0


class _Selector(selectors.DefaultSelector):
    """A selector that lets time pass instead of waiting for it."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; wait for threads; else let the clock jump."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.loop.at_work:
            return super().select(None)
        self.loop.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        """Start the clock at `now`."""
        self.now = now
        self.at_work = 0  # how many results threads owe
        self._until = now
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Return the time, which stands still as long as anybody has something to do."""
        return self.now

    def jump(self, seconds: float | None) -> None:
        """Nobody can go on: let so much time pass, or stop at the time that `advance` was given."""
        due = self._until if seconds is None else self.now + max(0.0, seconds)
        if due > self._until or seconds is None:
            self.now = max(self.now, self._until)
            self.stop()
        else:
            self.now = due

    def advance(self, seconds: float = 0.0) -> None:
        """Run until so much time has passed and nobody can go on; 0: only what can be done now."""
        self._until = self.now + seconds
        self.run_forever()

    def complete(self, main: Coroutine[Any, Any, T]) -> T:
        """Run until `main` has ended; time passes as it needs. Raises NotInMemory if it would wait for days."""
        task = self.create_task(main)
        return self.wait_for(task)

    def wait_for(self, task: asyncio.Task[T]) -> T:
        """Do the same for a task. Raises what it raises."""
        stop = lambda _: self.stop()  # noqa: E731 — removed again below
        task.add_done_callback(stop)
        self._until = self.now + _LONGEST
        try:
            if not task.done():
                self.run_forever()
        finally:
            task.remove_done_callback(stop)
        if not task.done():
            task.cancel()
            msg = f"nothing came in {_LONGEST / 86400:.0f} days of the test's clock: the test waits for what never ends"
            raise NotInMemory(msg)
        return task.result()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Let no time pass: a thread is at work."""
        self.at_work += 1
        try:
            yield
        finally:
            self.at_work -= 1

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run in a thread; no time passes until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self.at_work += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, _: object) -> None:
        self.at_work -= 1

    def end(self) -> None:
        """Cancel what is left, wait for the threads, and close the loop."""
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        if left:
            self.complete(_all_of(left))
        with self.working():
            self.run_until_complete(self.shutdown_asyncgens())
            self.run_until_complete(self.shutdown_default_executor())
        self.close()

    async def create_connection(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        _no_sockets()

    async def create_unix_connection(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        _no_sockets()

    async def create_server(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        _no_sockets()

    async def create_datagram_endpoint(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        _no_sockets()

    async def sock_connect(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        _no_sockets()


def _no_sockets() -> NoReturn:
    msg = (
        "a gateway under test has no sockets: what is asked must be a service of its configuration"
    )
    raise NotInMemory(msg)


async def _all_of(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _counted(call: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """Return the call, during which a virtual loop lets no time pass."""

    @functools.wraps(call)
    async def counted(*args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            return await call(*args, **kwargs)
        with loop.working():
            return await call(*args, **kwargs)

    return counted


@contextmanager
def threads_counted() -> Iterator[None]:
    """Count the work of threads that do not come from the loop: anyio's, and each SQLite connection's own."""
    import aiosqlite  # noqa: PLC0415 — only where a gateway is under test

    places: list[tuple[Any, str]] = [(anyio.to_thread, "run_sync")]
    places += [(aiosqlite.Connection, name) for name in ("_execute", "_connect", "close")]
    with ExitStack() as stack:
        for owner, name in places:
            stack.enter_context(mock.patch.object(owner, name, _counted(getattr(owner, name))))
        yield
