"""FORWARD: ask an instance of the service, and another one if the first was not there.

A request is sent again only while that cannot be noticed: when no byte of it was sent (the connection
was never made), or when its method is idempotent and a kept-alive connection turned out to have been
closed by the upstream. A POST of which a byte was written never leaves twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from propylon.errors import (
    GatewayError,
    InvalidRequest,
    PayloadTooLarge,
    ServiceUnavailable,
    StaleConnection,
)
from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Route
from propylon.proxy.service import Instance
from propylon.upstream.exchange import Answer, Outgoing
from propylon.upstream.pool import IDEMPOTENT
from propylon.upstream.reply import Reply
from propylon.upstream.ticker import NEVER
from propylon.wire.headers import render, without
from propylon.wire.message import CHUNKED, NO_BODY, Request, Response

__all__ = ["Forward", "address"]

Clock = Callable[[], float]

_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16
# How often one request may find a kept-alive connection closed: after a restart of the upstream,
# every idle connection is stale at once, so the second try opens a new one in practice.
_MAX_STALE = 2
_MAX_HOPS = re.compile(rb"[0-9]{1,3}")


class Forward:
    """The loop that uses balance and upstream."""

    __slots__ = ("_clock", "_loop_time")

    def __init__(self, loop_time: Clock, clock: Clock) -> None:
        """Set deadlines on the loop's time, measure by `clock`."""
        self._loop_time = loop_time
        self._clock = clock

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Send the request; return when the final answer's head is there.

        Raises PayloadTooLarge, ServiceUnavailable, or what the last attempt raised.
        """
        if request.method == "OPTIONS" and _hops(request) == 0:
            return _last_hop(route)
        outgoing = self.outgoing(exchange, request, route)
        common = outgoing.block
        service = route.service
        untried = service.instances
        stale = 0
        while untried:
            instance = untried[0] if len(untried) == 1 else service.balance(untried)
            exchange.instance = instance
            exchange.attempts += 1
            address(outgoing, request, route, instance, common)
            try:
                return await instance.upstream.exchange(outgoing, exchange.downstream)
            except StaleConnection:
                stale += 1
                if stale > _MAX_STALE or not _repeatable(request, outgoing):
                    raise
                exchange.flags += ("stale_connection",)
            except GatewayError as error:
                untried = tuple(other for other in untried if other is not instance)
                if not (error.unsent and untried):
                    raise
                exchange.flags += ("next_instance",)
        msg = f'The service "{service.name}" has no instance'
        raise ServiceUnavailable(msg, details={"service": service.name, "last_check": None})

    def outgoing(self, exchange: Exchange, request: Request, route: Route) -> Outgoing:
        """Prepare what every instance gets; `address` adds what differs. Raises PayloadTooLarge."""
        exchange.upstream_began = self._clock()
        body = exchange.downstream.body
        timeouts = route.timeouts
        if body is None:
            deadline = self._loop_time() + timeouts.total
        else:
            deadline = NEVER
            body.limit = route.max_body
            if max(request.length, body.received) > route.max_body:
                msg = f"The body may have {route.max_body} bytes at the most"
                raise PayloadTooLarge(msg)
        block = _block(exchange, request, route)
        return Outgoing(request.method, b"", block, body, timeouts, deadline)


def address(
    outgoing: Outgoing, request: Request, route: Route, instance: Instance, common: bytes
) -> None:
    """Direct the request to one instance."""
    outgoing.line = route.line(request, instance.base)
    outgoing.block = b"\r\nHost: " + instance.host + common


def _block(exchange: Exchange, request: Request, route: Route) -> bytes:
    """Put together what passes, and what the gateway itself vouches for."""
    origin = exchange.downstream.origin
    block = request.block
    if route.request_remove:
        block = without(block, route.request_remove)
    host = origin.host or request.host
    block = b"%b%b%b\r\nX-Request-ID: %b%b%b%b" % (
        block,
        origin.forwarded,
        b"\r\nX-Forwarded-Host: " + host if host else b"",
        exchange.request_id,
        _trace(exchange, request),
        exchange.principal.block,
        route.request_set,
    )
    if not request.plain:
        block += _special(exchange, request, route)
    if request.length >= 0:
        return block + b"\r\nContent-Length: %d" % request.length
    if request.length == CHUNKED:
        return block + b"\r\nTransfer-Encoding: chunked"
    return block


def _special(exchange: Exchange, request: Request, route: Route) -> bytes:
    """Put back the few special headers that pass after all."""
    special = request.special
    passing: list[tuple[bytes, bytes]] = []
    if route.service.forward_token:
        passing.extend((b"Authorization", token) for token in special.get(b"authorization", ()))
    hops = _hops(request)
    if hops is not None:
        # RFC 9110, 7.6.2: counted for OPTIONS (and TRACE, which never passes); others keep theirs.
        hops -= request.method == "OPTIONS"
        passing.append((b"Max-Forwards", b"%d" % hops))
    if exchange.downstream.origin.trusted:
        for name in _TRUSTED:
            passing.extend((name, value) for value in special.get(name.lower(), ()))
    return render(passing)


def _trace(exchange: Exchange, request: Request) -> bytes:
    """Continue the client's trace (W3C Trace Context), or begin one."""
    span = exchange.entropy[64:]
    if b"traceparent" not in request.special:
        trace = exchange.trace_id = exchange.entropy[32:64]
        return b"\r\ntraceparent: 00-%b-%b-01" % (trace, span)
    sent = request.special[b"traceparent"]
    match = _TRACEPARENT.fullmatch(sent[0]) if len(sent) == 1 else None
    if match is None or match[1] == _NO_TRACE or match[2] == _NO_SPAN:
        trace = exchange.trace_id = exchange.entropy[32:64]
        return b"\r\ntraceparent: 00-%b-%b-01" % (trace, span)
    exchange.trace_id = match[1]
    # Only with a valid traceparent: W3C Trace Context, 3.3.
    state = [(b"tracestate", value) for value in request.special.get(b"tracestate", ())]
    return b"\r\ntraceparent: 00-%b-%b-%b" % (match[1], span, match[3]) + render(state)


# What a trusted proxy may say besides X-Forwarded-*; from anybody else these would be believed.
_TRUSTED = (
    b"Forwarded",
    b"X-Real-IP",
    b"X-Original-URL",
    b"X-Rewrite-URL",
    b"X-HTTP-Method-Override",
)


def _repeatable(request: Request, outgoing: Outgoing) -> bool:
    if request.method not in IDEMPOTENT:
        return False
    return outgoing.body is None or outgoing.body.replayable


def _hops(request: Request) -> int | None:
    """Return how far the request may still go, if it says."""
    sent = request.special.get(b"max-forwards")
    if sent is None:
        return None
    if len(sent) != 1 or _MAX_HOPS.fullmatch(sent[0]) is None:
        msg = "Max-Forwards must be one small number"
        raise InvalidRequest(msg)
    return int(sent[0])  # at most three digits, says the pattern


def _last_hop(route: Route) -> Answer:
    """Answer OPTIONS here: it may go no further (RFC 9110, 7.6.2)."""
    methods = sorted(route.pattern.methods or ())
    allow = b"\r\nAllow: " + ", ".join(methods).encode() if methods else b""
    head = Response(204, b" 204 No Content", allow, NO_BODY, keep_alive=True)
    return Reply(head, b"", None)
