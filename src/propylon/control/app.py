"""Build the FastAPI app that holds the gateway's own endpoints, and a team's."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from propylon.control import health, monitoring
from propylon.control.health import HealthState
from propylon.control.schemas import Envelope
from propylon.errors import GatewayError

__all__ = ["create_app"]

_CODES = {
    400: "INVALID_REQUEST",
    401: "AUTH_ERROR",
    403: "AUTH_ERROR",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    422: "INVALID_REQUEST",
    429: "RATE_LIMIT",
    503: "SERVICE_UNAVAILABLE",
}


def create_app(state: HealthState, metrics: Callable[[], bytes]) -> FastAPI:
    """Return the app; its errors have the gateway's envelope."""
    app = FastAPI(
        title="Propylon",
        summary="The gateway's own API.",
        version=state.version,
        responses={"default": {"model": Envelope, "description": "An error."}},
    )
    app.include_router(health.router(state))
    app.include_router(monitoring.router(metrics))

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
        answer = _answer(request, error.status, error.message, dict(error.details), error.code)
        for name, value in error.headers:
            answer.headers[name.decode()] = value.decode()
        return answer

    @app.exception_handler(Exception)
    async def broke(request: Request, _: Exception) -> JSONResponse:
        # Starlette sends this and raises again, which is how the traceback comes to the log.
        return _answer(request, 500, "An endpoint of the gateway failed", {})

    return app


def _answer(
    request: Request, status: int, message: str, details: dict[str, object], code: str = ""
) -> JSONResponse:
    return JSONResponse(
        {
            "error": {
                "code": code or _CODES.get(status, "INTERNAL_ERROR"),
                "message": message,
                "details": details,
            },
            "request_id": request.headers.get("x-request-id", ""),
        },
        status_code=status,
        headers={"Cache-Control": "no-store"},
    )
