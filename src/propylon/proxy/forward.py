"""FORWARD: send the request to an instance of the service, and to another one while nothing has reached the client.

    breaker: may it go out at all? → balance: which instance → send → retry: again, elsewhere, after a pause

A request is sent again only where the upstream cannot notice, or where a second time does no harm: when no byte of it
was sent (the connection was never made), when its method is idempotent (RFC 9110, 9.2.2), or when the operator says
so. A POST of which a byte was written never leaves twice otherwise.

Nearly all requests need one attempt, so the first one is written out in `Forward.__call__`, with the insides of
breaker, budget and fleet inlined; each such place names the method that it inlines. What comes after a failure is in
`_again`, where calls are calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from propylon.errors import (
    GatewayError,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
)
from propylon.proxy.attempts import Attempts, chosen
from propylon.proxy.exchange import Attempt, Exchange
from propylon.proxy.hedge import Gate, Raced, race
from propylon.proxy.outgoing import address, hops, outgoing
from propylon.proxy.route import Route
from propylon.proxy.settling import answered, failed, found_out, is_uploading, settle
from propylon.services.hedge import Hedge
from propylon.services.outcome import Outcome, excused, judge
from propylon.services.retry import kind_of, retry_after_seconds
from propylon.services.service import Instance, Service
from propylon.upstream.ports import Answer
from propylon.upstream.reply import Reply
from propylon.wire.message import NO_BODY, Request, Response

__all__ = ["Forward", "settle"]

Clock = Callable[[], float]

_SERVER_ERROR = 500


class Forward:
    """Sends requests on, by the breaker, the balance, the retry rules and the instances of their service."""

    __slots__ = ("_chance", "_clock", "_hedged", "_loop_time")

    def __init__(
        self,
        loop_time: Clock,
        clock: Clock,
        chance: Callable[[], float],
        hedged: Callable[[str, str], None] = lambda _, __: None,
    ) -> None:
        """Set deadlines on the loop's time, measure by `clock`, spread pauses by `chance`.

        `hedged` counts races of two requests, by the service and by who won.
        """
        self._loop_time = loop_time
        self._clock = clock
        self._chance = chance
        self._hedged = hedged

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Send the request; return when the final answer's head is there.

        Raises PayloadTooLarge, CircuitOpen, NoInstance, or what the last attempt raised.
        """
        if (request.method == "OPTIONS" or route.queue is not None) and (
            own := await _before(exchange, request, route)
        ) is not None:
            return own
        now = exchange.upstream_began = self._clock()
        sent = outgoing(exchange, request, route, self._loop_time())
        service = route.service
        breaker, budget, fleet = service.breaker, service.budget, service.fleet
        if breaker is not None and route.circuit:
            # Inlined from `Breaker.admit`: while CLOSED, `permit` is one object that all exchanges share.
            exchange.permit = breaker.permit or breaker.admit()
            if exchange.permit.probe:
                exchange.permit.body = exchange.body
        # Inlined from `Budget.note_request`: within the second that is being counted it is one addition.
        if now < budget.end:
            budget.requests += 1
        else:
            budget.note_request(now)
        common = sent.block
        # Inlined from `Fleet.candidates`: `due` is None while no instance is ejected.
        candidates = fleet.present if fleet.due is None else fleet.candidates()
        # Inlined from `chosen`: a single instance needs no balance.
        instance = (
            candidates[0]
            if len(candidates) == 1 and route.select is None
            else chosen(exchange, request, route, candidates)
        )
        exchange.instance = instance
        exchange.attempts = 1
        address(exchange, sent, request, route, instance, common)
        if service.guarded:
            return await self._guarded(Attempts(exchange, request, route, sent, common))
        error: GatewayError | None = None
        answer: Answer | None = None
        try:
            answer = await instance.upstream.send(sent, exchange.downstream)
        except (UpstreamError, UpstreamTimeout, UpstreamBusy) as failure:
            error = failure
        else:
            if answer.head.status < _SERVER_ERROR:
                body, permit = sent.body, exchange.permit
                tunnels = request.handshake is not None
                # Else `_answered` finds nothing to note.
                if (body is not None and not body.complete) or (
                    permit is not None and (permit.probe or tunnels)
                ):
                    answered(exchange, service, answer.head.status, tunnels=tunnels)
                return answer
        return await self._again(Attempts(exchange, request, route, sent, common), answer, error)

    async def _guarded(self, attempts: Attempts) -> Answer:
        """Do the same by rules that few services have: hedging, and a limit of what waits for an answer.

        Raises Overloaded, and what the last attempt raised.
        """
        concurrency = attempts.route.service.concurrency
        if concurrency is None:
            return await self._tried(attempts)
        concurrency.enter(attempts.route.service.name)
        # What the client delays, and what was sent twice, says nothing about the load.
        plain = not is_uploading(attempts.exchange)
        began, sampled = self._clock(), False
        try:
            answer = await self._tried(attempts)
            sampled = answer.head.status < _SERVER_ERROR
        except UpstreamTimeout:
            sampled = True
            raise
        finally:
            sampled = sampled and plain and attempts.number == 1
            concurrency.leave(began, self._clock(), sampled=sampled)
        return answer

    async def _tried(self, attempts: Attempts) -> Answer:
        exchange, service = attempts.exchange, attempts.route.service
        error: GatewayError | None = None
        answer: Answer | None = None
        try:
            if service.hedge is not None:
                answer = await self._race(attempts, service.hedge)
            else:
                answer = await attempts.send()
        except (UpstreamError, UpstreamTimeout, UpstreamBusy) as failure:
            error = failure
        else:
            if answer.head.status < _SERVER_ERROR:
                tunnels = attempts.request.handshake is not None
                answered(exchange, service, answer.head.status, tunnels=tunnels)
                return answer
        return await self._again(attempts, answer, error)

    async def _race(self, attempts: Attempts, hedge: Hedge) -> Answer:
        """Send the first attempt, and another one beside it if there is no answer for a while.

        The second one counts as an attempt, so that retries add to it and do not double it. Raises as `send` does.
        """
        exchange, first, began = attempts.exchange, attempts.instance, self._clock()
        permit = exchange.permit
        alone = attempts.sent.body is not None or (permit is not None and permit.probe)
        if alone or not hedge.applies(attempts.request.method, began):
            return await attempts.send()
        gates = [Gate(exchange.downstream)]

        def another() -> Awaitable[Answer] | None:
            if not attempts.others() or not hedge.budget.take(self._clock()):
                return None
            gates.append(Gate(exchange.downstream))
            return attempts.beside(gates[1])

        try:
            raced = await race(first.upstream.send(attempts.sent, gates[0]), hedge.after, another)
        finally:
            for gate in gates:
                gate.close()
        if len(gates) > 1:
            self._judge(attempts, raced, first, began)
        if raced.answer is None:
            raise raced.error or RuntimeError("a race without an end")
        return raced.answer

    def _judge(self, attempts: Attempts, raced: Raced, first: Instance, began: float) -> None:
        """Note who won. What lost by a failure has failed; what was cancelled says nothing about its instance."""
        exchange, second = attempts.exchange, attempts.instance
        service = attempts.route.service
        winner, loser = (second, first) if raced.second else (first, second)
        other = raced.other
        if other is not None and not isinstance(other.error, UpstreamBusy):
            failed(service, loser)
        exchange.instance = attempts.instance = winner
        exchange.flags += ("hedged",)
        if exchange.explanation is not None:
            exchange.explanation.raced(winner)
        if raced.second and exchange.notes is not None:
            status = 0 if other is None or other.answer is None else other.answer.head.status
            error = None if other is None else other.error
            exchange.notes.attempts += (Attempt(first, began, self._clock(), status, error),)
        self._hedged(service.name, "won" if raced.second else "lost")

    async def _again(
        self, attempts: Attempts, answer: Answer | None, error: GatewayError | None
    ) -> Answer:
        """Go on after a failure; return the last answer or raise the last error, unchanged."""
        explanation = attempts.exchange.explanation
        while True:
            attempts.note(answer, error, self._clock())
            if explanation is not None:
                explanation.failed(answer, error)
            if not attempts.come_free(error):
                pause = self._pause(attempts, answer, error)
                if pause is None:
                    return _outcome(attempts.route.service, answer, error)
                if answer is not None:
                    answer.abort()
                if pause:
                    await asyncio.sleep(pause)
            answer = error = None
            try:
                answer = await attempts.begin(self._clock())
            except (UpstreamError, UpstreamTimeout, UpstreamBusy) as failure:
                error = failure
            else:
                if answer.head.status < _SERVER_ERROR:
                    tunnels = attempts.request.handshake is not None
                    answered(
                        attempts.exchange,
                        attempts.route.service,
                        answer.head.status,
                        tunnels=tunnels,
                    )
                    return answer

    def _pause(
        self, attempts: Attempts, answer: Answer | None, error: GatewayError | None
    ) -> float | None:
        """Note the failure; return the seconds to wait before the next attempt, None where there is none."""
        service, exchange = attempts.route.service, attempts.exchange
        status = 0 if answer is None else answer.head.status
        exchange.excused = excused(error, status, uploading=is_uploading(exchange))
        if not isinstance(error, UpstreamBusy) and not exchange.excused:
            failed(service, attempts.instance)
        retry = service.retry
        permit = exchange.permit
        if permit is not None and permit.probe:
            if judge(None, status) is Outcome.FAILURE:
                found_out(exchange, service, permit, status)
            return None  # a probe of the breaker is one request: it finds out, it need not succeed
        if attempts.number >= retry.attempts or not attempts.repeatable(error):
            return None
        asked = 0.0
        if answer is not None:
            asked = retry_after_seconds(answer.head.block)
            wanted = retry.triggered_by_status(answer.head.status, asked)
        else:
            wanted = error is not None and retry.triggered_by(error)
        if not wanted:
            return None
        # The instance was not reached, and there is another one: waiting gains nothing.
        at_once = error is not None and error.unsent and attempts.others()
        pause = 0.0 if at_once else retry.pause(attempts.number, self._chance, asked)
        if self._loop_time() + pause >= attempts.deadline(self._loop_time()):
            return None
        # Asked last: the budget counts only what is really sent again.
        if not service.budget.take(self._clock()):
            return None
        exchange.retried += (str(status) if error is None else kind_of(error),)
        return pause


async def _before(exchange: Exchange, request: Request, route: Route) -> Answer | None:
    """Answer what may go no further, or wait until the service has room. Raises UpstreamBusy."""
    if request.method == "OPTIONS" and hops(request) == 0:
        return _last_hop(route)
    if route.queue is not None:
        await route.queue(exchange, request, route)
    return None


def _outcome(service: Service, answer: Answer | None, error: GatewayError | None) -> Answer:
    if answer is not None:
        return answer
    if isinstance(error, UpstreamBusy):
        msg = f'All connections to the service "{service.name}" are in use'
        raise UpstreamBusy(msg, details={"service": service.name}, reason=error.reason) from error
    raise error if error is not None else RuntimeError("an attempt without an outcome")


def _last_hop(route: Route) -> Answer:
    """Answer OPTIONS with `Max-Forwards: 0` here: it may go no further (RFC 9110, 7.6.2)."""
    methods = sorted(route.pattern.methods or ())
    allow = b"\r\nAllow: " + ", ".join(methods).encode() if methods else b""
    head = Response(204, b" 204 No Content", allow, NO_BODY, keep_alive=True)
    return Reply(head, b"", None)
