"""RELAY: pass the answer on, as it is, while it comes."""

from __future__ import annotations

from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Route
from propylon.upstream.exchange import Answer
from propylon.wire.headers import without

__all__ = ["relay"]

_FIRST_ERROR_STATUS = 400


async def relay(exchange: Exchange, answer: Answer, route: Route) -> None:
    """Send the answer to the client, with the gateway's own headers; return when it has ended.

    Raises UpstreamReset, BadResponse or UpstreamTimeout when the body breaks off: the client has
    its head by then, so all that is left is to cut the connection.
    """
    head = answer.head
    downstream = exchange.downstream
    exchange.status = exchange.upstream_status = head.status
    block = head.block
    if route.response_remove:
        block = without(block, route.response_remove)
    block += b"\r\nX-Request-ID: " + exchange.request_id + route.response_set
    if head.status >= _FIRST_ERROR_STATUS:
        block += b"\r\nX-Error-Source: " + (b"gateway" if route.service.own else b"upstream")
    head.block = block
    body = answer.body
    if body is not None:
        downstream.respond(head, body)
        return
    ended = False
    try:
        downstream.start(head)
        downstream.attach(answer)
        await answer.pipe(downstream)
        ended = True
    finally:
        if not ended:
            answer.abort()
