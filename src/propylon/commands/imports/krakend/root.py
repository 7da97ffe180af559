"""What stands outside of endpoints: the listener, CORS, headers of security, telemetry."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Route
from propylon.commands.imports.tree import Item

__all__ = ["read_root"]

_ABOUT = (
    "$schema",
    "version",
    "name",
    "endpoints",
    "host",
    "timeout",
    "output_encoding",
    "extra_config",
    "@comment",
)
_SERVER = (
    "read_timeout", "write_timeout", "idle_timeout", "read_header_timeout", "max_header_bytes", "cache_ttl",
    "dns_cache_ttl", "max_idle_connections", "max_idle_connections_per_host", "idle_connection_timeout",
    "response_header_timeout", "expect_continue_timeout", "dialer_timeout", "dialer_keep_alive", "dialer_fallback_delay",
    "disable_keep_alives", "disable_compression", "use_h2c", "sequential_start", "disable_rest",
)  # fmt: skip
_DEBUG = ("debug_endpoint", "echo_endpoint")
_CORS = {
    "allow_origins": "origins",
    "allow_methods": "methods",
    "allow_headers": "headers",
    "expose_headers": "expose",
    "allow_credentials": "credentials",
    "max_age": "max_age",
}
_FIXED = {
    "content_type_nosniff": ("X-Content-Type-Options", "nosniff"),
    "frame_deny": ("X-Frame-Options", "DENY"),
    "browser_xss_filter": ("X-XSS-Protection", "1; mode=block"),
}
_TEXTS = {
    "custom_frame_options_value": "X-Frame-Options",
    "content_security_policy": "Content-Security-Policy",
    "referrer_policy": "Referrer-Policy",
}


def read_root(document: Item, draft: Draft) -> None:
    """Translate the keys of the file."""
    document.ignore(*_ABOUT)
    if document.get("port"):
        draft.section(
            "server.port", int(document.get("port").number(8080)), document.get("port").at
        )
    if document.get("listen_ip"):
        draft.section("server.host", document.get("listen_ip").text(), document.get("listen_ip").at)
    for key in _SERVER:
        if document.get(key).value is not None:
            draft.differs(
                document.get(key).at,
                "propylon has timeouts and pools of its own: server.timeouts, services.X",
            )
    for key in _DEBUG:
        if document.get(key).flag():
            draft.differs(
                document.get(key).at, "left out: it is for debugging; propylon explain does that"
            )
    if document.get("tls"):
        draft.lost(document.get("tls").at, "TLS of the listener", "write server.listen and tls")
        document.get("tls").ignore(*(key for key, _ in document.get("tls").items()))
    _extras(document.get("extra_config"), draft)
    draft.leftovers(document)


def _extras(extra: Item, draft: Draft) -> None:
    for name, config in extra.items():
        if name == "security/cors":
            _cors(config, draft)
        elif name == "security/http":
            _security(config, draft)
        elif name.startswith(("telemetry/", "documentation/")) or name in ("router", "grpc"):
            draft.differs(config.at, "propylon has a log, metrics and traces of its own")
        else:
            _close_all(config, name, draft)


def _close_all(config: Item, name: str, draft: Draft) -> None:
    for route in draft.routes:
        if name != "auth/revoker" or "auth" in route.keys:
            route.close(
                config.at,
                f"{name}, which counts for it, too",
                "see whether a key or a policy in Python does it",
            )
    if not draft.routes:
        draft.lost(config.at, name)


def _cors(config: Item, draft: Draft) -> None:
    keys: dict[str, Any] = {}
    for theirs, ours in _CORS.items():
        value = config.get(theirs)
        if value.value is not None:
            keys[ours] = value.texts() if isinstance(value.value, list) else value.value
    keys.setdefault("origins", ["*"])
    draft.section("cors", keys, config.at)
    config.ignore(
        "debug",
        "options_passthrough",
        "options_success_status",
        "allow_private_network",
        "@comment",
    )
    draft.leftovers(config)


def _security(config: Item, draft: Draft) -> None:
    headers: dict[str, str] = {}
    for key, (name, value) in _FIXED.items():
        if config.get(key).flag():
            headers[name] = value
    for key, name in _TEXTS.items():
        if text := config.get(key).text():
            headers[name] = text
    if seconds := int(config.get("sts_seconds").number()):
        below = "; includeSubDomains" if config.get("sts_include_subdomains").flag() else ""
        headers["Strict-Transport-Security"] = f"max-age={seconds}{below}"
    if headers:
        draft.section("defaults.headers.response.set", headers, config.at)
    config.ignore("is_development", "@comment", "sts_include_subdomains")
    _hosts(config, draft.routes)
    if config.get("ssl_redirect").flag():
        draft.lost(
            config.get("ssl_redirect").at,
            "a redirect to HTTPS",
            "write server.listen with redirect: https",
        )
    config.ignore("ssl_host", "ssl_proxy_headers", "host_proxy_headers", "ssl_redirect")
    draft.leftovers(config)


def _hosts(config: Item, routes: list[Route]) -> None:
    if names := config.get("allowed_hosts").texts():
        for route in routes:
            route.set("hosts", names, config.get("allowed_hosts").at, protects=True)
