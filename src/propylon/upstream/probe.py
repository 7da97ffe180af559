"""Probe upstreams periodically: health checks.

Strategy. Each target has its own task, so that one that hangs delays no other. Intervals are spread by chance, so that
many gateways and workers that started together do not probe together.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from propylon.errors import BadResponse, GatewayError, StaleConnection, UpstreamTimeout
from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn
from propylon.upstream.ports import Answer, Outgoing, Reachable, Timeouts, Upstream
from propylon.wire.message import NO_BODY, Response

__all__ = ["Probe", "ProbeTarget", "Prober", "Result", "ask"]

Clock = Callable[[], float]

# Bytes of a body that are looked at. HAProxy looks at 16 KiB (`tune.bufsize`), nginx Plus at 256 KiB.
_EXCERPT = 64 * 1024
# RFC 9110, 8.6: a request with one of these methods says that it has no content.
_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})
_NO_CONTENT = b"\r\nContent-Length: 0"

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

    `statuses` are those of a healthy upstream; None: a 2xx if `strict`, else any status under 500. `body` has to match
    somewhere in the first 64 KiB of the answer's body. With `tcp` no request is sent: it is enough to open a connection.

    `upstream` should be a pool of its own. In the pool of the requests, a probe would wait in the queue when all
    connections are in use, and a busy upstream would look unhealthy.
    """

    upstream: Upstream
    line: bytes
    block: bytes
    timeout: float
    strict: bool
    statuses: Collection[int] | None = None
    body: re.Pattern[bytes] | None = None
    tcp: bool = False

    @property
    def healthy(self) -> Collection[int]:
        """The statuses of a healthy upstream."""
        if self.statuses is not None:
            return self.statuses
        return _SUCCESS if self.strict else _NO_SERVER_ERROR


@dataclass(frozen=True, slots=True)
class Result:
    """How a probe ended: with a status or with an error, one of which is None; both are if only a connection was asked for."""

    ok: bool
    at: float  # seconds since 1970
    latency: float  # in seconds, until the head of the answer or the error
    status: int | None
    error: GatewayError | None
    matched: bool = True  # the body, if that was looked at

    @property
    def answered(self) -> bool:
        """Whether the upstream sent anything, even if it was not HTTP, or accepted the connection that was all it takes."""
        return self.ok or self.status is not None or isinstance(self.error, BadResponse)

    @property
    def reason(self) -> str:
        """The reason for the log; not for /health, because it may hold an address of the network inside."""
        if self.error is None:
            said = "connected" if self.status is None else f"status {self.status}"
            return said if self.matched else f"{said}, and the body does not match"
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
    """Probe once, and return the result; the body is read only as far as `probe.body` needs it."""
    began = clock()
    status: int | None = None
    matched = True
    error: GatewayError | None = None
    try:
        async with asyncio.timeout(probe.timeout):
            if probe.tcp:
                await _connect(probe)
            else:
                status, matched = await _asked(probe)
    except TimeoutError:
        error = UpstreamTimeout("No answer in time")
    except GatewayError as failure:
        error = failure
    ok = error is None and matched and (probe.tcp or status in probe.healthy)
    return Result(ok, wall(), clock() - began, status, error, matched)


async def _connect(probe: Probe) -> None:
    # An app in this process needs no connection: it can always be asked.
    if isinstance(probe.upstream, Reachable):
        await probe.upstream.reach(probe.timeout)


async def _asked(probe: Probe) -> tuple[int, bool]:
    """Return the status, and whether the body matches."""
    try:
        return await _exchange(probe)
    except StaleConnection:
        # The upstream kept the connection open despite `Connection: close`, and then closed it:
        # that is no failure.
        return await _exchange(probe)


async def _exchange(probe: Probe) -> tuple[int, bool]:
    seconds = probe.timeout
    method = probe.line.split(b" ", 1)[0].decode("ascii")
    outgoing = Outgoing(
        method,
        probe.line + b" HTTP/1.1",
        # A new connection each time shows that the upstream accepts connections. An upstream that
        # hangs in `accept` may well answer over those that it has.
        probe.block + (_NO_CONTENT if method in _WITH_CONTENT else b"") + b"\r\nConnection: close",
        None,
        Timeouts(seconds, seconds, seconds, seconds, seconds),
        asyncio.get_running_loop().time() + seconds,
    )
    sink = _Excerpt()
    answer = await probe.upstream.send(outgoing, sink)
    status = answer.head.status
    if probe.body is None or status not in probe.healthy:
        answer.abort()
        return status, True
    return status, probe.body.search(await sink.read(answer)) is not None


class _Excerpt:
    """A sink that keeps the beginning of the body, and discards 1xx answers."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._answer: Answer | None = None
        self._ended: Signal[None] | None = None

    async def read(self, answer: Answer) -> bytes:
        """Return the first 64 KiB of the body, or all of a shorter one. Raises what `Answer.pipe` raises."""
        if answer.body is not None or answer.head.length == NO_BODY:
            return (answer.body or b"")[:_EXCERPT]
        self._answer = answer
        # `pipe` may push all that there is before it returns.
        self._ended = answer.pipe(self)
        self._end_if_enough()
        await self._ended
        return bytes(self._data[:_EXCERPT])

    def interim(self, head: Response) -> None:
        """Discard a 1xx answer."""

    def write(self, data: bytes) -> None:
        """Keep a piece of the body, unless there is enough."""
        if len(self._data) < _EXCERPT:
            self._data += data
            self._end_if_enough()

    def finish(self, trailers: bytes = b"") -> None:
        """Do nothing: the signal that `read` awaits is set at the same time."""

    def _end_if_enough(self) -> None:
        ended = self._ended
        if len(self._data) >= _EXCERPT and ended is not None and not ended.done:
            if self._answer is not None:
                self._answer.abort()  # a body without end
            ended.set(None)
