"""The middleware headers: requests, answers, CORS and the headers of security."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.known import has_key
from propylon.commands.imports.parts import Route
from propylon.commands.imports.tree import Item, named

__all__ = ["headers"]

_FIXED = {
    "frameDeny": ("X-Frame-Options", "DENY"),
    "contentTypeNosniff": ("X-Content-Type-Options", "nosniff"),
    "browserXssFilter": ("X-XSS-Protection", "1; mode=block"),
}
_TEXTS = {
    "customFrameOptionsValue": "X-Frame-Options",
    "customBrowserXSSValue": "X-XSS-Protection",
    "contentSecurityPolicy": "Content-Security-Policy",
    "contentSecurityPolicyReportOnly": "Content-Security-Policy-Report-Only",
    "referrerPolicy": "Referrer-Policy",
    "permissionsPolicy": "Permissions-Policy",
    "featurePolicy": "Feature-Policy",
}
_CORS = {
    "accessControlAllowOriginList": "origins",
    "accessControlAllowMethods": "methods",
    "accessControlAllowHeaders": "headers",
    "accessControlExposeHeaders": "expose",
}
_OF_TLS = ("sslRedirect", "sslTemporaryRedirect", "sslHost", "sslForceHost")


def headers(route: Route, config: Item) -> None:
    """Translate headers."""
    _custom(route, named(config, "customRequestHeaders"), "request")
    _custom(route, named(config, "customResponseHeaders"), "response")
    _security(route, config)
    _cors(route, config)
    if hosts := named(config, "allowedHosts").texts():
        route.set(
            "hosts", hosts, named(config, "allowedHosts").at, "other hosts get 404", protects=True
        )
    for key in _OF_TLS:
        if named(config, key).text() not in ("", "false"):
            route.lost(
                named(config, key).at,
                "a redirect to HTTPS",
                "write server.listen with redirect: https",
            )
    config.ignore(
        "addVaryHeader", "isDevelopment", "sslProxyHeaders", "hostsProxyHeaders", "publicKey"
    )


def _custom(route: Route, pairs: Item, side: str) -> None:
    """Set headers; those with an empty value are removed."""
    templates = has_key("route", "query")  # a brace begins a template since then
    values = {name: item.text() for name, item in pairs.items()}
    gone = [name for name, value in values.items() if not value]
    kept = {
        name: value.replace("{", "{{").replace("}", "}}") if templates else value
        for name, value in values.items()
        if value
    }
    if kept:
        inside = dict(route.keys.get("headers", {}).get(side, {}).get("set", {}))
        route.set(f"headers.{side}.set", {**inside, **kept}, pairs.at, protects=side == "request")
    if gone:
        route.set(f"headers.{side}.remove", gone, pairs.at, protects=side == "request")


def _security(route: Route, config: Item) -> None:
    made: dict[str, str] = {}
    for key, (name, value) in _FIXED.items():
        if named(config, key).flag():
            made[name] = value
    for key, name in _TEXTS.items():
        if text := named(config, key).text():
            made[name] = text
    if seconds := int(named(config, "stsSeconds").number()):
        below = "; includeSubDomains" if named(config, "stsIncludeSubdomains").flag() else ""
        preload = "; preload" if named(config, "stsPreload").flag() else ""
        made["Strict-Transport-Security"] = f"max-age={seconds}{below}{preload}"
    if made:
        inside = dict(route.keys.get("headers", {}).get("response", {}).get("set", {}))
        difference = "over plain HTTP, too" if "Strict-Transport-Security" in made else ""
        route.set("headers.response.set", {**inside, **made}, config.at, difference)
    config.ignore("forceSTSHeader", "stsIncludeSubdomains", "stsPreload", "stsSeconds")


def _cors(route: Route, config: Item) -> None:
    keys: dict[str, Any] = {}
    for theirs, ours in _CORS.items():
        if values := named(config, theirs).texts():
            keys[ours] = values
    if named(config, "accessControlAllowOriginListRegex"):
        route.lost(
            named(config, "accessControlAllowOriginListRegex").at,
            "origins by regular expressions",
            "write cors.origins",
        )
    age, credentials = named(config, "accessControlMaxAge"), named(
        config, "accessControlAllowCredentials"
    )
    if not keys.get("origins"):
        age.ignore()
        credentials.ignore()
        return
    if age.value is not None:
        keys["max_age"] = int(age.number())
    if credentials.flag():
        keys["credentials"] = True
    route.set("cors", keys, named(config, "accessControlAllowOriginList").at)
