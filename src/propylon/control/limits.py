"""Serve `GET {prefix}/rate-limits`: every limit in force, and what was decided by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from propylon.config.models.units import Rate
from propylon.control.admin import AdminGate
from propylon.proxy.limit.rule import MICROSECONDS
from propylon.proxy.limit.stage import ALLOWED, REFUSED, SHADOWED, Limit

__all__ = ["LimitState", "router"]


class LimitState(BaseModel):
    """A limit; the counts are those of the worker that answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "rate": "10/s",
                "burst": 20,
                "window": "bucket",
                "key": ["caller"],
                "in_flight": None,
                "mode": "enforce",
                "routes": ["orders"],
                "allowed": 1042,
                "refused": 7,
                "shadowed": 0,
                "requests_in_flight": 0,
            }
        }
    )

    rate: str | None = Field(description="Units in a time; null: only requests in flight count.")
    burst: int | None = Field(description="Units at once.")
    window: Literal["bucket", "sliding"] = Field(description="How the time is counted.")
    key: list[str] = Field(description="Who is counted.")
    in_flight: int | None = Field(description="Requests of one key at the same time.")
    mode: Literal["enforce", "shadow"] = Field(description="shadow: nothing is refused.")
    routes: list[str] = Field(description="The routes whose requests count.")
    allowed: int = Field(description="Requests that the limit let pass, since the start.")
    refused: int = Field(description="Requests that it refused.")
    shadowed: int = Field(description="Requests that it would have refused.")
    requests_in_flight: int = Field(description="Requests that are under way now.")


def router(
    prefix: str,
    limits: Callable[[], Iterable[tuple[str, Limit]]],
    gate: AdminGate | None = None,
) -> APIRouter:
    """Return the endpoint. `limits` returns the names of routes with their limits; it is called for each request."""
    routes = APIRouter(tags=["services"])

    @routes.get(
        f"{prefix}/rate-limits",
        summary="The limits in force",
        dependencies=[(gate or AdminGate()).requires()],
    )
    async def rate_limits(response: Response) -> dict[str, LimitState]:
        response.headers["Cache-Control"] = "no-store"
        found: dict[str, LimitState] = {}
        for route, limit in limits():
            state = found.setdefault(limit.rule.id, _state(limit))
            if route not in state.routes:
                state.routes.append(route)
        return found

    return routes


def _state(limit: Limit) -> LimitState:
    rule, entrance = limit.rule, limit.in_flight
    return LimitState(
        rate=str(Rate(rule.amount, rule.period / MICROSECONDS)) if limit.rated else None,
        burst=rule.burst if limit.rated else None,
        window="sliding" if rule.sliding else "bucket",
        key=list(limit.by),
        in_flight=None if entrance is None else entrance.most,
        mode="shadow" if rule.shadow else "enforce",
        routes=[],
        allowed=int(limit.tally[ALLOWED]),
        refused=int(limit.tally[REFUSED]),
        shadowed=int(limit.tally[SHADOWED]),
        requests_in_flight=0 if entrance is None else entrance.total,
    )
