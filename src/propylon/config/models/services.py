"""Define the services: their instances, and how they are asked."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.base import Claims, ConfigModel, Url
from propylon.config.models.limits import Limits
from propylon.config.models.resilience import (
    CircuitConfig,
    EjectionConfig,
    HealthConfig,
    RetryConfig,
)
from propylon.config.models.syntax import check_url, parse_upstream
from propylon.config.models.units import Timeout, Whole

__all__ = [
    "InstanceConfig",
    "Service",
    "ServiceConfig",
    "ServiceName",
    "ServiceTimeoutsConfig",
]


class ServiceTimeoutsConfig(ConfigModel):
    """How long the gateway waits for a service."""

    connect: Timeout = Field(default=5.0, description="For connecting.")
    first_byte: Timeout = Field(default=30.0, description="For the head of the response.")
    idle: Timeout = Field(default=30.0, description="Longest silence within a body.")
    total: Timeout = Field(
        default=60.0, description="Until the head of the final response, retries included."
    )
    max_duration: Timeout | None = Field(
        default=None, description="For the whole exchange, body included; unlimited when not set."
    )


class InstanceConfig(ConfigModel):
    """One instance of a service, and its share of the requests."""

    url: Url = Field(description="URL of the instance; its path is put in front of the request's.")
    weight: Annotated[Whole, Field(ge=1, le=1000)] = Field(
        default=1, description="Share of the requests: 3 gets three times as many as 1."
    )


def _instance(value: object) -> object:
    # Checked here, so that the problem of a plain URL is shown at the item, not at a key `url` that it does not have.
    return {"url": check_url(value)} if isinstance(value, str) else value


def _none_to_empty(value: object) -> object:
    return {} if value is None else value


Instance = Annotated[
    InstanceConfig, BeforeValidator(_instance, json_schema_input_type=Url | InstanceConfig)
]


class ServiceConfig(ConfigModel):
    """A named upstream; without an instance it answers 503."""

    url: Url | None = Field(
        default=None,
        description="URL of the only instance; its path is put in front of the request's.",
    )
    instances: tuple[Instance, ...] = Field(
        default=(),
        description="Instead of url: the instances, [http://a:8000, http://b:8000], or with weights,"
        " [{url: http://a:8000, weight: 3}].",
    )
    balance: Literal["round_robin", "random", "least_connections"] = Field(
        default="round_robin", description="How an instance is chosen for each request."
    )
    timeouts: ServiceTimeoutsConfig = Field(
        default=ServiceTimeoutsConfig(), description="How long the gateway waits for the service."
    )
    max_connections: Annotated[Whole, Field(ge=1, le=65535)] = Field(
        default=1024, description="Most connections of one worker to one instance."
    )
    forward_token: bool = Field(
        default=True,
        description="Whether the service gets the token: the header Authorization, and what auth.from names.",
    )
    claims: Claims = Field(
        default_factory=dict,
        description="Claims of the token that the service gets as headers: {X-Tenant: tenant.id}. A client's headers of these"
        " names are removed.",
    )

    retry: RetryConfig = Field(
        default=RetryConfig(), description="When a request is sent again; `attempts: 1`: never."
    )
    circuit: CircuitConfig = Field(
        default=CircuitConfig(),
        description="When requests are refused because those before them failed.",
    )
    health: HealthConfig | None = Field(
        default=None,
        description="How instances are probed. If set, only instances that answer 2xx get requests. When not set,"
        " probes only inform /health.",
    )
    ejection: EjectionConfig = Field(
        default=EjectionConfig(),
        description="When a failing instance gets no requests for a while.",
    )
    rate_limit: Limits | None = Field(
        default=None,
        description="How much each caller may do with all routes of this service together; beside what the routes say.",
    )

    @field_validator("instances")
    @classmethod
    def _one_or_many(
        cls, instances: tuple[InstanceConfig, ...], info: ValidationInfo
    ) -> tuple[InstanceConfig, ...]:
        if info.data.get("url") is not None:
            msg = "a service has a url or instances, not both"
            raise ValueError(msg)
        # Host and port identify an instance, whatever the path: failures and probes are counted for them.
        places = [parse_upstream(instance.url) for instance in instances]
        if len({(at.host, at.port, at.srv) for at in places}) != len(places):
            msg = "the same instance is listed twice: each needs a host or a port of its own"
            raise ValueError(msg)
        return instances

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of the instances, from `url` or `instances`."""
        return tuple(url for url, _ in self.weighted)

    @property
    def weighted(self) -> tuple[tuple[str, int], ...]:
        """URL and weight of each instance, from `url` or `instances`."""
        if self.url is not None:
            return ((self.url, 1),)
        return tuple((instance.url, instance.weight) for instance in self.instances)


Service = Annotated[ServiceConfig, BeforeValidator(_none_to_empty)]
ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
