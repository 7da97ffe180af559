"""Serve what the gateway does, below `{prefix}/gateway`: what the dashboard and `propylon top` show, and the log's level.

Everything here is as all workers know it. The streams are lines of JSON (NDJSON); each ends after a minute, and whoever
reads it asks again: then the token is checked again, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from propylon.control.admin import AdminGate
from propylon.control.audit import AuditTrail
from propylon.control.same_site import SAME_SITE
from propylon.errors import ServiceUnavailable

__all__ = ["LogLevel", "Shows", "router"]

_LINES = "application/x-ndjson"
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Lines of JSON.", "content": {_LINES: {"schema": {"type": "string"}}}}
}
# Proxies before the gateway must neither keep nor gather it.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_Route = Annotated[str, Query(max_length=256, description="The name of a route.")]
_Service = Annotated[str, Query(max_length=256, description="The name of a service.")]


class Shows(Protocol):
    """Shows what the gateway does, and sets the level of its log."""

    async def overview(self) -> bytes:
        """Return everything now, as one line of JSON."""

    def live(self, generation: str, seq: int) -> AsyncIterator[bytes]:
        """Return the lines for a viewer that has got all until `seq` of a generation. Raises ServiceUnavailable."""

    def tail(self, said: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Return requests as they end, as lines of JSON."""

    async def history(self, route: str, service: str) -> Sequence[Sequence[float | None]]:
        """Return the buckets of the last hour, of a route or of a service."""

    @property
    def log_level(self) -> str:
        """The level of the log in force."""

    def set_log_level(self, level: str) -> None:
        """Set the level of the log in all workers, until the next reload."""


class History(BaseModel):
    """The last hour of a route or a service, in buckets of ten seconds; those without requests are left out."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"points": [[1764547200, 42, 1, 0, 0.0021, 0.0080, 0.0140]]}}
    )

    points: list[tuple[int, int, int, int, float | None, float | None, float | None]] = Field(
        description="Begin (seconds since 1970), requests, 4xx, 5xx, and the 50th, 95th and 99th percentile of the"
        " duration in seconds."
    )


class LogLevel(BaseModel):
    """The level of the log."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"level": "debug"}})

    level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        description="What is less important is not written."
    )


def router(
    prefix: str,
    running: Callable[[], Shows | None],
    gate: AdminGate | None = None,
    trail: AuditTrail | None = None,
) -> APIRouter:
    """Return the endpoints. `running` returns what shows; None: the gateway has not started."""
    routes = APIRouter(
        prefix=f"{prefix}/gateway",
        tags=["monitoring"],
        dependencies=[(gate or AdminGate()).requires(), SAME_SITE],
    )

    def shows() -> Shows:
        found = running()
        if found is None:
            msg = "The gateway has not started"
            raise ServiceUnavailable(msg)
        return found

    _add_state(routes, shows)
    _add_requests(routes, shows)
    _add_level(routes, shows, trail or AuditTrail())
    return routes


def _add_state(routes: APIRouter, shows: Callable[[], Shows]) -> None:
    @routes.get("/overview", summary="What the gateway does now", response_class=Response)
    async def overview() -> Response:
        """Services, routes, limits, refusals, certificates, reloads: the first line of the stream."""
        return Response(await shows().overview(), media_type="application/json", headers=_HEADERS)

    @routes.get(
        "/live",
        summary="What the gateway does, as it changes",
        response_class=StreamingResponse,
        responses=_STREAM,
    )
    async def live(
        generation: Annotated[
            str, Query(max_length=64, description="Of the last line that was read.")
        ] = "",
        seq: Annotated[int, Query(ge=0, description="Its number.")] = 0,
    ) -> StreamingResponse:
        """A full line first, or what was missed since the last one; then a line for each change, at most once a second."""
        return StreamingResponse(shows().live(generation, seq), media_type=_LINES, headers=_HEADERS)


def _add_requests(routes: APIRouter, shows: Callable[[], Shows]) -> None:
    @routes.get(
        "/tail",
        summary="Requests as they end",
        response_class=StreamingResponse,
        responses=_STREAM,
    )
    async def tail(
        route: _Route = "",
        service: _Service = "",
        caller: Annotated[
            str, Query(max_length=256, description="The user, or the client's address.")
        ] = "",
        method: Annotated[str, Query(max_length=32, description="Of the request.")] = "",
        text: Annotated[str, Query(max_length=256, description="What the path holds.")] = "",
        least_status: Annotated[
            int, Query(ge=0, le=599, description="This status, or a higher one.")
        ] = 0,
        slower_than: Annotated[float, Query(ge=0, description="Seconds.")] = 0.0,
    ) -> StreamingResponse:
        """Those that fit all that is said, as the access log has them; at most 50 a second of each worker."""
        said = {
            "route": route,
            "service": service,
            "caller": caller,
            "method": method,
            "text": text,
            "least_status": least_status,
            "slower_than": slower_than,
        }
        return StreamingResponse(shows().tail(said), media_type=_LINES, headers=_HEADERS)

    @routes.get("/history", summary="The last hour of a route or a service")
    async def history(response: Response, route: _Route = "", service: _Service = "") -> History:
        response.headers["Cache-Control"] = "no-store"
        return History.model_validate({"points": await shows().history(route, service)})


def _add_level(routes: APIRouter, shows: Callable[[], Shows], trail: AuditTrail) -> None:
    @routes.get("/log-level", summary="The level of the log")
    async def read(response: Response) -> LogLevel:
        response.headers["Cache-Control"] = "no-store"
        return LogLevel.model_validate({"level": shows().log_level})

    @routes.put("/log-level", summary="Set the level of the log")
    async def change(said: LogLevel, request: Request) -> LogLevel:
        """In all workers, until the next reload puts the configuration's level into force again."""
        with trail.of(request, "log.level", f"level:{said.level}"):
            shows().set_log_level(said.level)
        return said
