"""Plugins that say who may come."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Route
from propylon.commands.imports.rates import duration
from propylon.commands.imports.tree import Item

__all__ = ["forward_auth", "ip_restriction", "openid"]

_MILLISECONDS = 1000
_LOGIN = (
    "client_secret",
    "redirect_uri",
    "session",
    "ssl_verify",
    "timeout",
    "logout_path",
    "realm",
    "set_userinfo_header",
)


def ip_restriction(route: Route, config: Item) -> None:
    """Translate ip-restriction."""
    keys = {"allow": config.get("whitelist").texts(), "deny": config.get("blacklist").texts()}
    if not any(keys.values()):
        route.close(config.at, "it names no addresses", "write clients")
        return
    difference = (
        "the answer is propylon's 403"
        if config.get("message") or config.get("response_code")
        else ""
    )
    route.set(
        "clients",
        {key: value for key, value in keys.items() if value},
        config.at,
        difference,
        protects=True,
    )


def forward_auth(route: Route, config: Item) -> None:
    """Translate forward-auth: another service is asked first."""
    keys: dict[str, Any] = {"url": config.get("uri").text()}
    if config.get("upstream_headers"):
        keys["headers"] = config.get("upstream_headers").texts()
    if config.get("request_headers"):
        keys["request_headers"] = config.get("request_headers").texts()
    if config.get("timeout").number():
        keys["timeout"] = duration(config.get("timeout").number() / _MILLISECONDS)
    if config.get("allow_degradation").flag():
        route.differs(
            config.get("allow_degradation").at,
            "while the service cannot be asked, requests are refused",
        )
    if config.get("request_method").text("GET") != "GET":
        route.close(config.get("request_method").at, "the service is asked with GET")
    route.set(
        "forward_auth",
        keys,
        config.at,
        "its whole answer goes to the client, when it refuses",
        protects=True,
    )
    config.ignore(
        "keepalive",
        "keepalive_timeout",
        "keepalive_pool",
        "ssl_verify",
        "client_headers",
        "status_on_error",
    )


def openid(draft: Draft, route: Route, config: Item) -> None:
    """Translate openid-connect where it checks tokens only: it does no login here."""
    if not config.get("bearer_only").flag() or not config.get("discovery"):
        route.close(
            config.at,
            "the plugin openid-connect logs users in; propylon checks tokens",
            "let the application log in, or a proxy in front",
        )
    else:
        issuer = {"discovery_url": config.get("discovery").text()}
        jwt = [*draft.sections.keys.get("auth", {}).get("jwt", [])]
        if issuer not in jwt:
            jwt.append(issuer)
        if draft.section("auth.jwt", jwt, config.get("discovery").at):
            route.set(
                "auth",
                "required",
                config.at,
                "the token is checked by its signature, not by introspection",
                protects=True,
            )
            if scopes := config.get("required_scopes").texts():
                route.set("scopes", scopes, config.get("required_scopes").at, protects=True)
        else:
            route.close(config.at, "its issuer is not translated", "write auth.jwt")
    config.ignore(
        "client_id",
        "scope",
        "bearer_only",
        "use_jwks",
        "introspection_endpoint",
        "required_scopes",
        *_LOGIN,
    )
