"""The stage of a route that obeys Idempotency-Key: a request that is sent again is not asked again.

Rules.

1. The first request claims its key before anything is sent. While it is under way, the same key gets 409.
2. The claimed request goes on without its client, once its body has arrived: a client that has lost its connection is who
   sends it again. So it has an exchange of its own.
3. An answer that comes in one piece is kept before the client gets it, any other one when its end has come. What is no answer to the request is not kept, and the key is
   free again: an error of the gateway itself, and statuses which say that the request was not processed.
4. The body is fingerprinted as it passes, and never assembled. A request that is sent again is read to its end, and dropped.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass, field

from propylon.errors import ClientGone, Conflict, InvalidFields, ServiceUnavailable
from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn
from propylon.proxy.cache.filling import Budget, Filling
from propylon.proxy.cache.judgement import Judgement
from propylon.proxy.cache.key import Callers
from propylon.proxy.cache.stored import Stored
from propylon.proxy.exchange import Exchange
from propylon.proxy.idempotency.key import Fingerprint, key_of, malformed, name_of
from propylon.proxy.idempotency.ledger import (
    FINGERPRINT,
    KEPT,
    RUNNING,
    UNKEPT,
    IdempotencyRules,
    Ledger,
    LedgerAway,
    Records,
)
from propylon.proxy.route import Forwards, Route
from propylon.proxy.unattended import unattended
from propylon.upstream.ports import Answer, BodySink
from propylon.upstream.reply import Reply
from propylon.wire.headers import without
from propylon.wire.message import NO_BODY, UNTIL_CLOSE, Request, Response
from propylon.wire.response import is_event_stream

__all__ = ["Idempotency"]

# Bytes of a body that is kept: the answer to a command is short.
_LARGEST = 256 * 1024
# Seconds for which a claim outlives the time that the request may take: its worker may have died.
_GRACE = 30.0
_FOREVER = 3600.0  # of a route whose bodies may take as long as they like
# RFC 9110: Request Timeout, Too Early, Too Many Requests, Bad Gateway, Service Unavailable, Gateway Timeout. Whoever says
# so has not processed the request, or does not know.
_UNPROCESSED = frozenset({408, 425, 429, 502, 503, 504})
_FIRST_FINAL, _BODILESS = 200, frozenset({204, 304})
_REPLAYED = b"\r\nIdempotency-Replayed: true"
_CLAIMED = "urn:propylon:idempotency-key-in-flight"
_REUSED = "urn:propylon:idempotency-key-reused"


@dataclass(slots=True)
class _Claim:
    """A request that has claimed its key; `attended` while its client waits for it."""

    name: bytes
    value: bytes
    fingerprint: Fingerprint
    exchange: Exchange
    request: Request
    attended: bool = True


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The forward stage of such a route. `clock` counts seconds for durations, `time` for stored answers."""

    rules: IdempotencyRules
    then: Forwards
    ledger: Ledger = field(compare=False)
    records: Records = field(compare=False)
    callers: Callers = field(compare=False)
    budget: Budget = field(compare=False)
    clock: Callable[[], float] = field(compare=False)
    time: Callable[[], float] = field(compare=False)
    chance: Callable[[int], int] = field(compare=False)
    settle: Callable[[Exchange], None] = field(compare=False)

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Answer the request. Raises InvalidRequest, Conflict, InvalidFields, ServiceUnavailable, and what `then` raises."""
        if request.method not in self.rules.methods:
            return await self._plain(exchange, request, route)
        key = key_of(request)
        if key is None:
            if self.rules.required:
                msg = "This operation needs an Idempotency-Key"
                raise malformed(msg)
            return await self._plain(exchange, request, route)
        name = name_of(exchange, request, self.rules.route.encode(), key, self.callers)
        value = RUNNING + self.chance(128).to_bytes(16)
        try:
            held = await self.ledger.claim(
                name, value, min(route.timeouts.total, _FOREVER) + _GRACE
            )
        except LedgerAway:
            return await self._without(exchange, request, route)
        if held is None:
            return await self._first(exchange, request, route, name, value)
        return await self._again(exchange, request, route, name, held)

    async def _plain(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        answer: Answer = await self.then(exchange, request, route)
        return answer

    async def _without(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Do as the route says while keys cannot be kept."""
        if self.rules.refuses:
            msg = "Idempotency keys cannot be kept now; send the request again later"
            raise ServiceUnavailable(msg, reason="the store of idempotency keys is away")
        exchange.flags += ("unkeyed",)
        return await self._plain(exchange, request, route)

    # The first request

    async def _first(
        self, exchange: Exchange, request: Request, route: Route, name: bytes, value: bytes
    ) -> Answer:
        body, fingerprint = exchange.body, Fingerprint(request)
        if body is not None:
            body.limit = route.max_body
            body.watch(fingerprint.update)
        sent = copy.copy(request)
        # Of the same digits: the service hears the span that the client's trace tells of.
        own = unattended(exchange, sent, exchange.entropy, self.clock(), body)
        own.request_id, own.trace_id = exchange.request_id, exchange.trace_id
        own.trace_flags, own.trace_state = exchange.trace_flags, exchange.trace_state
        own.notes, own.explanation = exchange.notes, exchange.explanation
        own.held = exchange.held
        claim = _Claim(name, value, fingerprint, own, sent)
        # A signal, and not the task: who stops waiting for a task cancels it.
        answered: Signal[Answer] = Signal()
        task = spawn(self._ask(claim, route))
        task.add_done_callback(lambda done: _hand_over(done, answered))
        try:
            answer = await answered
        finally:
            claim.attended = answered.done
            if claim.attended:
                _take_over(exchange, own)
            elif body is not None and not body.complete:
                task.cancel()  # the rest of the body will not come
        return answer

    async def _ask(self, claim: _Claim, route: Route) -> Answer:
        """Ask, and keep what comes; the key is free again if nothing comes that can be kept."""
        kept, answer = False, None
        try:
            answer = await self._plain(claim.exchange, claim.request, route)
            kept = answer.head.status not in _UNPROCESSED
            if kept:
                answer = await self._kept(claim, answer)
            return answer
        finally:
            if not kept:
                spawn(self.ledger.release(claim.name, claim.value))
            if not claim.attended:
                if answer is not None:
                    answer.abort()  # nobody reads it; what is being kept is kept all the same
                claim.exchange.ended = self.clock()
                self.settle(claim.exchange)

    async def _kept(self, claim: _Claim, answer: Answer) -> Answer:
        head = answer.head
        if answer.body is not None and len(answer.body) <= _LARGEST:
            await self._settled(claim, head, answer.body)
            return answer
        endless = head.length == UNTIL_CLOSE or is_event_stream(head) or head.status < _FIRST_FINAL
        if answer.body is not None or endless or head.length > _LARGEST:
            await self._settled(claim, head, None)
            return answer

        def done(body: bytes | tuple[bytes, ...] | None, _: int) -> None:
            whole = body if body is None or isinstance(body, bytes) else b"".join(body)
            spawn(self._settled(claim, head, whole))
            if body is None:
                spawn(_released(filling))

        filling = Filling(answer, _LARGEST, self.budget, done)
        reader = filling.reader(head)
        filling.hold()
        filling.start()
        return reader

    async def _settled(self, claim: _Claim, head: Response, body: bytes | None) -> None:
        """Keep what has become of the request."""
        incoming = claim.exchange.body
        if incoming is not None and not incoming.complete:
            # Answered before all of it has come: nobody knows what the request was.
            await self.ledger.release(claim.name, claim.value)
            return
        fingerprint = claim.fingerprint.whole
        value = UNKEPT + fingerprint
        if body is not None:
            kept = Response(head.status, head.reason, head.block, len(body), keep_alive=True)
            stored = Stored(kept, Judgement(lifetime=self.rules.ttl), (), self.time())
            stored.complete(body, len(body))
            record = self.records.written(claim.name + fingerprint, stored, 0, b"", 0)
            value = KEPT + fingerprint + record
        await self.ledger.settle(claim.name, claim.value, value, self.rules.ttl)

    # Those that come later

    async def _again(
        self, exchange: Exchange, request: Request, route: Route, name: bytes, held: bytes
    ) -> Answer:
        kind, known = held[:1], held[1 : 1 + FINGERPRINT]
        if kind == RUNNING:
            msg = "A request with this Idempotency-Key is under way"
            raise _conflict(msg, retry=True)
        if kind not in (KEPT, UNKEPT) or len(known) != FINGERPRINT:
            return await self._without(exchange, request, route)
        if await _fingerprint(exchange, request, route) != known:
            raise _reused()
        if kind == UNKEPT:
            msg = "The request was processed; its answer was too long to be kept"
            raise _conflict(msg)
        try:
            found, _ = self.records.read(name + known, held[1 + FINGERPRINT :])
        except ValueError:
            return await self._without(exchange, request, route)
        exchange.flags += ("idempotent_replay",)
        exchange.lines += _REPLAYED
        stored = found.stored
        stored.complete(found.inline, found.length)
        length = NO_BODY if stored.status in _BODILESS else found.length
        block = without(stored.block, (b"idempotency-replayed",))
        head = Response(stored.status, stored.reason, block, length, keep_alive=True)
        return Reply(head, found.inline, None)


def _hand_over(task: asyncio.Task[Answer], answered: Signal[Answer]) -> None:
    """Wake the client's exchange, if it still waits."""
    if task.cancelled():
        answered.fail(ClientGone("The client left before its request was complete"))
    elif (error := task.exception()) is not None:
        answered.fail(error)
    else:
        answered.set(task.result())


def _take_over(exchange: Exchange, own: Exchange) -> None:
    """Bring what was found out to the client's exchange, which is the one that is settled and logged."""
    exchange.instance, exchange.attempts = own.instance, own.attempts
    exchange.upstream_began, exchange.retried = own.upstream_began, own.retried
    exchange.excused, exchange.flags = own.excused, exchange.flags + own.flags
    exchange.lines += own.lines
    exchange.permit, own.permit = own.permit, None


async def _released(filling: Filling) -> None:
    filling.release()


class _Drop(BodySink):
    """Takes a body that nobody wants."""

    def __init__(self) -> None:
        self.ended: Signal[None] = Signal()

    def body_data(self, data: bytes) -> None:
        """Drop it."""

    def body_end(self, trailers: bytes = b"") -> None:  # noqa: ARG002 — the port's contract
        self.ended.set(None)


async def _fingerprint(exchange: Exchange, request: Request, route: Route) -> bytes:
    """Return the fingerprint of a request whose body is only read."""
    fingerprint, body = Fingerprint(request), exchange.body
    if body is not None:
        body.limit = route.max_body
        body.watch(fingerprint.update)
        sink = _Drop()
        body.pipe(sink)
        await sink.ended
    return fingerprint.whole


def _conflict(message: str, *, retry: bool = False) -> Conflict:
    error = Conflict(message, headers=((b"Retry-After", b"1"),) if retry else ())
    error.problem = (_CLAIMED, "A request is outstanding for this Idempotency-Key")
    return error


def _reused() -> InvalidFields:
    error = InvalidFields("This Idempotency-Key was used for another request")
    error.problem = (_REUSED, "Idempotency-Key is already used")
    return error
