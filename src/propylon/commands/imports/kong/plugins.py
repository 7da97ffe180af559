"""The table of Kong's plugins, and what is not translated of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from propylon.commands.imports.kong import security, traffic, transforms
from propylon.commands.imports.kong.names import IGNORED, name_of
from propylon.commands.imports.kong.routes import Written
from propylon.commands.imports.kong.security import Consumers
from propylon.commands.imports.tree import Item

__all__ = ["applies_to", "apply"]

_Handler = Callable[[Written, Item], None]

_HANDLERS: Mapping[str, _Handler] = {
    "rate-limiting": traffic.rate_limiting,
    "cors": traffic.cors,
    "ip-restriction": traffic.ip_restriction,
    "request-size-limiting": traffic.request_size,
    "request-termination": traffic.termination,
    "redirect": traffic.redirect,
    "proxy-cache": traffic.proxy_cache,
    "request-transformer": transforms.request,
    "response-transformer": transforms.response,
}
# What propylon does by itself, in its own way.
_OWN = {
    "prometheus": "propylon has metrics of its own: GET /metrics",
    "correlation-id": "propylon sets X-Request-ID by itself, and logs it",
    "opentelemetry": "propylon sends traces by itself: section traces",
    "zipkin": "propylon sends traces by itself: section traces",
} | dict.fromkeys(
    ("file-log", "http-log", "tcp-log", "udp-log", "syslog", "loggly", "statsd", "datadog"),
    "propylon has a log and metrics of its own: section log, GET /metrics",
)


def applies_to(plugin: Item) -> str:
    """Return `consumer` for a plugin that counts for some callers only, else an empty text."""
    for key in ("consumer", "consumer_group"):
        if name_of(plugin.get(key)):
            return key
    return ""


def apply(written: Written, plugins: Mapping[str, Item], consumers: Consumers) -> None:
    """Translate the plugins that count for a route. Routes of which all is understood are open where Kong's are."""
    for name, plugin in plugins.items():
        plugin.ignore(
            *IGNORED,
            "name",
            "service",
            "route",
            "enabled",
            "protocols",
            "run_on",
            "ordering",
            "config",
        )
        written.route.close_untaken(plugin)
        if name in _OWN:
            written.route.report_only(plugin.at, _OWN[name])
        elif name in security.NAMES:
            security.apply(written, name, plugin, consumers)
        elif name in _HANDLERS:
            _HANDLERS[name](written, plugin)
        else:
            written.route.close(
                plugin.at, f"the plugin {name}", "see whether a key or a policy in Python does it"
            )
    written.route.open()
