"""Serve `GET {prefix}/rate-limits`: every limit in force, and what all workers have decided by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from propylon.config.models.units import Rate
from propylon.control.admin import AdminGate
from propylon.proxy.limit.rule import MICROSECONDS
from propylon.proxy.limit.stage import ALLOWED, REFUSED, SHADOWED, Limit, LimitStage
from propylon.proxy.route import Route

__all__ = ["LimitState", "gathered", "limits_of", "parts", "router"]

_Limits = Iterable[tuple[str, Limit]]
_COUNTS = ("allowed", "refused", "shadowed", "requests_in_flight")


class LimitState(BaseModel):
    """A limit, and what all workers of this gateway have decided by it."""

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


def limits_of(routes: Iterable[Route]) -> Iterator[tuple[str, Limit]]:
    """Yield the name of each route with each of its limits."""
    for route in routes:
        if isinstance(route.limit, LimitStage):
            yield from ((route.name, limit) for limit in route.limit.limits)


def parts(limits: _Limits) -> list[dict[str, Any]]:
    """Return what this worker has decided by each limit, for the worker that is asked."""
    counts = {limit.rule.id: _counts(limit) for _, limit in limits}
    return [{"limit": limit, **found} for limit, found in counts.items()]


def _counts(limit: Limit) -> dict[str, int]:
    tally, entrance = limit.tally, limit.in_flight
    in_flight = 0 if entrance is None else entrance.total
    decided = (int(tally[at]) for at in (ALLOWED, REFUSED, SHADOWED))
    return dict(zip(_COUNTS, (*decided, in_flight), strict=True))


def router(
    prefix: str,
    limits: Callable[[], _Limits],
    everywhere: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]],
    gate: AdminGate | None = None,
) -> APIRouter:
    """Return the endpoint.

    `limits` returns the names of routes with their limits, and `everywhere` the `parts` of all workers.
    """
    routes = APIRouter(tags=["services"])

    @routes.get(
        f"{prefix}/rate-limits",
        summary="The limits in force",
        dependencies=[(gate or AdminGate()).requires()],
    )
    async def rate_limits(response: Response) -> dict[str, LimitState]:
        response.headers["Cache-Control"] = "no-store"
        return _states(limits(), await everywhere())

    return routes


def gathered(limits: _Limits, known: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the limits with what all workers have decided by them, for JSON."""
    return {limit: state.model_dump(mode="json") for limit, state in _states(limits, known).items()}


def _states(limits: _Limits, known: Iterable[Mapping[str, Any]]) -> dict[str, LimitState]:
    found: dict[str, LimitState] = {}
    for route, limit in limits:
        state = found.setdefault(limit.rule.id, _state(limit))
        if route not in state.routes:
            state.routes.append(route)
    for part in known:
        # While a reload goes from worker to worker, another one may have limits that this one has not.
        if part["limit"] in found:
            _add(found[part["limit"]], part)
    return found


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
        allowed=0,
        refused=0,
        shadowed=0,
        requests_in_flight=0,
    )


def _add(state: LimitState, part: Mapping[str, Any]) -> None:
    for name in _COUNTS:
        setattr(state, name, getattr(state, name) + part[name])
