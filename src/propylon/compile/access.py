"""Compile who may use the built-in endpoints: what is asked of the client, and the rule of `admin`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from ipaddress import ip_network
from typing import cast

from propylon.config.models.answered import ClientsConfig
from propylon.config.models.endpoints import Access, Area, Endpoint
from propylon.config.models.maintenance import MaintenanceConfig
from propylon.config.models.schema import GatewayConfig
from propylon.proxy.authorize import (
    AdminRule,
    Authorize,
    ClientsRule,
    LocalRule,
    Network,
    anybody,
    permitted,
)
from propylon.proxy.maintenance import Maintained
from propylon.proxy.route import Admits, Route

__all__ = ["AUTH", "access_of", "admin_rule", "authorize", "compile_clients"]

# What the authenticate stage asks for.
AUTH: dict[Access, str] = {
    "public": "none",
    "checked": "optional",
    "offered": "offered",
    "known": "required",
    "local": "optional",
    "read": "required",
    "admin": "required",
}
_READ = permitted(["read"], [])


def admin_rule(config: GatewayConfig, area: Area = "admin") -> AdminRule:
    """Return who may use the endpoints of this group."""
    admin = config.admin
    narrower = getattr(admin.scopes, area, None)
    return AdminRule(
        (admin.scope,) if narrower is None else (admin.scope, narrower),
        admin.role,
        admin.issuer,
        None if admin.allow is None else _networks(admin.allow),
    )


def authorize(config: GatewayConfig, endpoint: Endpoint) -> Authorize:
    """Return the authorize stage of a built-in endpoint."""
    if endpoint.access == "admin":
        return admin_rule(config, endpoint.area)
    if endpoint.access == "local":
        return LocalRule(_networks(config.metrics.allow or ()), admin_rule(config, endpoint.area))
    return _READ if endpoint.access == "read" else anybody


def compile_clients(
    written: ClientsConfig, maintenance: MaintenanceConfig | None = None
) -> Admits | None:
    """Return whose requests a route takes, by their addresses; None: everybody's."""
    rule = None
    if written.allow or written.deny:
        rule = ClientsRule(_networks(written.allow), _networks(written.deny))
    if maintenance is None:
        return rule
    body = maintenance.body.encode("utf-8")
    return Maintained(
        rule,
        ClientsRule(_networks(maintenance.allow)) if maintenance.allow else None,
        maintenance.status,
        b"%d" % math.ceil(maintenance.retry_after),
        (maintenance.content_type.encode("ascii"), body) if body else None,
    )


def _networks(written: Iterable[str]) -> tuple[Network, ...]:
    return tuple(map(ip_network, written))


def access_of(route: Route) -> Access:
    """Return the access rule of a built-in route."""
    return cast("Access", route.access)
