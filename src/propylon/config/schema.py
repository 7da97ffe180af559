"""Model what the operator may write, with its defaults and its meaning."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from propylon.config.syntax import (
    check_header_name,
    check_header_value,
    check_hostname,
    check_method,
    check_network,
    check_path,
    check_url,
)
from propylon.config.units import Duration, Port, Size, Timeout, Whole

OWN_SERVICE = "propylon"  # what logs and metrics call the gateway's own endpoints

# Keys of the design that a later version builds. They are refused rather than ignored: a gateway
# that reads `rate_limit` and does not limit would be open where its operator believes it is not.
# Whoever builds one adds its model and takes its name off this list.
NOT_BUILT: dict[str, frozenset[str]] = {
    "GatewayConfig": frozenset({"redis", "auth", "cors", "registry"}),
    "ServiceConfig": frozenset({"retry", "circuit", "health", "ejection"}),
    "RouteRules": frozenset(
        {"scopes", "roles", "rate_limit", "circuit", "privacy", "default_privacy"}
    ),
}


def _route_path(text: str) -> str:
    return check_path(text, names=True)


def _plain_path(text: str) -> str:
    return check_path(text, names=False)


def _prefix(text: str) -> str:
    return check_path(text, names=False).rstrip("/")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _nothing_is_empty(value: object) -> object:
    return {} if value is None else value


Url = Annotated[str, AfterValidator(check_url), Field(json_schema_extra={"format": "uri"})]
Method = Annotated[str, AfterValidator(check_method)]
Hostname = Annotated[str, AfterValidator(check_hostname)]
Network = Annotated[str, AfterValidator(check_network)]
HeaderName = Annotated[str, AfterValidator(check_header_name)]
HeaderValue = Annotated[str, AfterValidator(check_header_value)]


class Written(BaseModel):
    """A mapping of the file; a key without a value counts as not written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {
            key: value
            for key, value in data.items()
            if value is not None or key not in cls.model_fields
        }


class EdgeTimeoutsConfig(Written):
    """How long the gateway waits for a client."""

    header: Timeout = Field(default=10.0, description="For the whole head of a request.")
    idle: Timeout = Field(default=75.0, description="For the next request on an open connection.")
    body: Timeout = Field(default=30.0, description="Longest silence between two chunks of a body.")


class ServerConfig(Written):
    """Where the gateway listens, and what it lets in."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 is every one."
    )
    port: Port = Field(default=8000, description="Port to listen on; 0 takes any free one.")
    workers: Annotated[Whole, Field(ge=1, le=1024)] = Field(
        default=1, description="Processes that share the port; one a core is plenty."
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        description="Networks whose X-Forwarded-* is believed; otherwise the peer is the client.",
    )
    max_body: Size = Field(
        default=100_000_000,
        description="Largest request body; 413 above it. A route may set its own.",
    )
    max_header: Annotated[Size, Field(ge=1024, le=2**24)] = Field(
        default=65536, description="Largest head of a request; 431 above it."
    )
    timeouts: EdgeTimeoutsConfig = Field(
        default=EdgeTimeoutsConfig(), description="How long the gateway waits for a client."
    )
    drain: Duration = Field(
        default=30.0, description="How long a stop waits for exchanges in flight."
    )
    drain_delay: Duration = Field(
        default=0.0,
        description="How long a stop is unready, still accepting, before it stops listening.",
    )


class TlsConfig(Written):
    """The certificate that clients see; both files or neither."""

    certificate: str | None = Field(default=None, description="Path of the certificate chain, PEM.")
    key: str | None = Field(
        default=None,
        validate_default=True,
        description="Path of the certificate's private key, PEM.",
    )

    @field_validator("key")
    @classmethod
    def _both_or_neither(cls, key: str | None, info: ValidationInfo) -> str | None:
        if "certificate" in info.data and (key is None) != (info.data["certificate"] is None):
            missing = "key" if key is None else "certificate"
            msg = f"certificate and key go together: {missing} is missing"
            raise ValueError(msg)
        return key


class ServiceTimeoutsConfig(Written):
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


class RouteTimeoutsConfig(Written):
    """What a route waits instead; what it does not say is the service's."""

    connect: Timeout | None = Field(default=None, description="For a connection.")
    first_byte: Timeout | None = Field(default=None, description="For the head of the response.")
    idle: Timeout | None = Field(default=None, description="Longest silence in a body.")
    total: Timeout | None = Field(default=None, description="Until the final response's head.")
    max_duration: Timeout | None = Field(default=None, description="For the whole exchange.")


class ServiceConfig(Written):
    """A named upstream; without an instance it answers 503."""

    url: Url | None = Field(default=None, description="Its only instance; a base path is kept.")
    instances: tuple[Url, ...] = Field(
        default=(), description="Its instances, instead of url: [http://a:8000, http://b:8000]."
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

    @field_validator("instances")
    @classmethod
    def _one_or_many(cls, instances: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("url") is not None:
            msg = "a service has a url or instances, not both"
            raise ValueError(msg)
        if len(set(instances)) != len(instances):
            msg = "the same instance is listed twice"
            raise ValueError(msg)
        return instances

    @property
    def urls(self) -> tuple[str, ...]:
        """The instances, however they were written."""
        return self.instances if self.url is None else (self.url,)


class HeaderRulesConfig(Written):
    """What is done to the headers of a message."""

    set: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, description="Headers to set, in place of any that are there."
    )
    remove: tuple[HeaderName, ...] = Field(default=(), description="Headers to remove.")


class HeadersConfig(Written):
    """What is done to headers, both ways."""

    request: HeaderRulesConfig = Field(
        default=HeaderRulesConfig(), description="On the way to the service."
    )
    response: HeaderRulesConfig = Field(
        default=HeaderRulesConfig(), description="On the way to the client."
    )


class RouteRules(Written):
    """Everything that a route may say and `defaults` may say for it."""

    exact: bool = Field(
        default=False, description="True: matches the path itself and nothing below it."
    )
    methods: tuple[Method, ...] = Field(
        default=(), min_length=1, description="Methods, WEBSOCKET among them; all when not set."
    )
    hosts: tuple[Hostname, ...] = Field(
        default=(), min_length=1, description="Hosts, without a port; any when not set."
    )
    strip_prefix: bool = Field(
        default=False, description="True: the matched path is cut off what reaches the service."
    )
    rewrite: Annotated[str, AfterValidator(_plain_path)] | None = Field(
        default=None, description="What replaces the matched path instead."
    )
    priority: Annotated[Whole, Field(ge=-1_000_000, le=1_000_000)] = Field(
        default=0, description="The higher wins where two routes match equally well."
    )
    auth: Literal["required", "optional", "none"] = Field(
        default="required",
        description="Whether a token is required, looked at if there, or not looked at.",
    )
    timeouts: RouteTimeoutsConfig = Field(
        default=RouteTimeoutsConfig(), description="What the route waits instead of the service's."
    )
    max_body: Size | None = Field(
        default=None, description="Largest request body of this route; the server's when not set."
    )
    headers: HeadersConfig = Field(
        default=HeadersConfig(), description="Headers to set and to remove."
    )

    @field_validator("rewrite")
    @classmethod
    def _strip_or_rewrite(cls, rewrite: str | None, info: ValidationInfo) -> str | None:
        if rewrite is not None and info.data.get("strip_prefix"):
            msg = "a route has strip_prefix or rewrite, not both"
            raise ValueError(msg)
        return rewrite


class DefaultsConfig(RouteRules):
    """What holds for every route that does not say otherwise."""


class RouteConfig(RouteRules):
    """What matches a request, which service gets it, under which rules."""

    name: str = Field(
        default="", min_length=1, description="For policies, logs, metrics; else the path."
    )
    path: Annotated[str, AfterValidator(_route_path)] = Field(
        description="Matches itself and everything below it; {name} stands for one segment."
    )
    service: str = Field(description="The service that gets the request.")

    @model_validator(mode="before")
    @classmethod
    def _named_by_path(cls, data: Any) -> Any:
        path = data.get("path") if isinstance(data, dict) else None
        named = path is None or data.get("name") is not None
        return data if named or not isinstance(path, str) else {**data, "name": path}


class LogConfig(Written):
    """What is logged, and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)
    ] = Field(default="info", description="The least that is worth a line.")
    format: Literal["json", "text"] = Field(
        default="json", description="json, or text for a terminal."
    )


Service = Annotated[ServiceConfig, BeforeValidator(_nothing_is_empty)]
ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]


class GatewayConfig(Written):
    """The configuration of a Propylon gateway."""

    server: ServerConfig = Field(default=ServerConfig(), description="Where the gateway listens.")
    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="/api/v1", description="Path before the gateway's own endpoints."
    )
    debug: bool = Field(default=False, description="Tells more in errors; never for production.")
    tls: TlsConfig = Field(default=TlsConfig(), description="The certificate that clients see.")
    services: dict[ServiceName, Service] = Field(
        default_factory=dict, description="The upstreams, by name."
    )
    defaults: DefaultsConfig = Field(
        default=DefaultsConfig(), description="For all routes that do not say otherwise."
    )
    routes: tuple[RouteConfig, ...] = Field(default=(), description="What is routed where.")
    log: LogConfig = Field(default=LogConfig(), description="What is logged, and how.")

    @model_validator(mode="before")
    @classmethod
    def _apply_defaults(cls, data: Any) -> Any:
        return with_defaults(data)


def with_defaults(data: Any) -> Any:
    """Give each route of a raw configuration the keys of `defaults` that it does not have."""
    if not isinstance(data, dict):
        return data
    defaults, routes = data.get("defaults"), data.get("routes")
    if not isinstance(defaults, dict) or not isinstance(routes, list | tuple):
        return data
    return {**data, "routes": [_filled(route, defaults) for route in routes]}


def _filled(route: Any, defaults: dict[str, Any]) -> Any:
    if not isinstance(route, dict):
        return route
    rules = {key: value for key, value in defaults.items() if key in DefaultsConfig.model_fields}
    # Either of the two replaces the other, wherever it was said.
    if route.get("rewrite") is not None or route.get("strip_prefix") is not None:
        rules.pop("rewrite", None)
        rules.pop("strip_prefix", None)
    return overlaid(rules, route)


def overlaid(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another: mappings merge, anything else replaces, nothing keeps."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = overlaid(below, value)
        elif value is not None or key not in merged:
            merged[key] = value
    return merged
