"""Ask the system's resolver (getaddrinfo) in threads that delay neither each other, nor the loop, nor the exit.

Facts. getaddrinfo blocks and cannot be cancelled. Where no name server answers, it takes half a minute. The loop's own
thread pool is small, and the interpreter joins its threads at exit: a few such names would stop all lookups and delay
the stop.

Rules.

1. Threads are our own, bounded in number, and daemons: the exit does not wait for them.
2. A name is looked up once at a time, however many callers ask for it.
3. Names whose last lookup was slow get at most half of the threads.
4. A caller waits a bounded time, whatever the thread does.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Infos", "System"]

Infos = list[tuple[Any, ...]]

# As many as the default pool of a loop has at the most (`min(32, cpus + 4)`).
_THREADS = 32
# Seconds. resolv.conf(5): a name server is asked twice, for five seconds each. Where one drops the
# queries for AAAA, every lookup takes ten seconds, and then succeeds.
_TIMEOUT = 12.0
# Seconds after which a lookup is slow. A resolver that knows the name answers in milliseconds.
_SLOW = 2.0
_MAX_NAMES = 1024


@dataclass(slots=True, eq=False)
class _Query:
    """A name that is being looked up, or waits for a thread; times are of the monotonic clock, in seconds."""

    host: str
    until: float = 0.0  # then the last caller has given up
    begun: float = 0.0
    answer: Future[Infos] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # A running future cannot be cancelled: a caller that gives up must not cancel what the
        # others wait for.
        self.answer.set_running_or_notify_cancel()


class System:
    """The system's resolver, in a bounded number of threads."""

    def __init__(
        self, *, threads: int = _THREADS, timeout: float = _TIMEOUT, slow: float = _SLOW
    ) -> None:
        """Use at most `threads` threads; a caller waits `timeout` seconds; a lookup is slow after `slow` seconds."""
        self._threads = threads
        self._timeout = timeout
        self._slow = slow
        # Guards all below. The threads take their next query themselves: the loop may be busy or
        # closed.
        self._lock = threading.Lock()
        self._asked: dict[str, _Query] = {}
        self._running: set[_Query] = set()
        self._waiting: deque[_Query] = deque()
        # Names whose last lookup was slow, as keys.
        self._slow_names: dict[str, None] = {}

    async def ask(self, host: str) -> Infos:
        """Return what getaddrinfo returns for `host`.

        Raises OSError, UnicodeError; TimeoutError if the lookup hangs, or if all threads do.
        """
        with self._lock:
            query = self._query(host)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.wrap_future(query.answer)
        except TimeoutError as error:
            msg = f"it has not ended after {self._timeout:g} s"
            raise TimeoutError(msg) from error

    # The caller of each of these holds the lock; `_run` and `_resolve` take it themselves or need
    # none

    def _query(self, host: str) -> _Query:
        """Return the query for a name, a new one if none runs or waits. Raises TimeoutError, OSError."""
        now = time.monotonic()
        query = self._asked.get(host)
        if query is None:
            query = _Query(host)
            if self._may_begin(host, now):
                self._begin(query, now)
            elif self._all_hang(host, now) or len(self._waiting) >= _MAX_NAMES:
                msg = f"name lookups hang: {len(self._running)} of them have not ended"
                raise TimeoutError(msg)
            else:
                self._waiting.append(query)
            self._asked[host] = query
        query.until = now + self._timeout
        return query

    def _most_threads(self, host: str) -> int:
        """Return how many threads may work on names like this one: half of them on slow names."""
        return self._threads // 2 if host in self._slow_names else self._threads

    def _may_begin(self, host: str, now: float) -> bool:
        if len(self._running) >= self._threads:
            return False
        if host not in self._slow_names:
            return True
        return sum(self._is_slow(query, now) for query in self._running) < self._most_threads(host)

    def _all_hang(self, host: str, now: float) -> bool:
        """Whether every thread that could become free for this name hangs, so that waiting is no use."""
        return sum(self._is_late(query, now) for query in self._running) >= self._most_threads(host)

    def _is_slow(self, query: _Query, now: float) -> bool:
        return query.host in self._slow_names or self._is_late(query, now)

    def _is_late(self, query: _Query, now: float) -> bool:
        return now - query.begun > self._slow

    def _begin(self, query: _Query, now: float) -> None:
        query.begun = now
        thread = threading.Thread(
            target=self._run, args=(query,), name="propylon-names", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system grants no more threads
            raise OSError(str(error)) from error
        self._running.add(query)

    def _run(self, query: _Query) -> None:
        """Look up this name and then those that wait, as the body of a thread."""
        next_query: _Query | None = query
        while next_query is not None:
            _resolve(next_query)
            with self._lock:
                next_query = self._next(next_query)

    def _next(self, ended: _Query) -> _Query | None:
        """Note that a lookup has ended; return the next query for its thread, if one waits."""
        now = time.monotonic()
        self._running.discard(ended)
        del self._asked[ended.host]
        # Judged anew each time, so that a name is slow no longer once its name server answers
        # again.
        self._slow_names.pop(ended.host, None)
        if self._is_late(ended, now) and len(self._slow_names) < _MAX_NAMES:
            self._slow_names[ended.host] = None
        for query in list(self._waiting):
            abandoned = query.until < now
            if not abandoned and not self._may_begin(query.host, now):
                continue
            self._waiting.remove(query)
            if abandoned:
                del self._asked[query.host]
                continue
            query.begun = now
            self._running.add(query)
            return query
        return None


def _resolve(query: _Query) -> None:
    try:
        infos: Infos = list(socket.getaddrinfo(query.host, None, type=socket.SOCK_STREAM))
    except BaseException as error:  # noqa: BLE001 — whatever it is, a caller waits for it
        query.answer.set_exception(error)
    else:
        query.answer.set_result(infos)
