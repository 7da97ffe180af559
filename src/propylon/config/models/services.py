"""Model the services: their instances, how they are asked, and who may register more."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.base import ConfigModel, Url
from propylon.config.models.resilience import (
    CircuitConfig,
    EjectionConfig,
    HealthConfig,
    RetryConfig,
)
from propylon.config.models.syntax import check_registrable, check_url, is_network, parse_upstream
from propylon.config.models.units import Duration, Timeout, Whole

__all__ = [
    "InstanceConfig",
    "RegistryConfig",
    "Service",
    "ServiceConfig",
    "ServiceName",
    "ServiceTimeoutsConfig",
]


class ServiceTimeoutsConfig(ConfigModel):
    """How long the gateway waits for a service."""

    connect: Timeout = Field(default=5.0, description="For a connection.")
    first_byte: Timeout = Field(default=30.0, description="For the head of the response.")
    idle: Timeout = Field(default=30.0, description="Longest silence in a body.")
    total: Timeout = Field(
        default=60.0, description="Until the final response's head, retries included."
    )
    max_duration: Timeout | None = Field(
        default=None, description="For the whole exchange, body included; unlimited when not set."
    )


class InstanceConfig(ConfigModel):
    """One instance of a service, and its share of the requests."""

    url: Url = Field(description="Its URL; a base path is kept.")
    weight: Annotated[Whole, Field(ge=1, le=1000)] = Field(
        default=1, description="Its share: with 3 it gets three times what one with 1 gets."
    )


def _instance(value: object) -> object:
    # Here, so that what is wrong with a plain URL is said of the item, not of a key it lacks.
    return {"url": check_url(value)} if isinstance(value, str) else value


def _none_to_empty(value: object) -> object:
    return {} if value is None else value


Instance = Annotated[
    InstanceConfig, BeforeValidator(_instance, json_schema_input_type=Url | InstanceConfig)
]


class ServiceConfig(ConfigModel):
    """A named upstream; without an instance it answers 503."""

    url: Url | None = Field(default=None, description="Its only instance; a base path is kept.")
    instances: tuple[Instance, ...] = Field(
        default=(),
        description="Its instances, instead of url: [http://a:8000, http://b:8000], or"
        " {url: http://a:8000, weight: 3} for one that gets more.",
    )
    balance: Literal["round_robin", "random", "least_connections"] = Field(
        default="round_robin", description="How an instance is chosen."
    )
    timeouts: ServiceTimeoutsConfig = Field(
        default=ServiceTimeoutsConfig(), description="How long the gateway waits for the service."
    )
    max_connections: Annotated[Whole, Field(ge=1, le=65535)] = Field(
        default=1024, description="Most connections to one instance at a time, in each worker."
    )
    forward_token: bool = Field(default=True, description="Whether Authorization is passed on.")

    retry: RetryConfig = Field(
        default=RetryConfig(), description="When a request is sent again; `attempts: 1` is never."
    )
    circuit: CircuitConfig = Field(
        default=CircuitConfig(), description="When requests are refused because the others failed."
    )
    health: HealthConfig | None = Field(
        default=None,
        description="How instances are probed. Said: a 2xx is healthy, and only those get"
        " requests. Not said: the probe only informs /health.",
    )
    ejection: EjectionConfig = Field(
        default=EjectionConfig(), description="When an instance that fails is left out for a while."
    )

    @field_validator("instances")
    @classmethod
    def _one_or_many(
        cls, instances: tuple[InstanceConfig, ...], info: ValidationInfo
    ) -> tuple[InstanceConfig, ...]:
        if info.data.get("url") is not None:
            msg = "a service has a url or instances, not both"
            raise ValueError(msg)
        # It is known by its host and port, whatever the path: failures and probes are counted for them.
        places = [parse_upstream(instance.url) for instance in instances]
        if len({(at.host, at.port, at.srv) for at in places}) != len(places):
            msg = "the same instance is listed twice: each needs a host or a port of its own"
            raise ValueError(msg)
        return instances

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of the instances, however they were written."""
        return tuple(url for url, _ in self.weighted)

    @property
    def weighted(self) -> tuple[tuple[str, int], ...]:
        """The instances with their weights, however they were written."""
        if self.url is not None:
            return ((self.url, 1),)
        return tuple((instance.url, instance.weight) for instance in self.instances)


class RegistryConfig(ConfigModel):
    """Services that register themselves while the gateway runs."""

    enabled: bool = Field(default=True, description="Whether there are endpoints to register at.")
    allow: tuple[Annotated[str, AfterValidator(check_registrable)], ...] = Field(
        default=(),
        description="Networks and host names that may be registered: [10.0.0.0/8,"
        " '*.svc.cluster.local']; none: nobody. Link-local addresses never.",
    )
    ttl: Annotated[Duration, Field(ge=1.0)] | None = Field(
        default=None,
        description="How long a registration lasts without a heartbeat; when not set, probes"
        " alone decide.",
    )

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks among what may be registered."""
        return tuple(ip_network(text) for text in self.allow if is_network(text))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names among what may be registered, in lower case; `*` stands for anything."""
        return tuple(text for text in self.allow if not is_network(text))


Service = Annotated[ServiceConfig, BeforeValidator(_none_to_empty)]
ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
