"""Ask getaddrinfo in threads that hold nothing up: not each other, not the loop, not the exit.

It cannot be cancelled, and takes half a minute where no name server answers. A loop's own pool of threads
is small, and joined at the exit: four such names would end all lookups, and delay the stop.
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

_THREADS = 32
# resolv.conf(5): a name server is asked twice, for five seconds each time. Where one drops questions for
# AAAA, every lookup takes that long, and succeeds.
_PATIENCE = 12.0
_SLOW = 2.0  # seconds; whoever knows the name answers in milliseconds
_MAX_NAMES = 1024


@dataclass(slots=True, eq=False)
class _Question:
    """One name that is looked up, or is to be as soon as there is a thread; times are monotonic."""

    host: str
    until: float = 0.0  # then the last who asked has given up
    begun: float = 0.0
    answer: Future[Infos] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # It runs: whoever gives up does not cancel what others wait for.
        self.answer.set_running_or_notify_cancel()


class System:
    """The system's resolver: a bounded number of threads, each name asked once at a time."""

    def __init__(
        self, *, threads: int = _THREADS, patience: float = _PATIENCE, slow: float = _SLOW
    ) -> None:
        """`patience` is how long one who asks waits, whatever the thread does; seconds."""
        self._threads = threads
        self._patience = patience
        self._slow = slow
        # Guards all below: threads take their next question themselves.
        self._lock = threading.Lock()
        self._asked: dict[str, _Question] = {}
        self._running: set[_Question] = set()
        self._waiting: deque[_Question] = deque()
        self._laggards: dict[str, None] = {}  # names whose last lookup was slow

    async def ask(self, host: str) -> Infos:
        """Return what getaddrinfo does. Raises OSError, UnicodeError; TimeoutError if it hangs."""
        with self._lock:
            question = self._question(host)
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.wrap_future(question.answer)
        except TimeoutError as error:
            msg = f"it has not ended after {self._patience:g} s"
            raise TimeoutError(msg) from error

    # All that follows: with the lock held, but for `_run` and `_resolve`

    def _question(self, host: str) -> _Question:
        now = time.monotonic()
        question = self._asked.get(host)
        if question is None:
            question = _Question(host)
            if self._may_begin(host, now):
                self._begin(question, now)
            elif self._is_hopeless(host, now) or len(self._waiting) >= _MAX_NAMES:
                msg = f"name lookups hang: {len(self._running)} of them have not ended"
                raise TimeoutError(msg)
            else:
                self._waiting.append(question)
            self._asked[host] = question
        question.until = now + self._patience
        return question

    def _share(self, host: str) -> int:
        """Return how many threads may be at work on names such as this: on slow ones, half of them."""
        return self._threads // 2 if host in self._laggards else self._threads

    def _may_begin(self, host: str, now: float) -> bool:
        if len(self._running) >= self._threads:
            return False
        if host not in self._laggards:
            return True
        return sum(self._is_slow(one, now) for one in self._running) < self._share(host)

    def _is_hopeless(self, host: str, now: float) -> bool:
        """Whether all threads that could be waited for hang."""
        return sum(self._is_late(one, now) for one in self._running) >= self._share(host)

    def _is_slow(self, question: _Question, now: float) -> bool:
        return question.host in self._laggards or self._is_late(question, now)

    def _is_late(self, question: _Question, now: float) -> bool:
        return now - question.begun > self._slow

    def _begin(self, question: _Question, now: float) -> None:
        question.begun = now
        thread = threading.Thread(
            target=self._run, args=(question,), name="propylon-names", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system gives us no more threads
            raise OSError(str(error)) from error
        self._running.add(question)

    def _run(self, question: _Question) -> None:
        """Look names up as long as there are any, in a thread."""
        following: _Question | None = question
        while following is not None:
            _resolve(following)
            with self._lock:
                following = self._next(following)

    def _next(self, ended: _Question) -> _Question | None:
        now = time.monotonic()
        self._running.discard(ended)
        del self._asked[ended.host]
        self._laggards.pop(ended.host, None)
        if self._is_late(ended, now) and len(self._laggards) < _MAX_NAMES:
            self._laggards[ended.host] = None
        for question in list(self._waiting):
            forgotten = question.until < now
            if not forgotten and not self._may_begin(question.host, now):
                continue
            self._waiting.remove(question)
            if forgotten:
                del self._asked[question.host]
                continue
            question.begun = now
            self._running.add(question)
            return question
        return None


def _resolve(question: _Question) -> None:
    try:
        infos: Infos = list(socket.getaddrinfo(question.host, None, type=socket.SOCK_STREAM))
    except BaseException as error:  # noqa: BLE001 — whatever it is, somebody waits for it
        question.answer.set_exception(error)
    else:
        question.answer.set_result(infos)
