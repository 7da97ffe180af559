"""Model a route: what it matches, and the rules that `defaults` may set for all of them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from propylon.config.models.base import (
    ConfigModel,
    HeaderName,
    HeaderValue,
    Hostname,
    Method,
    PlainPath,
    RoutePath,
)
from propylon.config.models.syntax import check_role, check_scope
from propylon.config.models.units import Size, Timeout, Whole

__all__ = [
    "DefaultsConfig",
    "HeaderRulesConfig",
    "HeadersConfig",
    "RouteConfig",
    "RouteRules",
    "RouteTimeoutsConfig",
]

Scope = Annotated[str, AfterValidator(check_scope)]
Role = Annotated[str, AfterValidator(check_role)]


class RouteTimeoutsConfig(ConfigModel):
    """What a route waits instead; what it does not say is the service's."""

    connect: Timeout | None = Field(default=None, description="For a connection.")
    first_byte: Timeout | None = Field(default=None, description="For the head of the response.")
    idle: Timeout | None = Field(default=None, description="Longest silence in a body.")
    total: Timeout | None = Field(default=None, description="Until the final response's head.")
    max_duration: Timeout | None = Field(default=None, description="For the whole exchange.")


class HeaderRulesConfig(ConfigModel):
    """What is done to the headers of a message."""

    set: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, description="Headers to set, in place of any that are there."
    )
    remove: tuple[HeaderName, ...] = Field(default=(), description="Headers to remove.")


class HeadersConfig(ConfigModel):
    """What is done to headers, both ways."""

    request: HeaderRulesConfig = Field(
        default=HeaderRulesConfig(), description="On the way to the service."
    )
    response: HeaderRulesConfig = Field(
        default=HeaderRulesConfig(), description="On the way to the client."
    )


class RouteRules(ConfigModel):
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
    rewrite: PlainPath | None = Field(
        default=None, description="What replaces the matched path instead."
    )
    priority: Annotated[Whole, Field(ge=-1_000_000, le=1_000_000)] = Field(
        default=0, description="The higher wins where two routes match equally well."
    )
    auth: Literal["required", "optional", "none"] = Field(
        default="required",
        description="Whether a token is required, looked at if there, or not looked at.",
    )
    scopes: tuple[Scope, ...] = Field(
        default=(), description="Scopes that a token must have, all of them; else 403."
    )
    roles: tuple[Role, ...] = Field(
        default=(), description="Roles of which a token must have one; else 403."
    )
    circuit: bool = Field(
        default=True, description="False: this route neither asks nor tells the service's breaker."
    )
    privacy: Literal["ignored", "optional", "required"] = Field(
        default="optional",
        description="Whether X-Privacy-Level, DNT and Sec-GPC pass as they are, are checked if"
        " there, or X-Privacy-Level must be there; else 400.",
    )
    default_privacy: Literal["strict", "standard", "permissive"] | None = Field(
        default=None, description="The X-Privacy-Level of a request that sends none."
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

    @field_validator("scopes", "roles")
    @classmethod
    def _need_a_token(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if names and info.data.get("auth") == "none":
            msg = (
                f"with `auth: none` no token is looked at, so nobody would have {info.field_name};"
                " write `auth: required`"
            )
            raise ValueError(msg)
        return names


class DefaultsConfig(RouteRules):
    """What holds for every route that does not say otherwise."""


class RouteConfig(RouteRules):
    """What matches a request, which service gets it, under which rules."""

    name: str = Field(
        default="", min_length=1, description="For policies, logs, metrics; else the path."
    )
    path: RoutePath = Field(
        description="Matches itself and everything below it; {name} stands for one segment."
    )
    service: str = Field(description="The service that gets the request.")

    @model_validator(mode="before")
    @classmethod
    def _named_by_path(cls, data: Any) -> Any:
        path = data.get("path") if isinstance(data, dict) else None
        named = path is None or data.get("name") is not None
        return data if named or not isinstance(path, str) else {**data, "name": path}
