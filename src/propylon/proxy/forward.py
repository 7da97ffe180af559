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
from propylon.upstream.connection import Reply
from propylon.upstream.exchange import Answer, Outgoing
from propylon.upstream.pool import IDEMPOTENT
from propylon.upstream.ticker import NEVER
from propylon.wire.headers import without
from propylon.wire.message import CHUNKED, NO_BODY, Request, Response

__all__ = ["Forward"]

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

    __slots__ = ("_chance", "_clock")

    def __init__(self, clock: Clock, chance: Callable[[int], int]) -> None:
        """Read the loop's time from `clock`; `chance(bits)` returns random bits for span ids."""
        self._clock = clock
        self._chance = chance

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Send the request; return when the final answer's head is there.

        Raises PayloadTooLarge, ServiceUnavailable, or what the last attempt raised.
        """
        if request.method == "OPTIONS" and request.special.get(b"max-forwards") == [b"0"]:
            return _last_hop(route)
        outgoing = self._outgoing(exchange, request, route)
        common = outgoing.block
        untried = list(route.service.instances)
        stale = 0
        while untried:
            instance = untried[0] if len(untried) == 1 else route.service.balance(untried)
            exchange.instance = instance
            exchange.attempts += 1
            outgoing.target = route.target(request, instance.base)
            outgoing.block = b"\r\nHost: " + instance.host + common
            try:
                return await instance.upstream.exchange(outgoing, exchange.downstream)
            except StaleConnection as error:
                stale += 1
                if stale > _MAX_STALE or not _repeatable(request, outgoing):
                    raise
                exchange.flags.append("stale_connection")
                exchange.error = error
            except GatewayError as error:
                untried.remove(instance)
                if not (error.unsent and untried):
                    raise
                exchange.error = error
            exchange.error = None
        msg = f'The service "{route.service.name}" has no instance'
        raise ServiceUnavailable(msg, details={"service": route.service.name, "last_check": None})

    def _outgoing(self, exchange: Exchange, request: Request, route: Route) -> Outgoing:
        timeouts = route.timeouts
        body = exchange.downstream.body
        if body is not None:
            if max(request.length, body.received) > route.max_body:
                msg = f"The body may have {route.max_body} bytes at the most"
                raise PayloadTooLarge(msg)
            body.limit = route.max_body
        deadline = NEVER if body is not None else self._clock() + timeouts.total
        return Outgoing(
            method=request.method,
            target=b"",
            block=self._block(exchange, request, route),
            body=body,
            connect=timeouts.connect,
            first_byte=timeouts.first_byte,
            idle=timeouts.idle,
            total=timeouts.total,
            deadline=deadline,
            max_duration=timeouts.max_duration,
        )

    def _block(self, exchange: Exchange, request: Request, route: Route) -> bytes:
        """Put together what every instance gets: what passes, and what the gateway vouches for."""
        origin = exchange.downstream.origin
        block = request.block
        if route.request_remove:
            block = without(block, route.request_remove)
        host = origin.host or request.host
        lines = [
            block,
            origin.forwarded,
            b"\r\nX-Forwarded-Host: " + host if host else b"",
            b"\r\nX-Request-ID: ",
            exchange.request_id,
            self._trace(exchange, request),
            exchange.principal.block,
            route.request_set,
        ]
        special = request.special
        if special:
            self._special(lines, exchange, request, route)
        if request.length >= 0:
            lines.append(b"\r\nContent-Length: %d" % request.length)
        elif request.length == CHUNKED:
            lines.append(b"\r\nTransfer-Encoding: chunked")
        return b"".join(lines)

    def _special(
        self, lines: list[bytes], exchange: Exchange, request: Request, route: Route
    ) -> None:
        """Put back the few special headers that pass after all."""
        special = request.special
        if route.service.forward_token and (tokens := special.get(b"authorization")):
            lines.extend(b"\r\nAuthorization: " + token for token in tokens)
        if hops := special.get(b"max-forwards"):
            lines.append(b"\r\nMax-Forwards: %d" % _fewer_hops(hops[0], request.method))
        if exchange.downstream.origin.trusted:
            lines.extend(
                b"\r\n%b: %b" % (name, value)
                for name in _TRUSTED
                for value in special.get(name.lower(), ())
            )

    def _trace(self, exchange: Exchange, request: Request) -> bytes:
        """Continue the client's trace (W3C Trace Context), or begin one."""
        sent = request.special.get(b"traceparent")
        state = b""
        match = _TRACEPARENT.fullmatch(sent[0]) if sent is not None and len(sent) == 1 else None
        if match is not None and match[1] != _NO_TRACE and match[2] != _NO_SPAN:
            trace, flags = match[1], match[3]
            # Only with a valid traceparent: W3C Trace Context, 3.3.
            for value in request.special.get(b"tracestate", ()):
                state += b"\r\ntracestate: " + value
        else:
            trace, flags = b"%032x" % (self._chance(128) or 1), b"01"
        exchange.trace_id = trace
        return b"\r\ntraceparent: 00-%b-%016x-%b%b" % (trace, self._chance(64) or 1, flags, state)


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


def _fewer_hops(value: bytes, method: str) -> int:
    """Count one hop (RFC 9110, 7.6.2), where the method says that hops count."""
    if _MAX_HOPS.fullmatch(value) is None:
        msg = "Max-Forwards must be a small number"
        raise InvalidRequest(msg)
    hops = int(value)  # at most three digits, says the pattern
    return max(0, hops - 1) if method == "OPTIONS" else hops


def _last_hop(route: Route) -> Answer:
    """Answer OPTIONS here: it may go no further (RFC 9110, 7.6.2)."""
    methods = sorted(route.pattern.methods or ())
    allow = b"\r\nAllow: " + ", ".join(methods).encode() if methods else b""
    head = Response(204, b" 204 No Content", allow, NO_BODY, keep_alive=True)
    return Reply(head, b"", None)
