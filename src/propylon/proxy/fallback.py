"""FALLBACK: answer in place of a service that has failed: with what the cache has, from another service, or by a fixed answer.

    then (checks, cache, retries, breaker) → failed? → settle → stored answer | fixed answer | another service

Rules.

1. Only before the first byte of an answer. What breaks off later cuts the connection, as ever.
2. The failure counts. Breaker and fleet of the service hear of it before anything answers in its place.
3. Another service gets a request only if all of its body can be sent once more, and if it does no harm that the first
   service may have acted on it: an idempotent method, no byte sent, or `retry.non_idempotent` of the route's service.
4. The other service has a breaker, retries and timeouts of its own. It has no fallback.
5. A handshake of another protocol has none either: a client that speaks it can do nothing with another answer.
6. The client sees that it has another answer (`X-Propylon-Fallback`), and operators see why (log, metrics).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from propylon.errors import (
    BadResponse,
    CertificateRejected,
    CircuitOpen,
    GatewayError,
    NoInstance,
    Overloaded,
    UpstreamBusy,
)
from propylon.proxy.exchange import Exchange, StandIn
from propylon.proxy.route import Forwards, Route
from propylon.services.retry import CONNECT_FAILURE, kind_of
from propylon.upstream.ports import Answer
from propylon.wire.message import Request

__all__ = ["FALLBACK_HEADER", "Fallback", "Other", "failure_of"]

FALLBACK_HEADER = b"x-propylon-fallback"
_KINDS: tuple[tuple[tuple[type[GatewayError], ...], str], ...] = (
    ((CircuitOpen,), "open-circuit"),
    ((NoInstance, UpstreamBusy, Overloaded), "unavailable"),
    # It is never retried, since the next attempt would ask an impostor again. Another service is none.
    ((CertificateRejected,), CONNECT_FAILURE),
    ((BadResponse,), "bad-response"),
)

Stored = Callable[[Exchange, Request, Route], Awaitable[Answer | None]]
"""Returns what the cache has for a request, whatever its age; None: nothing that may be used."""
Count = Callable[[str, str, str, str], None]
"""Counts a fallback: route, service, what failed, what answered."""


def failure_of(error: GatewayError) -> str:
    """Return the word for an error that a fallback may answer; empty for any other."""
    found = (kind for classes, kind in _KINDS if isinstance(error, classes))
    return next(found, "") or kind_of(error)


@dataclass(frozen=True, slots=True, eq=False)
class Other:
    """The other service: `become` returns a route with it in place of its own, and `forward` sends the request there."""

    become: Callable[[Route], Route]
    forward: Forwards


@dataclass(frozen=True, slots=True, eq=False)
class Fallback:
    """The forward stage of a route with a fallback. `clock` counts seconds for durations.

    `stored` is asked first; where it has nothing, `fixed` or `other` answers. Each of them may be None.
    """

    then: Forwards
    kinds: frozenset[str]
    statuses: frozenset[int]
    stored: Stored | None
    fixed: Forwards | None
    other: Other | None
    settle: Callable[[Exchange], None]
    count: Count
    clock: Callable[[], float]
    basis: object = field(default=None)  # what it was made of, to be compared

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fallback) and self.basis == other.basis and self.then == other.then

    def __hash__(self) -> int:
        return hash(self.kinds)

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Return the service's answer, or another one. Raises what `then` raises where nothing stands in, or what the other service raises."""
        answer: Answer | None = None
        error: GatewayError | None = None
        try:
            answer = await self.then(exchange, request, route)
        except GatewayError as failure:
            error = failure
            reason = failure_of(failure)
            if reason not in self.kinds or request.handshake is not None:
                raise
        else:
            if answer.head.status not in self.statuses or request.handshake is not None:
                return answer
            reason = str(answer.head.status)
        instead = await self._instead(exchange, request, route, reason, answer, error)
        if instead is not None:
            return instead
        if answer is not None:
            return answer
        raise error or RuntimeError(reason)

    async def _instead(
        self,
        exchange: Exchange,
        request: Request,
        route: Route,
        reason: str,
        answer: Answer | None,
        error: GatewayError | None,
    ) -> Answer | None:
        """Return another answer; None if nothing may stand in. Raises what the other service raises."""
        stored = None if self.stored is None else await self.stored(exchange, request, route)
        other = self.other if self._may_repeat(exchange, request, route, error) else None
        if stored is None and self.fixed is None and other is None:
            return None
        by = "stored" if stored is not None else "fixed" if other is None else "service"
        if answer is not None and answer.body is None:
            answer.abort()
        self._settle(exchange, error, 0 if answer is None else answer.head.status)
        exchange.stand_in = StandIn(by, reason, route.service.name, error)
        exchange.flags += ("fallback",)
        exchange.lines += b"\r\nX-Propylon-Fallback: " + by.encode()
        self.count(route.name, route.service.name, reason, by)
        if stored is not None:
            return stored
        if other is not None:
            return await self._elsewhere(exchange, request, route, other)
        return None if self.fixed is None else await self.fixed(exchange, request, route)

    def _may_repeat(
        self, exchange: Exchange, request: Request, route: Route, error: GatewayError | None
    ) -> bool:
        """Tell whether the request can be sent once more, and does no harm if both services act on it."""
        body = exchange.body
        if body is not None and not body.replayable:
            return False
        unsent = not exchange.attempts or (error is not None and error.unsent)
        return route.service.retry.allows(request.method, unsent=unsent)

    def _settle(self, exchange: Exchange, error: GatewayError | None, status: int) -> None:
        """Tell breaker and fleet how the service has failed: the exchange itself may end well."""
        # Without the frames, as in `Pipeline._refuse`.
        exchange.error = None if error is None else error.with_traceback(None)
        exchange.upstream_status = status
        exchange.ended = self.clock()
        self.settle(exchange)
        exchange.error = exchange.permit = exchange.instance = None
        exchange.upstream_status = 0
        exchange.excused = False

    async def _elsewhere(
        self, exchange: Exchange, request: Request, route: Route, other: Other
    ) -> Answer:
        """Send the request to the other service. It is the one that this exchange is settled with, and logged for."""
        began, attempts = exchange.upstream_began, exchange.attempts
        exchange.attempts = 0
        there = exchange.route = other.become(route)
        try:
            answer: Answer = await other.forward(exchange, request, there)
        finally:
            exchange.attempts += attempts
            if attempts:
                exchange.upstream_began = began
        return answer
