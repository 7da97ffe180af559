"""The table of APISIX' plugins, and what is not translated of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from propylon.commands.imports.apisix import security, traffic
from propylon.commands.imports.apisix.rewriting import Rewriting
from propylon.commands.imports.apisix.upstreams import Upstreams
from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Route
from propylon.commands.imports.tree import Item

__all__ = ["Plugins"]

_Handler = Callable[[Route, Item], None]

_OWN = dict.fromkeys(
    (
        "prometheus", "request-id", "zipkin", "skywalking", "opentelemetry", "datadog", "server-info", "node-status",
        "http-logger", "tcp-logger", "udp-logger", "kafka-logger", "rocketmq-logger", "syslog", "file-logger", "loki-logger",
        "clickhouse-logger", "elasticsearch-logger", "splunk-hec-logging", "google-cloud-logging", "sls-logger", "loggly",
        "log-rotate", "error-log-logger", "skywalking-logger", "tencent-cloud-cls", "lago",
    ),
    "propylon has a log, metrics and traces of its own",
)  # fmt: skip
_OWN["proxy-buffering"] = "propylon streams bodies in both directions"
_TODO = {
    "key-auth": "propylon checks no API keys yet; let callers bring tokens, then write auth: required",
    "basic-auth": "make a file with `htpasswd -B`, then write basic_auth: {file: …}",
    "jwt-auth": "write auth.jwt with the issuer's key; APISIX tells consumers apart by the claim key, propylon by iss and sub",
    "consumer-restriction": "write scopes or roles, if the tokens carry them",
    "real-ip": "write server.trusted_proxies",
    "api-breaker": "the service's circuit opens by itself; write services.X.circuit",
}
# Without them a route protects nothing less.
_HARMLESS = frozenset({"api-breaker"})


class Plugins:
    """Translates the plugins that count for a route."""

    def __init__(self, draft: Draft, upstreams: Upstreams) -> None:
        """Make the table."""
        rewriting = Rewriting(draft, upstreams)
        self._handlers: Mapping[str, _Handler] = {
            "proxy-rewrite": rewriting.proxy_rewrite,
            "response-rewrite": rewriting.response_rewrite,
            "redirect": rewriting.redirect,
            "traffic-split": rewriting.split,
            "proxy-mirror": rewriting.mirror,
            "ip-restriction": security.ip_restriction,
            "forward-auth": security.forward_auth,
            "openid-connect": partial(security.openid, draft),
            "limit-count": traffic.limit_count,
            "limit-req": traffic.limit_req,
            "limit-conn": traffic.limit_conn,
            "cors": traffic.cors,
            "client-control": traffic.max_body,
            "gzip": traffic.compress,
            "brotli": traffic.compress,
            "proxy-cache": traffic.proxy_cache,
            "fault-injection": traffic.fault,
        }

    def apply(self, route: Route, plugins: Mapping[str, Item]) -> None:
        """Translate plugins; where all is understood the route is open as the original's."""
        for name, config in plugins.items():
            if config.get("_meta").get("disable").flag():
                route.differs(config.at, "left out: it is disabled")
                continue
            if config.get("_meta").get("filter"):
                route.close(config.get("_meta").at, "a plugin for some requests only")
            config.ignore("_meta", "disable")
            if name in _OWN:
                route.report_only(config.at, _OWN[name])
            elif handler := self._handlers.get(name):
                handler(route, config)
                route.close_untaken(config)
            elif name in _HARMLESS:
                route.lost(config.at, f"the plugin {name}", _TODO[name])
            else:
                route.close(
                    config.at,
                    f"the plugin {name}",
                    _TODO.get(name, "see whether a key or a policy in Python does it"),
                )
        route.open()
