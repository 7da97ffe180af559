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
from propylon.proxy.exchange import Exchange, IncomingBody, Origin, entropy
from propylon.upstream.ports import Answer, Flow
from propylon.wire.message import Response
from propylon.wire.proxy_header import Ends

__all__ = ["Background"]

log = logging.getLogger(__name__)


class _NoClient:
    """The `Downstream` of a request that no client waits for: what is sent to it is dropped."""

    def __init__(self, origin: Origin, ends: Ends) -> None:
        self.origin = origin
        self.ends = ends
        self.body: IncomingBody | None = None
        self.started = False
        self.closes = False
        self.bytes_out = 0

    def respond(self, head: Response, block: bytes, body: bytes) -> None:
        """Drop it."""

    def start(self, head: Response, block: bytes) -> None:
        """Drop it."""

    def attach(self, flow: Flow) -> None:
        """Nobody reads slowly."""

    def write(self, data: bytes) -> None:
        """Drop it."""

    def finish(self, trailers: bytes = b"") -> None:
        """Drop it."""

    def interim(self, head: Response) -> None:
        """Drop it."""

    async def upgrade(
        self,
        exchange: Exchange,  # noqa: ARG002 — the port's contract
        answer: Answer,  # noqa: ARG002 — as above
        block: bytes,  # noqa: ARG002 — as above
    ) -> None:
        """Refuse: nothing was offered. Raises RuntimeError."""
        raise RuntimeError

    def abort(self) -> None:
        """There is no connection to cut."""


@dataclass(frozen=True, slots=True)
class Background:
    """Asks the upstream again, with an exchange of its own."""

    clock: Callable[[], float]
    chance: Callable[[int], int]
    settle: Callable[[Exchange], None]

    def __call__(self, visit: Visit, asks: Asks) -> None:
        """Start; what comes is stored."""
        theirs = visit.exchange
        exchange = Exchange(
            None,
            _NoClient(theirs.downstream.origin, theirs.downstream.ends),
            entropy(self.chance),
            self.clock(),
        )
        request = copy.copy(visit.request)
        exchange.request, exchange.route = request, visit.route
        exchange.principal, exchange.privacy = theirs.principal, theirs.privacy
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
