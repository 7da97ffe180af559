"""Say how the gateway is, and how the services behind it are: from real probes, run together."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fastapi import APIRouter, Response

from propylon.control.schemas import Health, ServiceHealth, Status
from propylon.errors import GatewayError
from propylon.proxy.service import Instance, Service
from propylon.upstream.exchange import Outgoing, Timeouts
from propylon.upstream.tasks import spawn
from propylon.wire.message import Response as Head

__all__ = ["HealthState", "router"]

_SHARED_FOR = 1.0  # seconds: what many balancers ask for at once is found out once
_TIMEOUT = 1.0
_TIMEOUTS = Timeouts(_TIMEOUT, _TIMEOUT, _TIMEOUT, _TIMEOUT, _TIMEOUT)
_PATH = b"/health"
_SERVER_ERROR = 500


class _Nobody:
    """A sink for 1xx answers that nobody waits for, and for bodies that nobody reads."""

    def interim(self, head: Head) -> None:
        """Drop it."""

    def write(self, data: bytes) -> None:
        """Drop it."""

    def finish(self) -> None:
        """Nothing to do."""


@dataclass(slots=True)
class HealthState:
    """What is known of the health of the gateway and its services."""

    version: str
    services: tuple[Service, ...] = ()
    draining: bool = False
    _probing: asyncio.Task[dict[str, ServiceHealth]] | None = field(default=None, repr=False)
    _probed_at: float = -math.inf

    async def probe(self) -> dict[str, ServiceHealth]:
        """Return every service's health, at most a second old."""
        if self._probing is None or time.monotonic() - self._probed_at > _SHARED_FOR:
            self._probed_at = time.monotonic()
            self._probing = spawn(_probe_all(self.services))
        # Shielded: one impatient client must not cancel what others wait for.
        return await asyncio.shield(self._probing)


async def _probe_all(services: Iterable[Service]) -> dict[str, ServiceHealth]:
    known = tuple(services)
    found = await asyncio.gather(*map(_probe_service, known))
    return {service.name: health for service, health in zip(known, found, strict=True)}


async def _probe_service(service: Service) -> ServiceHealth:
    if not service.instances:
        return ServiceHealth(status="unknown", latency_ms=None)
    latencies = await asyncio.gather(*map(_probe, service.instances))
    answered = [latency for latency in latencies if latency is not None]
    if not answered:
        return ServiceHealth(status="unhealthy", latency_ms=None)
    return ServiceHealth(status="healthy", latency_ms=min(answered))


async def _probe(instance: Instance) -> float | None:
    """Ask one instance; return its latency in milliseconds, None if it is not well."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(_TIMEOUT):
            answer = await instance.upstream.exchange(_request(instance), _Nobody())
    except (GatewayError, TimeoutError):
        return None
    answer.abort()
    if answer.head.status >= _SERVER_ERROR:
        return None
    return round((time.monotonic() - began) * 1000, 3)


def _request(instance: Instance) -> Outgoing:
    return Outgoing(
        "GET",
        b"GET %b%b HTTP/1.1" % (instance.base, _PATH),
        b"\r\nHost: " + instance.host + b"\r\nUser-Agent: propylon-health",
        None,
        _TIMEOUTS,
        asyncio.get_running_loop().time() + _TIMEOUT,
    )


def router(state: HealthState) -> APIRouter:
    """Return the endpoints over `state`."""
    routes = APIRouter(tags=["health"])

    @routes.api_route("/health", methods=["GET", "HEAD"], include_in_schema=False)
    @routes.get("/health", summary="How the gateway and its services are")
    async def health(response: Response) -> Health:
        services = await state.probe()
        well = all(service.status == "healthy" for service in services.values())
        status: Status = "unhealthy" if state.draining else "healthy" if well else "degraded"
        response.status_code = 503 if state.draining else 200
        response.headers["Cache-Control"] = "no-store"
        now = datetime.now(UTC).replace(microsecond=0)
        return Health(status=status, version=state.version, timestamp=now, services=services)

    @routes.api_route("/livez", methods=["GET", "HEAD"], include_in_schema=False)
    @routes.get("/livez", summary="Whether the process is alive")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @routes.api_route("/readyz", methods=["GET", "HEAD"], include_in_schema=False)
    @routes.get("/readyz", summary="Whether traffic should be sent here")
    async def readyz(response: Response) -> dict[str, str]:
        if state.draining:
            response.status_code = 503
            response.headers["Retry-After"] = "5"
            return {"status": "draining"}
        return {"status": "ready"}

    return routes
