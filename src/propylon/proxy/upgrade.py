"""UPGRADE: take up the client's offer of another protocol: check the handshake and its Origin. Pure.

Facts. A page of any site may open a WebSocket to any other site, and the browser sends that site's cookies along. CORS does
not apply, and the answer is not hidden from the page: only the check of `Origin` stands between a hostile page and its
visitor's session (cross-site WebSocket hijacking). A client that is no browser may send any Origin, or none.

Strategy. `match` has found the route and whether it takes the offer up. The stages that follow are those of any request. Only
the authenticate stage is another one, because a handshake may bring its token in more places.
"""

from __future__ import annotations

from dataclasses import replace

from propylon.errors import Forbidden, RateLimited
from propylon.names.addresses import subnet
from propylon.proxy.exchange import Exchange, Origin
from propylon.proxy.principal import Principal
from propylon.proxy.route import Limited, Route, SocketRules
from propylon.wire.grammar import SERIALIZED_ORIGIN
from propylon.wire.handshake import read_handshake, read_upgrade
from propylon.wire.message import Request
from propylon.wire.offer import WEBSOCKET

__all__ = ["check_origin", "give_back", "take_up"]

_DEFAULT_PORTS = {b"http": b"80", b"https": b"443", b"ws": b"80", b"wss": b"443"}
_SECURE = {"https": b"https", "wss": b"https"}
_SHOWN = 256  # characters of an Origin in the log
# Seconds. A caller's sockets end when its pages or programs do, at no foreseeable moment.
_RETRY_AFTER = b"10"


def take_up(exchange: Exchange, request: Request, route: Route) -> Route:
    """Check the handshake; return the route with the stages that a handshake has.

    Raises InvalidRequest, UpgradeRequired and Forbidden.
    """
    rules = route.sockets
    if rules is None:
        return route
    downstream = exchange.downstream
    # Whatever becomes of the offer, no byte behind it is read as another request: the client may have sent bytes of the
    # other protocol already (CVE-2026-2833 in Pingora).
    downstream.closes = True
    if request.upgrade == WEBSOCKET:
        request.handshake = read_handshake(request)
    else:
        request.handshake = read_upgrade(request, request.upgrade)
    check_origin(request, downstream.origin, rules)
    request.plain = False  # the offer is put back into the block that the upstream gets
    return replace(route, authenticate=rules.authenticate, limit=_limited(route, rules))


def check_origin(request: Request, origin: Origin, rules: SocketRules) -> None:
    """Let no page of another site pass, unless it is listed. Raises Forbidden."""
    sent = request.special.get(b"origin")
    if sent is None:
        return  # no browser
    if len(sent) == 1 and (_is_own(sent[0], request, origin) or _is_listed(sent[0], rules)):
        return
    shown = b", ".join(sent)[:_SHOWN].decode("latin-1")
    msg = "A page of this origin may not open a socket here"
    raise Forbidden(msg, reason=f'Origin "{shown}" is not in websocket.origins')


def _is_listed(sent: bytes, rules: SocketRules) -> bool:
    # Every sandboxed frame and local file has the origin "null", an attacker's too.
    return sent.lower() != b"null" and rules.trusts(sent)


def _is_own(sent: bytes, request: Request, origin: Origin) -> bool:
    """Tell whether the page comes from the very host and port that it asks (RFC 6454, 5)."""
    match = SERIALIZED_ORIGIN.fullmatch(sent)
    if match is None:
        return False
    scheme = match["scheme"].lower()
    known = _scheme(request, origin)
    if known is not None and known != scheme:
        return False
    hosts = [request.host] if origin.host is None else [request.host, origin.host]
    return any(_place(host, scheme) == _place(match["authority"], scheme) for host in hosts)


def _scheme(request: Request, origin: Origin) -> bytes | None:
    """Return the scheme that the page was asked for by; None where a proxy may have ended TLS before the gateway."""
    if origin.scheme in _SECURE:
        return b"https"
    if origin.trusted and b"x-forwarded-proto" in request.special:
        return b"http"
    return None


def _place(authority: bytes, scheme: bytes) -> tuple[bytes, bytes]:
    """Return host and port; browsers leave a default port out."""
    host, mark, port = authority.lower().rpartition(b":")
    if not mark or authority.endswith(b"]"):
        host, port = authority.lower(), b""
    return host, port or _DEFAULT_PORTS[scheme]


def _limited(route: Route, rules: SocketRules) -> Limited | None:
    """Return the limit stage: that of the route, and then the number of the caller's open sockets."""
    limit, most, seats = route.limit, rules.max_open, rules.seats
    if most is None or seats is None:
        return limit

    async def take_seat(exchange: Exchange, request: Request, principal: Principal) -> None:
        waiting = None if limit is None else limit(exchange, request, principal)
        if waiting is not None:
            await waiting
        client = exchange.downstream.origin.client
        key = f"{route.name}\n{principal.caller if principal.known else subnet(client)}"
        if not seats.take(key, most):
            msg = "Too many open sockets"
            raise RateLimited(
                msg, details={"max_open": most}, headers=((b"Retry-After", _RETRY_AFTER),)
            )
        if request.handshake is not None:
            request.handshake.release = lambda: seats.give_back(key)

    return take_seat


def give_back(request: Request) -> None:
    """Count the caller's socket no more: it has ended, or was never opened."""
    handshake = request.handshake
    if handshake is not None and handshake.release is not None:
        release, handshake.release = handshake.release, None
        release()
