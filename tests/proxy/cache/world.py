"""A cache stage between a client that asks and an upstream that computes, with a clock that a case moves."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from propylon.proxy.cache.behind import Behind
from propylon.proxy.cache.fetching import Asks, Fetcher, Visit
from propylon.proxy.cache.filling import Budget
from propylon.proxy.cache.flights import Flights
from propylon.proxy.cache.invalidation import Invalidation
from propylon.proxy.cache.key import Callers
from propylon.proxy.cache.rules import CacheRules
from propylon.proxy.cache.sharing import Sharing
from propylon.proxy.cache.stage import CacheStage
from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.proxy.route import Route
from propylon.stores.answers.memory import MemoryAnswers
from propylon.upstream.ports import Answer, Timeouts
from propylon.upstream.reply import Reply
from propylon.wire.message import NO_BODY, Request, Response
from propylon.wire.response import parse_response
from tests.proxy.doubles import Client, request, run

# 2026-11-30T20:00:00Z, where every case begins.
EPOCH = 1_796_068_800.0

T = TypeVar("T")

Upstream = Callable[[Exchange, Request], Answer]


def head(*lines: str, status: str = "200 OK") -> Response:
    """The head of an answer."""
    text = "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""])
    return parse_response(text.encode("latin-1"), "GET")


def answer(body: bytes, *lines: str, status: str = "200 OK") -> Reply:
    """A whole answer."""
    return Reply(head(*lines, f"Content-Length: {len(body)}", status=status), body, None)


class Timers:
    """A loop that does nothing but call back, when a case says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._soon: list[Callable[[], None]] = []
        self._later: list[tuple[float, int, _Call]] = []

    def time(self) -> float:
        """The time now."""
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back at the next `turn`."""
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Call:
        """Call back when the time has come."""
        call = _Call(callback)
        heapq.heappush(self._later, (self.now + delay, id(call), call))
        return call

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and call what is due."""
        self.now += seconds
        while self._later and self._later[0][0] <= self.now:
            heapq.heappop(self._later)[2]()
        while self._soon:
            self._soon.pop(0)()


class _Call:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def __call__(self) -> None:
        if self._callback is not None:
            self._callback()

    def cancel(self) -> None:
        """Do not call."""
        self._callback = None


class World:
    """A stage with everything that it needs."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        capacity: int = 1_000_000,
        idle: bool = False,
        place: bytes = b"place",
        **rules: Any,
    ) -> None:
        """Ask that upstream; `idle`: nothing is refreshed in the background; `place` stands for the route."""
        self._idle = idle
        self.timers = Timers()
        self.asked: list[Request] = []
        self.settled: list[Exchange] = []
        self.refreshed: list[Visit] = []
        self.tally: Counter[int] = Counter()
        self.store = MemoryAnswers(capacity)
        self.rules = CacheRules(place, "route", **rules)
        self._upstream = upstream
        claim = rules.get("by") if rules.get("claim") else None
        callers = Callers((lambda who: who.claims.get(claim)) if claim else None)
        self._callers = callers
        self.stage = self._stage(None)

    def share(self, behind: Behind) -> None:
        """Put a store behind the memory, which other workers have, too."""
        self.stage = self._stage(behind)

    def _stage(self, behind: Behind | None) -> CacheStage:
        clock = self.timers.time
        fetcher = Fetcher(
            self.rules,
            self._forward,
            self.store,
            Budget(1_000_000),
            self.tally,
            clock,
            self.wall,
            self.settled.append,
            behind,
        )
        return CacheStage(
            self.rules,
            self.store,
            Flights(self.timers),
            self._callers,
            fetcher,
            Invalidation(self._forward, self.store, behind),
            self.tally,
            clock,
            self.wall,
            self._refresh,
            behind and Sharing(self.rules, self.store, behind, self.timers, clock),
        )

    def wall(self) -> float:
        """The time of day."""
        return EPOCH + self.timers.now

    def _refresh(self, visit: Visit, asks: Asks) -> None:
        self.refreshed.append(visit)
        if not self._idle:
            self.run(self.refreshing(visit, asks))

    def refreshing(self, visit: Visit, asks: Asks | None = None) -> Coroutine[Any, Any, Answer]:
        """Return what asks again for a visit."""
        exchange = self.exchange(visit.exchange.principal)
        return (asks or self.stage.asked)(replace(visit, exchange=exchange, quiet=True))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run what waits for nothing."""
        return run(coroutine)

    async def _forward(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        self.asked.append(request)
        return self._upstream(exchange, request)

    def exchange(self, principal: Principal = ANONYMOUS, **options: Any) -> Exchange:
        """An exchange with somebody."""
        made = Exchange(None, Client(**options), b"%080x" % 7, 0.0)
        made.principal = principal
        return made

    def ask(
        self,
        *lines: bytes,
        target: bytes = b"/a",
        method: bytes = b"GET",
        principal: Principal = ANONYMOUS,
    ) -> tuple[Answer, str]:
        """What a request gets, and what the cache says of it."""
        exchange = self.exchange(principal)
        route: Any = Plain()
        got = self.run(self.stage(exchange, request(target, *lines, method=method), route))
        return got, exchange.lines.decode().partition("Cache-Status: propylon; ")[2]


class Plain:
    """As much of a route as the stage looks at."""

    public = None
    name = "route"
    timeouts = Timeouts()


EMPTY = Response(204, b" 204 No Content", b"", NO_BODY, keep_alive=True)
