"""REFUSE: an error as the client sees it: the envelope, or RFC 9457 for those who ask for it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

import orjson

from propylon.errors import Details, GatewayError
from propylon.wire.headers import render, values
from propylon.wire.message import Request, Response

__all__ = ["PROBLEM", "RETRY_AFTER", "asks_for_problem", "envelope", "problem", "refusal"]

PROBLEM = b"application/problem+json"
RETRY_AFTER = b"5"  # seconds: long enough not to be a load, short enough not to be an outage
_CHALLENGED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})  # who they are
_EXACT = re.compile(rb"application/problem\+json(?:\s*;|\s*,|\s*\Z)")


def refusal(
    error: GatewayError, request: Request | None, request_id: bytes
) -> tuple[Response, bytes]:
    """Return head and body of the answer to a request that ends with `error`."""
    identity = request_id.decode("ascii")
    kind, form = b"application/json", envelope
    if request is not None and asks_for_problem(values(request.block, b"accept")):
        kind, form = PROBLEM, problem
    body = orjson.dumps(form(error.status, error.code, error.message, error.details, identity))
    block = render(
        [
            (b"Content-Type", kind),
            (b"Content-Length", b"%d" % len(body)),
            (b"Cache-Control", b"no-store"),
            (b"X-Request-ID", request_id),
            (b"X-Error-Source", b"gateway"),
            *error.headers,
            *_challenge(error),
            *_retry_after(error),
        ]
    )
    reason = f" {error.status} {_phrase(error.status)}".encode("ascii")
    return Response(error.status, reason, block, len(body), keep_alive=not error.closes), body


def _challenge(error: GatewayError) -> tuple[tuple[bytes, bytes], ...]:
    """Say what would let the client in, where the error does not know better (RFC 9110, 11.6.1)."""
    # A team's policy refuses with a status of its choice, and an error of no class of ours.
    if error.status not in _CHALLENGED or _has_header(error, b"www-authenticate"):
        return ()
    return ((b"WWW-Authenticate", b"Bearer"),)


def _retry_after(error: GatewayError) -> tuple[tuple[bytes, bytes], ...]:
    """Say when to come back, where the error does not know better."""
    if error.status != HTTPStatus.SERVICE_UNAVAILABLE or _has_header(error, b"retry-after"):
        return ()
    return ((b"Retry-After", RETRY_AFTER),)


def _has_header(error: GatewayError, lower: bytes) -> bool:
    return any(name.lower() == lower for name, _ in error.headers)


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def _phrase(status: int) -> str:
    return _PHRASES.get(status, "Refused")  # a team's policy may make one up


def envelope(
    status: int, code: str, message: str, details: Details, request_id: str  # noqa: ARG001
) -> dict[str, object]:
    """Return the error as everybody gets it."""
    return {
        "error": {"code": code, "message": message, "details": details},
        "request_id": request_id,
    }


def problem(
    status: int, code: str, message: str, details: Details, request_id: str
) -> dict[str, object]:
    """Return it as RFC 9457 has it; `type` is about:blank, so `title` is the status phrase (4.2.1)."""
    return {
        "type": "about:blank",
        "title": _phrase(status),
        "status": status,
        "detail": message,
        "code": code,
        "details": details,
        "request_id": request_id,
    }


def asks_for_problem(accepted: Iterable[bytes]) -> bool:
    """Whether one of the Accept lines names the type."""
    return any(_EXACT.search(value.lower()) for value in accepted)
