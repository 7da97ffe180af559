"""Let services register over HTTP, keep their leases, and list what there is. For scope `admin`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Response

from propylon.control.identity import require_scopes
from propylon.control.registration import (
    InstanceEntry,
    Lease,
    RegistrationAnswer,
    RegistrationRequest,
    ServiceEntry,
    Services,
)
from propylon.control.schemas import Envelope
from propylon.errors import NotFound
from propylon.services.instance import InstanceSnapshot
from propylon.services.registration import Registered, Registration
from propylon.services.registry import Registry
from propylon.services.service import Service

__all__ = ["router"]

_CREATED = 201
_REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"model": Envelope, "description": "This host may not be registered; `details` says why."}
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Envelope, "description": "There is no such instance."}
}
_NOT_REGISTERED: dict[int | str, dict[str, Any]] = {
    400: {"model": Envelope, "description": "It did not register: the configuration names it."}
}
_AGAIN: dict[int | str, dict[str, Any]] = {
    200: {"model": RegistrationAnswer, "description": "It was registered already."}
}


def router(prefix: str, running: Callable[[], Registry | None]) -> APIRouter:
    """Return the endpoints under `{prefix}/services`; `running` returns the registry, if there is one."""
    routes = APIRouter(
        prefix=f"{prefix}/services", tags=["registry"], dependencies=[require_scopes("admin")]
    )

    def registry() -> Registry:
        found = running()
        if found is None:
            msg = "There is no registry here: registry.enabled is false"
            raise NotFound(msg)
        return found

    _add_list(routes, registry)
    _add_coming(routes, registry)
    _add_going(routes, registry)
    return routes


def _add_list(routes: APIRouter, registry: Callable[[], Registry]) -> None:
    @routes.get("", summary="List every service and its instances")
    async def services(response: Response) -> Services:
        response.headers["Cache-Control"] = "no-store"
        known = registry()
        return Services(services=[_service(known, service) for service in known.services()])


def _add_coming(routes: APIRouter, registry: Callable[[], Registry]) -> None:
    @routes.post(
        "",
        summary="Register an instance",
        description="Again for one that is registered: brings it up to date and renews its lease.",
        status_code=_CREATED,
        responses=_AGAIN | _REFUSED,
    )
    async def register(request: RegistrationRequest, response: Response) -> RegistrationAnswer:
        done = await registry().register(_registration(request))
        if not done.created:
            response.status_code = 200
        return RegistrationAnswer(instance_id=done.instance.id, status=done.status)

    @routes.put("/{service}/{instance_id}/heartbeat", summary="Renew a lease", responses=_UNKNOWN)
    async def heartbeat(service: str, instance_id: str) -> Lease:
        return _lease(registry().heartbeat(service, instance_id.lower()))


def _add_going(routes: APIRouter, registry: Callable[[], Registry]) -> None:
    @routes.delete(
        "/{service}/{instance_id}",
        summary="Deregister an instance",
        description="It gets no more requests and no more probes; those under way are finished.",
        status_code=204,
        responses=_UNKNOWN | _NOT_REGISTERED,
    )
    async def deregister(service: str, instance_id: str) -> None:
        registry().deregister(service, instance_id.lower())


def _registration(request: RegistrationRequest) -> Registration:
    return Registration(
        service=request.service_name,
        host=request.host,
        port=request.port,
        check_endpoint=request.check_endpoint,
        check_interval=float(request.check_interval),
        metadata=dict(request.metadata),
    )


def _lease(registered: Registered) -> Lease:
    return Lease(
        instance_id=registered.instance.id,
        status=registered.status,
        lease=_seconds(registered.lease),
    )


def _service(registry: Registry, service: Service) -> ServiceEntry:
    return ServiceEntry(
        name=service.name,
        instances=[
            _instance(found, registry.lease(service.name, found.id))
            for found in service.fleet.snapshot()
        ],
    )


def _instance(found: InstanceSnapshot, lease: float | None) -> InstanceEntry:
    return InstanceEntry(
        instance_id=found.id,
        status=found.status,
        last_check=_moment(found.last_check),
        latency_ms=found.latency_ms,
        ejected_until=_moment(found.ejected_until),
        failures=found.failures,
        weight=found.weight,
        source=found.source,
        metadata=dict(found.metadata),
        lease=_seconds(lease),
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(round(seconds, 3), UTC)


def _seconds(lease: float | None) -> float | None:
    return None if lease is None else round(lease, 3)
