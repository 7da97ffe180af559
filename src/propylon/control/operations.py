"""Let operators open and close breakers, and drain instances: `PUT {prefix}/circuits/{service}` and `…/drain`.

Each is done in all workers, and each writes a record to the audit log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from propylon.control.admin import AdminGate
from propylon.control.audit import AuditTrail
from propylon.control.identity import caller_of
from propylon.control.same_site import SAME_SITE
from propylon.control.schemas import Envelope
from propylon.errors import ServiceUnavailable

__all__ = ["CircuitChange", "Operates", "router"]

_NONE: dict[int | str, dict[str, Any]] = {
    404: {"model": Envelope, "description": "There is no such service, breaker or instance."}
}
_Service = Annotated[str, Path(description="The name of the service.", examples=["orders"])]
_Instance = Annotated[
    str, Path(description="The id of the instance: `host:port`.", examples=["10.0.0.7:8001"])
]


class Operates(Protocol):
    """Does what an operator says, in all workers. Each raises NotFound."""

    def force_circuit(self, service: str, why: str) -> None:
        """Open a breaker, until it is reset."""

    def reset_circuit(self, service: str) -> None:
        """Close a breaker."""

    def drain(self, service: str, instance_id: str, *, drained: bool) -> None:
        """Send no new requests to an instance, or send them again."""


class CircuitChange(BaseModel):
    """The state that a breaker is to have."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"state": "CLOSED"}})

    state: Literal["OPEN", "CLOSED"] = Field(
        description="OPEN: no request passes until the breaker is closed again. CLOSED: requests pass, and earlier"
        " failures are forgotten."
    )


def router(
    prefix: str,
    running: Callable[[], Operates | None],
    gate: AdminGate | None = None,
    trail: AuditTrail | None = None,
) -> APIRouter:
    """Return the endpoints. `running` returns what does it; None: the gateway has not started."""
    routes = APIRouter(tags=["services"])
    gate, audited = gate or AdminGate(), trail or AuditTrail()

    def operates() -> Operates:
        found = running()
        if found is None:
            msg = "The gateway has not started"
            raise ServiceUnavailable(msg)
        return found

    @routes.put(
        f"{prefix}/circuits/{{service}}",
        status_code=204,
        summary="Open or close a breaker by hand",
        dependencies=[gate.requires(), SAME_SITE],
        responses=_NONE,
    )
    async def change(service: _Service, said: CircuitChange, request: Request) -> None:
        action = "circuit.open" if said.state == "OPEN" else "circuit.reset"
        with audited.of(request, action, f"service:{service}"):
            if said.state == "OPEN":
                who = caller_of(request).subject or "an operator"
                operates().force_circuit(service, f"{who} opened it by hand")
            else:
                operates().reset_circuit(service)

    place = f"{prefix}/services/{{service}}/{{instance_id}}/drain"
    guarded = [gate.requires("registry"), SAME_SITE]

    @routes.put(
        place,
        status_code=204,
        summary="Drain an instance",
        description="It gets no new requests, until it is restored or leaves. Requests in flight complete.",
        dependencies=guarded,
        responses=_NONE,
    )
    async def drain(service: _Service, instance_id: _Instance, request: Request) -> None:
        name = instance_id.lower()
        with audited.of(request, "instance.drain", f"instance:{service}/{name}"):
            operates().drain(service, name, drained=True)

    @routes.delete(
        place,
        status_code=204,
        summary="Restore a drained instance",
        dependencies=guarded,
        responses=_NONE,
    )
    async def restore(service: _Service, instance_id: _Instance, request: Request) -> None:
        name = instance_id.lower()
        with audited.of(request, "instance.restore", f"instance:{service}/{name}"):
            operates().drain(service, name, drained=False)

    return routes
