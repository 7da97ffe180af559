"""Describe an exchange that has ended as one mapping, always with the same fields."""

from __future__ import annotations

import traceback
from typing import Any

from propylon.errors import GatewayError, Maintenance
from propylon.proxy.exchange import Exchange, StandIn

__all__ = ["call_record", "describe", "level_of", "record"]

_ERROR = 500
_CLIENT_ERROR = 400


def level_of(exchange: Exchange) -> str:
    """Return the log level of an exchange.

    error: an operator has to look (5xx, or a response that was cut off). warning: the gateway refused the request, an
    operator has taken the route out of service, or a fallback answered.
    info: the rest, also the 4xx of upstreams, which are part of normal traffic.
    """
    planned = isinstance(exchange.error, Maintenance)
    if (exchange.status >= _ERROR and not planned) or "cut" in exchange.flags:
        return "error"
    if (exchange.error is not None and exchange.status >= _CLIENT_ERROR) or exchange.stand_in:
        return "warning"
    return "info"


def record(exchange: Exchange, level: str, time: str) -> dict[str, Any]:
    """Return the record. It holds no query, header or body: those contain tokens and personal data."""
    request, route, downstream = exchange.request, exchange.route, exchange.downstream
    instance, body, ended = exchange.instance, downstream.body, exchange.ended
    method = host = path = None
    if request is not None:
        method = request.method
        host = request.host.decode("latin-1")
        path = request.path.decode("latin-1")
    name = service = upstream_ms = None
    if route is not None:
        name, service = route.name, route.service.name
    if exchange.attempts:
        upstream_ms = int((ended - exchange.upstream_began) * 1e6) / 1000
    fields: dict[str, Any] = {
        "time": time,
        "level": level,
        "event": "request",
        "request_id": exchange.request_id.decode(),
        "trace_id": exchange.trace_id.decode() or None,
        "client_ip": downstream.origin.client,
        "method": method,
        "host": host,
        "path": path,
        "route": name,
        "service": service,
        "instance": None if instance is None else instance.id,
        # With `X-Privacy-Level: strict` the log does not name the user.
        "principal": (
            "private"
            if exchange.privacy.level == "strict"
            else exchange.principal.subject or "anonymous"
        ),
        "status": exchange.status,
        "upstream_status": exchange.upstream_status or None,
        "bytes_in": 0 if body is None else body.received,
        "bytes_out": downstream.bytes_out,
        # Milliseconds with three digits. Integer division is faster than round().
        "duration_ms": int((ended - exchange.began) * 1e6) / 1000,
        "upstream_ms": upstream_ms,
        "attempts": exchange.attempts,
        "error": None,
        "flags": exchange.flags,
    }
    if exchange.stand_in is not None:
        fields["fallback"] = _stand_in(exchange.stand_in)
    if exchange.limited:
        fields["rate_limit"] = exchange.limited
    if exchange.faults:
        fields["faults"] = exchange.faults
    if exchange.close_code:
        fields["close_code"] = exchange.close_code
    if exchange.error is not None:
        _add_error(fields, exchange.error)
    return fields


def _stand_in(stand_in: StandIn) -> dict[str, str]:
    """Say what answered in place of the service, and how that has failed."""
    error = stand_in.error
    return {
        "by": stand_in.by,
        "service": stand_in.service,
        "reason": stand_in.reason,
        "error": f"status {stand_in.reason}" if error is None else describe(error),
    }


# Of the endpoint's own client, whose request has a record by the same id; or no other than `upstream_ms`.
_NOT_OF_CALLS = ("host", "bytes_in", "bytes_out", "duration_ms")


def call_record(exchange: Exchange, level: str, time: str) -> dict[str, Any]:
    """Return the record of a call that an endpoint has made; `request_id` leads to its client's request."""
    fields = {**record(exchange, level, time), "event": "call"}
    for name in _NOT_OF_CALLS:
        del fields[name]
    return fields


def _add_error(fields: dict[str, Any], error: GatewayError) -> None:
    fields["error"] = describe(error)
    if error.status == _ERROR and error.__cause__ is not None:
        fields["traceback"] = "".join(traceback.format_exception(error.__cause__))


def describe(error: GatewayError) -> str:
    """Return code, class and message of an error, with the reason that only operators may see."""
    text = f"{error.code} {type(error).__name__}: {error.message}"
    return f"{text} ({error.reason})" if error.reason else text
