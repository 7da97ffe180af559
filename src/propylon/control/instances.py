"""List services and their instances, as all workers know them: `GET {prefix}/services` and below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from propylon.control.circuits import Everywhere
from propylon.control.etags import UNCHANGED, IfNoneMatch, etag_of, tagged
from propylon.control.pages import lead_on
from propylon.control.registration import (
    InstanceEntry,
    InstanceRecord,
    ServiceEntry,
    Services,
    Status,
)
from propylon.control.schemas import Envelope
from propylon.errors import InvalidFields, NotFound
from propylon.services.instance import InstanceSnapshot
from propylon.services.registry import Registry
from propylon.services.service import Service

__all__ = [
    "VOLATILE",
    "InstanceInPath",
    "ServiceInPath",
    "add_listing",
    "found_of",
    "record_of",
    "seconds",
    "tag_of",
]

# What workers know of instances, by service and instance.
Found = dict[tuple[str, str], list[Mapping[str, Any]]]

_MOST = 1000  # services on a page
# What changes by itself from one probe or request to the next: it makes no other state of an instance.
VOLATILE = frozenset({"last_check", "latency_ms", "lease", "failures"})
_IN_SERVICE = {"instances": {"__all__": set(VOLATILE)}}
_IN_PAGE = {"services": {"__all__": _IN_SERVICE}}

ServiceInPath = Annotated[str, Path(description="The name of the service.", examples=["orders"])]
InstanceInPath = Annotated[
    str, Path(description="The id of the instance: `host:port`.", examples=["10.0.0.7:8001"])
]
_Text = Annotated[str, Query(max_length=256)]
_NO_SERVICE: dict[int | str, dict[str, Any]] = {
    404: {"model": Envelope, "description": "There is no such service."}
}
_NO_INSTANCE: dict[int | str, dict[str, Any]] = {
    404: {"model": Envelope, "description": "There is no such instance."}
}


def add_listing(
    routes: APIRouter, registry: Callable[[], Registry], everywhere: Everywhere | None
) -> None:
    """Add the endpoints; `everywhere` returns what all workers know, None: this one answers for itself."""
    _add_list(routes, registry, everywhere)
    _add_single(routes, registry, everywhere)


def _add_list(
    routes: APIRouter, registry: Callable[[], Registry], everywhere: Everywhere | None
) -> None:
    @routes.get(
        "",
        summary="List every service and its instances",
        description="A page at a time; the header `Link` leads to the next one (RFC 8288).",
        response_model=Services,
        responses=UNCHANGED,
    )
    async def services(
        request: Request,
        response: Response,
        limit: Annotated[
            int, Query(ge=1, le=_MOST, description="Services on a page.", examples=[50])
        ] = _MOST,
        after: Annotated[
            _Text,
            Query(
                description="Only services behind this one: `next` of the page before.",
                examples=["orders"],
            ),
        ] = "",
        name: Annotated[
            _Text, Query(description="Only services whose names begin so.", examples=["ord"])
        ] = "",
        status: Annotated[
            Status | None,
            Query(
                description="Only instances with this status, and services that have one.",
                examples=["failed"],
            ),
        ] = None,
        if_none_match: IfNoneMatch = None,
    ) -> Services | Response:
        response.headers["Cache-Control"] = "no-store"
        known, found = registry(), await found_of(everywhere)
        entries = [
            _only(_service(known, service, found), status)
            for service in _behind(known.services(), after)
            if service.name.startswith(name)
        ]
        fitting = [entry for entry in entries if status is None or entry.instances]
        page = Services(
            services=fitting[:limit],
            next=fitting[limit - 1].name if len(fitting) > limit else None,
        )
        lead_on(request, response, page.next)
        return tagged(response, if_none_match, etag_of(page, _IN_PAGE)) or page


def _add_single(
    routes: APIRouter, registry: Callable[[], Registry], everywhere: Everywhere | None
) -> None:
    @routes.get(
        "/{service}",
        summary="Read a service and its instances",
        response_model=ServiceEntry,
        responses=UNCHANGED | _NO_SERVICE,
    )
    async def one_service(
        service: ServiceInPath, response: Response, if_none_match: IfNoneMatch = None
    ) -> ServiceEntry | Response:
        known, found = registry(), await found_of(everywhere)
        response.headers["Cache-Control"] = "no-store"
        entry = _service(known, _named(known, service), found)
        return tagged(response, if_none_match, etag_of(entry, _IN_SERVICE)) or entry

    @routes.get(
        "/{service}/{instance_id}",
        summary="Read an instance",
        response_model=InstanceRecord,
        responses=UNCHANGED | _NO_INSTANCE,
    )
    async def one_instance(
        service: ServiceInPath,
        instance_id: InstanceInPath,
        response: Response,
        if_none_match: IfNoneMatch = None,
    ) -> InstanceRecord | Response:
        known, found = registry(), await found_of(everywhere)
        response.headers["Cache-Control"] = "no-store"
        shown = record_of(known, service, instance_id.lower(), found)
        return tagged(response, if_none_match, etag_of(shown, VOLATILE)) or shown


async def found_of(everywhere: Everywhere | None) -> Found:
    """Return what all workers know."""
    found: Found = {}
    for part in [] if everywhere is None else await everywhere():
        found.setdefault((part["service"], part["id"]), []).append(part)
    return found


def record_of(registry: Registry, service: str, instance_id: str, found: Found) -> InstanceRecord:
    """Return an instance with what it has said. Raises NotFound."""
    for snapshot in _named(registry, service).fleet.snapshot():
        if snapshot.id == instance_id:
            entry = _instance_of(registry, service, snapshot, found)
            said = registry.said(service, instance_id)
            return InstanceRecord(
                **entry.model_dump(),
                check_endpoint=None if said is None else said.check_endpoint,
                check_interval=None if said is None else int(said.check_interval),
            )
    msg = "There is no such instance"
    raise NotFound(msg, details={"service": service, "instance_id": instance_id})


def tag_of(registry: Registry, service: str, instance_id: str, found: Found) -> str:
    """Return the tag of an instance. Raises NotFound."""
    return etag_of(record_of(registry, service, instance_id, found), VOLATILE)


def _named(registry: Registry, name: str) -> Service:
    for service in registry.services():
        if service.name == name:
            return service
    msg = "There is no such service"
    raise NotFound(msg, details={"service": name})


def _behind(services: Sequence[Service], after: str) -> Sequence[Service]:
    """Return the services behind one of this name. Raises InvalidFields if it is gone: a page would be left out."""
    if not after:
        return services
    for at, service in enumerate(services):
        if service.name == after:
            return services[at + 1 :]
    msg = "The request does not fit this endpoint"
    raise InvalidFields(
        msg, details={"fields": {"after": "there is no such service any more: begin anew"}}
    )


def _only(entry: ServiceEntry, status: Status | None) -> ServiceEntry:
    if status is None:
        return entry
    instances = [instance for instance in entry.instances if instance.status == status]
    return entry.model_copy(update={"instances": instances})


def _service(registry: Registry, service: Service, found: Found) -> ServiceEntry:
    return ServiceEntry(
        name=service.name,
        instances=[
            _instance_of(registry, service.name, snapshot, found)
            for snapshot in service.fleet.snapshot()
        ],
    )


def _instance_of(
    registry: Registry, service: str, snapshot: InstanceSnapshot, found: Found
) -> InstanceEntry:
    known = found.get((service, snapshot.id), ())
    return _instance(_merged(snapshot, known), registry.lease(service, snapshot.id))


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
        drained=any(part.get("drained", False) for part in known),
    )


def _instance(snapshot: InstanceSnapshot, lease: float | None) -> InstanceEntry:
    return InstanceEntry(
        instance_id=snapshot.id,
        status=snapshot.status,
        last_check=_moment(snapshot.last_check),
        latency_ms=snapshot.latency_ms,
        ejected_until=_moment(snapshot.ejected_until),
        failures=snapshot.failures,
        drained=snapshot.drained,
        weight=snapshot.weight,
        priority=snapshot.priority,
        source=snapshot.source,
        metadata=dict(snapshot.metadata),
        lease=seconds(lease),
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(round(seconds, 3), UTC)


def seconds(lease: float | None) -> float | None:
    """Return the seconds left of a lease, as they are shown."""
    return None if lease is None else round(lease, 3)
