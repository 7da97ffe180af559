"""Serve `GET {prefix}/circuits`: the state of every circuit breaker."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from propylon.control.admin import AdminGate
from propylon.services.breaker import Snapshot, State
from propylon.services.service import Service

__all__ = ["CircuitState", "router"]


class CircuitState(BaseModel):
    """The state of one breaker, in the worker that answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "state": "OPEN",
                "failures": 5,
                "opened_at": "2026-11-21T10:00:00Z",
                "retry_after": "2026-11-21T10:01:00Z",
                "probes_in_flight": 0,
                "reason": "5 of 8 calls failed within 120 s, the last one with status 500",
            }
        }
    )

    state: State = Field(
        description="CLOSED: requests pass; OPEN: no request passes; HALF_OPEN: a few probes pass."
    )
    failures: int = Field(
        description="Failures within failure_window, counted up to the threshold."
    )
    opened_at: str | None = Field(description="When the breaker opened; null while it is closed.")
    retry_after: str | None = Field(
        description="When the next probe may pass; null unless the breaker is open."
    )
    probes_in_flight: int = Field(description="Probes that have not ended yet.")
    reason: str | None = Field(
        default=None, description="Why the breaker opened; not there while it is closed."
    )


def router(
    prefix: str, services: Callable[[], Iterable[Service]], gate: AdminGate | None = None
) -> APIRouter:
    """Return the endpoint. `services` is called for each request, because a reload replaces the services."""
    routes = APIRouter(tags=["services"])

    @routes.get(
        f"{prefix}/circuits",
        summary="The breakers of all services",
        dependencies=[(gate or AdminGate()).requires()],
        response_model_exclude_unset=True,
    )
    async def circuits(response: Response) -> dict[str, CircuitState]:
        response.headers["Cache-Control"] = "no-store"
        return {
            service.name: _shown(service.breaker.snapshot())
            for service in services()
            if service.breaker is not None
        }

    return routes


def _shown(snapshot: Snapshot) -> CircuitState:
    state = CircuitState(
        state=snapshot.state,
        failures=snapshot.failures,
        opened_at=snapshot.opened_at,
        retry_after=snapshot.retry_after,
        probes_in_flight=snapshot.probes_in_flight,
    )
    return (
        state if snapshot.reason is None else state.model_copy(update={"reason": snapshot.reason})
    )
