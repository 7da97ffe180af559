"""Let requests wait until an instance of their service has room (`max_in_flight`, `queue`).

forward: Queue (waits) → breaker → Queue.choose (takes a place) → send → retries (move to another place) → settle (gives it back)
"""

from __future__ import annotations

from dataclasses import dataclass

from propylon.errors import UpstreamBusy
from propylon.loop.line import now
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Route, Selects
from propylon.proxy.select import Candidates
from propylon.services.circuit import State
from propylon.services.instance import Instance
from propylon.services.room import Room, Seat
from propylon.services.service import Service
from propylon.wire.message import Request

__all__ = ["Queue"]


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue before a service. Fills the ports `route.Waits` and `route.Selects`.

    `inner` chooses among the instances that have room; None: the balance of the service.
    """

    service: Service
    room: Room
    inner: Selects | None = None

    async def enter(self, exchange: Exchange, request: Request, route: Route) -> None:
        """Wait until there is room. Raises UpstreamBusy."""

        def wants() -> bool:
            candidates = self.service.fleet.candidates()
            # Without an instance nobody needs to wait to be told so.
            return not candidates or bool(self._free(exchange, request, candidates))

        breaker = self.service.breaker
        refused = breaker is not None and route.circuit and breaker.state is State.OPEN
        if refused or self.room.is_free(wants):
            return
        # Not by the clock: it may go on by a millisecond while a full line refuses the request.
        began, ended, full = now(), "gone", self.room.is_full
        try:
            await self.room.wait(wants, route.timeouts.total - exchange.held)
            ended = "served"
        except UpstreamBusy as busy:
            ended = "full" if full else "late"
            busy.details = {"service": self.service.name}
            raise
        finally:
            # As the time that policies take: `timeouts.total` covers it.
            exchange.held += now() - began
            exchange.queued = (ended, now() - began)
            exchange.flags += ("queued",)

    def choose(self, exchange: Exchange, request: Request, candidates: Candidates) -> Instance:
        """Return an instance that has room, and take the place. Raises UpstreamBusy if none has."""
        free = self._free(exchange, request, candidates)
        if not free:
            return self._kept(exchange, candidates)
        chosen = self._chosen(exchange, request, free)
        if request.handshake is None:
            self._take(exchange, chosen)
        return chosen

    def left(self, exchange: Exchange, request: Request, untried: Candidates) -> Candidates:
        """Return the instances that have room for a further attempt."""
        if self.inner is not None:
            untried = self.inner.left(exchange, request, untried)
        return self.room.having(untried)

    def narrowed(self, exchange: Exchange, request: Request, candidates: Candidates) -> Candidates:
        """Return the instances that the request may go to, whether they have room or not."""
        if self.inner is None:
            return candidates
        narrowed: Candidates = self.inner.narrowed(exchange, request, candidates)
        return narrowed

    def _free(self, exchange: Exchange, request: Request, candidates: Candidates) -> Candidates:
        return self.room.having(self.narrowed(exchange, request, candidates))

    def _chosen(self, exchange: Exchange, request: Request, free: Candidates) -> Instance:
        if self.inner is not None:
            chosen: Instance = self.inner.choose(exchange, request, free)
            return chosen
        return free[0] if len(free) == 1 else self.service.balance(free)

    def _take(self, exchange: Exchange, chosen: Instance) -> None:
        before = exchange.seat
        if before is not None and before.instance.state is chosen.state:
            return
        exchange.seat = Seat(self.room, chosen)
        if before is not None:
            before.leave()

    def _kept(self, exchange: Exchange, candidates: Candidates) -> Instance:
        """Return the instance that the exchange has a place at, for a further attempt."""
        seat = exchange.seat
        for one in candidates if seat is not None else ():
            if seat is not None and one.state is seat.instance.state:
                return one
        msg = f'All instances of the service "{self.service.name}" have as many requests as they may have'
        raise UpstreamBusy(msg, details={"service": self.service.name}, reason="max_in_flight")
