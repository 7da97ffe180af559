"""Know what other gateways, and a FastAPI project, call a key. Pure."""

from collections.abc import Mapping

__all__ = ["called_here"]

# By model, what other gateways call a key, and what it is called here. No spelling is near enough to guess these.
_CALLED_HERE: Mapping[str, Mapping[str, str]] = {
    "HealthConfig": {
        "mode": "type",  # HAProxy, Traefik
        "protocol": "type",
        "http_path": "path",  # Kong
        "uri": "path",  # HAProxy, nginx Plus
        "expect": "status",  # HAProxy
        "expected_statuses": "status",  # Envoy
        "http_statuses": "status",  # Kong
        "match": "body",  # nginx Plus
        "receive": "body",  # Envoy
        "rstring": "body",  # HAProxy
        "string": "body",
        "request_headers_to_add": "headers",  # Envoy
        "rise": "healthy_after",  # HAProxy
        "healthy_threshold": "healthy_after",  # Envoy
        "fall": "unhealthy_after",
        "unhealthy_threshold": "unhealthy_after",
    },
    "UpstreamTlsConfig": {
        "sni": "server_name",  # HAProxy, Envoy
        "ssl_name": "server_name",  # nginx
        "ca_file": "ca",  # HAProxy
        "rootCAs": "ca",  # Traefik
        "trusted_ca": "ca",  # Envoy
        "trusted_certificate": "ca",  # nginx
        "crt": "certificate",
        "insecure": "verify",
        "insecureSkipVerify": "verify",  # Traefik
    },
    "ServiceConfig": {
        "send_proxy": "proxy_protocol",  # HAProxy
        "send-proxy": "proxy_protocol",
        "servers": "instances",  # nginx, Traefik
        "nodes": "instances",  # APISIX
        "targets": "instances",  # Kong
        "address": "url",
        "base_url": "url",  # httpx
        "target": "url",
    },
    "RouteConfig": {
        "upstream": "service",  # APISIX, Caddy
        "backend": "service",  # HAProxy
        "cluster": "service",  # Envoy
        "target": "service",
        "proxy_pass": "service",  # nginx
        "uri": "path",  # APISIX
        "prefix": "path",  # Envoy, FastAPI
        "strip_path": "strip_prefix",  # Kong
        "limits": "rate_limit",
        "protected": "auth",
        "public": "auth",
    },
    "GatewayConfig": {
        "upstreams": "services",  # Kong, APISIX
        "backends": "services",
        "clusters": "services",  # Envoy
        "endpoints": "routes",
        "jwt": "auth.jwt",
        "users": "auth.tokens",
        "rate_limit": "defaults.rate_limit",
        "listen": "server.listen",
    },
    "ServerConfig": {
        "bind": "host",  # Gunicorn, HAProxy
        "address": "host",
        "ssl_certfile": "tls.certificate",  # uvicorn
        "ssl_keyfile": "tls.key",
        "forwarded_allow_ips": "trusted_proxies",
        "proxy_headers": "trusted_proxies",
        "log_level": "log.level",
    },
    "CorsConfig": {
        "allow_origin_regex": "origins",  # FastAPI's middleware, as below
        "expose_headers": "expose",
    },
}


def called_here(model: str, key: str) -> str:
    """Return `; here it is called …` for a key of another gateway, or nothing."""
    name = _CALLED_HERE.get(model, {}).get(key)
    return "" if name is None else f"; here it is called {name}"
