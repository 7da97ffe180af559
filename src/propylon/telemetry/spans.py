"""Describe an exchange that has ended as spans, by OpenTelemetry's semantic conventions for HTTP (1.23 and later).

    SERVER  GET /orders/{id}            the exchange; INTERNAL `call orders` for the call of an endpoint
      INTERNAL  policy office_hours     each policy
      CLIENT  GET                       each attempt at an upstream
      INTERNAL  endpoint                where the gateway's own app answers

Facts. Names in `propylon.` are ours. A span holds no header but User-Agent, no body, no principal, and of the query only what
cannot be a secret. With `X-Privacy-Level: strict` it holds neither query nor User-Agent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from propylon.errors import CircuitOpen, ClientGone, GatewayError, RateLimited
from propylon.proxy.exchange import Attempt, Exchange, Notes
from propylon.proxy.trace import is_state, own_span, span_id
from propylon.proxy.values import target_of
from propylon.services.service import Instance
from propylon.telemetry.redaction import redacted
from propylon.wire.grammar import OWS
from propylon.wire.message import Request

__all__ = ["CLIENT", "INTERNAL", "SERVER", "Event", "Span", "spans_of"]

# As OTLP numbers the kinds of spans.
INTERNAL, SERVER, CLIENT = 1, 2, 3
_ERROR = 500
_CLIENT_ERROR = 400
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
_PORTS = {"http": 80, "https": 443}
_AGENT = b"\r\nuser-agent:"
_CACHE = b"\r\nCache-Status: propylon; "
# Longer texts of clients are cut: a span is no place for 64 KiB of a header.
_LONGEST = 1024
_LONGEST_STATE = 512

Value = str | int | float | bool | tuple[str, ...]
Attributes = dict[str, Value]


@dataclass(slots=True)
class Event:
    """Something that happened at a time, on the clock of the pipeline."""

    name: str
    at: float
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Span:
    """A span; ids are hexadecimal digits, times are on the clock of the pipeline."""

    name: str
    kind: int
    trace_id: bytes
    span_id: bytes
    parent: bytes
    began: float
    ended: float
    attributes: Attributes
    remote: bool = False  # the parent is another program's
    flags: bytes = b"00"
    state: str = ""
    events: tuple[Event, ...] = ()
    failed: bool = False


def spans_of(exchange: Exchange, notes: Notes) -> Iterator[Span]:
    """Yield the spans, a parent before its children."""
    yield _own(exchange, notes)
    above, trace, flags = own_span(exchange.entropy), exchange.trace_id, exchange.trace_flags
    for at, run in enumerate(notes.policies):
        attributes: Attributes = {"propylon.policy": run.name}
        if run.failure:
            attributes["error.type"] = run.failure
        # Counted down from where attempts count up, so that no two are alike.
        own = span_id(exchange.entropy, -1 - at)
        name = f"policy {run.name}"
        yield Span(name, INTERNAL, trace, own, above, run.began, run.ended, attributes, flags=flags)
    for at, attempt in enumerate(_attempts(exchange, notes)):
        yield _of_attempt(exchange, attempt, at)


# The exchange


def _own(exchange: Exchange, notes: Notes) -> Span:
    request, route = exchange.request, exchange.route
    is_call = notes.caller is not None
    method = "HTTP" if request is None else _method(request.method)
    if is_call and route is not None:
        name = f"call {route.service.name}"
        attributes: Attributes = {}
    else:
        name = f"{method} {route.template}" if route is not None and route.template else method
        attributes = {} if request is None else _of_request(exchange, request)
    _add_outcome(attributes, exchange)
    error = exchange.error
    failed = exchange.status >= _ERROR or (error is not None and "cut" in exchange.flags)
    if failed:
        attributes["error.type"] = _error_type(error, exchange.status, exchange.upstream_status)
    return Span(
        name,
        INTERNAL if is_call else SERVER,
        exchange.trace_id,
        own_span(exchange.entropy),
        notes.parent,
        exchange.began,
        exchange.ended,
        attributes,
        remote=bool(notes.parent) and not is_call,
        flags=exchange.trace_flags,
        state=_state(exchange),
        events=tuple(_events(exchange)),
        failed=failed,
    )


def _of_request(exchange: Exchange, request: Request) -> Attributes:
    origin, route = exchange.downstream.origin, exchange.route
    attributes: Attributes = {
        "http.request.method": _method(request.method),
        "url.scheme": origin.scheme,
        "url.path": _text(request.path),
        "network.protocol.version": f"1.{request.version}",
        "client.address": origin.client,
        "network.peer.address": origin.peer,
    }
    if attributes["http.request.method"] != request.method:
        attributes["http.request.method_original"] = request.method[:_LONGEST]
    host = (origin.host or request.host).decode("latin-1")
    _add_server(attributes, *_split(host, _PORTS.get(origin.scheme, 0)))
    if route is not None and route.template:
        attributes["http.route"] = route.template
    if not exchange.privacy.strict:
        if request.query:
            attributes["url.query"] = redacted(_text(request.query[1:]))
        block = request.block
        at = block.lower().find(_AGENT)
        if at >= 0:
            agent = block[at + len(_AGENT) :].partition(b"\r\n")[0]
            attributes["user_agent.original"] = _text(agent.strip(OWS))
    return attributes


def _add_outcome(attributes: Attributes, exchange: Exchange) -> None:
    route, error = exchange.route, exchange.error
    if exchange.status:
        attributes["http.response.status_code"] = exchange.status
    attributes["propylon.request_id"] = exchange.request_id.decode("ascii")
    if route is not None:
        attributes["propylon.route"] = route.name
        attributes["propylon.service"] = route.service.name
    if error is not None:
        attributes["propylon.error"] = error.code
    if exchange.flags:
        attributes["propylon.flags"] = exchange.flags
    if exchange.close_code:
        attributes["propylon.websocket.close_code"] = exchange.close_code


def _events(exchange: Exchange) -> Iterator[Event]:
    error, at = exchange.error, exchange.upstream_began
    refused = isinstance(error, RateLimited)
    for limit in exchange.limited:
        decision = "refused" if refused else "shadow"
        facts = {"propylon.limit": limit, "propylon.decision": decision}
        yield Event("propylon.limit", exchange.ended if refused else at, facts)
    if isinstance(error, CircuitOpen):
        yield Event("propylon.circuit", exchange.ended, {"propylon.decision": "refused"})
    elif exchange.permit is not None and exchange.permit.probe:
        yield Event("propylon.circuit", at, {"propylon.decision": "probe"})
    _, found, rest = exchange.lines.partition(_CACHE)
    if found:
        said = rest.partition(b"\r\n")[0].decode("latin-1")
        answered = exchange.answered or exchange.ended
        yield Event("propylon.cache", answered, {"propylon.cache.status": said})
    for reason in exchange.retried:
        yield Event("propylon.retry", at, {"propylon.reason": reason})


def _state(exchange: Exchange) -> str:
    request = exchange.request
    sent = () if request is None else request.special.get(b"tracestate", ())
    if not exchange.trace_state or not sent or not is_state(sent):
        return ""
    joined = b",".join(sent)
    return joined.decode("ascii") if len(joined) <= _LONGEST_STATE else ""


# Attempts


def _attempts(exchange: Exchange, notes: Notes) -> Iterator[Attempt]:
    yield from notes.attempts
    instance = exchange.instance
    if len(notes.attempts) >= exchange.attempts or instance is None:
        return
    error = exchange.error
    ended = exchange.ended if exchange.streams else exchange.answered or exchange.ended
    yield Attempt(
        instance,
        notes.began or exchange.upstream_began,
        ended,
        exchange.upstream_status,
        error,
    )


def _of_attempt(exchange: Exchange, attempt: Attempt, at: int) -> Span:
    request, route = exchange.request, exchange.route
    attributes: Attributes = {}
    own = span_id(exchange.entropy, at)
    name, kind, failed = "endpoint", INTERNAL, False
    if route is not None and request is not None and not route.service.builtin:
        name, kind = _method(request.method), CLIENT
        attributes = _of_sending(exchange, attempt.instance, request)
        failed = attempt.status >= _CLIENT_ERROR or _is_failure(attempt.error)
        if at:
            attributes["http.request.resend_count"] = at
    if attempt.status:
        attributes["http.response.status_code"] = attempt.status
    if failed:
        attributes["error.type"] = _error_type(attempt.error, attempt.status, attempt.status)
    return Span(
        name,
        kind,
        exchange.trace_id,
        own,
        own_span(exchange.entropy),
        attempt.began,
        attempt.ended,
        attributes,
        flags=exchange.trace_flags,
        failed=failed,
    )


def _of_sending(exchange: Exchange, instance: Instance, request: Request) -> Attributes:
    address: Any = getattr(instance.upstream, "address", None)
    scheme = "https" if getattr(address, "tls", None) is not None else "http"
    host, port = _split(instance.host.decode("latin-1"), _PORTS[scheme])
    path = getattr(address, "path", "")
    if address is not None:
        host, port = (path, 0) if path else (address.host, address.port)
    attributes: Attributes = {
        "http.request.method": _method(request.method),
        "network.protocol.version": "1.1",
        "propylon.instance": instance.id,
    }
    _add_server(attributes, host, port)
    if exchange.route is not None:
        attributes["propylon.service"] = exchange.route.service.name
        aimed = target_of(exchange, request, exchange.route)
        # The client's query: what the operator sets in it may be a secret.
        aimed = None if aimed is None else (aimed[0], request.query)
        target = _text(exchange.route.line(request, instance.base, aimed).split(b" ")[1])
        target, mark, query = target.partition("?")
        if mark and not exchange.privacy.strict:
            target = f"{target}?{redacted(query)}"
        attributes["url.full"] = f"{scheme}://{instance.host.decode('latin-1')}{target}"
    return attributes


# Words


def _add_server(attributes: Attributes, host: str, port: int) -> None:
    if host:
        attributes["server.address"] = host[:_LONGEST]
        if port:
            attributes["server.port"] = port


def _split(authority: str, port: int) -> tuple[str, int]:
    """Return host and port of `host:port`; a port that is no number is none."""
    host, colon, digits = authority.rpartition(":")
    if colon and digits.isdecimal() and len(digits) <= 5:
        return host.strip("[]"), int(digits)
    return authority.strip("[]"), port


def _method(method: str) -> str:
    return method if method in _METHODS else "_OTHER"


def _error_type(error: GatewayError | None, status: int, upstream_status: int) -> str:
    """Return the status where an upstream said so, else the class of what went wrong."""
    if error is None or (upstream_status and upstream_status == status >= _CLIENT_ERROR):
        return str(status)
    return type(error).__name__


def _is_failure(error: GatewayError | None) -> bool:
    """Tell whether an attempt failed by this: a client that leaves is no failure of an upstream."""
    return error is not None and not isinstance(error, ClientGone)


def _text(sent: bytes) -> str:
    return sent[:_LONGEST].decode("latin-1")
