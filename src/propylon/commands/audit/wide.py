"""Find what lets in more than was probably meant: scopes, issuers, key sets, networks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network

from propylon.commands.audit.catalogue import (
    ADMIN_OF_ANY_ISSUER,
    ADMIN_SCOPE_ON_ROUTE,
    ANYBODY_ALLOWED,
    COMPRESSED_BEHIND_COOKIES,
    KEYS_WITHOUT_AUDIENCE,
    READ_SCOPE_WRITES,
)
from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.config.reading.problems import Doubt, Path
from propylon.services.admission import split_ports

__all__ = ["wide_findings"]

_READING = re.compile(r"(?:^|[^a-z])(?:read|readonly|view|list)$", re.IGNORECASE)
_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def wide_findings(config: GatewayConfig) -> Iterator[Doubt]:
    """Yield what a valid configuration lets in, with the rule that doubts it."""
    yield from _keys_without_audience(config)
    yield from _admin_scopes(config)
    yield from _admin_issuers(config)
    for at, route in enumerate(config.routes):
        if _reads_only(route) and (writes := _written_by(route)):
            msg = f"asks for {route.scopes[0]} alone, and lets {writes} through"
            yield ("routes", at, "scopes"), msg, READ_SCOPE_WRITES.id
    yield from _compressed(config)
    yield from _anybody(config)


def _keys_without_audience(config: GatewayConfig) -> Iterator[Doubt]:
    jwt = config.auth.jwt
    for at, entry in enumerate(jwt.entries):
        path: Path = ("auth", "jwt", at) if jwt.is_list else ("auth", "jwt")
        for key in ("jwks_url", "discovery_url"):
            # Without an issuer, too, it is one of the doubts of `check`; an issuer is read from a document.
            bound = bool(entry.issuer) or key == "discovery_url"
            if getattr(entry, key) is not None and bound and not entry.audience:
                msg = "is without audience, so a token that was made for another application passes"
                yield (*path, key), msg, KEYS_WITHOUT_AUDIENCE.id


def _admin_scopes(config: GatewayConfig) -> Iterator[Doubt]:
    admin = config.admin
    opens = {scope: f"admin.scopes.{name}" for name, scope in admin.scopes if scope is not None}
    opens[admin.scope] = "admin.scope"
    for at, route in enumerate(config.routes):
        for scope in route.scopes:
            if scope in opens:
                msg = f'asks for "{scope}", which is {opens[scope]}: its callers may run the gateway, too'
                yield ("routes", at, "scopes"), msg, ADMIN_SCOPE_ON_ROUTE.id


def _admin_issuers(config: GatewayConfig) -> Iterator[Doubt]:
    if config.auth.several_issuers and config.admin.issuer is None:
        msg = f'takes "{config.admin.scope}" from each issuer in auth.jwt; set issuer'
        yield ("admin", "scope"), msg, ADMIN_OF_ANY_ISSUER.id


def _compressed(config: GatewayConfig) -> Iterator[Doubt]:
    """Yield the routes with BREACH in reach: a browser sends a cookie for whatever page asks, and a token for none."""
    cookies = [name for name in config.auth.carriers if name.startswith("cookie:")]
    for at, route in enumerate(config.routes):
        if cookies and route.compress and route.auth != "none":
            msg = f"compresses answers to callers whom {cookies[0]} identifies, and their length may tell a secret (BREACH)"
            yield ("routes", at, "compress"), msg, COMPRESSED_BEHIND_COOKIES.id


def _reads_only(route: RouteConfig) -> bool:
    # A role, or what the document of the service asks for, narrows it further.
    narrowed = route.roles or route.security is not None
    return len(route.scopes) == 1 and not narrowed and bool(_READING.search(route.scopes[0]))


def _written_by(route: RouteConfig) -> str:
    """Return the methods of a route that write, in words."""
    if not route.methods:
        return "every method"
    return ", ".join(method for method in route.methods if method in _WRITING)


def _anybody(config: GatewayConfig) -> Iterator[Doubt]:
    lists: list[tuple[Path, tuple[object, ...]]] = [
        (("admin", "allow"), config.admin.allow or ()),
        (("metrics", "allow"), config.metrics.allow or ()),
    ]
    for service, some in config.registry.allow.items():
        lists.append((("registry", "allow", *([service] if service else [])), some))
    for path, networks in lists:
        wide = [str(one) for one in networks if _is_all(str(one))]
        if wide:
            msg = f"holds {', '.join(wide)}: every address"
            yield path, msg, ANYBODY_ALLOWED.id


def _is_all(text: str) -> bool:
    host, _ = split_ports(text)
    if host == "*":
        return True
    try:
        return ip_network(host).prefixlen == 0
    except ValueError:
        return False  # a host name
