"""Serve `/health`, `/livez` and `/readyz`.

`/health` probes the instances of all services, concurrently. One round of probes serves all clients that ask within a
second. An instance that background health checks cover is not probed again: their last result counts.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fastapi import APIRouter, Response

from propylon.control.schemas import Health, Readiness, ServiceHealth, Status
from propylon.loop.tasks import spawn
from propylon.services.health import check
from propylon.services.service import Instance, Service

__all__ = ["HealthState", "router"]

_RETRY_WHEN_DRAINING = "5"  # seconds; by then another gateway may have taken this one's place
_SHARED_FOR = 1.0  # seconds that a round of probes is reused: several balancers may ask at once


@dataclass(slots=True)
class HealthState:
    """What the gateway knows of its own health and of its services'.

    Each function in `waiting` returns why the gateway cannot serve every route yet, or None. Any client can read that
    text at `/readyz`.
    """

    version: str
    services: tuple[Service, ...] = ()
    draining: bool = False
    waiting: list[Callable[[], str | None]] = field(default_factory=list)
    _probing: asyncio.Task[dict[str, ServiceHealth]] | None = field(default=None, repr=False)
    _probed_at: float = -math.inf

    def reasons(self) -> list[str]:
        """Return what the gateway still waits for. Empty: it is ready."""
        answers = [reason() for reason in self.waiting]
        return [answer for answer in answers if answer is not None]

    async def probe(self) -> dict[str, ServiceHealth]:
        """Return every service's health, at most about a second old. Only one round runs at a time."""
        probing = self._probing
        if probing is None or probing.cancelled() or (probing.done() and self._is_old()):
            self._probed_at = time.monotonic()
            probing = self._probing = spawn(_probe_all(self.services))
        # Shielded: a client that leaves must not cancel the round that other clients wait for.
        return await asyncio.shield(probing)

    def _is_old(self) -> bool:
        return time.monotonic() - self._probed_at > _SHARED_FOR

    def overall(self, services: Iterable[ServiceHealth]) -> Status:
        """Return the status of the gateway as a whole."""
        if self.draining:
            return "unhealthy"
        # Not ready is only degraded here: the routes that need no token work already.
        healthy = not self.reasons() and all(service.status == "healthy" for service in services)
        return "healthy" if healthy else "degraded"


async def _probe_all(services: Iterable[Service]) -> dict[str, ServiceHealth]:
    known = tuple(services)
    results = await asyncio.gather(*map(_probe_service, known))
    return {service.name: health for service, health in zip(known, results, strict=True)}


async def _probe_service(service: Service) -> ServiceHealth:
    instances = service.instances
    if not instances:
        return ServiceHealth(status="unknown", latency_ms=None)
    results = await asyncio.gather(*(_latency(service, instance) for instance in instances))
    latencies = [latency for latency in results if latency is not None]
    if not latencies:
        return ServiceHealth(status="unhealthy", latency_ms=None)
    fastest = round(min(latencies) * 1000, 3)
    all_healthy = len(latencies) == len(instances)
    return ServiceHealth(status="healthy" if all_healthy else "degraded", latency_ms=fastest)


async def _latency(service: Service, instance: Instance) -> float | None:
    """Return the latency of the instance in seconds; None if it is not healthy."""
    state = instance.state
    # Background health checks probe this instance already, and have a result: use it.
    if service.fleet.rules(instance) is not None and state.status != "starting":
        return state.latency if state.status == "healthy" else None
    result = await check(service.fleet, instance, clock=time.perf_counter, wall=time.time)
    return result.latency if result.ok else None


def router(state: HealthState) -> APIRouter:
    """Return the three endpoints, which answer from `state`."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health", summary="Health of the gateway and its services")
    async def health(response: Response) -> Health:
        services = await state.probe()
        status = state.overall(services.values())
        if status == "unhealthy":
            response.status_code = 503
            response.headers["Retry-After"] = _RETRY_WHEN_DRAINING
        response.headers["Cache-Control"] = "no-store"
        now = datetime.now(UTC).replace(microsecond=0)
        return Health(status=status, version=state.version, timestamp=now, services=services)

    @routes.get("/livez", summary="Whether the process is alive")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @routes.get(
        "/readyz",
        summary="Whether traffic should be sent here",
        response_model_exclude_none=True,
        responses={503: {"model": Readiness, "description": "Not ready yet, or draining."}},
    )
    async def readyz(response: Response) -> Readiness:
        readiness = _readiness(state)
        if readiness.status != "ready":
            response.status_code = 503
            # A stopping gateway stays unready longer than a starting one.
            response.headers["Retry-After"] = (
                _RETRY_WHEN_DRAINING if readiness.status == "draining" else "1"
            )
        return readiness

    return routes


def _readiness(state: HealthState) -> Readiness:
    if state.draining:
        return Readiness(status="draining")
    if reasons := state.reasons():
        return Readiness(status="waiting", reasons=reasons)
    return Readiness(status="ready")
