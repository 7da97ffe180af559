"""Upstreams with a script, and one request to them, in virtual time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from propylon.errors import (
    BadResponse,
    ConnectFailed,
    ConnectTimeout,
    GatewayError,
    StaleConnection,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.loop.signal import Signal
from propylon.proxy.exchange import Exchange
from propylon.proxy.forward import Forward
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.route import Route
from propylon.services.breaker import Outcome, Permit
from propylon.services.retry import Retry
from propylon.services.service import Fleet, Instance, Service
from propylon.services.window import Tally
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.wire.message import CHUNKED, Request, Response
from tests.proxy.doubles import ENTROPY, Client, Upload, instance, request, route, whole
from tests.support.virtual import run

DOWN, LATE = ConnectFailed("refused"), ConnectTimeout("late")
RESET, SILENT = UpstreamReset("reset"), UpstreamTimeout("silent")
NONSENSE, STALE = BadResponse("nonsense"), StaleConnection("stale")
AT_ONCE = Retry(backoff=0.0)
ALL = frozenset({"connect-failure", "reset", "timeout"})


class Up:
    """An upstream with a script: answers, errors, or (seconds, one of them); the last for ever."""

    busy = 0

    def __init__(self, *script: Any) -> None:
        self.script = list(script) or [whole()]
        self.asked: list[float] = []  # when
        self.got: list[Outgoing] = []
        self.blocks: list[bytes] = []
        self.bodies: list[bytes] = []

    async def send(self, outgoing: Outgoing, sink: Sink) -> Answer:
        """Do what comes next."""
        loop = asyncio.get_running_loop()
        self.asked.append(loop.time())
        self.got.append(outgoing)
        self.blocks.append(outgoing.block)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        seconds, step = step if isinstance(step, tuple) else (0.0, step)
        if outgoing.body is not None and not (isinstance(step, GatewayError) and step.unsent):
            self.bodies.append(b"")
            outgoing.body.pipe(self)
        await asyncio.sleep(seconds)
        if isinstance(step, BaseException):
            raise step
        answer: Answer = step
        return answer

    def body_data(self, data: bytes) -> None:
        """Keep it."""
        self.bodies[-1] += data

    def body_end(self, trailers: bytes = b"") -> None:
        """Begin to wait."""
        self.got[-1].begin_waiting(asyncio.get_running_loop().time())


def of(*ups: Up, retry: Retry | None = None, choose: Any = None, **options: Any) -> Service:
    """A service over these upstreams, of which the first candidate is always chosen."""
    names = ("one", "two", "three")
    found = tuple(instance(up, name) for up, name in zip(ups, names, strict=False))
    rules = {key: options.pop(key) for key in ("ejection", "health") if key in options}
    if "ejection" in rules:
        rules |= {"clock": lambda: 0.0, "wall": lambda: 1.0}
    first: Callable[[Any], Instance] = lambda some: some[0]  # noqa: E731
    return Service(
        "orders",
        Fleet(found, "orders", **rules),
        choose or first,
        retry=retry or Retry(),
        **options,
    )


@dataclass
class Told:
    """How one request ended."""

    exchange: Exchange
    client: Client
    seconds: float

    @property
    def status(self) -> int:
        """What the client got."""
        return self.exchange.status


async def handle(
    to: Route,
    method: str = "GET",
    body: Upload | None = None,
    *,
    chance: float = 0.0,
    client: Client | None = None,
    lines: tuple[bytes, ...] = (),
) -> Told:
    """Carry one request through the pipeline; it is observed once."""
    loop = asyncio.get_running_loop()
    framing = (b"Content-Length: %d" % body.length,) if body is not None else ()
    asked: Request = request(b"/a", *framing, *lines, method=method.encode())
    seen: list[Exchange] = []
    forward = Forward(loop.time, loop.time, lambda: chance)
    pipeline = Pipeline(
        Table((replace(to, forward=forward),)),
        (seen.append,),
        clock=loop.time,
        chance=lambda bits: ENTROPY,
    )
    began = loop.time()
    client = client or Client(body)
    try:
        await pipeline.handle(asked, client)
    finally:
        assert len(seen) == 1
    return Told(seen[0], client, round(loop.time() - began, 9))


def told(
    to: Route | Service, method: str = "GET", body: Upload | None = None, **options: Any
) -> Told:
    """How one request ends, in virtual time."""
    found = to if isinstance(to, Route) else route(of=to)
    return run(handle(found, method, body, **options))


def counts(*ups: Up) -> list[int]:
    """How often each was asked."""
    return [len(up.asked) for up in ups]


class Endless:
    """An answer whose head is there, and whose body goes on until somebody has enough of it."""

    body = None

    def __init__(self, status: int = 200) -> None:
        self.head = Response(status, b" %d Said" % status, b"\r\nA: b", CHUNKED, keep_alive=True)
        self.ended: Signal[None] = Signal()

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push nothing, and do not end."""
        return self.ended

    def pause(self) -> None:
        """Nothing comes."""

    def resume(self) -> None:
        """Nothing comes."""

    def abort(self) -> None:
        """Come to an end after all."""


@dataclass
class Recorder:
    """A breaker that lets everything pass, and writes down how it ended."""

    probe: bool = False
    opened: GatewayError | None = None
    permit: Permit | None = None  # everybody is asked about
    given: list[Permit] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def admit(self) -> Permit:
        """Let pass, unless it is open."""
        if self.opened is not None:
            raise self.opened
        self.given.append(Permit(tally=None if self.probe else Tally(1.0)))
        return self.given[-1]

    def settle(self, permit: Permit, outcome: Outcome, cause: str = "") -> None:
        """Each permit comes back once."""
        assert permit is self.given[len(self.outcomes)]
        self.outcomes.append(outcome)
