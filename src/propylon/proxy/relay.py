"""RELAY: pass the upstream's answer on as it comes, with the gateway's own headers in its block.

Nothing is assembled: a body that did not come with its head is pushed from socket to socket, and the client's slowness
pauses the upstream.
"""

from __future__ import annotations

from propylon.proxy.exchange import Downstream, Exchange
from propylon.proxy.route import NO_OVERRIDES, Route
from propylon.proxy.site import site_of
from propylon.proxy.values import ValuesOf
from propylon.upstream.ports import Answer
from propylon.wire.cookies import without_set_cookies
from propylon.wire.headers import without
from propylon.wire.message import Response

__all__ = ["relay"]

_FIRST_ERROR_STATUS = 400
_LIMIT = b"ratelimit"  # in each name of `Route.limit_fields`; looked for first, because hardly any answer has one
_SWITCHING_PROTOCOLS = (
    101  # the upstream has agreed to what the client offered (`upstream.handshakes`)
)


async def relay(exchange: Exchange, answer: Answer, route: Route) -> None:
    """Send the answer to the client, with the gateway's own headers; return when it has ended.

    Raises UpstreamReset, BadResponse or UpstreamTimeout when the body breaks off. The client has the head by then, so
    the pipeline cuts the connection: a broken answer must not look whole.
    """
    head = answer.head
    status = head.status
    exchange.status = exchange.upstream_status = status
    exchange.head = head
    block = head.block
    public = route.public
    if public is not None and (head.addressed or (head.sets_cookies and public.maps_cookies)):
        block = public.apply(block, site_of(exchange, route))
    if route.edits:
        block = _edited(block, head, route)
    if status >= _FIRST_ERROR_STATUS:
        service = route.service
        # A route without a service answers by itself, and so does a fallback with a fixed answer.
        stand_in = exchange.stand_in
        own = (
            service.builtin or not service.name or (stand_in is not None and stand_in.by == "fixed")
        )
        block += b"\r\nX-Error-Source: " + (b"gateway" if own else b"upstream")
    if exchange.notes is not None and exchange.notes.says:
        exchange.lines += exchange.notes.tracing.lines(exchange)
    # Joined, and not formatted with `%`, which takes twice as long.
    block = b"".join(
        (
            block,
            b"\r\nX-Request-ID: ",
            exchange.request_id,
            exchange.lines,
            route.response_set,
        )
    )
    if route.response_overrides is not NO_OVERRIDES:
        block = route.response_overrides.put(block, _values(exchange, route))
    body = answer.body
    if body is not None:
        exchange.downstream.respond(head, block, body)
        return
    exchange.streams = True
    if status == _SWITCHING_PROTOCOLS:
        await exchange.downstream.upgrade(exchange, answer, block)
    else:
        await _stream(exchange.downstream, answer, block)


def _values(exchange: Exchange, route: Route) -> ValuesOf | None:
    request = exchange.request
    return None if request is None else ValuesOf(exchange, request, route)


def _edited(block: bytes, head: Response, route: Route) -> bytes:
    """Return the block without what the route takes out of the upstream's answers."""
    if route.limit_fields:
        tells = head.tells_limits
        if tells is None:
            # Not `in`, which takes the bytes for a number first, and fails: twice the time.
            tells = head.tells_limits = head.block.lower().find(_LIMIT) >= 0
        if tells:
            block = without(block, route.limit_fields)
    if route.response_remove:
        block = without(block, route.response_remove)
    if route.response_cookies:
        block = without_set_cookies(block, route.response_cookies)
    return block


async def _stream(downstream: Downstream, answer: Answer, block: bytes) -> None:
    ended = False
    try:
        downstream.start(answer.head, block)
        downstream.attach(answer)
        await answer.pipe(downstream)
        ended = True
    finally:
        if not ended:
            answer.abort()
