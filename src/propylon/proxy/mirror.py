"""MIRROR: send a copy of a request to another service, whose answer nobody gets.

    then (cache, retries, breaker) ── its body is kept as it passes ──► head, or failure ──► a copy, in a task of its own

Rules.

1. The client's exchange waits for nothing. A copy is sent when the answer's head is there, so it is always behind.
2. A copy is of what the route's service was asked: not of what the cache answers, an open breaker refuses, or an
   Idempotency-Key answers again.
3. Copies are bounded: by their number, in each worker, and by the length of their bodies. What would be too much has no
   copy, and is counted. So a mirror that hangs costs a few connections, and then nothing.
4. A copy is sent once. The mirror has a breaker of its own, which spares it, and its timeouts hold.
5. The mirror gets the same request, as the route's service does: who is asking, request id, trace.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

from propylon.errors import GatewayError
from propylon.loop.tasks import spawn
from propylon.proxy.exchange import Exchange, entropy
from propylon.proxy.fallback import failure_of
from propylon.proxy.route import Forwards, Route
from propylon.proxy.unattended import unattended
from propylon.services.circuit import State
from propylon.upstream.fetch import BytesBody
from propylon.upstream.ports import Answer
from propylon.wire.message import Request

__all__ = ["ANSWERED", "Mirror", "MirrorRules", "Room"]

ANSWERED = "answered"
"""What became of a copy that was answered, with a status under 500. Else it is one of the words below, or a failure's."""
_FAILED, _DROPPED, _SPARED, _TOO_LARGE, _INCOMPLETE, _OTHER = (
    "5xx",
    "dropped",
    "open-circuit",
    "too_large",
    "incomplete",
    "failed",
)
_SERVER_ERROR = 500
# Bytes. An answer that is longer is cut off, which costs its connection; a shorter one is read to its end.
_WORTH_READING = 1_000_000

Count = Callable[[str, str, str], None]
"""Counts what became of a copy: route, the mirror's service, a word."""


@dataclass(frozen=True, slots=True)
class MirrorRules:
    """How much is copied: a share of the requests, bodies up to so many bytes, so many copies at a time."""

    share: float
    max_body: int
    most: int


@dataclass(slots=True)
class Room:
    """How many copies are under way."""

    taken: int = 0


class _Copy:
    """A body that is kept as it passes; None when it is too large."""

    __slots__ = ("_left", "pieces")

    def __init__(self, largest: int) -> None:
        self._left = largest
        self.pieces: list[bytes] | None = []

    def take(self, data: bytes) -> None:
        """Keep a piece. Pieces are not copied: the upstream gets the very same."""
        self._left -= len(data)
        if self._left < 0:
            self.pieces = None
        elif self.pieces is not None:
            self.pieces.append(data)


@dataclass(frozen=True, slots=True, eq=False)
class Mirror:
    """The forward stage of a route with a mirror.

    `become` turns the route into one to the mirror, and `forward` sends a copy there. `clock` counts seconds for durations,
    `chance` draws from 0 to 1, `bits(n)` returns random bits. `settle` tells breaker and fleet of the mirror.
    """

    rules: MirrorRules
    then: Forwards
    service: object  # the mirror's, to be compared
    become: Callable[[Route], Route]
    forward: Forwards
    settle: Callable[[Exchange], None]
    count: Count
    clock: Callable[[], float]
    chance: Callable[[], float]
    bits: Callable[[int], int]
    room: Room = field(default_factory=Room)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Mirror)
            and self.service is other.service
            and (self.rules, self.then) == (other.rules, other.then)
        )

    def __hash__(self) -> int:
        return hash(self.rules)

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Return the answer of the route's own service. Raises what `then` raises."""
        if request.handshake is not None or self.chance() >= self.rules.share:
            answer: Answer = await self.then(exchange, request, route)
            return answer
        copied, body = None, exchange.body
        # A length that is not known is negative.
        if body is not None and request.length <= self.rules.max_body and not self._is_full:
            copied = _Copy(self.rules.max_body)
            body.watch(copied.take)
        try:
            answer = await self.then(exchange, request, route)
        finally:
            if exchange.attempts:
                self._send(exchange, request, route, copied)
        return answer

    @property
    def _is_full(self) -> bool:
        return self.room.taken >= self.rules.most

    def _send(
        self, exchange: Exchange, request: Request, route: Route, copied: _Copy | None
    ) -> None:
        """Send a copy, if there can be one."""
        there = self.become(route)
        body, pieces = exchange.body, None if copied is None else copied.pieces
        # It may have been full when the request came: then nothing of its body was kept.
        unkept = body is not None and copied is None and request.length <= self.rules.max_body
        if self._is_full or unkept:
            self.count(route.name, there.service.name, _DROPPED)
        elif _is_spared(there):
            self.count(route.name, there.service.name, _SPARED)
        elif body is not None and pieces is None:
            self.count(route.name, there.service.name, _TOO_LARGE)
        elif body is not None and not body.complete:
            self.count(route.name, there.service.name, _INCOMPLETE)
        else:
            whole = None
            if copied is not None and pieces is not None:
                whole = BytesBody(b"".join(pieces))
                copied.pieces = None  # the body may live as long as a download takes
            sent = copy.copy(request)
            if whole is not None:
                sent.length = whole.length  # it may have come in chunks, and goes out in one piece
            own = unattended(exchange, sent, entropy(self.bits), self.clock(), whole)
            own.route = there
            own.request_id, own.trace_id = exchange.request_id, exchange.trace_id
            own.trace_flags, own.trace_state = exchange.trace_flags, exchange.trace_state
            self.room.taken += 1
            spawn(self._carry(own, there, route.name))

    async def _carry(self, own: Exchange, there: Route, name: str) -> None:
        became = _OTHER
        try:
            answer: Answer = await self.forward(own, own.request, there)
            own.upstream_status = answer.head.status
            await _read(own, answer)
            became = ANSWERED if own.upstream_status < _SERVER_ERROR else _FAILED
        except GatewayError as error:
            own.error = error.with_traceback(None)
            became = failure_of(error) or _OTHER
        finally:
            self.room.taken -= 1
            own.ended = self.clock()
            self.settle(own)
            self.count(name, there.service.name, became)


def _is_spared(there: Route) -> bool:
    """Whether the mirror's breaker is open: a copy that it would refuse costs as much as the request itself."""
    breaker = there.service.breaker
    return there.circuit and breaker is not None and breaker.state is State.OPEN


async def _read(own: Exchange, answer: Answer) -> None:
    """Read an answer to its end, so that its connection serves the next copy; cut one off that is long, or has no end."""
    if answer.body is not None:
        return
    if 0 <= answer.head.length <= _WORTH_READING:
        await answer.pipe(own.downstream)
    else:
        answer.abort()
