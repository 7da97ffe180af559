"""The load of chaos.py: callers at a steady pace, and a count of what each phase did to their requests."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from chaos_gateway import ROUTE
from client import Answer, Connection, Failed, Pace
from instance import BODY

TIMEOUT = 10.0
SENT = b'{"quantity": 2}'


def request(method: str, body: bytes = b"") -> bytes:
    head = f"{method} {ROUTE}/1042 HTTP/1.1\r\nHost: shop.example.com\r\nAccept: */*\r\n"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{head}{length}\r\n".encode() + body


# All idempotent (RFC 9110 9.2.2); mostly reads, as with any API.
REQUESTS = (*[request("GET")] * 8, request("PUT", SENT), request("DELETE"))


@dataclass
class Phase:
    """A stretch of the run, and what its requests came to."""

    name: str
    victim: str = ""
    # What has reached the client cannot be taken back: a gateway that streams can only stop asking.
    avoidable: bool = True
    asked: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def failures(self) -> int:
        return self.failed.total()

    def row(self) -> list[str]:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in self.failed.most_common())
        # Three instances: in calm each has a third.
        share = f"{self.answered[self.victim] / max(1, self.asked):.0%}" if self.victim else ""
        p99 = quantiles(self.seconds, n=100)[98] if len(self.seconds) > 1 else 0.0
        return [
            f"{self.name} ({self.victim})" if self.victim else self.name,
            f"{self.asked:,}",
            str(self.failures or "-"),
            percent(self.failures, self.asked),
            f"{p99 * 1000:.0f}",
            f"{max(self.seconds, default=0.0) * 1000:.0f}",
            share,
            kinds,
        ]


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3f} %" if whole else "-"


class Load:
    """So many callers that share a rate. None asks again before it has its answer."""

    def __init__(self, port: int, connections: int, rate: float) -> None:
        self.port = port
        self.connections = connections
        self.interval = connections / rate
        self.phases: list[Phase] = []
        self.requests = itertools.cycle(REQUESTS)
        # The instance that must not answer what is asked from now on, and how often one did.
        self.gone = ""
        self.strays = 0

    def enter(self, phase: Phase) -> None:
        """What is asked from now on belongs to this phase, whenever its answer comes."""
        self.phases.append(phase)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.enter(Phase("warm-up"))
        self.stopping = False
        async with asyncio.TaskGroup() as group:
            for number in range(self.connections):
                group.create_task(self._caller(number))
            await asyncio.sleep(1.0)
            try:
                yield
            finally:
                # The last ones get their answers: what is cut off here would be nobody's failure.
                self.stopping = True

    async def _caller(self, number: int) -> None:
        connection = Connection(self.port, TIMEOUT)
        pace = Pace(self.interval, first=self.interval * number / self.connections)
        while not self.stopping:
            await pace.turn()
            await self._ask(connection, self.phases[-1])
        connection.close()

    async def _ask(self, connection: Connection, phase: Phase) -> None:
        begun, gone = time.monotonic(), self.gone
        phase.asked += 1
        try:
            answer = await connection.ask(next(self.requests))
            self.strays += bool(gone) and answer.instance == gone
            phase.answered[answer.instance] += 1
            judge(answer)
        except Failed as failure:
            phase.failed[str(failure)] += 1
        phase.seconds.append(time.monotonic() - begun)

    def table(self) -> str:
        """A line for each phase, and the sums."""
        phases = self.phases[1:]
        every = [
            ["phase", "requests", "failed", "share", "p99 ms", "slowest ms", "its part", "how"],
            ["---"] * 8,
            *(phase.row() for phase in phases),
            total("total", phases),
        ]
        avoidable = [phase for phase in phases if phase.avoidable]
        if len(avoidable) < len(phases):
            every.append(total("total, without what cannot be avoided", avoidable))
        return "\n".join(f"| {' | '.join(line)} |" for line in every)


def judge(answer: Answer) -> None:
    """Whether a client can live with it."""
    if answer.status != 200:
        raise Failed(str(answer.status))
    if answer.body != BODY:
        raise Failed("wrong body")


def total(name: str, phases: Sequence[Phase]) -> list[str]:
    asked = sum(phase.asked for phase in phases)
    failed = sum(phase.failures for phase in phases)
    return [name, f"{asked:,}", str(failed or "-"), percent(failed, asked), "", "", "", ""]
