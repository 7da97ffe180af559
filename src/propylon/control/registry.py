"""Serve `{prefix}/services`, for callers that `admin` permits.

Instances register, renew their leases and leave; operators list the services. `services/registry.py` does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from propylon.control.admin import AdminGate
from propylon.control.audit import AuditTrail
from propylon.control.circuits import Everywhere
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

__all__ = ["parts", "router"]

_Service = Annotated[str, Path(description="The name of the service.", examples=["orders"])]
_Instance = Annotated[
    str, Path(description="The id that the registration returned.", examples=["10.0.0.7:8001"])
]
_Found = dict[tuple[str, str], list[Mapping[str, Any]]]  # by service and instance

_CREATED = 201
_REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"model": Envelope, "description": "This host may not be registered; `details` says why."}
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {
        "model": Envelope,
        "description": "No such instance, or its lease is over: register again.",
    }
}
_NOT_REGISTERED: dict[int | str, dict[str, Any]] = {
    400: {
        "model": Envelope,
        "description": "The instance did not register: the configuration or DNS names it.",
    }
}
_ALREADY_REGISTERED: dict[int | str, dict[str, Any]] = {
    200: {"model": RegistrationAnswer, "description": "The instance was registered already."}
}


def router(
    prefix: str,
    running: Callable[[], Registry | None],
    gate: AdminGate | None = None,
    trail: AuditTrail | None = None,
    everywhere: Everywhere | None = None,
) -> APIRouter:
    """Return the endpoints. `running` returns the registry, or None while `registry.enabled` is false.

    `everywhere` returns the `parts` of all workers; without it this worker answers for itself.
    """
    gate, trail = gate or AdminGate(), trail or AuditTrail()
    routes = APIRouter(
        prefix=f"{prefix}/services", tags=["registry"], dependencies=[gate.requires("registry")]
    )

    def registry() -> Registry:
        current = running()
        if current is None:
            msg = "There is no registry here: registry.enabled is false"
            raise NotFound(msg)
        return current

    _add_list(routes, registry, everywhere)
    _add_joining(routes, registry, trail)
    _add_leaving(routes, registry, trail)
    return routes


def parts(services: Iterable[Service]) -> list[dict[str, Any]]:
    """Return what this worker knows of each instance, for the worker that is asked."""
    return [
        {
            "service": service.name,
            "id": snapshot.id,
            "status": snapshot.status,
            "last_check": snapshot.last_check,
            "latency_ms": snapshot.latency_ms,
            "ejected_until": snapshot.ejected_until,
            "failures": snapshot.failures,
        }
        for service in services
        for snapshot in service.fleet.snapshot()
    ]


def _add_list(
    routes: APIRouter, registry: Callable[[], Registry], everywhere: Everywhere | None
) -> None:
    @routes.get("", summary="List every service and its instances")
    async def services(response: Response) -> Services:
        response.headers["Cache-Control"] = "no-store"
        known = registry()
        found: _Found = {}
        for part in [] if everywhere is None else await everywhere():
            found.setdefault((part["service"], part["id"]), []).append(part)
        return Services(services=[_service(known, service, found) for service in known.services()])


def _add_joining(routes: APIRouter, registry: Callable[[], Registry], trail: AuditTrail) -> None:
    @routes.post(
        "",
        summary="Register an instance",
        description="Registering again updates the instance and renews its lease.",
        status_code=_CREATED,
        responses=_ALREADY_REGISTERED | _REFUSED,
    )
    async def register(
        request: RegistrationRequest, http: Request, response: Response
    ) -> RegistrationAnswer:
        asked = _registration(request)
        with trail.of(http, "register", f"instance:{asked.service}/{asked.id}"):
            done = await registry().register(asked)
        if not done.created:
            response.status_code = 200
        return RegistrationAnswer(instance_id=done.instance.id, status=done.status)

    @routes.put("/{service}/{instance_id}/heartbeat", summary="Renew a lease", responses=_UNKNOWN)
    async def heartbeat(service: _Service, instance_id: _Instance) -> Lease:
        return _lease(registry().heartbeat(service, instance_id.lower()))


def _add_leaving(routes: APIRouter, registry: Callable[[], Registry], trail: AuditTrail) -> None:
    @routes.delete(
        "/{service}/{instance_id}",
        summary="Deregister an instance",
        description="The instance gets no new requests and no probes. Requests in flight complete.",
        status_code=204,
        responses=_UNKNOWN | _NOT_REGISTERED,
    )
    async def deregister(service: _Service, instance_id: _Instance, http: Request) -> None:
        with trail.of(http, "deregister", f"instance:{service}/{instance_id.lower()}"):
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


def _service(registry: Registry, service: Service, found: _Found) -> ServiceEntry:
    return ServiceEntry(
        name=service.name,
        instances=[
            _instance(
                _merged(snapshot, found.get((service.name, snapshot.id), ())),
                registry.lease(service.name, snapshot.id),
            )
            for snapshot in service.fleet.snapshot()
        ],
    )


def _merged(mine: InstanceSnapshot, known: Sequence[Mapping[str, Any]]) -> InstanceSnapshot:
    """Return what all workers know of an instance: the newest probe counts, and the failures of all add up."""
    if not known:
        return mine
    newest = max(known, key=lambda part: part["last_check"] or 0.0)
    ejected = [part["ejected_until"] for part in known if part["ejected_until"] is not None]
    return replace(
        mine,
        status=newest["status"],
        last_check=newest["last_check"],
        latency_ms=newest["latency_ms"],
        ejected_until=max(ejected, default=None),
        failures=sum(part["failures"] for part in known),
    )


def _instance(snapshot: InstanceSnapshot, lease: float | None) -> InstanceEntry:
    return InstanceEntry(
        instance_id=snapshot.id,
        status=snapshot.status,
        last_check=_moment(snapshot.last_check),
        latency_ms=snapshot.latency_ms,
        ejected_until=_moment(snapshot.ejected_until),
        failures=snapshot.failures,
        weight=snapshot.weight,
        source=snapshot.source,
        metadata=dict(snapshot.metadata),
        lease=_seconds(lease),
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(round(seconds, 3), UTC)


def _seconds(lease: float | None) -> float | None:
    return None if lease is None else round(lease, 3)
