"""The life of a request, on one screen.

listen → cors (preflight) → match → clients → privacy → authenticate → authorize → policies → limit → forward → relay → observe

`handle` is the whole of it. A stage returns what the next one needs, or raises a GatewayError, which is the answer.
The table is read once: the exchange sees one consistent set of routes, whatever a reload does meanwhile. The last
stage, observe, runs for every exchange, whatever happened.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Awaitable, Callable

from propylon.errors import ClientGone, GatewayError, InternalError, NotFound
from propylon.proxy.authenticate.certificate import authenticate
from propylon.proxy.cors import asked_method, is_preflight
from propylon.proxy.exchange import (
    CURRENT,
    Downstream,
    Exchange,
    Explanation,
    Observer,
    Tracing,
)
from propylon.proxy.forward import settle
from propylon.proxy.match import Table
from propylon.proxy.refuse import refusal
from propylon.proxy.relay import relay
from propylon.proxy.route import Route
from propylon.proxy.trace import continued
from propylon.proxy.upgrade import give_back, take_up
from propylon.wire.grammar import REQUEST_ID
from propylon.wire.message import ASTERISK, EXPLAIN, NO_BODY, Request, Response

__all__ = ["Explain", "Pipeline"]

Clock = Callable[[], float]
Explain = Callable[[Exchange, Request], Awaitable[Explanation | None]]

_SERVER_ERROR = 500
# The methods that some route may have, and those that the gateway answers itself.
_ALLOW = b"\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_ASTERISK = Response(204, b" 204 No Content", _ALLOW, NO_BODY, keep_alive=True)


class Pipeline:
    """All stages, in order, over one snapshot of the routes."""

    def __init__(
        self,
        table: Table,
        observers: tuple[Observer, ...],
        *,
        clock: Clock,
        chance: Callable[[int], int],
        explain: Explain | None = None,
    ) -> None:
        """Match against `table`, which a reload replaces by assignment.

        `clock` counts seconds for durations; `chance(bits)` returns random bits for request ids. `explain` begins an
        explanation, where the client asks for one and may.
        """
        self.table = table
        self.tracing: Tracing | None = None  # a reload replaces it by assignment
        self._base = self._observers = observers
        self._clock = clock
        self._chance = chance
        self._explain = explain

    def watch_with(self, *more: Observer) -> None:
        """Call these observers from now on, after those that it was made with; without any, only those."""
        self._observers = (*self._base, *more)

    async def handle(self, request: Request, downstream: Downstream) -> None:
        """Carry one request from match to observe.

        A stage returns what the next one needs, or raises a `GatewayError`.
        """
        exchange = self._begin(request, downstream)
        try:
            if request.method == "OPTIONS" and self._answered(exchange, request):
                return
            plain = request.plain
            # Expressions, and not calls, for the usual request: each call would cost it a hundredth of its time.
            route = self.table.match(request) if plain else await self._find(exchange, request)
            cors = route.cors if plain else None
            exchange.lines = exchange.lines if cors is None else cors.block(request)
            route = route if route.split is None else route.split.choose(exchange, request)
            exchange.route = exchange.route or route
            origin = downstream.origin
            if route.clients is not None:
                route.clients(request, origin)
            if request.private or route.privacy_applies:
                exchange.privacy = route.privacy(request)
            if origin.holder is None:
                principal = exchange.principal = await route.authenticate(request, origin.client)
            else:
                principal = exchange.principal = await authenticate(route, request, origin)
            route.authorize(principal, request, origin)
            if route.before is not None:
                began = self._clock()
                CURRENT.set(exchange)
                await route.before(request, principal)
                exchange.held = self._clock() - began
            if route.limit is not None:
                waiting = route.limit(exchange, request, principal)
                if waiting is not None:
                    await waiting
            answer = await route.forward(exchange, request, route)
            exchange.answered = self._clock()
            await relay(exchange, answer, route)
        except GatewayError as error:
            self._refuse(exchange, error)
        except Exception as bug:  # noqa: BLE001 — one of the two borders: a 500, never a hang
            self._refuse(exchange, _internal(bug))
        finally:
            self._observe(exchange)

    async def _find(self, exchange: Exchange, request: Request) -> Route:
        """Return the route of a request whose head is not `plain`: it may offer another protocol, or ask for an explanation.

        An explanation begins first, since a request that no route gets is one to explain, too.
        """
        if EXPLAIN in request.special and self._explain is not None:
            exchange.explanation = await self._explain(exchange, request)
        table = self.table
        found = route = exchange.route = table.match(request)
        if route.cors is not None:
            exchange.lines = route.cors.block(request)
        if found.split is not None:
            route = exchange.route = found.split.choose(exchange, request)
        if request.upgrade:
            route = take_up(exchange, request, route)
        explanation = exchange.explanation
        return route if explanation is None else explanation.follow(exchange, route, table, found)

    def reject(
        self, error: GatewayError, downstream: Downstream, request: Request | None = None
    ) -> None:
        """Answer what could not be read: a head (`request` is None), or the body behind it."""
        exchange = self._begin(request, downstream)
        self._refuse(exchange, error)
        self._observe(exchange)

    def _begin(self, request: Request | None, downstream: Downstream) -> Exchange:
        # Inlined from `exchange.entropy`.
        entropy = hexlify(self._chance(320).to_bytes(40))
        exchange = Exchange(request, downstream, entropy, self._clock())
        if request is None:
            return exchange
        if b"x-request-id" in request.special:
            sent = request.special[b"x-request-id"]
            if len(sent) == 1 and REQUEST_ID.fullmatch(sent[0]):
                exchange.request_id = sent[0]
        parent = b""
        if b"traceparent" in request.special and (trace := continued(request)) is not None:
            exchange.trace_id, parent, exchange.trace_flags = trace
            exchange.trace_state = True
        if self.tracing is not None:
            self.tracing.begin(exchange, parent)
        if self.table.cors is not None:
            exchange.lines = self.table.cors.block(request)
        return exchange

    def _answered(self, exchange: Exchange, request: Request) -> bool:
        """Answer `OPTIONS *`, and a preflight: its browser has no token to show, and asks nothing of an upstream."""
        if request.path == ASTERISK:
            self._answer_itself(exchange)
            return True
        table = self.table
        if not (table.cors is not None or table.has_own_cors) or not is_preflight(request):
            return False
        cors, allow, route = table.cors, b"", None
        try:
            own, route, allow = table.asked(request, asked_method(request))
        except NotFound:
            if cors is None or not cors.permits(request):
                raise
        else:
            cors = own or cors
        if cors is None:
            return False
        exchange.lines = cors.block(request)
        head = cors.preflight(request, allow)
        if head is None:
            return False
        exchange.route, exchange.status = route, head.status
        exchange.flags += ("preflight",)
        block = b"%b\r\nX-Request-ID: %b" % (head.block, exchange.request_id)
        exchange.downstream.respond(head, block, b"")
        return True

    def _answer_itself(self, exchange: Exchange) -> None:
        """Answer what asks about the gateway as a whole: no route, no service (RFC 9110, 9.3.7)."""
        exchange.status = _ASTERISK.status
        block = b"%b\r\nX-Request-ID: %b" % (_ASTERISK.block, exchange.request_id)
        exchange.downstream.respond(_ASTERISK, block, b"")

    def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """Answer with the error, or cut the connection if an answer has begun."""
        # Without the frames that it passed: they hold this exchange, and those of `match` the whole table. Neither would
        # be freed before the garbage collector finds the cycle; after a reload that is thousands of routes.
        exchange.error = error.with_traceback(None)
        if exchange.route is None and exchange.request is not None and self.table.has_own_cors:
            exchange.lines = self.table.cors_lines(exchange.request)
        if exchange.notes is not None and exchange.notes.says:
            exchange.lines += exchange.notes.tracing.lines(exchange)
        downstream = exchange.downstream
        if downstream.started or isinstance(error, ClientGone):
            exchange.status = exchange.status or error.status
            exchange.flags += ("client_gone" if isinstance(error, ClientGone) else "cut",)
            downstream.abort()
            return
        exchange.status = error.status
        downstream.closes = downstream.closes or error.closes
        explanation = exchange.explanation
        more = None if explanation is None else explanation.refused(exchange, error, self.table)
        head, body = refusal(error, exchange.request, exchange.request_id, more)
        try:
            downstream.respond(head, head.block + exchange.lines, body)
        except ClientGone as gone:
            self._refuse(exchange, gone)

    def _observe(self, exchange: Exchange) -> None:
        exchange.ended = self._clock()
        # Inlined from `settle`: what it would find nothing to do for. Most exchanges end well, and the call would be a
        # hundredth of the time that a request takes.
        instance, permit = exchange.instance, exchange.permit
        tally = None if permit is None else permit.tally
        if (
            exchange.error is not None
            or exchange.upstream_status >= _SERVER_ERROR
            or exchange.excused
            or exchange.seat is not None
            or (permit is not None and (tally is None or exchange.ended >= tally.until))
            or (instance is not None and (instance.state.failures or instance.state.ejections))
        ):
            settle(exchange)
        elif tally is not None:
            tally.successes += 1
        if exchange.owed is not None:
            exchange.owed.settle(exchange)
        if exchange.request is not None and exchange.request.handshake is not None:
            give_back(exchange.request)
        for observer in self._observers:
            observer(exchange)
        if exchange.notes is not None:
            exchange.notes.tracing.end(exchange)


def _internal(bug: Exception) -> InternalError:
    error = InternalError("The gateway failed")
    error.__cause__ = bug
    return error
