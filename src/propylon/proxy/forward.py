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
from dataclasses import dataclass, field

from propylon.errors import (
    GatewayError,
    NoInstance,
    StaleConnection,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
)
from propylon.proxy.exchange import Attempt, Exchange
from propylon.proxy.outgoing import address, hops, outgoing, renumbered
from propylon.proxy.route import Route
from propylon.services.breaker import Permit
from propylon.services.outcome import Outcome, excused, judge
from propylon.services.retry import kind_of, retry_after_seconds
from propylon.services.service import Instance, Service
from propylon.upstream.ports import Answer, Outgoing
from propylon.upstream.reply import Reply
from propylon.wire.grammar import date_time
from propylon.wire.message import NO_BODY, Request, Response

__all__ = ["Forward", "settle"]

Clock = Callable[[], float]

_SERVER_ERROR = 500


class Forward:
    """Sends requests on, by the breaker, the balance, the retry rules and the instances of their service."""

    __slots__ = ("_chance", "_clock", "_loop_time")

    def __init__(self, loop_time: Clock, clock: Clock, chance: Callable[[], float]) -> None:
        """Set deadlines on the loop's time, measure by `clock`, spread pauses by `chance`."""
        self._loop_time = loop_time
        self._clock = clock
        self._chance = chance

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
                exchange.permit.body = exchange.downstream.body
        # Inlined from `Budget.note_request`: within the second that is being counted it is one addition.
        if now < budget.end:
            budget.requests += 1
        else:
            budget.note_request(now)
        common = sent.block
        # Inlined from `Fleet.candidates`: `due` is None while no instance is ejected.
        candidates = fleet.present if fleet.due is None else fleet.candidates()
        # Inlined from `_chosen`: a single instance needs no balance.
        instance = (
            candidates[0]
            if len(candidates) == 1 and route.select is None
            else _chosen(exchange, request, route, candidates)
        )
        exchange.instance = instance
        exchange.attempts = 1
        address(sent, request, route, instance, common)
        if exchange.explanation is not None:
            exchange.explanation.asked(instance, sent)
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
                    _answered(exchange, service, answer.head.status, tunnels=tunnels)
                return answer
        return await self._again(_Attempts(exchange, request, route, sent, common), answer, error)

    async def _again(
        self, attempts: _Attempts, answer: Answer | None, error: GatewayError | None
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
                    _answered(
                        attempts.exchange,
                        attempts.route.service,
                        answer.head.status,
                        tunnels=tunnels,
                    )
                    return answer

    def _pause(
        self, attempts: _Attempts, answer: Answer | None, error: GatewayError | None
    ) -> float | None:
        """Note the failure; return the seconds to wait before the next attempt, None where there is none."""
        service, exchange = attempts.route.service, attempts.exchange
        status = 0 if answer is None else answer.head.status
        exchange.excused = excused(error, status, uploading=_is_uploading(exchange))
        if not isinstance(error, UpstreamBusy) and not exchange.excused:
            _failed(service, attempts.instance)
        retry = service.retry
        permit = exchange.permit
        if permit is not None and permit.probe:
            if judge(None, status) is Outcome.FAILURE:
                _found_out(exchange, service, permit, status)
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


def settle(exchange: Exchange) -> None:
    """Tell fleet and breaker how the exchange ended: only its end shows whether the body was whole."""
    error, status, permit = exchange.error, exchange.upstream_status, exchange.permit
    route, instance, seat = exchange.route, exchange.instance, exchange.seat
    if seat is not None:
        exchange.seat = None
        seat.leave()
    if route is None:
        return
    if error is not None:
        exchange.excused = excused(error, status, uploading=_is_uploading(exchange))
    if status and instance is not None and not exchange.excused:
        _note(route.service, instance, error, status)
    breaker = route.service.breaker
    if permit is None or breaker is None:
        return
    outcome = Outcome.NEUTRAL if exchange.excused else judge(error, status)
    breaker.settle(permit, outcome, _cause(error, status))
    tally = permit.tally
    if tally is not None:
        tally.until = exchange.ended + tally.left


def _cause(error: GatewayError | None, status: int) -> str:
    """Say to operators what the failure was, without the addresses that `reason` may hold."""
    return f"status {status}" if error is None else f"{error.code} {type(error).__name__}"


def _is_uploading(exchange: Exchange) -> bool:
    """Whether the client still sends the body of its request."""
    body = exchange.downstream.body
    return body is not None and not body.complete


def _answered(exchange: Exchange, service: Service, status: int, *, tunnels: bool) -> None:
    """Note a head under 500: it may be a slow client's fault, and it ends a probe or a handshake."""
    exchange.excused = excused(None, status, uploading=_is_uploading(exchange))
    permit = exchange.permit
    if permit is not None and (permit.probe or tunnels):
        _found_out(exchange, service, permit, status)
        if tunnels:
            exchange.permit = None  # how a tunnel ends says nothing about the service


def _found_out(exchange: Exchange, service: Service, permit: Permit, status: int) -> None:
    """End a probe of the breaker with the answer's head, unless the head says nothing about the service.

    How long the body takes is up to the client, and a stream may never end.
    """
    if service.breaker is not None and not exchange.excused:
        service.breaker.settle(permit, judge(None, status), _cause(None, status))


def _note(service: Service, instance: Instance, error: GatewayError | None, status: int) -> None:
    """Note how an answer that had begun has ended; a failure before that was noted when it happened."""
    if status >= _SERVER_ERROR:
        return  # noted with its head, and a failure counts once
    if error is None:
        state = instance.state
        if state.failures or state.ejections:
            service.fleet.succeeded(instance)
    elif isinstance(error, UpstreamError | UpstreamTimeout):
        _failed(service, instance)


def _failed(service: Service, instance: Instance) -> None:
    """Note a failure. Where it ejects the instance, the breaker forgets: the others did not fail."""
    if service.fleet.failed(instance) and service.breaker is not None:
        service.breaker.forgive()


@dataclass(slots=True)
class _Attempts:
    """What was tried, and what could be tried next."""

    exchange: Exchange
    request: Request
    route: Route
    sent: Outgoing
    common: bytes
    reconnected: bool = False
    number: int = 1
    instance: Instance = field(init=False)
    tried: tuple[Instance, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.exchange.instance is None:
            msg = "the first attempt comes first"
            raise RuntimeError(msg)
        self.instance = self.exchange.instance
        self.tried = (self.instance,)

    def note(self, answer: Answer | None, error: GatewayError | None, now: float) -> None:
        """Keep for a trace how an attempt has ended."""
        exchange, notes = self.exchange, self.exchange.notes
        if notes is not None:
            status = 0 if answer is None else answer.head.status
            began = notes.began or exchange.upstream_began
            notes.attempts += (Attempt(self.instance, began, now, status, error),)

    def begin(self, now: float) -> Awaitable[Answer]:
        """Choose another instance, if there is one, and send the request there."""
        service = self.route.service
        candidates = self.others() or service.fleet.candidates()
        self.instance = _chosen(self.exchange, self.request, self.route, candidates)
        self.exchange.instance = self.instance
        self.tried += (self.instance,)
        self.number += 1
        self.exchange.attempts += 1
        if self.exchange.notes is not None:
            self.exchange.notes.began = now
        common = renumbered(self.common, self.exchange)
        address(self.sent, self.request, self.route, self.instance, common)
        if self.exchange.explanation is not None:
            self.exchange.explanation.asked(self.instance, self.sent)
        return self.instance.upstream.send(self.sent, self.exchange.downstream)

    def deadline(self, now: float) -> float:
        """Return when the final answer's head is due; the first attempt may have suspended that."""
        sent = self.sent
        return (
            sent.deadline
            if sent.body is not None and not sent.body.complete
            else sent.begin_waiting(now)
        )

    def others(self) -> tuple[Instance, ...]:
        """Return the instances that were not tried yet."""
        untried = self.route.service.fleet.untried(self.tried)
        select = self.route.select
        return untried if select is None else select.left(self.exchange, self.request, untried)

    def come_free(self, error: GatewayError | None) -> bool:
        """Tell whether the next attempt is no retry, because the last one was no failure of an instance."""
        if isinstance(error, UpstreamBusy):
            return self._pass_over(error)
        return isinstance(error, StaleConnection) and self._reconnect()

    def _pass_over(self, error: UpstreamBusy) -> bool:
        """Go on to an instance that may have a free connection: this one had none, and was not asked."""
        if not self.others() or not self.repeatable(error):
            return False
        self.number -= 1
        return True

    def _reconnect(self) -> bool:
        """Replace a kept-alive connection that the upstream had closed: nothing was received.

        Once: the pool closes those that were idle for as long, so the next connection is new or proven.
        """
        if self.reconnected or not self.repeatable(None):
            return False
        self.reconnected = True
        self.exchange.flags += ("stale_connection",)
        self.number -= 1
        self.tried = self.tried[:-1]
        return True

    def repeatable(self, error: GatewayError | None) -> bool:
        """Tell whether the request can be sent again, and does no harm if it arrives twice."""
        unsent = error is not None and error.unsent
        if not self.route.service.retry.allows(self.request.method, unsent=unsent):
            return False
        body = self.sent.body
        return body is None or body.replayable


def _chosen(
    exchange: Exchange, request: Request, route: Route, candidates: tuple[Instance, ...]
) -> Instance:
    """Return the instance to ask. Raises NoInstance if there is none."""
    service = route.service
    if candidates and route.select is not None:
        return route.select.choose(exchange, request, candidates)
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        return service.balance(candidates)
    checked = service.fleet.last_check
    last = None if checked is None else date_time(checked)
    what = "no healthy instance" if service.instances else "no instance"
    msg = f'The service "{service.name}" has {what}'
    raise NoInstance(msg, details={"service": service.name, "last_check": last})


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
