"""SETTLE: tell the fleet and the breaker of a service how requests to it have ended. Pure.

An attempt that fails counts for its instance at once, and an exchange counts once for the breaker, at its end.
"""

from __future__ import annotations

from propylon.errors import GatewayError, UpstreamError, UpstreamTimeout
from propylon.proxy.exchange import Exchange
from propylon.services.breaker import Permit
from propylon.services.outcome import Outcome, excused, judge
from propylon.services.service import Instance, Service

__all__ = ["answered", "failed", "found_out", "is_uploading", "settle"]

_SERVER_ERROR = 500


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
        exchange.excused = excused(error, status, uploading=is_uploading(exchange))
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


def is_uploading(exchange: Exchange) -> bool:
    """Whether the client still sends the body of its request."""
    body = exchange.body
    return body is not None and not body.complete


def answered(exchange: Exchange, service: Service, status: int, *, tunnels: bool) -> None:
    """Note a head under 500: it may be a slow client's fault, and it ends a probe or a handshake."""
    exchange.excused = excused(None, status, uploading=is_uploading(exchange))
    permit = exchange.permit
    if permit is not None and (permit.probe or tunnels):
        found_out(exchange, service, permit, status)
        if tunnels:
            exchange.permit = None  # how a tunnel ends says nothing about the service


def found_out(exchange: Exchange, service: Service, permit: Permit, status: int) -> None:
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
        failed(service, instance)


def failed(service: Service, instance: Instance) -> None:
    """Note a failure. Where it ejects the instance, the breaker forgets: the others did not fail."""
    if service.fleet.failed(instance) and service.breaker is not None:
        service.breaker.forgive()
