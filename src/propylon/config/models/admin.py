"""Define who may use the endpoints that run the gateway: `admin`, `docs`, `metrics`, `registry`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from propylon.config.models.base import ConfigModel, Network, as_list
from propylon.config.models.syntax import (
    check_listen,
    check_path,
    check_registrable,
    check_role,
    check_scope,
)
from propylon.config.models.units import Duration

__all__ = [
    "AdminConfig",
    "AdminScopesConfig",
    "DashboardConfig",
    "DocsConfig",
    "DocumentsConfig",
    "MetricsConfig",
    "RegistryConfig",
]

Scope = Annotated[str, AfterValidator(check_scope)]
Role = Annotated[str, AfterValidator(check_role)]


def _check_some(networks: tuple[str, ...]) -> tuple[str, ...]:
    # An empty list may mean "no caller" or "nothing is set": a variable that is not set must not open the endpoints.
    if not networks:
        msg = "is empty; leave the key out for all addresses, or list networks: [10.0.0.0/8]"
        raise ValueError(msg)
    return networks


Networks = Annotated[
    tuple[Network, ...],
    AfterValidator(_check_some),
    BeforeValidator(as_list, json_schema_input_type=str | list[str]),
]
Listen = Annotated[str, AfterValidator(check_listen)]


class AdminScopesConfig(ConfigModel):
    """Narrower scopes: each opens one group of the endpoints that want admin. `admin.scope` opens them all."""

    registry: Scope | None = Field(
        default=None, description="Opens the registry: to list, register and deregister instances."
    )
    tokens: Scope | None = Field(
        default=None,
        description="Opens the revocation of other users' tokens, and the list of revocations.",
    )
    introspect: Scope | None = Field(default=None, description="Opens token introspection.")
    metrics: Scope | None = Field(default=None, description="Opens /metrics.")
    cache: Scope | None = Field(default=None, description="Opens the endpoints of the cache.")
    explain: Scope | None = Field(
        default=None,
        description="Opens X-Propylon-Explain: a request with that header is answered with how the gateway decided.",
    )


class AdminConfig(ConfigModel):
    """Who may use the endpoints that want admin. All the conditions that are set must hold.

    Never for /health, /livez, /readyz, the token endpoint, `users/me`, and the revocation of one's own tokens.
    """

    scope: Scope = Field(default="admin", description="The scope that a token must have.")
    role: Role | None = Field(
        default=None, description="A role that a token must have as well; none when not set."
    )
    issuer: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="The issuer (`iss`) that a token must come from; any accepted issuer when not set.",
    )
    allow: Networks | None = Field(
        default=None,
        description="Networks that requests must come from; any when not set. A client behind a proxy that is not"
        " among server.trusted_proxies comes from nowhere.",
    )
    listen: Listen | None = Field(
        default=None,
        description="A listener of its own, such as 127.0.0.1:8001. The endpoints are then on no other one. It has"
        " the certificate of `tls`. Only `propylon run` opens it.",
    )
    scopes: AdminScopesConfig = Field(
        default=AdminScopesConfig(), description="Narrower scopes for groups of the endpoints."
    )


class DocsConfig(ConfigModel):
    """Who may read the gateway's API documents: /docs, /redoc, /openapi.json."""

    access: Literal["public", "admin", "off"] = Field(
        default="public",
        description="public: any client. admin: as the endpoints that want admin. off: there are none. `docs: off`"
        " for short.",
    )
    filter: Literal["none", "caller"] = Field(
        default="none",
        description="none: all that routes let through is shown. caller: what the caller may call by its scopes and roles; without"
        " a token, what is open; with a token that wants admin, all.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"access": data}
        if isinstance(data, bool):
            data = {"access": data}
        if isinstance(data, dict) and isinstance(data.get("access"), bool):
            # YAML 1.1 reads `off` as false: the operator may have written that from habit.
            data = {**data, "access": "public" if data["access"] else "off"}
        return data


def _page(written: object) -> object:
    # YAML 1.1 reads `off` as false.
    return None if written is False or written == "off" else written


def _check_page(path: str | None) -> str | None:
    if path is None:
        return None
    path = check_path(path, names=False)
    if path == "/":
        msg = 'is the root; write a path of its own, such as "/dashboard"'
        raise ValueError(msg)
    return path


class DashboardConfig(ConfigModel):
    """The page that shows what the gateway does: `/dashboard`. With `admin.listen` it is only there."""

    path: Annotated[
        str | None,
        AfterValidator(_check_page),
        BeforeValidator(_page, json_schema_input_type=str | Literal[False]),
    ] = Field(
        default="/dashboard",
        description="The path of the page, which holds no data; its data wants admin. off: there is no page."
        " `dashboard: off` for short. A route of yours on the same path takes its place.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"path": data} if isinstance(data, str | bool) else data


class DocumentsConfig(ConfigModel):
    """The OpenAPI documents of services, `services.X.openapi`."""

    interval: Annotated[Duration, Field(ge=0.1)] = Field(
        default=30.0,
        description="How often services are asked for their documents; also at once when an instance comes, or is healthy again.",
    )


class MetricsConfig(ConfigModel):
    """Who may read /metrics: programs on this machine, these networks, and tokens that want admin."""

    allow: Networks | None = Field(
        default=None,
        description="Networks that may read /metrics without a token, besides this machine.",
    )
    listen: Listen | None = Field(
        default=None,
        description="A listener of its own for /metrics, such as 0.0.0.0:9100; the same rules hold there. When not"
        " set: that of admin.listen, or the public one.",
    )
    drop_labels: Annotated[
        tuple[
            Literal[
                "route", "service", "method", "status", "instance", "limit", "source", "where", "fault", "reason", "state",
                "decision", "result", "outcome", "operation", "output", "to", "by",
            ],
            ...,
        ],
        BeforeValidator(as_list, json_schema_input_type=str | list[str]),
    ] = Field(
        default=(),
        description="Labels that are left out of all metrics, for a Prometheus with little memory: what they told apart is added"
        " up. Alerts and dashboards that use them no longer work.",
    )  # fmt: skip


def _by_service(value: object) -> object:
    """Return a mapping from service to rules; the key "" stands for all services: a list was written."""
    if isinstance(value, dict):
        if "" in value:
            msg = "must be a list for all services, or a mapping of services to lists"
            raise ValueError(msg)
        return value
    return {"": value} if value != [] else {}


Rule = Annotated[str, AfterValidator(check_registrable)]


class RegistryConfig(ConfigModel):
    """Services that register themselves while the gateway runs."""

    enabled: bool = Field(default=True, description="Whether the registry's endpoints exist.")
    allow: Annotated[
        dict[
            Annotated[str, Field(pattern=r"^$|^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")],
            tuple[Rule, ...],
        ],
        BeforeValidator(_by_service, json_schema_input_type=list[str] | dict[str, list[str]]),
    ] = Field(
        default_factory=dict,
        description="Networks and host names that may register: [10.0.0.0/8, '*.svc.cluster.local'], each with ports"
        " if need be, as in '10.0.0.0/8:8000-8099' and '[fd00::/8]:8000'. Or by service:"
        " {orders: ['10.0.0.0/8:8000-8099']}; a service without an entry may not register then. When empty, no host"
        " may. Link-local addresses never may.",
    )
    ttl: Annotated[Duration, Field(ge=1.0)] | None = Field(
        default=None,
        description="How long a registration lasts without a heartbeat. When not set, it does not expire, and health"
        " checks alone decide.",
    )
