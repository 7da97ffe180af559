"""Ask upstreams again and again whether they are well.

Each has a task of its own, so that one that hangs delays nobody, and asks at times of its own, so that
many gateways that started together do not ask together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from propylon.errors import BadResponse, GatewayError, StaleConnection, UpstreamTimeout
from propylon.loop.tasks import spawn
from propylon.upstream.ports import Outgoing, Timeouts, Upstream
from propylon.wire.message import Response

__all__ = ["Probe", "ProbeTarget", "Prober", "Result", "ask"]

Clock = Callable[[], float]

# An equal spread of ±10 %, as HAProxy's spread-checks recommends.
_SPREAD = 0.1
# The first probe comes at once, but not of a thousand instances in one turn of the loop.
_FIRST_WITHIN = 0.5
_SUCCESS = range(200, 300)
_NO_SERVER_ERROR = range(200, 500)


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked: `line` without the version, `block` the finished header block.

    The connections of `upstream` should serve nothing else. Where all that it may have are in use, a
    probe would wait in their queue, and a busy upstream would look like an ill one.
    """

    upstream: Upstream
    line: bytes
    block: bytes
    timeout: float
    strict: bool  # True: well is a 2xx; False: anything under 500


@dataclass(frozen=True, slots=True)
class Result:
    """How a probe ended: with a status, or with an error."""

    ok: bool
    at: float  # seconds since 1970
    latency: float  # in seconds, until the head of the answer or the error
    status: int | None
    error: GatewayError | None

    @property
    def answered(self) -> bool:
        """Whether anything came back, even if it was no HTTP."""
        return self.status is not None or isinstance(self.error, BadResponse)

    @property
    def reason(self) -> str:
        """What to tell an operator; not for the public, there may be an address in it."""
        if self.error is None:
            return f"status {self.status}"
        return f"{self.error.message} ({self.error.reason})".removesuffix(" ()")


@dataclass(frozen=True, slots=True, eq=False)
class ProbeTarget:
    """Something to probe every `interval` seconds, and who is told."""

    probe: Probe
    interval: float
    report: Callable[[Result], None]


class Prober:
    """Whoever asks, in the background."""

    __slots__ = ("_chance", "_clock", "_tasks", "_wall")

    def __init__(self, *, clock: Clock, wall: Clock, chance: Clock) -> None:
        """Measure by `clock`, date by `wall` (seconds since 1970); `chance` is in [0, 1)."""
        self._clock = clock
        self._wall = wall
        self._chance = chance
        self._tasks: dict[ProbeTarget, asyncio.Task[None]] = {}

    def watch(self, target: ProbeTarget) -> None:
        """Probe the target from now on; does nothing the second time. Needs a running loop."""
        if target in self._tasks:
            return
        task = self._tasks[target] = spawn(self._keep_asking(target))
        task.add_done_callback(partial(self._ended, target))

    def forget(self, target: ProbeTarget) -> None:
        """Probe it no more, and report nothing any more; does nothing the second time."""
        task = self._tasks.pop(target, None)
        if task is not None:
            task.cancel()

    def _ended(self, target: ProbeTarget, task: asyncio.Task[None]) -> None:
        """Hold a task no longer that a report's bug has ended: then asyncio logs the bug."""
        if self._tasks.get(target) is task:
            del self._tasks[target]

    def close(self) -> None:
        """Forget them all; their tasks end in the loop's next turns."""
        for target in tuple(self._tasks):
            self.forget(target)

    async def _keep_asking(self, target: ProbeTarget) -> None:
        await asyncio.sleep(self._chance() * min(_FIRST_WITHIN, _SPREAD * target.interval))
        while True:
            began = self._clock()
            target.report(await ask(target.probe, clock=self._clock, wall=self._wall))
            # From start to start: one that takes its time to fail is not asked less often.
            pause = target.interval * (1 + _SPREAD * (2 * self._chance() - 1))
            await asyncio.sleep(max(0.0, began + pause - self._clock()))


async def ask(probe: Probe, *, clock: Clock, wall: Clock) -> Result:
    """Ask once. The head of the answer decides; its body is nobody's business."""
    began = clock()
    status: int | None = None
    error: GatewayError | None = None
    try:
        async with asyncio.timeout(probe.timeout):
            status = await _status(probe)
    except TimeoutError:
        error = UpstreamTimeout("No answer in time")
    except GatewayError as failure:
        error = failure
    well = _SUCCESS if probe.strict else _NO_SERVER_ERROR
    return Result(status in well, wall(), clock() - began, status, error)


async def _status(probe: Probe) -> int:
    try:
        return await _exchange(probe)
    except StaleConnection:
        # It was asked to close and did not, and then did: that is no illness.
        return await _exchange(probe)


async def _exchange(probe: Probe) -> int:
    seconds = probe.timeout
    outgoing = Outgoing(
        probe.line.split(b" ", 1)[0].decode("ascii"),
        probe.line + b" HTTP/1.1",
        # A new connection each time shows that connections are still accepted.
        probe.block + b"\r\nConnection: close",
        None,
        Timeouts(seconds, seconds, seconds, seconds, seconds),
        asyncio.get_running_loop().time() + seconds,
    )
    answer = await probe.upstream.send(outgoing, _Nobody())
    answer.abort()
    return answer.head.status


class _Nobody:
    """A sink for 1xx answers that nobody waits for, and for bodies that nobody reads."""

    def interim(self, head: Response) -> None:
        """Drop it."""

    def write(self, data: bytes) -> None:
        """Drop it."""

    def finish(self, trailers: bytes = b"") -> None:
        """Nothing to do."""
