"""Tell what the names of templates stand for, for one exchange. Pure."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from propylon.proxy.changes import Target
from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import claim_at, claim_text
from propylon.proxy.route import Route
from propylon.proxy.template import Name
from propylon.wire.headers import values
from propylon.wire.lookalikes import reduced
from propylon.wire.message import Request

__all__ = ["ValuesOf", "target_of"]


class ValuesOf:
    """The values of one exchange (`template.Values`)."""

    __slots__ = ("_exchange", "_request", "_route")

    def __init__(self, exchange: Exchange, request: Request, route: Route) -> None:
        """Read from these, when a value is asked for."""
        self._exchange = exchange
        self._request = request
        self._route = route

    def sent(self, name: Name) -> bytes:
        """Return the value as a header has it; empty if there is none."""
        if name.kind == "path" and name.of:
            return self._request.path.split(b"/")[1:][name.at]
        if name.kind == "query":
            return self._parameter(name.of)
        return self._value(name)

    def plain(self, name: Name) -> bytes:
        """Return the value without escapes; empty if there is none."""
        if name.kind == "path" and name.of:
            return unquote_to_bytes(self.sent(name))
        if name.kind == "query":
            return unquote_to_bytes(self.sent(name).replace(b"+", b" "))
        return self._value(name)

    def _parameter(self, name: str) -> bytes:
        wanted = name.encode("utf-8")
        for pair in self._request.query[1:].split(b"&"):
            key, _, value = pair.partition(b"=")
            if unquote_to_bytes(key.replace(b"+", b" ")) == wanted:
                return value
        return b""

    def _value(self, name: Name) -> bytes:
        if name.kind == "claim":
            return claim_text(claim_at(self._exchange.principal.claims, name.of)).encode()
        if name.kind == "header":
            return self._header(name.of.lower().encode("ascii"))
        return self._bare(name.kind)

    def _header(self, name: bytes) -> bytes:
        """Return what the service gets in a header: where the gateway vouches for it, never what the client sent."""
        vouched = self._request.vouched or {}
        if name in vouched:
            return vouched[name][1]
        if reduced(name) in self._route.vouched:
            return b""
        # RFC 9110, 5.3: lines of one name are one list.
        return b", ".join(values(self._request.block, name))

    def _bare(self, kind: str) -> bytes:
        exchange, request, route = self._exchange, self._request, self._route
        origin = exchange.downstream.origin
        match kind:
            case "request_id":
                return exchange.request_id
            case "trace_id":
                return exchange.trace_id
            case "client_ip":
                return origin.client.encode()
            case "user":
                return exchange.principal.subject.encode()
            case "host":
                return _without_port(origin.host or request.host)
            case "scheme":
                return origin.scheme.encode()
            case "method":
                return request.method.encode()
            case "path":
                return request.path
            case "route":
                return route.name.encode()
            case _:
                return route.service.name.encode()


def _without_port(host: bytes) -> bytes:
    """Return a Host in lower case and without its port; it was checked when it was read."""
    if host.startswith(b"["):  # an IPv6 address
        return host[: host.index(b"]") + 1].lower()
    return host.partition(b":")[0].lower()


def target_of(exchange: Exchange, request: Request, route: Route) -> Target | None:
    """Return how path and query of a request change by its values; None where they do not.

    Raises Forbidden and InvalidRequest for a value that a path needs and that is not there.
    """
    changes = route.changes
    if changes is None:
        return None
    return changes.target(
        route.rewrite, request.path, request.query, ValuesOf(exchange, request, route)
    )
