"""The gateways written in Python: Propylon on both its edges, and the plain one."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from peers.base import HERE, PREFIXES, ROOT, SERVICES, Peer, Site


class PlainFastAPI(Peer):
    name = "FastAPI + httpx"
    program = "uvicorn"
    source = "in the project's .venv after make test"
    logs_to_stdout = True
    checks_tokens = True

    def missing(self) -> str | None:
        needed = ("uvicorn", "fastapi", "httpx", "jwt")
        absent = [m for m in needed if not importlib.util.find_spec(m)]
        return f"{', '.join(absent)} not in this Python" if absent else None

    def environment(self, site: Site) -> dict[str, str]:
        upstream = f"http://127.0.0.1:{site.upstream_port}"
        said = {"BENCH_UPSTREAM": upstream, "BENCH_SERVICES": ",".join(SERVICES)}
        return said | ({"BENCH_SECRET": site.secret} if site.secret else {})

    def command(self, site: Site) -> list[str]:
        where = ["--app-dir", str(HERE), "--port", str(site.port), "--workers", "1"]
        how = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        return [sys.executable, "-m", "uvicorn", "fastapi_gateway:app", *where, *how]


class Propylon(Peer):
    name = "Propylon"
    program = "propylon"
    source = "make test installs it"
    logs_to_stdout = True
    checks_tokens = True

    def missing(self) -> str | None:
        # A comparison with an older checkout is started by the interpreter that runs this.
        entry = ROOT / "src" / "propylon" / "__main__.py"
        return None if entry.exists() else f"{entry} is missing"

    def environment(self, site: Site) -> dict[str, str]:
        return {"PYTHONPATH": str(ROOT / "src"), "PROPYLON_CONFIG": str(self.config_file(site))}

    def command(self, site: Site) -> list[str]:
        self.config_file(site).write_text(json.dumps(self.config(site)))
        start = ["run", "--config", str(self.config_file(site))]
        return [sys.executable, "-m", "propylon", *start]

    def config_file(self, site: Site) -> Path:
        return site.directory / "propylon.yaml"

    def config(self, site: Site) -> dict[str, Any]:
        auth = "required" if site.secret else "none"
        config = {
            "server": {"host": "127.0.0.1", "port": site.port, "workers": 1},
            "services": {"up": {"url": f"http://127.0.0.1:{site.upstream_port}"}},
            "routes": [{"path": p, "service": "up", "auth": auth} for p in PREFIXES],
            "log": {"level": "info", "format": "json"},
            # Of each caller; so many that none is refused. The breaker is on without a word.
            "defaults": {"rate_limit": {"rate": "10/s", "burst": 100_000_000}},
        }
        return config | ({"auth": {"jwt": {"secret": site.secret}}} if site.secret else {})


class PortablePropylon(Propylon):
    name = "Propylon (portable)"

    def command(self, site: Site) -> list[str]:
        self.config_file(site).write_text(json.dumps(self.config(site)))
        where = ["--host", "127.0.0.1", "--port", str(site.port), "--no-proxy-headers"]
        how = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        return [sys.executable, "-m", "uvicorn", "propylon.main:app", *where, *how]
