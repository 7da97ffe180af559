"""Give the errors of the endpoints the gateway's envelope."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from propylon.errors import GatewayError
from propylon.proxy.refuse import PROBLEM, asks_for_problem, envelope, problem

__all__ = ["code_of", "enveloped"]

_CODES = {
    400: "INVALID_REQUEST",
    401: "AUTH_ERROR",
    403: "AUTH_ERROR",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    422: "INVALID_REQUEST",
    429: "RATE_LIMIT",
    502: "UPSTREAM_ERROR",
    503: "SERVICE_UNAVAILABLE",
    504: "UPSTREAM_TIMEOUT",
}
_SERVER_ERROR = 500

log = logging.getLogger(__name__)


def code_of(status: int) -> str:
    """Return the code that goes with a status."""
    return _CODES.get(status, "INTERNAL_ERROR" if status >= _SERVER_ERROR else "INVALID_REQUEST")


def enveloped(app: FastAPI) -> None:
    """Have the app answer every error in the envelope."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        fields = {".".join(map(str, item["loc"][1:])): item["msg"] for item in error.errors()}
        return _answer(request, 422, "The request does not fit this endpoint", {"fields": fields})

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        answer = _answer(request, error.status_code, str(error.detail), {})
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(GatewayError)
    async def failed(request: Request, error: GatewayError) -> JSONResponse:
        if error.reason:  # what only the log is told
            level = logging.ERROR if error.status >= _SERVER_ERROR else logging.INFO
            log.log(level, "%s: %s", error.message, error.reason)
        answer = _answer(request, error.status, error.message, dict(error.details), error.code)
        for name, value in error.headers:
            answer.headers[name.decode()] = value.decode()
        return answer

    @app.exception_handler(Exception)
    async def broke(request: Request, _: Exception) -> JSONResponse:
        # Starlette sends this and raises again, which is how the traceback comes to the log.
        return _answer(request, 500, "An endpoint of the gateway failed", {})


def _answer(
    request: Request, status: int, message: str, details: dict[str, object], code: str = ""
) -> JSONResponse:
    form, kind = envelope, None
    if asks_for_problem(line.encode("latin-1") for line in request.headers.getlist("accept")):
        form, kind = problem, PROBLEM.decode()
    identity = request.headers.get("x-request-id", "")
    return JSONResponse(
        form(status, code or code_of(status), message, details, identity),
        status_code=status,
        headers={"Cache-Control": "no-store", **_challenge(status)},
        media_type=kind,
    )


def _challenge(status: int) -> dict[str, str]:
    """Say what would let the client in; an error that knows better replaces it."""
    return {"WWW-Authenticate": "Bearer"} if status in (401, 403) else {}
