"""REDIRECT: answer every request with 308 to the same URL with https; in the place of `forward`. Pure.

308 and not 301: the method and the body must stay the same (RFC 9110, 15.4.9).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from propylon.errors import InvalidRequest
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Route
from propylon.upstream.ports import Answer
from propylon.upstream.reply import Reply
from propylon.wire.message import Request, Response

__all__ = ["to_https"]

_DEFAULT_PORT = 443
_PERMANENT_REDIRECT = 308


def to_https(port: int) -> Callable[[Exchange, Request, Route], Awaitable[Answer]]:
    """Return the function that replaces `forward` on a listener that only redirects to https at `port`."""
    suffix = b"" if port == _DEFAULT_PORT else b":%d" % port

    async def redirect(
        exchange: Exchange, request: Request, route: Route  # noqa: ARG001 — as `forward`
    ) -> Answer:
        host = _host(exchange, request)
        location = b"https://%b%b%b%b" % (host, suffix, request.path, request.query)
        block = b"\r\nLocation: %b\r\nContent-Length: 0" % location
        head = Response(_PERMANENT_REDIRECT, b" 308 Permanent Redirect", block, 0, keep_alive=True)
        return Reply(head, b"", None)

    return redirect


def _host(exchange: Exchange, request: Request) -> bytes:
    """Return the host that the client asked for, without its port. Raises InvalidRequest where there is none."""
    # Both were checked by `wire.target.host_name`: nothing in them ends the authority of a URL.
    host = exchange.downstream.origin.host or request.host
    if not host:  # HTTP/1.0
        msg = "Without a Host header there is no URL to redirect to"
        raise InvalidRequest(msg)
    if host.startswith(b"["):  # an IPv6 address
        return host[: host.index(b"]") + 1]
    return host.partition(b":")[0]
