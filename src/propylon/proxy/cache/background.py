"""Validate a stale answer in the background: the client has got it already (RFC 5861, 3)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from propylon.errors import GatewayError
from propylon.loop.tasks import spawn
from propylon.proxy.cache.fetching import Asks, Visit
from propylon.proxy.cache.flights import Landed, Outcome
from propylon.proxy.exchange import Exchange, Notes, entropy
from propylon.proxy.trace import own_span
from propylon.proxy.unattended import unattended

__all__ = ["Background"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Background:
    """Asks the upstream again, with an exchange of its own."""

    clock: Callable[[], float]
    chance: Callable[[int], int]
    settle: Callable[[Exchange], None]

    def __call__(self, visit: Visit, asks: Asks) -> None:
        """Start; what comes is stored."""
        theirs, request = visit.exchange, copy.copy(visit.request)
        exchange = unattended(theirs, request, entropy(self.chance), self.clock())
        exchange.route = visit.route
        # It is a part of what the client's request has caused, and recorded if that is.
        exchange.trace_id, exchange.trace_flags = theirs.trace_id, theirs.trace_flags
        exchange.trace_state = theirs.trace_state
        if theirs.notes is not None:
            exchange.notes = Notes(theirs.notes.tracing, own_span(theirs.entropy), False)
            exchange.notes.caller = theirs
        spawn(self._run(replace(visit, exchange=exchange, request=request, quiet=True), asks))

    async def _run(self, visit: Visit, asks: Asks) -> None:
        exchange = visit.exchange
        try:
            answer = await asks(visit)
            exchange.upstream_status = exchange.upstream_status or answer.head.status
            if answer.body is None:
                await answer.pipe(exchange.downstream)
        except GatewayError as error:
            exchange.error = error
            log.info("a stale answer of %s could not be validated: %s", visit.route.name, error)
        finally:
            visit.land(Landed(Outcome.AGAIN))
            exchange.ended = self.clock()
            self.settle(exchange)
            if exchange.notes is not None:
                exchange.notes.tracing.end(exchange)
