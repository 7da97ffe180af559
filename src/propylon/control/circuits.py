"""Serve `GET {prefix}/circuits`: the state of every circuit breaker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from propylon.control.admin import AdminGate
from propylon.services.circuit import State
from propylon.services.service import Service

__all__ = ["CircuitState", "Everywhere", "by_service", "merged", "parts", "router"]

Everywhere = Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]
"""Returns what each worker says on one subject."""

_WORST = (State.CLOSED, State.HALF_OPEN, State.OPEN)


class CircuitState(BaseModel):
    """The state of one breaker, in all workers of this gateway."""

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
    failures: int = Field(description="Failures within failure_window, of all workers.")
    opened_at: str | None = Field(description="When the breaker opened; null while it is closed.")
    retry_after: str | None = Field(
        description="When the next probe may pass; null unless the breaker is open."
    )
    probes_in_flight: int = Field(description="Probes that have not ended yet.")
    reason: str | None = Field(
        default=None, description="Why the breaker opened; not there while it is closed."
    )
    held: bool = Field(
        default=False,
        description="An operator opened it: it stays open until it is reset. Not there otherwise.",
    )


def parts(services: Iterable[Service]) -> list[dict[str, Any]]:
    """Return what this worker knows of each breaker, for the worker that is asked."""
    return [
        asdict(service.breaker.snapshot()) for service in services if service.breaker is not None
    ]


def router(prefix: str, everywhere: Everywhere, gate: AdminGate | None = None) -> APIRouter:
    """Return the endpoint. `everywhere` returns the `parts` of all workers, those of this one first."""
    routes = APIRouter(tags=["services"])

    @routes.get(
        f"{prefix}/circuits",
        summary="The breakers of all services",
        dependencies=[(gate or AdminGate()).requires()],
        response_model_exclude_unset=True,
    )
    async def circuits(response: Response) -> dict[str, CircuitState]:
        response.headers["Cache-Control"] = "no-store"
        return by_service(await everywhere())

    return routes


def by_service(known: Iterable[Mapping[str, Any]]) -> dict[str, CircuitState]:
    """Return the breakers of all services, from the parts of all workers."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for part in known:
        found.setdefault(part["service"], []).append(part)
    return {service: _merged(some) for service, some in found.items()}


def merged(known: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the same for JSON."""
    return {service: state.model_dump(mode="json") for service, state in by_service(known).items()}


def _merged(known: Sequence[Mapping[str, Any]]) -> CircuitState:
    """Return what all workers know of one breaker. They share its state, and each counts its own failures and probes."""
    # Messages may cross, and a probe of one worker is not the others': the worst is what operators have to see.
    worst = max(known, key=lambda part: _WORST.index(part["state"]))
    state = CircuitState(
        state=worst["state"],
        failures=sum(part["failures"] for part in known),
        opened_at=worst["opened_at"],
        retry_after=worst["retry_after"],
        probes_in_flight=sum(part["probes_in_flight"] for part in known),
    )
    more = {key: worst[key] for key in ("reason", "held") if worst.get(key)}
    return state.model_copy(update=more) if more else state
