"""The table of the filters, and what is not translated of them."""

from __future__ import annotations

from collections.abc import Callable

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Route
from propylon.commands.imports.spring import headers, resilience
from propylon.commands.imports.spring.properties import Step
from propylon.commands.imports.target import Target

__all__ = ["Filters"]

_HEADERS = {
    "AddRequestHeader": ("request", headers.add),
    "AddRequestHeadersIfNotPresent": ("request", headers.set_),
    "SetRequestHeader": ("request", headers.set_),
    "RemoveRequestHeader": ("request", headers.remove),
    "AddResponseHeader": ("response", headers.add),
    "SetResponseHeader": ("response", headers.set_),
    "RemoveResponseHeader": ("response", headers.remove),
}
_PLAIN = {
    "MapRequestHeader": headers.map_header,
    "AddRequestParameter": headers.parameters,
    "RemoveRequestParameter": headers.parameters,
    "SecureHeaders": headers.secure,
    "RequestRateLimiter": resilience.rate_limiter,
    "RequestSize": resilience.request_size,
    "LocalResponseCache": resilience.local_cache,
}
# Arguments that change nothing of what is translated.
_IGNORED = {
    "CircuitBreaker": ("name", "resumeWithoutError"),
    "Retry": ("series", "exceptions", "methods", "jitter", "timeout", "backoff"),
    "RequestRateLimiter": ("deny-empty-key", "empty-key-status", "status-code"),
    "LocalResponseCache": ("size",),
    "SecureHeaders": ("enable", "disable"),
    "RewritePath": ("replacement",),
}
_PATHS = frozenset({"StripPrefix", "PrefixPath", "SetPath", "RewritePath"})
# Without them a route protects nothing less.
_HARMLESS = {
    "DedupeResponseHeader": "headers.response.remove takes a line of the service away",
    "FallbackHeaders": "a fallback gets no headers about the failure",
    "RewriteResponseHeader": "a policy in Python can do it",
    "RewriteLocationResponseHeader": "services.X.redirects rewrites Location by itself",
    "RequestHeaderSize": "server.max_header counts for all routes",
    "SaveSession": "propylon has no sessions",
    "CacheRequestBody": "propylon streams bodies",
}


class Filters:
    """Translates the filters of a route, in their order."""

    def __init__(self, draft: Draft, fallbacks: dict[str, Callable[[], str]]) -> None:
        """Keep the services that a fallback may be sent to, by path."""
        self._draft, self._fallbacks = draft, fallbacks

    def apply(self, route: Route, filters: list[Step]) -> None:
        """Translate them."""
        target = Target.of(route)
        for step in filters:
            if step.name in _PATHS:
                _path(target, step)
            elif step.name in _HEADERS:
                side, handler = _HEADERS[step.name]
                handler(route, side, step)
            elif step.name in _PLAIN:
                _PLAIN[step.name](route, step)
            else:
                self._other(route, step)
            step.ignore(*_IGNORED.get(step.name, ()))
            for left in step.untaken():
                route.close(
                    left.at, "the importer does not know this argument", "write what it means"
                )
        target.write()

    def _other(self, route: Route, step: Step) -> None:
        match step.name:
            case "CircuitBreaker":
                resilience.circuit_breaker(route, step, self._fallbacks)
            case "Retry":
                resilience.retry(route, step, self._draft)
            case "PreserveHostHeader":
                route.same(step.at, f"services.{route.keys.get('service')}.host: client")
            case "SetRequestHostHeader":
                _host(route, step)
            case "RedirectTo":
                _redirect(route, step)
            case name if name in _HARMLESS:
                route.lost(step.at, f"the filter {name}", _HARMLESS[name])
            case "TokenRelay":
                route.close(
                    step.at,
                    "the filter TokenRelay logs users in; propylon checks tokens",
                    "let callers bring tokens",
                )
            case name:
                route.close(
                    step.at, f"the filter {name}", "see whether a key or a policy in Python does it"
                )


def _path(target: Target, step: Step) -> None:
    match step.name:
        case "StripPrefix":
            count = step.value(0, "parts") or "1"
            target.strip(int(count) if count.isdigit() else 99, step.at)
        case "PrefixPath":
            target.prefix(step.value(0, "prefix"), step.at)
        case "SetPath":
            target.set(step.value(0, "template"), step.at)
        case _:
            target.regex(step.value(0, "regexp"), step.value(1, "replacement"), step.at)


def _host(route: Route, step: Step) -> None:
    inside = dict(route.keys.get("headers", {}).get("request", {}).get("set", {}))
    route.set(
        "headers.request.set", {**inside, "Host": step.value(0, "host")}, step.at, protects=True
    )


def _redirect(route: Route, step: Step) -> None:
    status = step.value(0, "status")
    keys = {"to": step.value(1, "url"), "status": int(status) if status.isdigit() else 302}
    for gone in ("service", "rewrite", "strip_prefix"):
        route.keys.pop(gone, None)
    route.set("redirect", keys, step.at, protects=True)
