"""Define the whole configuration file from its sections."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from propylon.config.models.admin import (
    AdminConfig,
    AdminScopesConfig,
    DashboardConfig,
    DocsConfig,
    DocumentsConfig,
    MetricsConfig,
    RegistryConfig,
)
from propylon.config.models.auth import (
    AuthConfig,
    IntrospectionConfig,
    TokenRateLimitConfig,
    TokensConfig,
)
from propylon.config.models.base import ConfigModel
from propylon.config.models.cache import CacheConfig, CacheMemoryConfig, CacheStore
from propylon.config.models.certificates import TlsConfig
from propylon.config.models.cors import CorsConfig
from propylon.config.models.discovery import DiscoveryConfig
from propylon.config.models.headers import HeaderRulesConfig, HeadersConfig
from propylon.config.models.health import HealthConfig
from propylon.config.models.include import Include
from propylon.config.models.inherit import with_defaults
from propylon.config.models.jwt import JwtConfig
from propylon.config.models.limits import Limits
from propylon.config.models.log import AuditConfig, LogConfig
from propylon.config.models.policies import PoliciesConfig
from propylon.config.models.redis import Redis, RedisConfig
from propylon.config.models.resilience import (
    CircuitConfig,
    EjectionConfig,
    RetryConfig,
)
from propylon.config.models.route import RouteConfig
from propylon.config.models.routes import DefaultsConfig, RouteRules, RouteTimeoutsConfig
from propylon.config.models.server import EdgeTimeoutsConfig, ServerConfig
from propylon.config.models.services import (
    InstanceConfig,
    Service,
    ServiceConfig,
    ServiceName,
    ServiceTimeoutsConfig,
)
from propylon.config.models.syntax import DEFAULT_PREFIX, check_prefix
from propylon.config.models.traces import TraceKeepConfig, TraceSamplingConfig, TracesConfig

__all__ = [
    "BUILTIN_SERVICE",
    "EXTENSION",
    "AdminConfig",
    "AdminScopesConfig",
    "AuditConfig",
    "AuthConfig",
    "CacheConfig",
    "CacheMemoryConfig",
    "CircuitConfig",
    "ConfigModel",
    "CorsConfig",
    "DashboardConfig",
    "DefaultsConfig",
    "DiscoveryConfig",
    "DocsConfig",
    "DocumentsConfig",
    "EdgeTimeoutsConfig",
    "EjectionConfig",
    "GatewayConfig",
    "HeaderRulesConfig",
    "HeadersConfig",
    "HealthConfig",
    "InstanceConfig",
    "IntrospectionConfig",
    "JwtConfig",
    "LogConfig",
    "MetricsConfig",
    "PoliciesConfig",
    "RedisConfig",
    "RegistryConfig",
    "RetryConfig",
    "RouteConfig",
    "RouteRules",
    "RouteTimeoutsConfig",
    "ServerConfig",
    "ServiceConfig",
    "ServiceTimeoutsConfig",
    "TlsConfig",
    "TokenRateLimitConfig",
    "TokensConfig",
    "TraceKeepConfig",
    "TraceSamplingConfig",
    "TracesConfig",
    "with_defaults",
]

BUILTIN_SERVICE = "propylon"  # what logs and metrics call the gateway's own endpoints

EXTENSION = "x-"  # what a key at the top begins with that only the operator uses


def _of_the_gateway(data: Any) -> Any:
    """Return the mapping without keys that begin with `x-`: as in Compose and OpenAPI, a place for YAML anchors."""
    if not isinstance(data, dict):
        return data
    return {key: value for key, value in data.items() if not str(key).startswith(EXTENSION)}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class GatewayConfig(ConfigModel):
    """The configuration of a Propylon gateway."""

    include: Include = Field(
        default=(),
        description="Files that are read with this one, by their names or by patterns, from the directory of this file on:"
        " conf.d/*.yaml. Their routes follow those of this file, in the order of the files' names. No service and no section"
        " stands in two files.",
    )
    server: ServerConfig = Field(default=ServerConfig(), description="Where the gateway listens.")
    prefix: Annotated[str, AfterValidator(check_prefix)] = Field(
        default=DEFAULT_PREFIX, description="Path in front of the gateway's own endpoints."
    )
    debug: bool = Field(
        default=False,
        description="Accepts weak and published secrets, to try things out. Never in production.",
    )
    tls: TlsConfig = Field(default=TlsConfig(), description="The certificate that clients see.")
    admin: AdminConfig = Field(
        default=AdminConfig(), description="Who may use the endpoints that run the gateway."
    )
    docs: DocsConfig = Field(default=DocsConfig(), description="Who may read the API documents.")
    documents: DocumentsConfig = Field(
        default=DocumentsConfig(), description="How services are asked for their OpenAPI documents."
    )
    dashboard: DashboardConfig = Field(
        default=DashboardConfig(), description="The page that shows what the gateway does."
    )
    metrics: MetricsConfig = Field(default=MetricsConfig(), description="Who may read /metrics.")
    redis: Redis = Field(
        default=RedisConfig(),
        description="Redis or Valkey, which gateways on several machines share.",
    )
    cache: CacheStore = Field(
        default=CacheMemoryConfig(),
        description="Where the answers of routes with `cache` are kept.",
    )
    auth: AuthConfig = Field(default=AuthConfig(), description="Which tokens are accepted.")
    cors: CorsConfig = Field(
        default=CorsConfig(), description="Which pages of other origins may read the answers."
    )
    services: dict[ServiceName, Service] = Field(
        default_factory=dict, description="The upstreams, by name."
    )
    defaults: DefaultsConfig = Field(
        default=DefaultsConfig(), description="Values for all routes that do not set the key."
    )
    routes: tuple[RouteConfig, ...] = Field(
        default=(), description="Which requests go to which service."
    )
    registry: RegistryConfig = Field(
        default=RegistryConfig(), description="Services that register themselves."
    )
    discovery: DiscoveryConfig = Field(
        default=DiscoveryConfig(),
        description="Where services and instances are found that are not in the file.",
    )
    policies: PoliciesConfig = Field(
        default=PoliciesConfig(), description="What the code of a team may take."
    )
    log: LogConfig = Field(default=LogConfig(), description="What is logged, and how.")
    traces: TracesConfig = Field(
        default=TracesConfig(), description="Which traces are recorded, and where their spans go."
    )

    def limits_of_service(self, route: RouteConfig) -> Limits | None:
        """Return the limits of a route's service; None where there is none, of either."""
        return self.services[route.service].rate_limit if route.service else None

    @property
    def size(self) -> str:
        """How much it is, in words: `1 service, 2 routes`."""
        return f"{_count(len(self.services), 'service')}, {_count(len(self.routes), 'route')}"

    @property
    def open_paths(self) -> str:
        """The routes that need no token, in words: `open without a token: POST /api/v1/auth/login`; "" if there are none."""
        opened = [
            f"{' '.join(route.methods) or 'any method'} {route.path}"
            for route in self.routes
            if route.auth == "none" and not route.guard
        ]
        return f"open without a token: {', '.join(opened)}" if opened else ""

    @model_validator(mode="before")
    @classmethod
    def _apply_defaults(cls, data: Any) -> Any:
        return with_defaults(_of_the_gateway(data))
