"""Model what the operator may write, with its defaults and its meaning: the whole of the file."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from propylon.config.models.auth import (
    AuthConfig,
    IntrospectionConfig,
    JwtConfig,
    TokenRateLimitConfig,
    TokensConfig,
)
from propylon.config.models.base import Written, blank_is_nothing
from propylon.config.models.cors import CorsConfig
from propylon.config.models.inherit import overlaid, with_defaults
from propylon.config.models.resilience import (
    CircuitConfig,
    EjectionConfig,
    HealthConfig,
    RetryConfig,
)
from propylon.config.models.routes import (
    DefaultsConfig,
    HeaderRulesConfig,
    HeadersConfig,
    RouteConfig,
    RouteRules,
    RouteTimeoutsConfig,
)
from propylon.config.models.server import EdgeTimeoutsConfig, LogConfig, ServerConfig, TlsConfig
from propylon.config.models.services import (
    InstanceConfig,
    RegistryConfig,
    Service,
    ServiceConfig,
    ServiceName,
    ServiceTimeoutsConfig,
)
from propylon.config.models.syntax import DEFAULT_PREFIX, check_prefix

__all__ = [
    "BUILTIN_SERVICE",
    "NOT_BUILT",
    "AuthConfig",
    "CircuitConfig",
    "CorsConfig",
    "DefaultsConfig",
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
    "Written",
    "overlaid",
    "with_defaults",
]

BUILTIN_SERVICE = "propylon"  # what logs and metrics call the gateway's own endpoints

# Keys of the design that a later version builds. They are refused rather than ignored: a gateway
# that reads `rate_limit` and does not limit would be open where its operator believes it is not.
# Whoever builds one adds its model and takes its name off this list.
NOT_BUILT: dict[str, frozenset[str]] = {
    "GatewayConfig": frozenset({"redis"}),
    "RouteRules": frozenset({"rate_limit"}),
}


def _without_blanks(data: Any) -> Any:
    """Leave out what is not built and says nothing: `redis: ${REDIS_URL:-}` means memory, which there is."""
    if not isinstance(data, dict):
        return data
    unbuilt = NOT_BUILT["GatewayConfig"]
    return {
        key: value
        for key, value in data.items()
        if key not in unbuilt or blank_is_nothing(value) is not None
    }


class GatewayConfig(Written):
    """The configuration of a Propylon gateway."""

    server: ServerConfig = Field(default=ServerConfig(), description="Where the gateway listens.")
    prefix: Annotated[str, AfterValidator(check_prefix)] = Field(
        default=DEFAULT_PREFIX, description="Path before the gateway's own endpoints."
    )
    debug: bool = Field(default=False, description="Tells more in errors; never for production.")
    tls: TlsConfig = Field(default=TlsConfig(), description="The certificate that clients see.")
    auth: AuthConfig = Field(default=AuthConfig(), description="Who is asking: what tokens count.")
    cors: CorsConfig = Field(
        default=CorsConfig(), description="Which pages of other origins may read the answers."
    )
    services: dict[ServiceName, Service] = Field(
        default_factory=dict, description="The upstreams, by name."
    )
    defaults: DefaultsConfig = Field(
        default=DefaultsConfig(), description="For all routes that do not say otherwise."
    )
    routes: tuple[RouteConfig, ...] = Field(default=(), description="What is routed where.")
    registry: RegistryConfig = Field(
        default=RegistryConfig(), description="Services that register themselves."
    )
    log: LogConfig = Field(default=LogConfig(), description="What is logged, and how.")

    @model_validator(mode="before")
    @classmethod
    def _apply_defaults(cls, data: Any) -> Any:
        return with_defaults(_without_blanks(data))
