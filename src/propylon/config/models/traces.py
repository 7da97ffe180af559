"""Define the section `traces`: which traces are recorded, and the collector that gets their spans."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator

from propylon.config.models.base import ConfigModel, HeaderName, PlainPath, as_list
from propylon.config.models.jwt import Blank, DocumentUrl
from propylon.config.models.syntax import check_header_value
from propylon.config.models.units import Rate, Share, Timeout, Whole, WrittenRate

__all__ = ["TraceKeepConfig", "TraceSamplingConfig", "TracesConfig"]

_MOST_SPANS = 1_000_000
# OpenTelemetry, attribute names: a name space with dots, such as deployment.environment.name.
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,254}")


def _attribute(name: str) -> str:
    if not _ATTRIBUTE.fullmatch(name):
        msg = f'"{name:.40}" is no name of an attribute: write one such as deployment.environment.name'
        raise ValueError(msg)
    return name


def _value(secret: SecretStr) -> SecretStr:
    check_header_value(secret.get_secret_value())
    return secret


class TraceSamplingConfig(ConfigModel):
    """Which traces are recorded, decided when a request arrives."""

    ratio: Share = Field(
        default=1.0,
        description="The share of the traces that is recorded. A route's `sampling` replaces it there.",
        json_schema_extra={"default": "100%"},
    )
    parent: Literal["ignore", "trusted", "follow"] = Field(
        default="ignore",
        description="Whose word counts, if a request comes with a trace. ignore: nobody's; the gateway decides anew."
        " trusted: that of server.trusted_proxies. follow: that of every client, which can have all of its requests"
        " recorded, or none.",
    )


class TraceKeepConfig(ConfigModel):
    """What is recorded after all, decided when a request has ended: only the gateway's own spans of it."""

    errors: bool = Field(
        default=True, description="Requests that ended with 5xx, or whose answer was cut off."
    )
    slower_than: Timeout | None = Field(
        default=None, description="Requests that took longer to be answered; empty: none for that."
    )
    most: WrittenRate = Field(
        default=Rate(100, 1.0),
        description="How many requests each worker keeps so: while a service is down, all fail.",
        json_schema_extra={"default": "100/s"},
    )


class TracesConfig(ConfigModel):
    """Traces, for a collector that speaks OTLP over HTTP: OpenTelemetry's own, Jaeger, Tempo, and others."""

    endpoint: Annotated[DocumentUrl | None, Blank] = Field(
        default=None,
        description="Where spans go, such as http://collector:4318; without a path, /v1/traces is meant. It switches"
        " recording on, and needs propylon[otel].",
    )
    enabled: bool = Field(
        default=True, description="False: nothing is recorded, whatever else is said here."
    )
    headers: dict[HeaderName, Annotated[SecretStr, AfterValidator(_value)]] = Field(
        default_factory=dict,
        description="Headers for the collector, such as {authorization: 'Bearer ${TOKEN}'}.",
    )
    timeout: Timeout = Field(default=10.0, description="For one message to the collector.")
    compression: Literal["none", "gzip"] = Field(
        default="none", description="How messages to the collector are compressed."
    )
    service_name: Annotated[str, Field(min_length=1, max_length=255)] = Field(
        default="propylon", description="What traces call this gateway: service.name."
    )
    resource: dict[Annotated[str, AfterValidator(_attribute)], str] = Field(
        default_factory=dict,
        description="What else each span is of, such as {deployment.environment.name: production}.",
    )
    sampling: TraceSamplingConfig = Field(
        default=TraceSamplingConfig(), description="Which traces are recorded."
    )
    keep: TraceKeepConfig = Field(
        default=TraceKeepConfig(),
        description="What is recorded besides: errors, and slow requests.",
    )
    skip: Annotated[tuple[PlainPath, ...], BeforeValidator(as_list)] = Field(
        default=("/livez", "/readyz", "/health", "/metrics"),
        description="Paths of which nothing is recorded: programs ask for them all the time.",
    )
    queue: Annotated[Whole, Field(ge=1, le=_MOST_SPANS)] = Field(
        default=8192,
        description="Spans of each worker that wait for the collector; more are lost, and counted.",
    )
    batch: Annotated[Whole, Field(ge=1, le=_MOST_SPANS)] = Field(
        default=512, description="The most spans in one message."
    )
    interval: Timeout = Field(
        default=5.0, description="How long a span waits for others, if there is no whole batch."
    )
    retry_for: Timeout | None = Field(
        default=None,
        description="How long a message is sent again while the collector is away. When not set: until it takes it; the"
        " queue is the bound.",
    )
    traceresponse: bool = Field(
        default=False,
        description="True: answers say in `traceresponse` which trace they belong to.",
    )
    server_timing: bool = Field(
        default=False,
        description="True: answers say in `Server-Timing` how long the gateway took, and how long the upstream.",
    )

    @field_validator("batch")
    @classmethod
    def _fits(cls, batch: int, info: object) -> int:
        queue = getattr(info, "data", {}).get("queue", batch)
        if batch > queue:
            msg = f"is more than the {queue} that the queue holds; write a smaller batch, or a larger queue"
            raise ValueError(msg)
        return batch
