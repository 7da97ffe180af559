"""REFUSE: an error as the client sees it: the envelope, or RFC 9457 for those who ask for it. Pure."""

from __future__ import annotations

import re
from http import HTTPStatus

import orjson

from propylon.errors import GatewayError
from propylon.wire.headers import render, values
from propylon.wire.message import Request, Response

__all__ = ["refusal"]

_PROBLEM = b"application/problem+json"
_RETRY_AFTER = b"5"  # seconds: long enough not to be a load, short enough not to be an outage
_EXACT = re.compile(rb"application/problem\+json(?:\s*;|\s*,|\s*\Z)")


def refusal(
    error: GatewayError, request: Request | None, request_id: bytes
) -> tuple[Response, bytes]:
    """Return head and body of the answer to a request that ends with `error`."""
    identity = request_id.decode("ascii")
    if request is not None and _wants_problem(request):
        kind, body = _PROBLEM, _problem(error, identity)
    else:
        kind, body = b"application/json", _envelope(error, identity)
    block = render(
        [
            (b"Content-Type", kind),
            (b"Content-Length", b"%d" % len(body)),
            (b"Cache-Control", b"no-store"),
            (b"X-Request-ID", request_id),
            (b"X-Error-Source", b"gateway"),
            *error.headers,
            *_retry_after(error),
        ]
    )
    reason = b" %d %b" % (error.status, _phrase(error.status))
    return Response(error.status, reason, block, len(body), keep_alive=not error.closes), body


def _retry_after(error: GatewayError) -> tuple[tuple[bytes, bytes], ...]:
    """Say when to come back, where the error does not know better."""
    if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
        return ()
    if any(name == b"Retry-After" for name, _ in error.headers):
        return ()
    return ((b"Retry-After", _RETRY_AFTER),)


def _phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode("ascii")


def _envelope(error: GatewayError, request_id: str) -> bytes:
    return orjson.dumps(
        {
            "error": {"code": error.code, "message": error.message, "details": error.details},
            "request_id": request_id,
        }
    )


def _problem(error: GatewayError, request_id: str) -> bytes:
    """Render RFC 9457; `type` is about:blank, so `title` is the status phrase (4.2.1)."""
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": HTTPStatus(error.status).phrase,
            "status": error.status,
            "detail": error.message,
            "code": error.code,
            "details": error.details,
            "request_id": request_id,
        }
    )


def _wants_problem(request: Request) -> bool:
    return any(_EXACT.search(value.lower()) for value in values(request.block, b"accept"))
