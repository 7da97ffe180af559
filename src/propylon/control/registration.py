"""Define the request and response models of the registry's endpoints."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from propylon.config.models.schema import BUILTIN_SERVICE
from propylon.config.models.services import ServiceName
from propylon.config.models.syntax import check_path
from propylon.config.models.units import parse_whole
from propylon.names.addresses import parse_host

__all__ = [
    "InstanceEntry",
    "InstanceRecord",
    "Lease",
    "RegistrationAnswer",
    "RegistrationChange",
    "RegistrationRequest",
    "ServiceEntry",
    "Services",
]

_MAX_KEYS = 32
_MAX_METADATA = 4096  # bytes as JSON: it is for labels; every worker keeps it in memory
_MAX_PATH = 512
_ID = "10.0.0.7:8001"
# For the document: what `parse_host` and `check_path` accept, but for rare forms of both.
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = r"[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"^({_BYTE}(\.{_BYTE}){{3}}|{_LABEL}(\.{_LABEL})*|[0-9a-f]{{1,4}}(:[0-9a-f]{{1,4}}){{7}})$"
_PATH = r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$"
_REQUEST: dict[str, Any] = {
    "service_name": "orders",
    "host": "10.0.0.7",
    "port": 8001,
    "check_endpoint": "/health",
    "check_interval": 30,
    "metadata": {"version": "1.4.2", "zone": "a"},
}
_ANSWER = {"instance_id": _ID, "status": "starting"}
_ENTRY: dict[str, Any] = {
    "instance_id": _ID,
    "status": "healthy",
    "last_check": "2026-01-01T00:00:00Z",
    "latency_ms": 1.8,
    "ejected_until": None,
    "failures": 0,
    "drained": False,
    "weight": 1,
    "priority": 0,
    "source": "registered",
    "metadata": {"zone": "a"},
    "lease": 21.5,
}

Status = Literal["starting", "healthy", "unhealthy", "failed", "stopped"]


def _whole(value: object) -> int:
    # To JSON Schema 30.0 is an integer, too.
    return parse_whole(int(value) if isinstance(value, float) and value.is_integer() else value)


def _service(name: str) -> str:
    if name == BUILTIN_SERVICE:
        msg = f'"{BUILTIN_SERVICE}" is the name of the gateway itself'
        raise ValueError(msg)
    return name


def _endpoint(path: str) -> str:
    return check_path(path, names=False, what="the endpoint")


def _metadata(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(metadata) > _MAX_KEYS:
        msg = f"has more than {_MAX_KEYS} keys"
        raise ValueError(msg)
    try:
        # Python's parser takes NaN, lone surrogates and 2**64, but they could not be written as JSON again.
        json.dumps(metadata, allow_nan=False)
        size = len(orjson.dumps(metadata))
    except (ValueError, orjson.JSONEncodeError) as error:
        msg = "contains a number or a text that not every JSON parser can read"
        raise ValueError(msg) from error
    if size > _MAX_METADATA:
        msg = f"has more than {_MAX_METADATA} bytes as JSON"
        raise ValueError(msg)
    return metadata


def _with_example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"example": example})


class RegistrationChange(BaseModel):
    """What an instance says of its checks and labels."""

    model_config = ConfigDict(
        **_with_example(
            {key: _REQUEST[key] for key in ("check_endpoint", "check_interval", "metadata")}
        ),
        extra="forbid",
    )

    check_endpoint: Annotated[str, Field(max_length=_MAX_PATH), AfterValidator(_endpoint)] = Field(
        default="/health",
        description="The path that the gateway probes. A 2xx answer is healthy; only a healthy instance gets requests.",
        examples=["/health"],
        json_schema_extra={"pattern": _PATH},
    )
    check_interval: Annotated[int, Field(ge=1, le=3600), BeforeValidator(_whole)] = Field(
        default=30, description="Seconds from one probe to the next.", examples=[30]
    )
    metadata: Annotated[dict[str, JsonValue], AfterValidator(_metadata)] = Field(
        default_factory=dict,
        description=f"Labels of your own, shown in the list of instances: at most {_MAX_KEYS} keys,"
        f" {_MAX_METADATA} bytes as JSON.",
        examples=[{"version": "1.4.2", "zone": "a"}],
    )


class RegistrationRequest(RegistrationChange):
    """An instance of a service, as it announces itself."""

    # An unknown field is a misspelt one: `chek_endpoint` would leave the instance with the default check.
    model_config = ConfigDict(**_with_example(_REQUEST), extra="forbid")

    service_name: Annotated[ServiceName, AfterValidator(_service)] = Field(
        description="The service that the instance belongs to. A service that is new here gets no route.",
        examples=["orders"],
    )
    host: Annotated[str, Field(min_length=1, max_length=253), AfterValidator(parse_host)] = Field(
        description="Where the instance listens: a host name or an IP address. `registry.allow` must allow it.",
        examples=["10.0.0.7"],
        json_schema_extra={"pattern": _HOST},
    )
    port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(_whole)] = Field(
        description="The port that the instance listens on, for plain HTTP.", examples=[8001]
    )


class RegistrationAnswer(BaseModel):
    """The result of a registration."""

    model_config = _with_example(_ANSWER)

    instance_id: str = Field(
        description="The id of the instance: `host:port`, or `unix:` and the path of a socket.",
        examples=[_ID],
    )
    status: Status = Field(
        description="starting: not probed yet, gets requests; healthy: gets requests; unhealthy: answers"
        " probes, but not with 2xx; failed: answers no probe; stopped: has left.",
        examples=["starting"],
    )


class Lease(RegistrationAnswer):
    """The status and the lease of an instance after a heartbeat."""

    model_config = _with_example({**_ANSWER, "status": "healthy", "lease": 30.0})

    lease: float | None = Field(
        description="Seconds within which the next heartbeat is due. null: no heartbeat is needed, because"
        " `registry.ttl` is not set or the instance did not register.",
        examples=[30.0],
    )


class InstanceEntry(Lease):
    """The state of an instance, as all workers of this gateway know it."""

    model_config = _with_example(_ENTRY)

    last_check: datetime | None = Field(
        description="When the instance was last probed, in UTC; null before the first probe.",
        examples=[_ENTRY["last_check"]],
    )
    latency_ms: float | None = Field(
        description="How long the last probe took to be answered; null if it was not.",
        examples=[1.8],
    )
    ejected_until: datetime | None = Field(
        description="The instance gets no requests until then, because requests to it failed; null: it is not ejected.",
        examples=[None],
    )
    failures: int = Field(description="Failed requests in a row, of all workers.", examples=[0])
    drained: bool = Field(
        description="Whether an operator has it drained: it gets no new requests.", examples=[False]
    )
    weight: int = Field(
        description="Its share of the requests, relative to the other instances.", examples=[1]
    )
    priority: int = Field(
        default=0,
        description="It gets requests only while no instance of a higher priority may be asked.",
        examples=[0],
    )
    source: Literal["configured", "registered", "dns", "kubernetes", "docker"] = Field(
        description="configured: the file names it; registered: it registered itself; dns: DNS names it; kubernetes, docker: it is"
        " a pod or a container.",
        examples=["registered"],
    )
    metadata: dict[str, Any] = Field(
        description="The metadata that it registered with.", examples=[{}]
    )


class InstanceRecord(InstanceEntry):
    """An instance, with what it has said of its checks."""

    model_config = _with_example({**_ENTRY, "check_endpoint": "/health", "check_interval": 30})

    check_endpoint: str | None = Field(
        description="The path that it asked to be probed; null: it did not register.",
        examples=["/health"],
    )
    check_interval: int | None = Field(
        description="Seconds from one probe to the next; null: it did not register.", examples=[30]
    )


class ServiceEntry(BaseModel):
    """A service and its instances."""

    model_config = _with_example({"name": "orders", "instances": [_ENTRY]})

    name: str = Field(description="The name, as in routes and at /health.", examples=["orders"])
    instances: list[InstanceEntry] = Field(
        description="All instances; the list may be empty.", examples=[[_ENTRY]]
    )


class Services(BaseModel):
    """The list of all services."""

    model_config = _with_example(
        {"services": [{"name": "orders", "instances": [_ENTRY]}], "next": None}
    )

    services: list[ServiceEntry] = Field(
        description="The services, those of the configuration first.",
        examples=[[{"name": "orders", "instances": [_ENTRY]}]],
    )
    next: str | None = Field(
        default=None,
        description="What to send as `after` for the next page; null on the last one.",
        examples=["orders"],
    )
