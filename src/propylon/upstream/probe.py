"""Probe upstreams periodically: health checks.

Strategy. Each target has its own task, so that one that hangs delays no other. Intervals are spread by chance, so that
many gateways and workers that started together do not probe together.
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

# ±10 %, evenly spread. HAProxy has `spread-checks`, and recommends 2 to 5 %; Envoy has
# `interval_jitter`. More spread parts gateways sooner that started together.
_SPREAD = 0.1
# Seconds. The first probes are soon, but not those of a thousand instances in one turn of the loop.
_FIRST_WITHIN = 0.5
# Healthy where the operator configured `health`. HAProxy and Kubernetes accept 3xx, too; a redirect
# to a login page is no sign of health.
_SUCCESS = range(200, 300)
# Healthy where the operator did not: the path is a guess then, and a 404 or a 401 shows that the
# service answers.
_NO_SERVER_ERROR = range(200, 500)


@dataclass(frozen=True, slots=True)
class Probe:
    """One health check: `line` is the request line without the version, `block` the header block, `timeout` in seconds.

    `upstream` should be a pool of its own. In the pool of the requests, a probe would wait in the queue when all
    connections are in use, and a busy upstream would look unhealthy.
    """

    upstream: Upstream
    line: bytes
    block: bytes
    timeout: float
    strict: bool  # True: a 2xx is healthy; False: any status under 500


@dataclass(frozen=True, slots=True)
class Result:
    """How a probe ended: with a status or with an error, one of which is None."""

    ok: bool
    at: float  # seconds since 1970
    latency: float  # in seconds, until the head of the answer or the error
    status: int | None
    error: GatewayError | None

    @property
    def answered(self) -> bool:
        """Whether the upstream sent anything, even if it was not HTTP."""
        return self.status is not None or isinstance(self.error, BadResponse)

    @property
    def reason(self) -> str:
        """The reason for the log; not for /health, because it may hold an address of the network inside."""
        if self.error is None:
            return f"status {self.status}"
        return f"{self.error.message} ({self.error.reason})".removesuffix(" ()")


@dataclass(frozen=True, slots=True, eq=False)
class ProbeTarget:
    """A probe to repeat every `interval` seconds, and the function that gets each result."""

    probe: Probe
    interval: float
    report: Callable[[Result], None]


class Prober:
    """Repeats the probes of all targets in background tasks."""

    __slots__ = ("_chance", "_clock", "_tasks", "_wall")

    def __init__(self, *, clock: Clock, wall: Clock, chance: Clock) -> None:
        """Measure by the monotonic `clock`, date by `wall` (seconds since 1970); `chance` returns [0, 1)."""
        self._clock = clock
        self._wall = wall
        self._chance = chance
        self._tasks: dict[ProbeTarget, asyncio.Task[None]] = {}

    def watch(self, target: ProbeTarget) -> None:
        """Probe the target from now on; a no-op if it is being probed. Must run in the loop."""
        if target in self._tasks:
            return
        task = self._tasks[target] = spawn(self._keep_asking(target))
        task.add_done_callback(partial(self._ended, target))

    def forget(self, target: ProbeTarget) -> None:
        """Stop probing the target, without a further report; a no-op if it is not being probed."""
        task = self._tasks.pop(target, None)
        if task is not None:
            task.cancel()

    def _ended(self, target: ProbeTarget, task: asyncio.Task[None]) -> None:
        """Drop a task that an exception of `report` has ended: asyncio logs the exception only of a dropped task."""
        if self._tasks.get(target) is task:
            del self._tasks[target]

    def close(self) -> None:
        """Stop probing all targets; their tasks end in the next turns of the loop."""
        for target in tuple(self._tasks):
            self.forget(target)

    async def _keep_asking(self, target: ProbeTarget) -> None:
        await asyncio.sleep(self._chance() * min(_FIRST_WITHIN, _SPREAD * target.interval))
        while True:
            began = self._clock()
            target.report(await ask(target.probe, clock=self._clock, wall=self._wall))
            # From start to start: a target that is slow to fail is not probed less often.
            pause = target.interval * (1 + _SPREAD * (2 * self._chance() - 1))
            await asyncio.sleep(max(0.0, began + pause - self._clock()))


async def ask(probe: Probe, *, clock: Clock, wall: Clock) -> Result:
    """Probe once, and return the result; the status decides, and the body is not read."""
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
    healthy = _SUCCESS if probe.strict else _NO_SERVER_ERROR
    return Result(status in healthy, wall(), clock() - began, status, error)


async def _status(probe: Probe) -> int:
    try:
        return await _exchange(probe)
    except StaleConnection:
        # The upstream kept the connection open despite `Connection: close`, and then closed it:
        # that is no failure.
        return await _exchange(probe)


async def _exchange(probe: Probe) -> int:
    seconds = probe.timeout
    outgoing = Outgoing(
        probe.line.split(b" ", 1)[0].decode("ascii"),
        probe.line + b" HTTP/1.1",
        # A new connection each time shows that the upstream accepts connections. An upstream that
        # hangs in `accept` may well answer over those that it has.
        probe.block + b"\r\nConnection: close",
        None,
        Timeouts(seconds, seconds, seconds, seconds, seconds),
        asyncio.get_running_loop().time() + seconds,
    )
    answer = await probe.upstream.send(outgoing, _DiscardingSink())
    answer.abort()
    return answer.head.status


class _DiscardingSink:
    """A sink that discards 1xx answers and the body: the status is all that a probe needs."""

    def interim(self, head: Response) -> None:
        """Discard a 1xx answer."""

    def write(self, data: bytes) -> None:
        """Discard a piece of the body."""

    def finish(self, trailers: bytes = b"") -> None:
        """Do nothing at the end of the body."""
