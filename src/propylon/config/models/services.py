"""Define the services: their instances, and how they are asked."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.balance import Balance, BalanceConfig
from propylon.config.models.base import Claims, ConfigModel, Url
from propylon.config.models.discovery import ClusterServiceConfig
from propylon.config.models.health import HealthConfig
from propylon.config.models.limits import Limits
from propylon.config.models.public import CookiesConfig, SentHost
from propylon.config.models.resilience import (
    AdaptiveConcurrency,
    CircuitConfig,
    EjectionConfig,
    HedgeConfig,
    RetryConfig,
)
from propylon.config.models.sticky import StickyConfig
from propylon.config.models.syntax import check_path, check_url, parse_upstream
from propylon.config.models.traffic import QueueConfig, ServiceQueue
from propylon.config.models.units import Timeout, Whole
from propylon.config.models.upstream_tls import UpstreamTlsConfig
from propylon.wire.proxy_header import ProxyVersion

__all__ = [
    "InstanceConfig",
    "Service",
    "ServiceConfig",
    "ServiceName",
    "ServiceTimeoutsConfig",
]


# Kong's `preserve_host`, in the words of `host`.
_KONG = {True: "client", False: "upstream"}


class ServiceTimeoutsConfig(ConfigModel):  # noqa: PLW1641 — pydantic makes the hash
    """How long the gateway waits for a service."""

    connect: Timeout = Field(default=5.0, description="For connecting.")
    first_byte: Timeout = Field(default=30.0, description="For the head of the response.")
    idle: Timeout = Field(
        default=30.0,
        description="Longest silence within a body. When not set: 30s, and 5m for text/event-stream.",
    )
    total: Timeout = Field(
        default=60.0, description="Until the head of the final response, retries included."
    )
    max_duration: Timeout | None = Field(
        default=None, description="For the whole exchange, body included; unlimited when not set."
    )

    def __eq__(self, other: object) -> bool:
        """Tell a written `idle` from its default: it holds for event streams, too, and a reload must notice it."""
        if not isinstance(other, ServiceTimeoutsConfig):
            return NotImplemented
        return super().__eq__(other) and self.idle_is_written == other.idle_is_written

    @property
    def idle_is_written(self) -> bool:
        """Whether the operator wrote `idle`."""
        return "idle" in self.model_fields_set


class InstanceConfig(ConfigModel):
    """One instance of a service, and its share of the requests."""

    url: Url = Field(description="URL of the instance; its path is put in front of the request's.")
    weight: Annotated[Whole, Field(ge=1, le=1000)] = Field(
        default=1, description="Share of the requests: 3 gets three times as many as 1."
    )
    priority: Annotated[Whole, Field(ge=-100, le=100)] = Field(
        default=0,
        description="It gets requests only while no instance of a higher priority may be asked: -1 stands by for those of 0.",
    )


def _instance(value: object) -> object:
    # Checked here, so that the problem of a plain URL is shown at the item, not at a key `url` that it does not have.
    return {"url": check_url(value)} if isinstance(value, str) else value


def _document_path(value: bool | str) -> bool | str:  # noqa: FBT001 — a value, not a switch
    return value if isinstance(value, bool) else check_path(value, names=False)


def _none_to_empty(value: object) -> object:
    return {} if value is None else value


Instance = Annotated[
    InstanceConfig, BeforeValidator(_instance, json_schema_input_type=Url | InstanceConfig)
]


class ServiceConfig(ConfigModel):
    """A named upstream; without an instance it answers 503."""

    url: Url | None = Field(
        default=None,
        description="URL of the only instance; its path is put in front of the request's. Or a Unix socket:"
        " unix:/run/app.sock, with a path behind a second colon.",
    )
    instances: tuple[Instance, ...] = Field(
        default=(),
        description="Instead of url: the instances, [http://a:8000, http://b:8000], or with weights,"
        " [{url: http://a:8000, weight: 3}].",
    )
    kubernetes: ClusterServiceConfig | None = Field(
        default=None,
        description="Instead of url: a service in Kubernetes, whose ready pods are the instances: {service: orders, port: http}.",
    )
    docker: bool = Field(
        default=False,
        description="Instead of url: the instances are containers with labels propylon.services.NAME.",
    )
    tls: UpstreamTlsConfig | None = Field(
        default=None,
        description="TLS to the https instances: whom the gateway trusts, and what it shows of itself. When not set,"
        " certificates are checked against the authorities of the system.",
    )
    proxy_protocol: ProxyVersion | None = Field(
        default=None,
        description="Begin each connection with a header of the PROXY protocol that names the client. A connection then"
        " carries the requests of one client only.",
    )
    balance: Balance = Field(
        default=BalanceConfig(),
        description="How an instance is chosen for each request: round_robin, random, least_connections, or by a hash, {hash: caller}.",
    )
    slow_start: Timeout | None = Field(
        default=None,
        description="How long the weight of an instance that came, or came back, grows from 10 % to the whole. At once when not set.",
    )
    sticky: StickyConfig | None = Field(
        default=None,
        description="One caller stays with its instance, by a cookie; `balance` chooses for callers without one.",
    )
    timeouts: ServiceTimeoutsConfig = Field(
        default=ServiceTimeoutsConfig(), description="How long the gateway waits for the service."
    )
    max_connections: Annotated[Whole, Field(ge=1, le=65535)] = Field(
        default=1024, description="Most connections of one worker to one instance."
    )
    max_in_flight: Annotated[Whole, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Most requests that an instance has in hand at the same time, of each worker. Those beyond wait in `queue`. Any"
        " number when not set.",
    )
    queue: ServiceQueue = Field(
        default=QueueConfig(),
        description="With max_in_flight: where requests wait until an instance has room, first come, first served.",
    )
    host: SentHost = Field(
        default="upstream",
        description="The Host that the service gets. upstream: its own, from the URL; client: the one that the client asked"
        " for; or a name.",
    )
    preserve_host: bool | None = Field(
        default=None,
        description="What Kong calls `host: client` (true) and `host: upstream` (false). Write `host`.",
    )
    redirects: Literal["rewrite", "pass"] = Field(
        default="rewrite",
        description="rewrite: addresses of the service's own host or path in Location, Content-Location, Refresh and Link"
        " become public ones; pass: they go out as the service sent them.",
    )
    cookies: CookiesConfig = Field(
        default=CookiesConfig(), description="What is changed in Set-Cookie; nothing by default."
    )
    forward_token: bool = Field(
        default=True,
        description="Whether the service gets the token: the header Authorization, and what auth.from names.",
    )
    bodies_on_get: Literal["close", "refuse", "pass"] = Field(
        default="close",
        description="A body on GET, HEAD, DELETE or any method but POST, PUT and PATCH. close: the request gets a connection"
        " of its own, because a service that does not read the body would take it for the next request; refuse: 400; pass:"
        " as any other body.",
    )
    bodies: Literal["reuse", "close"] = Field(
        default="reuse",
        description="The connection after a request with a body. reuse: other requests may use it; close: each such request"
        " gets a connection of its own, for a service that may answer without reading the body.",
    )
    claims: Claims = Field(
        default_factory=dict,
        description="Claims of the token that the service gets as headers: {X-Tenant: tenant.id}. A client's headers of these"
        " names are removed.",
    )

    retry: RetryConfig = Field(
        default=RetryConfig(), description="When a request is sent again; `attempts: 1`: never."
    )
    hedge: HedgeConfig | None = Field(
        default=None,
        description="GETs and HEADs that take long are sent a second time, to another instance; the first good answer counts. When"
        " not set: none are.",
    )
    adaptive_concurrency: AdaptiveConcurrency = None
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
    openapi: Annotated[bool | str, AfterValidator(_document_path)] = Field(
        default=False,
        description="Path of the service's OpenAPI document, which the gateway reads and shows with its own; true: /openapi.json."
        " It is behind the path of the service's URL.",
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
        if len({(at.host, at.port, at.srv, at.socket) for at in places}) != len(places):
            msg = "the same instance is listed twice: each needs a host, a port or a socket of its own"
            raise ValueError(msg)
        return instances

    @field_validator("kubernetes")
    @classmethod
    def _one_source(
        cls, kubernetes: ClusterServiceConfig | None, info: ValidationInfo
    ) -> ClusterServiceConfig | None:
        if kubernetes is not None and _schemes(info):
            msg = "a service has url, instances or kubernetes, and one of them only"
            raise ValueError(msg)
        return kubernetes

    @field_validator("docker")
    @classmethod
    def _no_other_source(cls, docker: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 — a value
        if docker and _schemes(info):
            msg = "a service has url, instances, kubernetes or docker, and one of them only"
            raise ValueError(msg)
        return docker

    @field_validator("hedge")
    @classmethod
    def _has_a_rival(cls, hedge: HedgeConfig | None, info: ValidationInfo) -> HedgeConfig | None:
        if hedge is None:
            return None
        if info.data.get("sticky") is not None:
            msg = "sends a request to another instance, and with sticky a caller stays with its own; take one of the two out"
            raise ValueError(msg)
        if len(info.data.get("instances", ())) == 1:
            msg = "needs a second instance, to which a request could be sent; add one to instances, or take hedge out"
            raise ValueError(msg)
        timeouts = info.data.get("timeouts")
        for key in ("first_byte", "total") if timeouts is not None else ():
            longest = getattr(timeouts, key)
            if hedge.after >= longest:
                msg = f"after is not shorter than timeouts.{key} ({longest:g}s), so no request would be sent a second time"
                raise ValueError(msg)
        return hedge

    @field_validator("hedge")
    @classmethod
    def _has_one_place(cls, hedge: HedgeConfig | None, info: ValidationInfo) -> HedgeConfig | None:
        if hedge is not None and info.data.get("max_in_flight") is not None:
            msg = "sends a request to two instances, and with max_in_flight it has one place; take one of the two out"
            raise ValueError(msg)
        return hedge

    @field_validator("tls")
    @classmethod
    def _over_tls(
        cls, tls: UpstreamTlsConfig | None, info: ValidationInfo
    ) -> UpstreamTlsConfig | None:
        # Refused, because the operator takes the traffic to be encrypted. Instances of a service without URLs register,
        # and are asked by TLS then.
        schemes = _schemes(info)
        if tls is not None and schemes and "https" not in schemes:
            msg = "does nothing: no instance of the service has a URL that starts with https://; write one, or take it away"
            raise ValueError(msg)
        return tls

    @field_validator("health")
    @classmethod
    def _has_ports(cls, health: HealthConfig | None, info: ValidationInfo) -> HealthConfig | None:
        if health is not None and health.port is not None and "unix" in _schemes(info):
            msg = "port cannot be set: an instance of the service is a Unix socket, which has no other port"
            raise ValueError(msg)
        return health

    @field_validator("preserve_host")
    @classmethod
    def _one_host(cls, preserve_host: Any, info: ValidationInfo) -> Any:
        host = info.data.get("host", "upstream")
        if preserve_host is not None and host not in ("upstream", _KONG[preserve_host]):
            msg = f"a service has host or preserve_host, not both; host says {host}"
            raise ValueError(msg)
        return preserve_host

    @property
    def document_path(self) -> str | None:
        """The path of the service's OpenAPI document, from `openapi`; None: the service is not asked for one."""
        if isinstance(self.openapi, str):
            return self.openapi
        return "/openapi.json" if self.openapi else None

    @property
    def sent_host(self) -> str:
        """The Host that the service gets, from `host` or `preserve_host`."""
        return _KONG[self.preserve_host] if self.preserve_host is not None else self.host

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of the instances, from `url` or `instances`."""
        return tuple(instance.url for instance in self.members)

    @property
    def members(self) -> tuple[InstanceConfig, ...]:
        """The instances, from `url` or `instances`."""
        if self.url is not None:
            return (InstanceConfig.model_construct(url=self.url),)
        return self.instances


def _schemes(info: ValidationInfo) -> set[str]:
    """Return the schemes of the URLs of a service that is being validated."""
    instances: tuple[InstanceConfig, ...] = info.data.get("instances", ())
    urls = [info.data.get("url"), *(instance.url for instance in instances)]
    within: ClusterServiceConfig | None = info.data.get("kubernetes")
    named = set() if within is None else {within.scheme}
    return named | {parse_upstream(url).scheme for url in urls if url is not None}


Service = Annotated[ServiceConfig, BeforeValidator(_none_to_empty)]
ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
