"""Describe an exchange that has ended: one mapping, the same fields always."""

from __future__ import annotations

import traceback
from typing import Any

from propylon.errors import GatewayError
from propylon.proxy.exchange import Exchange

__all__ = ["level_of", "record"]

_ERROR = 500
_CLIENT_ERROR = 400


def level_of(exchange: Exchange) -> str:
    """Return the level that the outcome deserves.

    error: somebody has to look (5xx, an answer cut off). warning: the gateway refused. info: the rest,
    an upstream's 4xx included: those are its own affair.
    """
    if exchange.status >= _ERROR or "cut" in exchange.flags:
        return "error"
    if exchange.error is not None and exchange.status >= _CLIENT_ERROR:
        return "warning"
    return "info"


def record(exchange: Exchange, level: str, time: str, now: float) -> dict[str, Any]:
    """Return the record; never a query, a header or a body: those hold secrets."""
    request, route, downstream = exchange.request, exchange.route, exchange.downstream
    instance = exchange.instance
    body = downstream.body
    upstream_ms = None
    if exchange.attempts:
        upstream_ms = round((now - exchange.upstream_began) * 1000, 3)
    fields: dict[str, Any] = {
        "time": time,
        "level": level,
        "event": "request",
        "request_id": exchange.request_id.decode(),
        "trace_id": exchange.trace_id.decode() or None,
        "client_ip": downstream.origin.client,
        "method": request.method if request is not None else None,
        "host": request.host.decode("latin-1") if request is not None else None,
        "path": request.path.decode("latin-1") if request is not None else None,
        "route": route.name if route is not None else None,
        "service": route.service.name if route is not None else None,
        "instance": instance.id if instance is not None else None,
        "principal": str(exchange.principal),
        "status": exchange.status,
        "upstream_status": exchange.upstream_status or None,
        "bytes_in": body.received if body is not None else 0,
        "bytes_out": downstream.bytes_out,
        "duration_ms": round((now - exchange.began) * 1000, 3),
        "upstream_ms": upstream_ms,
        "attempts": exchange.attempts,
        "error": None,
        "flags": exchange.flags,
    }
    if exchange.error is not None:
        fields["error"] = _describe(exchange.error)
        if exchange.error.status == _ERROR and exchange.error.__cause__ is not None:
            fields["traceback"] = "".join(traceback.format_exception(exchange.error.__cause__))
    return fields


def _describe(error: GatewayError) -> str:
    """Say code, class, message and what only the operator may know."""
    text = f"{error.code} {type(error).__name__}: {error.message}"
    return f"{text} ({error.reason})" if error.reason else text
