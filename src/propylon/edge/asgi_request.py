"""Read an ASGI scope as a request: write its head again, and parse that as the fast edge parses a head."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote

from propylon.edge.state import EdgeState
from propylon.errors import InvalidRequest
from propylon.proxy.exchange import Origin
from propylon.wire.message import CHUNKED, Request
from propylon.wire.probe import too_large

__all__ = ["head_of", "origin_of", "read_request"]

Scope = MutableMapping[str, Any]

_MAX_ORIGINS = 1024  # remembered peers: a bound, so that many clients cannot fill the memory
# An HTTP/2 or HTTP/3 request needs no header to announce its body. One with these methods is taken to have one.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


def origin_of(edge: EdgeState, scope: Scope) -> Origin:
    """Return who is at the other end, the same object for all requests of a peer."""
    client = scope.get("client")
    peer = str(client[0]) if client else ""
    key = (peer, scope.get("scheme", "http"), scope.get("root_path", ""))
    origin = edge.origins.get(key)
    if origin is None:
        if len(edge.origins) >= _MAX_ORIGINS:
            edge.origins.clear()
        origin = edge.origins[key] = edge.trust.origin(*key)
    return origin


def read_request(edge: EdgeState, scope: Scope) -> Request:
    """Write the scope as a request head, and parse that. Raises what `parse_request` raises."""
    method, version = scope["method"], scope.get("http_version", "1.1")
    lines = _lines(scope)
    if lines.count(b"\n") != len(scope["headers"]):
        # Header injection. No HTTP/1 parser lets it pass, but HTTP/2 can carry it, and a middleware can add it.
        msg = "A header holds a line end"
        raise InvalidRequest(msg)
    if version[0] in "23" and method in _WITH_BODY and b"\r\ncontent-length:" not in lines:
        lines += b"\r\ntransfer-encoding: chunked"
    line = _line(scope)
    if len(line) + len(lines) > edge.max_header:
        raise too_large(line, edge.max_header)
    request = edge.memory.read(line, lines)
    if request.upgrade and request.length == CHUNKED:
        # uvicorn drops the body of a request that offers another protocol, and nothing tells a dropped body in chunks from
        # an empty one. A body with a length is missed by `Body.end`.
        msg = "A request with a body cannot change the protocol"
        raise InvalidRequest(msg)
    return request


def head_of(scope: Scope) -> bytes:
    """Write the scope as a request head, as it is."""
    return b"%b%b\r\n\r\n" % (_line(scope), _lines(scope))


def _lines(scope: Scope) -> bytes:
    return b"".join([b"\r\n%b: %b" % pair for pair in scope["headers"]])


def _line(scope: Scope) -> bytes:
    target = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    root = scope.get("root_path", "").encode()
    if root and (target + b"/").startswith(root + b"/"):  # not every server has it in raw_path
        target = target[len(root) :] or b"/"
    if query := scope.get("query_string"):
        target = b"%b?%b" % (target, query)
    version = b"1.0" if scope.get("http_version") == "1.0" else b"1.1"
    return b"%b %b HTTP/%b" % (scope["method"].encode(), target, version)
