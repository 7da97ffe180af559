"""Say what the command and the running gateway say alike, and hide what is secret.

Rules.

1. What is shown may end up in a ticket: values of headers and of the query whose names sound like secrets are not shown.
2. A client that may only ask for explanations may not learn the gateway's own credentials: what the operator sets is not
   shown to clients, whatever its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from propylon.config.models.schema import RouteConfig
from propylon.proxy.coding.accepted import chosen
from propylon.proxy.match import Table
from propylon.proxy.route import Route
from propylon.wire.headers import values
from propylon.wire.message import Request

__all__ = ["circuit_text", "compression_text", "cors_text", "described", "shown", "without_secrets"]

_HIDDEN = "(not shown)"
_CONFIDENTIAL = r"auth|cookie|credential|dpop|key|passw|secret|session|signature|ticket|token"
# `Sec-WebSocket-Key` is none: it only shows that a handshake was read (RFC 6455, 10.3).
_CREDENTIALS = re.compile(
    rf"(?im)^((?!sec-websocket-key:)[^:\r\n]*(?:{_CONFIDENTIAL})[^:\r\n]*:)[^\r\n]*"
)
# A token of a handshake: where the route looks at none, it passes as it is.
_SUBPROTOCOL_TOKEN = re.compile(r"(?im)(^sec-websocket-protocol:.*?bearer\.)[^\s,]+")
_QUERY = re.compile(r"([?&])([^=&#\s]*)=[^&#\s]*")
_SECRET_PARAMETER = re.compile(rf"(?i){_CONFIDENTIAL}|\bsig\b|\bcode\b|pwd")


def described(route: Route, path: str, place: str) -> dict[str, Any]:
    """Return what a route is called, what it is for, and where it was written."""
    host = route.pattern.host
    return {
        "name": route.name,
        "path": path,
        "host": host.decode() if host is not None else None,
        "service": ", ".join(part.service.name for part in route.parts),
        "place": place,
    }


def shown(sent: bytes, hide: Callable[[bytes], bytes] | None, private: Route | None = None) -> str:
    """Return an upstream's request as text, without secrets. Each character is a byte (Latin-1).

    `hide` takes tokens in other places than Authorization out of a block. `private` is a route whose set headers are not shown.
    """
    line, mark, rest = (sent if hide is None else hide(sent)).decode("latin-1").partition("\r\n")
    rest = _SUBPROTOCOL_TOKEN.sub(rf"\1{_HIDDEN}", rest)
    rest = _CREDENTIALS.sub(rf"\1 {_HIDDEN}", rest)
    if private is not None:
        line, rest = _without_parameters(line, private), _without_set(rest, private)
    return without_secrets(line) + mark + rest


def _without_set(text: str, route: Route) -> str:
    """Hide the values that the operator sets: a variable may have brought a secret."""
    put = (route.request_set + route.request_overrides.block).decode("latin-1")
    hidden = {line: f"{line.partition(':')[0]}: {_HIDDEN}" for line in put.split("\r\n") if line}
    templated = {name.decode() for name, _ in route.changes.lines} if route.changes else ()
    names = {line: line.partition(":")[0] for line in text.split("\r\n")}
    hidden |= {line: f"{name}: {_HIDDEN}" for line, name in names.items() if name in templated}
    return "\r\n".join(hidden.get(line, line) for line in names)


def _without_parameters(line: str, route: Route) -> str:
    query = None if route.changes is None else route.changes.query
    names = {name.decode() for name, _ in query.added} if query is not None else ()
    return _QUERY.sub(
        lambda match: f"{match[1]}{match[2]}={_HIDDEN}" if match[2] in names else match[0], line
    )


def without_secrets(text: str) -> str:
    """Return the text without the values of its query whose names sound like secrets, however they are spelled."""

    def hide(match: re.Match[str]) -> str:
        secret = _SECRET_PARAMETER.search(unquote(match[2])) is not None
        return f"{match[1]}{match[2]}={_HIDDEN}" if secret else match[0]

    return _QUERY.sub(hide, text)


def circuit_text(route: Route, prefix: str) -> str:
    """Say when the breaker of the route's service opens; empty if the route has none."""
    breaker = route.service.breaker
    if breaker is None or not route.circuit:
        return ""
    rules = breaker.circuit
    return (
        f'The breaker of "{route.service.name}" opens at {rules.failure_threshold} failures within'
        f" {rules.failure_window:g} s, if they are at least {rules.failure_rate:.0%} of at least"
        f" {rules.min_throughput} requests. GET {prefix}/circuits tells whether it is open, and why."
    )


def compression_text(written: RouteConfig | None, request: Request) -> str:
    """Say in which coding the client would get an answer; empty if the route compresses none."""
    if written is None or not written.compress:
        return ""
    codings = written.compress.encodings
    wanted = values(request.block, b"accept-encoding")
    coding = chosen(wanted, [one.encode("ascii") for one in codings])
    got = "plain" if coding is None else f"in {coding.decode()}"
    return f"The route compresses answers ({', '.join(codings)}): this client would get them {got}."


def cors_text(table: Table, route: Route | None, request: Request) -> str:
    """Say whether a page of the request's origin may read the answer; nothing for a request that no page sends."""
    origin = b", ".join(request.special.get(b"origin", ())).decode("latin-1")
    if not origin:
        return ""
    own = None if route is None else route.cors
    cors, whose = (table.cors, "cors") if own is None else (own, "the route's cors")
    if cors is None:
        return f"CORS is off, so pages of {origin} may read the answer only if the service says so."
    may = "may" if cors.permits(request) else "may not"
    return f"Pages of {origin} {may} read the answer, by {whose}."
