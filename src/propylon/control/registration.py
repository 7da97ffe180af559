"""Model what the registry's endpoints speak."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from propylon.config.models.schema import BUILTIN_SERVICE
from propylon.config.models.services import ServiceName
from propylon.config.models.syntax import check_path
from propylon.config.models.units import Whole
from propylon.names.addresses import parse_host

__all__ = [
    "InstanceEntry",
    "Lease",
    "RegistrationAnswer",
    "RegistrationRequest",
    "ServiceEntry",
    "Services",
]

_MAX_KEYS = 32
_MAX_METADATA = 4096  # bytes of JSON: labels, not documents; it is kept in memory and listed
_MAX_PATH = 512
_ID = "10.0.0.7:8001"
_SHOWN: dict[str, Any] = {
    "service_name": "orders",
    "host": "10.0.0.7",
    "port": 8001,
    "check_endpoint": "/health",
    "check_interval": 30,
    "metadata": {"version": "1.4.2", "zone": "a"},
}
_STANDING = {"instance_id": _ID, "status": "starting"}
_ENTRY: dict[str, Any] = {
    "instance_id": _ID,
    "status": "healthy",
    "last_check": "2026-01-01T00:00:00Z",
    "latency_ms": 1.8,
    "ejected_until": None,
    "failures": 0,
    "weight": 1,
    "source": "registered",
    "metadata": {"zone": "a"},
    "lease": 21.5,
}

Status = Literal["starting", "healthy", "unhealthy", "failed", "stopped"]


def _service(name: str) -> str:
    if name == BUILTIN_SERVICE:
        msg = f'"{BUILTIN_SERVICE}" is what the gateway calls itself'
        raise ValueError(msg)
    return name


def _endpoint(path: str) -> str:
    return check_path(path, names=False, what="the endpoint")


def _metadata(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(metadata) > _MAX_KEYS:
        msg = f"has more than {_MAX_KEYS} keys"
        raise ValueError(msg)
    try:
        # NaN, half a surrogate pair and 2**64 can be read as JSON, and could not be written again.
        json.dumps(metadata, allow_nan=False)
        size = len(orjson.dumps(metadata))
    except (ValueError, orjson.JSONEncodeError) as error:
        msg = "has a number or a text in it that is no JSON for everybody"
        raise ValueError(msg) from error
    if size > _MAX_METADATA:
        msg = f"has more than {_MAX_METADATA} bytes as JSON"
        raise ValueError(msg)
    return metadata


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"example": example})


class RegistrationRequest(BaseModel):
    """An instance of a service, as it announces itself."""

    model_config = _shown(_SHOWN)

    service_name: Annotated[ServiceName, AfterValidator(_service)] = Field(
        description="The service that it belongs to; one that is new gets no route of its own.",
        examples=["orders"],
    )
    host: Annotated[str, Field(min_length=1, max_length=253), AfterValidator(parse_host)] = Field(
        description="Where it listens: a name or an IP address, which `registry.allow` has to name.",
        examples=["10.0.0.7", "orders-1.internal"],
    )
    port: Annotated[Whole, Field(ge=1, le=65535)] = Field(
        description="The port that it listens on, for plain HTTP.", examples=[8001]
    )
    check_endpoint: Annotated[str, Field(max_length=_MAX_PATH), AfterValidator(_endpoint)] = Field(
        default="/health",
        description="The path that is probed: a 2xx is healthy, and only then it gets requests.",
        examples=["/health"],
    )
    check_interval: Annotated[Whole, Field(ge=1, le=3600)] = Field(
        default=30, description="Seconds from one probe to the next.", examples=[30]
    )
    metadata: Annotated[dict[str, JsonValue], AfterValidator(_metadata)] = Field(
        default_factory=dict,
        description=f"Whatever you want to see in the list of instances: {_MAX_KEYS} keys,"
        f" {_MAX_METADATA} bytes.",
        examples=[{"version": "1.4.2", "zone": "a"}],
    )


class RegistrationAnswer(BaseModel):
    """What became of a registration."""

    model_config = _shown(_STANDING)

    instance_id: str = Field(
        description="What the instance is called: `host:port`.", examples=[_ID]
    )
    status: Status = Field(
        description="starting: not probed yet, so it is tried; failed: it answers no probe.",
        examples=["starting"],
    )


class Lease(RegistrationAnswer):
    """How an instance stands after its heartbeat."""

    model_config = _shown({**_STANDING, "status": "healthy", "lease": 30.0})

    lease: float | None = Field(
        description="Seconds within which the next heartbeat is due; null when none is, because"
        " `registry.ttl` is not set or the instance did not register.",
        examples=[30.0],
    )


class InstanceEntry(Lease):
    """An instance, as the gateway sees it."""

    model_config = _shown(_ENTRY)

    last_check: datetime | None = Field(
        description="When it was last probed, UTC; null before the first time.",
        examples=[_ENTRY["last_check"]],
    )
    latency_ms: float | None = Field(
        description="Until it answered that probe; null when it did not.", examples=[1.8]
    )
    ejected_until: datetime | None = Field(
        description="Until when it is left out because requests to it failed; null: it is not.",
        examples=[None],
    )
    failures: int = Field(description="Failed requests in a row.", examples=[0])
    weight: int = Field(description="Its share of the requests.", examples=[1])
    source: Literal["configured", "registered", "dns"] = Field(
        description="Who named it: the configuration, it itself, or DNS.", examples=["registered"]
    )
    metadata: dict[str, Any] = Field(description="As it was registered.", examples=[{}])


class ServiceEntry(BaseModel):
    """A service and its instances."""

    model_config = _shown({"name": "orders", "instances": [_ENTRY]})

    name: str = Field(description="As routes and /health name it.", examples=["orders"])
    instances: list[InstanceEntry] = Field(
        description="Those that there are; maybe none.", examples=[[_ENTRY]]
    )


class Services(BaseModel):
    """Every service."""

    model_config = _shown({"services": [{"name": "orders", "instances": [_ENTRY]}]})

    services: list[ServiceEntry] = Field(
        description="Those of the configuration first.",
        examples=[[{"name": "orders", "instances": [_ENTRY]}]],
    )
