"""REFUSE: turn an error into the answer that the client gets: the envelope, or RFC 9457 on request. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

import orjson

from propylon.errors import Details, GatewayError, RateLimited
from propylon.wire.headers import render, values
from propylon.wire.message import Request, Response

__all__ = ["PROBLEM", "RETRY_AFTER", "asks_for_problem", "envelope", "problem", "refusal"]

PROBLEM = b"application/problem+json"
# Seconds. Short, so that clients are back soon after a deployment; not shorter, so that waiting clients are no load.
RETRY_AFTER = b"5"
# RFC 9110, 11.6.1: a 401 must carry WWW-Authenticate. RFC 6750, 3 allows it on a 403, too.
_CHALLENGED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_EXACT = re.compile(rb"application/problem\+json(?:\s*;|\s*,|\s*\Z)")


def refusal(
    error: GatewayError, request: Request | None, request_id: bytes, more: Details | None = None
) -> tuple[Response, bytes]:
    """Return head and body of the answer to a request that ended with `error`; `more` are details for this client alone.

    Only what `error` says to clients goes out; its `reason` and its cause are for the log.
    """
    identity = request_id.decode("ascii")
    kind, form = b"application/json", envelope
    if request is not None and asks_for_problem(values(request.block, b"accept")):
        kind, form = PROBLEM, problem
    details = {**error.details, **more} if more else error.details
    told = form(error.status, error.code, error.message, details, identity)
    if form is problem and error.problem is not None:
        told |= dict(zip(("type", "title"), error.problem, strict=True))
    if form is problem and isinstance(error, RateLimited) and error.violated:
        told |= quota_exceeded(error)
    body = orjson.dumps(told)
    if error.page is not None:
        kind, body = error.page
    block = render(
        [
            (b"Content-Type", kind),
            (b"Content-Length", b"%d" % len(body)),
            # A 404 or 410 may be cached without any header (RFC 9110, 15.1), and the next user would get it.
            (b"Cache-Control", b"no-store"),
            (b"X-Request-ID", request_id),
            # Tells a client whether the gateway or the service refused it; `relay` sets "upstream".
            (b"X-Error-Source", b"gateway"),
            *error.headers,
            *_challenge(error),
            *_retry_after(error),
        ]
    )
    reason = f" {error.status} {_phrase(error.status)}".encode("ascii")
    return Response(error.status, reason, block, len(body), keep_alive=not error.closes), body


def _challenge(error: GatewayError) -> tuple[tuple[bytes, bytes], ...]:
    """Return a plain challenge for a 401 or 403 that has none (RFC 9110, 11.6.1)."""
    # Our own errors bring theirs. A team's policy may raise any GatewayError with status 401.
    if error.status not in _CHALLENGED or _has_header(error, b"www-authenticate"):
        return ()
    return ((b"WWW-Authenticate", b"Bearer"),)


def _retry_after(error: GatewayError) -> tuple[tuple[bytes, bytes], ...]:
    """Return Retry-After for a 503 that has none: without it clients choose their own pace."""
    if error.status != HTTPStatus.SERVICE_UNAVAILABLE or _has_header(error, b"retry-after"):
        return ()
    return ((b"Retry-After", RETRY_AFTER),)


def _has_header(error: GatewayError, lower: bytes) -> bool:
    return any(name.lower() == lower for name, _ in error.headers)


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def _phrase(status: int) -> str:
    return _PHRASES.get(status, "Refused")  # a team's policy may use a status without a name


def envelope(
    status: int, code: str, message: str, details: Details, request_id: str  # noqa: ARG001
) -> dict[str, object]:
    """Return the error as the JSON that clients get by default."""
    return {
        "error": {"code": code, "message": message, "details": details},
        "request_id": request_id,
    }


def problem(
    status: int, code: str, message: str, details: Details, request_id: str
) -> dict[str, object]:
    """Return the error as RFC 9457; `type` is about:blank, so `title` is the status phrase (4.2.1)."""
    return {
        "type": "about:blank",
        "title": _phrase(status),
        "status": status,
        "detail": message,
        "code": code,
        "details": details,
        "request_id": request_id,
    }


def quota_exceeded(error: RateLimited) -> dict[str, object]:
    """Return what a 429 says as the registered problem type (draft-ietf-httpapi-ratelimit-headers-10, 6.1)."""
    return {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "violated-policies": error.violated,
    }


def asks_for_problem(accepted: Iterable[bytes]) -> bool:
    """Tell whether Accept names application/problem+json.

    `*/*` does not count: nearly all clients send it, and would get another format than the documented one.
    """
    return any(_EXACT.search(value.lower()) for value in accepted)
