"""HEDGE: race two requests for one answer: the first good head wins, and the other request is cancelled.

    first ── no head within `after` ──► another, if there may be one ──► the first good head

Rules.

1. A failure, or a 5xx, does not win while the other request may still do better.
2. Who loses is cancelled at once: its connection is closed, because an answer to nobody may still come on it.
3. What ends the race early, such as a client that leaves, cancels both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from propylon.errors import UpstreamBusy, UpstreamError, UpstreamTimeout
from propylon.loop.tasks import spawn
from propylon.upstream.ports import Answer, Sink
from propylon.wire.message import Response

__all__ = ["Gate", "Raced", "race"]

_SERVER_ERROR = 500
_Failure = UpstreamError | UpstreamTimeout | UpstreamBusy


class Gate(Sink):
    """Takes the 1xx answers of one request of a race, and passes them on until the race is over.

    An interim answer of the loser must not come behind the head of the winner.
    """

    def __init__(self, sink: Sink) -> None:
        """Pass them on to `sink`."""
        self._sink: Sink | None = sink

    def close(self) -> None:
        """Pass nothing on from now on."""
        self._sink = None

    def interim(self, head: Response) -> None:
        """Take a 1xx answer."""
        if self._sink is not None:
            self._sink.interim(head)

    def write(self, data: bytes) -> None:  # noqa: ARG002 — the port's contract
        """Take no body: it is piped to the client itself. Raises RuntimeError."""
        raise RuntimeError

    def finish(self, trailers: bytes = b"") -> None:  # noqa: ARG002 — as above
        """Take no end of a body either. Raises RuntimeError."""
        raise RuntimeError


@dataclass(frozen=True, slots=True)
class Raced:
    """How one request of a race has ended: with an answer, or a failure; `second`: it was the second one.

    `other` is what became of the other one, if it has failed before; None: there was none, or it was cancelled.
    """

    answer: Answer | None
    error: _Failure | None
    second: bool = False
    other: Raced | None = None

    @property
    def good(self) -> bool:
        """Whether it has an answer that is worth ending the race."""
        return self.answer is not None and self.answer.head.status < _SERVER_ERROR


async def race(
    first: Awaitable[Answer], after: float, another: Callable[[], Awaitable[Answer] | None]
) -> Raced:
    """Return how the race has ended. `another` sends the second request `after` so many seconds, or returns None."""
    tasks = [spawn(_ended(first, second=False))]
    won: Raced | None = None
    try:
        await asyncio.wait(tasks, timeout=after)
        if not tasks[0].done() and (more := another()) is not None:
            tasks.append(spawn(_ended(more, second=True)))
        won = await _best(tasks)
    finally:
        for task in tasks:
            _drop(task, won)
    return won


async def _ended(awaited: Awaitable[Answer], *, second: bool) -> Raced:
    try:
        return Raced(await awaited, None, second)
    except (UpstreamError, UpstreamTimeout, UpstreamBusy) as error:
        return Raced(None, error.with_traceback(None), second)


async def _best(tasks: list[asyncio.Task[Raced]]) -> Raced:
    """Wait for the first good end, else for the last one."""
    waiting, failed = set(tasks), list[Raced]()
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        ended = [task.result() for task in tasks if task in done]
        for one in ended:
            if one.good:
                return Raced(one.answer, None, one.second, failed[0] if failed else None)
        failed += ended
    # An answer says more than a failure does, and the later one is as good as the earlier one.
    chosen = max(reversed(failed), key=lambda one: one.answer is not None)
    other = next((one for one in failed if one is not chosen), None)
    return Raced(chosen.answer, chosen.error, chosen.second, other)


def _drop(task: asyncio.Task[Raced], won: Raced | None) -> None:
    """Cancel a request of the race, or its answer, unless that is the one that goes on."""
    if not task.done():
        task.cancel()
    elif not task.cancelled() and task.exception() is None:
        answer = task.result().answer
        if answer is not None and (won is None or answer is not won.answer):
            answer.abort()
