"""FORWARD, first half: put together what goes to the upstream."""

from __future__ import annotations

import re

from propylon.errors import InvalidRequest, PayloadTooLarge
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import NO_OVERRIDES, Route
from propylon.services.service import Instance
from propylon.upstream.ports import Outgoing
from propylon.wire.grammar import MAX_FORWARDS
from propylon.wire.headers import render, without
from propylon.wire.message import CHUNKED, Request

__all__ = ["address", "hops", "outgoing"]

_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16


def outgoing(exchange: Exchange, request: Request, route: Route, now: float) -> Outgoing:
    """Prepare what every instance gets; `address` adds what differs. `now` is the loop's time.

    Raises PayloadTooLarge.
    """
    body = exchange.downstream.body
    timeouts = route.timeouts
    if body is not None:
        body.limit = route.max_body
        if max(request.length, body.received) > route.max_body:
            msg = f"The body may have {route.max_body} bytes at the most"
            raise PayloadTooLarge(msg)
    block = _block(exchange, request, route)
    return Outgoing(request.method, b"", block, body, timeouts, now + timeouts.total, exchange)


def address(
    outgoing: Outgoing, request: Request, route: Route, instance: Instance, common: bytes
) -> None:
    """Direct the request to one instance."""
    # Of nearly all requests the line goes out as it was sent: written out, to save the call.
    if route.replaced or instance.base or request.version != 1:
        outgoing.line = route.line(request, instance.base)
    else:
        outgoing.line = request.line
    outgoing.block = b"\r\nHost: " + instance.host + common
    if route.request_overrides is not NO_OVERRIDES:
        outgoing.block = route.request_overrides.put(outgoing.block)


def _block(exchange: Exchange, request: Request, route: Route) -> bytes:
    """Put together what passes, and what the gateway itself vouches for."""
    origin = exchange.downstream.origin
    block = request.block
    if not route.service.forward_token and b"authorization" in request.special:
        block = _tokenless(request)
    if route.request_remove:
        block = without(block, route.request_remove)
    host = origin.host or request.host
    block = b"%b%b%b\r\nX-Request-ID: %b%b%b%b%b" % (
        block,
        origin.forwarded,
        b"\r\nX-Forwarded-Host: " + host if host else b"",
        exchange.request_id,
        _trace(exchange, request),
        exchange.principal.block,
        exchange.privacy.block,
        route.request_set,
    )
    if not request.plain:
        block += _special(exchange, request)
    if request.length >= 0:
        return block + b"\r\nContent-Length: %d" % request.length
    if request.length == CHUNKED:
        return block + b"\r\nTransfer-Encoding: chunked"
    return block


def _tokenless(request: Request) -> bytes:
    """Return the block without the token, for a service that has no need of it."""
    fields = request.fields
    if fields.tokenless is None:
        fields.tokenless = without(fields.block, (b"authorization",))
    return fields.tokenless


def _special(exchange: Exchange, request: Request) -> bytes:
    """Put back the few special headers that pass after all."""
    special = request.special
    passing: list[tuple[bytes, bytes]] = []
    left = hops(request)
    if left is not None:
        # RFC 9110, 7.6.2: counted for OPTIONS (and TRACE, which never passes); others keep theirs.
        left -= request.method == "OPTIONS"
        passing.append((b"Max-Forwards", b"%d" % left))
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


def hops(request: Request) -> int | None:
    """Return how far the request may still go, if it says."""
    sent = request.special.get(b"max-forwards")
    if sent is None:
        return None
    if len(sent) != 1 or MAX_FORWARDS.fullmatch(sent[0]) is None:
        msg = "Max-Forwards must be one small number"
        raise InvalidRequest(msg)
    return int(sent[0])  # at most three digits, says the pattern
