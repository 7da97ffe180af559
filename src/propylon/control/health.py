"""Say how the gateway is, and how the services behind it are: from real probes, run together."""

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

_STOPPED = "5"  # seconds until another may have taken its place
_SHARED_FOR = 1.0  # seconds: what many balancers ask for at once is found out once


@dataclass(slots=True)
class HealthState:
    """What is known of the health of the gateway and its services.

    Each of `waiting` returns why the gateway cannot serve everything yet, or None; the public reads it.
    """

    version: str
    services: tuple[Service, ...] = ()
    draining: bool = False
    waiting: list[Callable[[], str | None]] = field(default_factory=list)
    _probing: asyncio.Task[dict[str, ServiceHealth]] | None = field(default=None, repr=False)
    _probed_at: float = -math.inf

    def reasons(self) -> list[str]:
        """Return what the gateway waits for before it is ready."""
        answers = [reason() for reason in self.waiting]
        return [answer for answer in answers if answer is not None]

    async def probe(self) -> dict[str, ServiceHealth]:
        """Return every service's health, about a second old at the most; one round at a time."""
        probing = self._probing
        if probing is None or probing.cancelled() or (probing.done() and self._is_old()):
            self._probed_at = time.monotonic()
            probing = self._probing = spawn(_probe_all(self.services))
        # Shielded: one impatient client must not cancel what others wait for.
        return await asyncio.shield(probing)

    def _is_old(self) -> bool:
        return time.monotonic() - self._probed_at > _SHARED_FOR

    def overall(self, services: Iterable[ServiceHealth]) -> Status:
        """Return how the gateway is as a whole."""
        if self.draining:
            return "unhealthy"
        # What it waits for may never be needed: a balancer that took it out would cut off the rest.
        well = not self.reasons() and all(service.status == "healthy" for service in services)
        return "healthy" if well else "degraded"


async def _probe_all(services: Iterable[Service]) -> dict[str, ServiceHealth]:
    known = tuple(services)
    found = await asyncio.gather(*map(_probe_service, known))
    return {service.name: health for service, health in zip(known, found, strict=True)}


async def _probe_service(service: Service) -> ServiceHealth:
    instances = service.instances
    if not instances:
        return ServiceHealth(status="unknown", latency_ms=None)
    found = await asyncio.gather(*(_latency(service, instance) for instance in instances))
    well = [latency for latency in found if latency is not None]
    if not well:
        return ServiceHealth(status="unhealthy", latency_ms=None)
    fastest = round(min(well) * 1000, 3)
    everybody = len(well) == len(instances)
    return ServiceHealth(status="healthy" if everybody else "degraded", latency_ms=fastest)


async def _latency(service: Service, instance: Instance) -> float | None:
    """Return how fast the instance answered, in seconds; None if it is not well."""
    state = instance.state
    # Who is probed in the background anyway is not asked again, once there is a verdict.
    if service.fleet.rules(instance) is not None and state.status != "starting":
        return state.latency if state.status == "healthy" else None
    result = await check(service.fleet, instance, clock=time.perf_counter, wall=time.time)
    return result.latency if result.ok else None


def router(state: HealthState) -> APIRouter:
    """Return the endpoints over `state`."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health", summary="How the gateway and its services are")
    async def health(response: Response) -> Health:
        services = await state.probe()
        status = state.overall(services.values())
        if status == "unhealthy":
            response.status_code = 503
            response.headers["Retry-After"] = _STOPPED
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
        responses={503: {"model": Readiness, "description": "Not now, or no more."}},
    )
    async def readyz(response: Response) -> Readiness:
        found = _readiness(state)
        if found.status != "ready":
            response.status_code = 503
            # A balancer asks again anyway; a stop takes longer than a start.
            response.headers["Retry-After"] = _STOPPED if found.status == "draining" else "1"
        return found

    return routes


def _readiness(state: HealthState) -> Readiness:
    if state.draining:
        return Readiness(status="draining")
    if reasons := state.reasons():
        return Readiness(status="waiting", reasons=reasons)
    return Readiness(status="ready")
