"""Find routes to services of which the gateway's own endpoints answer a part. Pure.

A team's own auth service at /api/v1/auth is the common case: the gateway's /api/v1/auth/token is more specific, so a login
is answered out of the gateway's empty user table.
"""

from collections.abc import Iterator

from propylon.config.models.endpoints import Endpoint, builtin_endpoints
from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.config.reading.problems import Finding

__all__ = ["shadowed_services"]


def shadowed_services(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning for each route that reaches into a section of the gateway's own endpoints, such as {prefix}/auth."""
    # While there are no users, the token endpoint hides nothing; the first one is announced in the log.
    endpoints = builtin_endpoints(
        config.prefix, config.auth, users=False, dashboard=config.dashboard.path
    )
    issuing = {endpoint for endpoint in endpoints if _is_for_issuing(config, endpoint)}
    for at, route in enumerate(config.routes):
        hidden = [one for one in endpoints if _hides(one, route, config.prefix)]
        if not hidden:
            continue
        paths = ", ".join(dict.fromkeys(one.path for one in hidden))
        msg = f"the gateway itself answers {paths} below it, and the service never sees them"
        if issuing.intersection(hidden):
            advice = "if the service issues the tokens, write auth.tokens.enabled: false"
        else:
            advice = "write another prefix: for the gateway's own, or another path"
        yield ("routes", at, "path"), f"{msg}; {advice}"


def _hides(endpoint: Endpoint, route: RouteConfig, prefix: str) -> bool:
    # A route at the root or at the prefix is for everything that is left; one deeper is for a service of its own.
    if route.exact or not route.path.startswith(f"{prefix}/") or endpoint.yields_to(route.path):
        return False
    meets = not route.methods or (endpoint.methods or frozenset()).intersection(route.methods)
    return bool(meets) and endpoint.path.startswith(route.path.rstrip("/") + "/")


def _is_for_issuing(config: GatewayConfig, endpoint: Endpoint) -> bool:
    return config.auth.issues and endpoint.path == f"{config.prefix}/auth/token"
