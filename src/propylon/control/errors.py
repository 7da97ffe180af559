"""Answer every error of the FastAPI app in the gateway's envelope."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from propylon.errors import GatewayError
from propylon.proxy.refuse import PROBLEM, RETRY_AFTER, asks_for_problem, envelope, problem

__all__ = ["code_of", "install_error_handlers"]

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
_MISFIT = 422

log = logging.getLogger(__name__)


def code_of(status: int) -> str:
    """Return the error code of the envelope for an HTTP status."""
    return _CODES.get(status, "INTERNAL_ERROR" if status >= _SERVER_ERROR else "INVALID_REQUEST")


def _hinted(request: Request, message: str) -> str:
    """Return the message, for JSON that was sent where a form is wanted with what to send instead.

    It is what most people try first at a login. RFC 6749, 4.3.2 asks for a form.
    """
    body = getattr(request.scope.get("route"), "body_field", None)
    takes_form = isinstance(getattr(body, "field_info", None), Form)
    if not takes_form or "json" not in request.headers.get("content-type", "").lower():
        return message
    return f"{message}: send a form, not JSON, as curl -d username=NAME -d password=PASSWORD does"


def install_error_handlers(app: FastAPI) -> None:
    """Make the app answer every error in the envelope, or as RFC 9457 problem details if asked."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        fields = dict(map(_field, error.errors()))
        message = _hinted(request, "The request does not fit this endpoint")
        return _answer(request, 422, message, {"fields": fields})

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        answer = _answer(request, error.status_code, str(error.detail), {})
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(GatewayError)
    async def failed(request: Request, error: GatewayError) -> JSONResponse:
        if error.reason:  # only the log gets the reason
            level = logging.ERROR if error.status >= _SERVER_ERROR else logging.INFO
            log.log(level, "%s: %s", error.message, error.reason)
        message = _hinted(request, error.message) if error.status == _MISFIT else error.message
        answer = _answer(request, error.status, message, dict(error.details), error.code)
        for name, value in error.headers:
            answer.headers[name.decode()] = value.decode()
        return answer

    @app.exception_handler(Exception)
    async def broke(request: Request, _: Exception) -> JSONResponse:
        # Starlette sends this answer and raises the exception again; so the traceback reaches the log.
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
        headers={"Cache-Control": "no-store", **_default_headers(status)},
        media_type=kind,
    )


def _field(item: dict[str, Any]) -> tuple[str, str]:
    """Return the name of the invalid field in the request, and what is wrong with it."""
    place, kind = item["loc"], item["type"]
    if kind == "json_invalid" and isinstance(place[-1], int):  # the position in the JSON text
        return "body", f"{item['msg']}: {item['ctx']['error']} at position {place[-1]}"
    if place == ("body",) and isinstance(item.get("input"), bytes):
        # FastAPI does not parse a body of another content type: the field is then the whole body.
        return "body", "must be JSON, sent with Content-Type: application/json"
    return ".".join(map(str, place[1:])) or str(place[0]), item["msg"]


def _default_headers(status: int) -> dict[str, str]:
    """Return the default challenge or `Retry-After`; the headers of the error itself replace them."""
    if status in (401, 403):
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": RETRY_AFTER.decode()} if status == 503 else {}
