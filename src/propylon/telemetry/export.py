"""Send spans to a collector in the background, by OTLP over HTTP: nothing is lost while there is room in the queue.

Facts. A collector that restarts is away for seconds. OTLP names the answers after which a message is to be sent again (429,
502, 503, 504, with Retry-After); after any other, sending it again would change nothing.

Rules.

1. The queue is bounded. What has no room is dropped and counted, an exchange at a time, so that no trace is torn here.
2. A batch is sent until the collector has it. What is in it has its place in the queue until then.
3. The log says once that the collector is away and once that it is back, not once for each batch; the same for spans that
   are lost.
4. A message whose answer is lost is sent again, as OTLP asks: a collector that had taken it tells its spans apart by their ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from propylon.errors import GatewayError
from propylon.loop.tasks import spawn
from propylon.services.retry import retry_after_seconds
from propylon.upstream.fetch import Fetched

__all__ = ["ExportRules", "Exporter", "Post"]

log = logging.getLogger(__name__)

# Seconds. The first pause before another attempt, and the longest.
_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
# A collector that asks for more is asked again after this all the same: spans wait in memory meanwhile.
_LONGEST_ASKED = 60.0
_AGAIN = frozenset({429, 502, 503, 504})
_OK, _NOT_OK = 200, 300

# Sends a message, encoded, within its time.
Post = Callable[[bytes], Awaitable[Fetched]]
# Counts spans: (what became of them, how many).
Count = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class ExportRules:
    """How spans are sent; times in seconds.

    At most `queue` spans wait, `batch` go in one message, and one waits for `interval` at most. `retry_for`: how long a
    batch is sent again; None: until the collector takes it.
    """

    queue: int = 8192
    batch: int = 512
    interval: float = 5.0
    retry_for: float | None = None


class Exporter:
    """The spans of one worker on their way to a collector."""

    def __init__(
        self,
        rules: ExportRules,
        post: Post,
        message: Callable[[Sequence[bytes]], bytes],
        rejected: Callable[[bytes], tuple[int, str]],
        *,
        count: Count,
        loop: asyncio.AbstractEventLoop,
        chance: Callable[[], float],
    ) -> None:
        """`message` makes one of encoded spans, `rejected` reads how many of it a collector did not want."""
        self._rules = rules
        self._post = post
        self._message = message
        self._rejected = rejected
        self._count = count
        self._loop = loop
        self._chance = chance
        self._queue: deque[bytes] = deque()
        self._sending = 0  # spans of the batch that is under way
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._hurry = asyncio.Event()  # the gateway stops: no pause any more
        self._trouble = ""  # what the log has said
        self._gone = False  # nothing is sent any more
        self._lost = 0  # since the log has said that spans are lost

    @property
    def waiting(self) -> int:
        """How many spans have not been sent yet."""
        return len(self._queue) + self._sending

    def put(self, spans: Sequence[bytes]) -> None:
        """Take the spans of one exchange, all of them or none."""
        if self._gone:
            self._count("left", len(spans))
            return
        if self.waiting + len(spans) > self._rules.queue:
            self._lose(len(spans))
            return
        self._queue.extend(spans)
        if self._task is not None:
            return
        if len(self._queue) >= self._rules.batch:
            self._begin()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._rules.interval, self._begin)

    async def close(self, within: float) -> None:
        """Send what is left, for so many seconds at most; the rest is lost, and counted."""
        self._hurry.set()
        end = self._loop.time() + within
        while self.waiting and (left := end - self._loop.time()) > 0:
            await asyncio.wait({self._task or self._begin()}, timeout=left)
        self.abandon()

    def abandon(self) -> None:
        """Send nothing any more: what is left is lost, and counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._gone = True
        left = self.waiting
        if self._task is not None:
            self._task.cancel()
        self._queue.clear()
        self._sending = 0
        if left:
            self._count("left", left)
            log.warning("traces: %d spans were not sent before the stop", left)

    def _begin(self) -> asyncio.Task[None]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._task = spawn(self._run(), self._loop)
        self._task.add_done_callback(self._ended)
        return self._task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (bug := task.exception()) is not None:
            log.error("traces: a batch could not be sent", exc_info=bug)
            self._count("refused", self._sending)
            self._sending = 0
        if self._queue and not task.cancelled():
            self._timer = self._loop.call_later(self._rules.interval, self._begin)

    async def _run(self) -> None:
        """Send what waits now, and more while there are whole batches."""
        left = len(self._queue)
        while self._queue and (left > 0 or len(self._queue) >= self._rules.batch):
            size = min(len(self._queue), self._rules.batch)
            batch = [self._queue.popleft() for _ in range(size)]
            left -= size
            self._sending = size
            await self._deliver(self._message(batch), size)
            self._sending = 0

    async def _deliver(self, message: bytes, size: int) -> None:
        """Send one message until the collector has it, or does not want it."""
        began, pause = self._loop.time(), _PAUSE
        while True:
            asked = 0.0
            try:
                answer = await self._post(message)
            except GatewayError as error:
                trouble = f"{type(error).__name__}: {error.message}"
                trouble += f" ({error.reason})" if error.reason else ""
            else:
                if answer.status not in _AGAIN:
                    self._answered(answer, size)
                    return
                trouble = f"it answers {answer.status}"
                asked = min(retry_after_seconds(answer.block), _LONGEST_ASKED)
            self._say(trouble)
            limit = self._rules.retry_for
            if limit is not None and self._loop.time() - began >= limit:
                self._lose(size)
                return
            # Equal jitter: all workers, and all gateways, would come back in the same moment.
            await self._pause(max(asked, pause * (0.5 + self._chance() / 2)))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _pause(self, seconds: float) -> None:
        """Wait; no longer than it takes a collector to come back once the gateway stops."""
        if self._hurry.is_set():
            await asyncio.sleep(_PAUSE)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    def _answered(self, answer: Fetched, size: int) -> None:
        if not _OK <= answer.status < _NOT_OK:
            self._count("refused", size)
            self._say(f"it refuses spans with status {answer.status}")
            return
        refused, why = 0, ""
        if answer.body:
            try:
                refused, why = self._rejected(answer.body)
            except ValueError as error:
                why = str(error)
        refused = max(0, min(refused, size))
        self._count("sent", size - refused)
        if refused:
            self._count("refused", refused)
            self._say(f"it has rejected spans: {why:.200}")
        else:
            self._well()

    # What the log says

    def _say(self, trouble: str) -> None:
        """Say what is wrong with the collector, once."""
        if trouble != self._trouble:
            log.warning("traces: the collector does not take spans: %s", trouble)
        self._trouble = trouble

    def _well(self) -> None:
        if self._trouble:
            log.warning("traces: the collector takes spans again")
            self._trouble = ""
        if self._lost:
            log.warning("traces: %d spans were lost meanwhile", self._lost)
            self._lost = 0

    def _lose(self, count: int) -> None:
        if not self._lost:
            log.warning("traces: spans are lost: %d wait already", self.waiting)
        self._lost += count
        self._count("dropped", count)
