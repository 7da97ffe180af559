"""FORWARD, first half: put together what goes to the upstream.

    the client's block, less what does not pass → X-Forwarded-*, request id, trace, identity, privacy → the route's own

What the client sent of the headers that the gateway vouches for has been taken out when the head was read
(`wire.request`); this module only adds. The block is bytes from end to end: no dict of headers, no call per header.
"""

from __future__ import annotations

from dataclasses import replace

from propylon.errors import InvalidRequest, PayloadTooLarge
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import NO_OVERRIDES, Route
from propylon.proxy.trace import is_state, span_id
from propylon.proxy.values import ValuesOf, target_of
from propylon.services.service import Instance, Service
from propylon.upstream.ports import Outgoing
from propylon.wire.grammar import MAX_FORWARDS, OWS
from propylon.wire.headers import render, without
from propylon.wire.lookalikes import reduced, without_lookalikes
from propylon.wire.message import Request
from propylon.wire.proxy_header import Ends, proxy_header

__all__ = ["address", "hops", "outgoing", "renumbered"]

_HOST = b"\r\nHost: "
_PREFIX = b"x-forwarded-prefix"


def outgoing(exchange: Exchange, request: Request, route: Route, now: float) -> Outgoing:
    """Prepare what every instance gets; `address` adds what differs between them. `now` is the loop's time.

    Raises PayloadTooLarge, InvalidRequest, Forbidden.
    """
    if exchange.notes is not None and route.sampling is not None:
        exchange.notes.tracing.place(exchange, route)
    # Inlined from `Exchange.body`.
    body = exchange.downstream.body if exchange.unpacked is None else exchange.unpacked
    timeouts = route.timeouts
    closes = False
    if body is not None:
        body.limit = route.max_body
        if max(request.length, body.received) > route.max_body:
            msg = f"The body may have {route.max_body} bytes at the most"
            raise PayloadTooLarge(msg)
        closes = not route.service.builtin and _closes(request.method, route.service)
    sent = Outgoing(
        request.method,
        b"",
        _block(exchange, request, route),
        body,
        timeouts,
        now + timeouts.total - exchange.held,
        exchange,
        request.length,
        request.handshake,
        closes=closes,
    )
    if route.adapts or exchange.downstream.origin.root:
        _adapt(sent, exchange, request, route)
    return sent


def _adapt(sent: Outgoing, exchange: Exchange, request: Request, route: Route) -> None:
    """Add what few routes ask for: the prefix that was taken off, a chosen Host, templates, hidden headers, a PROXY header.

    Raises what `target_of` raises.
    """
    root = exchange.downstream.origin.root
    if root or (route.rewrite is not None and route.rewrite.strips):
        sent.block = _prefixed(sent.block, exchange, request, root + _stripped(request, route))
    if route.changes is not None:
        target = target_of(exchange, request, route)
        if target is not None:
            sent.line_behind = lambda base: route.line(request, base, target)
        sent.block = route.changes.block(sent.block, ValuesOf(exchange, request, route))
    if route.service.host is not None:
        sent.block = _chosen_host(exchange, request, route.service.host) + sent.block
    sent.hidden = route.response_remove
    if route.service.proxy_protocol is not None:
        sent.header = proxy_header(route.service.proxy_protocol, _ends(exchange))


# Methods whose body every upstream reads, as far as is known: it is what they are for.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


def _closes(method: str, service: Service) -> bool:
    """Tell whether a request with a body must have a connection of its own. Raises InvalidRequest.

    RFC 9110, 9.3.1: a body of a GET has no meaning. Many upstreams do not read it (Python's http.server), and take it
    for the next request on the connection: the client has written that one, with any identity that it likes.
    """
    if method in _WITH_BODY or service.bodies_on_get == "pass":
        return service.bodies == "close"
    if service.bodies_on_get == "refuse":
        msg = f"A {method} request must not have a body here"
        raise InvalidRequest(msg)
    return True


def _ends(exchange: Exchange) -> Ends:
    """Return the ends of the connection of the client whom the gateway believes in."""
    ends, client = exchange.downstream.ends, exchange.downstream.origin.client
    # The port of a client that a trusted proxy has reported is not known. That of the proxy would be another client's.
    return ends if client == ends.client else replace(ends, client=client, client_port=0)


def address(
    exchange: Exchange,
    outgoing: Outgoing,
    request: Request,
    route: Route,
    instance: Instance,
    common: bytes,
) -> None:
    """Direct the request to one instance, and tell who wants to know of it."""
    # Of nearly all requests the line goes out as it was sent: written out, to save the call.
    if route.rewrite is not None or instance.base or request.version != 1:
        outgoing.line = route.line(request, instance.base)
    else:
        outgoing.line = request.line
    if outgoing.line_behind is not None:
        outgoing.line = outgoing.line_behind(instance.base)
    # Where the service's `host` chooses one, `common` begins with it.
    if route.service.host is not None and common.startswith(_HOST):
        outgoing.block = common
    else:
        outgoing.block = b"\r\nHost: " + instance.host + common
    if route.request_overrides is not NO_OVERRIDES:
        outgoing.block = route.request_overrides.put(outgoing.block)
    if exchange.explanation is not None:
        exchange.explanation.asked(instance, outgoing)


def renumbered(common: bytes, exchange: Exchange) -> bytes:
    """Return the block with a span of its own for a further attempt; as it is, where traces are off."""
    if exchange.notes is None:
        return common
    first = b"-%b-%b-" % (exchange.trace_id, exchange.entropy[64:])
    own = span_id(exchange.entropy, exchange.attempts - 1)
    return common.replace(first, b"-%b-%b-" % (exchange.trace_id, own), 1)


def _chosen_host(exchange: Exchange, request: Request, chosen: bytes) -> bytes:
    """Return the line with the Host that the operator chose for a service; none where the client sent none (HTTP/1.0)."""
    host = chosen or exchange.downstream.origin.host or request.host
    return _HOST + host if host else b""


def _stripped(request: Request, route: Route) -> bytes:
    """Return the part of the path that was taken away and not replaced."""
    rewrite = route.rewrite
    return rewrite.prefix(request.path) if rewrite is not None and rewrite.strips else b""


def _prefixed(block: bytes, exchange: Exchange, request: Request, prefix: bytes) -> bytes:
    """Return the block with the prefix that was taken off the path, behind the one that a trusted proxy has taken off."""
    outer = b""
    if exchange.downstream.origin.trusted and _PREFIX in request.special:
        block = without(block, (_PREFIX,))
        outer = request.special[_PREFIX][-1].rpartition(b",")[2].strip(OWS).rstrip(b"/")
    return b"%b\r\nX-Forwarded-Prefix: %b%b" % (block, outer, prefix)


def _block(exchange: Exchange, request: Request, route: Route) -> bytes:
    """Join what passes of the client's block and what the gateway vouches for."""
    origin = exchange.downstream.origin
    block = request.block
    if not route.service.forward_token and b"authorization" in request.special:
        block = _tokenless(request)
    if route.hide is not None:
        block = route.hide(block)
    if route.request_remove:
        block = without(block, route.request_remove)
    names, vouched = route.vouched, b""
    if request.vouched is not None:  # claims, and what policies say
        names = names.union(map(reduced, request.vouched))
        vouched = render(request.vouched.values())
    if names:
        block = without_lookalikes(block, names)
    # Joined, and not formatted with `%`, which takes twice as long.
    block = b"".join(
        (
            block,
            origin.forwarded,
            origin.naming(origin.host or request.host),
            b"\r\nX-Request-ID: ",
            exchange.request_id,
            b"\r\ntraceparent: 00-",
            exchange.trace_id,
            b"-",
            exchange.entropy[64:],  # our span: the parent of whatever the upstream does
            b"-",
            exchange.trace_flags,
            exchange.principal.block,
            exchange.privacy.block,
            vouched,
            route.request_set,
        )
    )
    return block if request.plain else block + _special(exchange, request)


def _tokenless(request: Request) -> bytes:
    """Return the block without the token, for a service that has no need of it."""
    fields = request.fields
    # A handshake's block is its own, and so is that of a request to which the cache has added conditions.
    if request.block is not fields.block:
        return without(request.block, (b"authorization",))
    if fields.tokenless is None:
        fields.tokenless = without(fields.block, (b"authorization",))
    return fields.tokenless


def _special(exchange: Exchange, request: Request) -> bytes:
    """Return the special headers that pass after all."""
    special = request.special
    passing: list[tuple[bytes, bytes]] = []
    # W3C Trace Context, 3.3: only with a valid traceparent, and only if it is valid itself.
    if exchange.trace_state and is_state(state := special.get(b"tracestate", ())):
        passing.extend((b"tracestate", value) for value in state)
    left = hops(request)
    if left is not None:
        # RFC 9110, 7.6.2: counted for OPTIONS (and TRACE, which never passes); others keep theirs.
        left -= request.method == "OPTIONS"
        passing.append((b"Max-Forwards", b"%d" % left))
    if exchange.downstream.origin.trusted:
        for name in _TRUSTED:
            passing.extend((name, value) for value in special.get(name.lower(), ()))
    if request.handshake is not None:
        return render(passing) + request.handshake.block
    return render(passing)


# What a trusted proxy may say besides X-Forwarded-* and Forwarded. From any other peer they are dropped: frameworks
# believe them, and X-Original-URL or X-HTTP-Method-Override would walk round the rules of a route.
_TRUSTED = (
    b"X-Real-IP",
    b"X-Original-URL",
    b"X-Rewrite-URL",
    b"X-HTTP-Method-Override",
)


def hops(request: Request) -> int | None:
    """Return the request's Max-Forwards, None where it has none. Raises InvalidRequest (RFC 9110, 7.6.2)."""
    sent = request.special.get(b"max-forwards")
    if sent is None:
        return None
    if len(sent) != 1 or MAX_FORWARDS.fullmatch(sent[0]) is None:
        msg = "Max-Forwards must be one small number"
        raise InvalidRequest(msg)
    return int(sent[0])  # at most three digits, says the pattern
