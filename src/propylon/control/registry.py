"""Serve `{prefix}/services`, for callers that `admin` permits.

Instances register, renew their leases and leave; operators list the services. `services/registry.py` does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from propylon.control.admin import AdminGate
from propylon.control.audit import AuditTrail
from propylon.control.circuits import Everywhere
from propylon.control.etags import CHANGED, IfMatch, check_match, etag_of
from propylon.control.instances import (
    VOLATILE,
    InstanceInPath,
    ServiceInPath,
    add_listing,
    found_of,
    record_of,
    seconds,
    tag_of,
)
from propylon.control.registration import (
    InstanceRecord,
    Lease,
    RegistrationAnswer,
    RegistrationChange,
    RegistrationRequest,
)
from propylon.control.schemas import Envelope
from propylon.errors import NotFound
from propylon.services.registration import Registered, Registration
from propylon.services.registry import Registry
from propylon.services.service import Service

__all__ = ["parts", "router"]

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
    409: {
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

    add_listing(routes, registry, everywhere)
    _add_joining(routes, registry, trail)
    _add_changing(routes, registry, trail, everywhere)
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
            "weight": snapshot.weight,
            "priority": snapshot.priority,
            "source": snapshot.source,
            "drained": snapshot.drained,
            "since": snapshot.since,
        }
        for service in services
        for snapshot in service.fleet.snapshot()
    ]


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
        path, where = http.url.path.rstrip("/"), quote(done.instance.id, safe=":[]")
        response.headers["Location"] = f"{path}/{asked.service}/{where}"
        if not done.created:
            response.status_code = 200
        return RegistrationAnswer(instance_id=done.instance.id, status=done.status)

    @routes.put("/{service}/{instance_id}/heartbeat", summary="Renew a lease", responses=_UNKNOWN)
    async def heartbeat(service: ServiceInPath, instance_id: InstanceInPath) -> Lease:
        return _lease(registry().heartbeat(service, instance_id.lower()))


def _add_changing(
    routes: APIRouter,
    registry: Callable[[], Registry],
    trail: AuditTrail,
    everywhere: Everywhere | None,
) -> None:
    @routes.put(
        "/{service}/{instance_id}",
        summary="Change a registered instance",
        description="Replaces its check and its labels, and renews its lease. Host and port are its name and do not change.",
        responses=_UNKNOWN | _NOT_REGISTERED | CHANGED,
    )
    async def change(
        service: ServiceInPath,
        instance_id: InstanceInPath,
        said: RegistrationChange,
        http: Request,
        response: Response,
        if_match: IfMatch = None,
    ) -> InstanceRecord:
        name = instance_id.lower()
        with trail.of(http, "change_instance", f"instance:{service}/{name}"):
            known, found = registry(), await found_of(everywhere)
            check_match(if_match, tag_of(known, service, name, found))
            # Without an await since the tag was compared: no other request has changed the instance meanwhile.
            known.update(
                service,
                name,
                check_endpoint=said.check_endpoint,
                check_interval=float(said.check_interval),
                metadata=dict(said.metadata),
            )
        response.headers["Cache-Control"] = "no-store"
        shown = record_of(known, service, name, await found_of(everywhere))
        response.headers["ETag"] = etag_of(shown, VOLATILE)
        return shown

    @routes.delete(
        "/{service}/{instance_id}",
        summary="Deregister an instance",
        description="The instance gets no new requests and no probes. Requests in flight complete.",
        status_code=204,
        responses=_UNKNOWN | _NOT_REGISTERED | CHANGED,
    )
    async def deregister(
        service: ServiceInPath,
        instance_id: InstanceInPath,
        http: Request,
        if_match: IfMatch = None,
    ) -> None:
        name = instance_id.lower()
        with trail.of(http, "deregister", f"instance:{service}/{name}"):
            known = registry()
            if if_match is not None:
                found = await found_of(everywhere)
                check_match(if_match, tag_of(known, service, name, found))
            known.deregister(service, name)


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
        lease=seconds(registered.lease),
    )
