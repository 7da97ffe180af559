"""Fill in the keys that routes take from `defaults`. Pure."""

from typing import Any

from propylon.config.models.routes import OF_SERVICES, DefaultsConfig

__all__ = ["deep_merged", "with_defaults"]


# Of a fallback, which has one of them.
_ANSWERS = {"service", "respond"}


def with_defaults(data: Any) -> Any:
    """Return the raw configuration with `defaults` filled in: each route gets the keys that it does not set."""
    if not isinstance(data, dict):
        return data
    defaults, routes = data.get("defaults"), data.get("routes")
    if not isinstance(defaults, dict) or not isinstance(routes, list | tuple):
        return data
    # A limit in `defaults` is not repeated by the routes: it is one limit, which counts for all of them together.
    known = DefaultsConfig.model_fields.keys() - {"rate_limit"}
    rules = {key: value for key, value in defaults.items() if key in known}
    return {**data, "routes": [_with_rules(route, rules) for route in routes]}


def _with_rules(route: Any, defaults: dict[str, Any]) -> Any:
    if not isinstance(route, dict):
        return route
    rules = dict(defaults)
    # `rewrite` and `strip_prefix` exclude each other, so setting one overrides a default for the other.
    if route.get("rewrite") is not None or route.get("strip_prefix") is not None:
        rules.pop("rewrite", None)
        rules.pop("strip_prefix", None)
    # A route that is opened with `auth: none` looks at no token, so defaults about the caller cannot apply.
    if route.get("auth") == "none":
        for key in ("scopes", "roles", "issuers", "claims"):
            rules.pop(key, None)
    own, default = route.get("fallback"), rules.get("fallback")
    if isinstance(own, dict) and isinstance(default, dict) and _ANSWERS & own.keys():
        rules["fallback"] = {key: value for key, value in default.items() if key not in _ANSWERS}
    if route.get("respond") is not None or route.get("redirect") is not None:
        for key in OF_SERVICES:
            rules.pop(key, None)
    return deep_merged(rules, route)


def deep_merged(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `overlay` over it: mappings are merged, other values replaced, None changes nothing."""
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = deep_merged(below, value)
        elif value is not None or key not in merged:
            merged[key] = value
    return merged
