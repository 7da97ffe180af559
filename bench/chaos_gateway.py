"""The gateway that chaos.py breaks things behind: three instances, and a file that is written anew under load."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from peers import Site
from peers.in_python import Propylon

ROUTE = "/api/v1/orders"
EXTRA = "/api/v1/extra"

# All is said rather than left to the defaults, since a run is short: what is out for 30 s would be out for half of it.
RULES: Mapping[str, Any] = {
    "retry": {
        "attempts": 3,
        "backoff": "20ms",
        # A read that hung or failed is as safe to ask again as one that was reset.
        "on": ["connect-failure", "reset", "timeout", 500, 502, 503, 504],
    },
    "health": {"path": "/health", "interval": "1s", "timeout": "500ms"},
    "ejection": {"failures": 3, "time": "2s"},
    # The breaker counts for all instances together: it must not open before the failing one has been ejected.
    "circuit": {"failure_threshold": 50, "failure_window": "10s", "recovery_timeout": "2s"},
}
TIMEOUTS = {"connect": "1s", "first_byte": "1s", "total": "8s"}


class Resilient(Propylon):
    """Propylon with three instances; `said` is whether its file says what it does about failures."""

    def __init__(self, ports: Mapping[str, int], *, said: bool, workers: int) -> None:
        self.ports = ports
        self.said = said
        self.workers = workers
        self.site: Site | None = None
        self.instances: Sequence[str] = tuple(ports)
        self.extra = True

    def command(self, site: Site) -> list[str]:
        self.site = site
        return super().command(site)

    def config(self, site: Site) -> dict[str, Any]:
        urls = [f"http://127.0.0.1:{self.ports[name]}" for name in self.instances]
        service = {"instances": urls, "timeouts": TIMEOUTS, **(RULES if self.said else {})}
        paths = [ROUTE, EXTRA] if self.extra else [ROUTE]
        return {
            "server": {"host": "127.0.0.1", "port": site.port, "workers": self.workers},
            "services": {"orders": service},
            "routes": [{"path": path, "service": "orders", "auth": "none"} for path in paths],
            "log": {"level": "info", "format": "json"},
        }

    def rewrite(self, instances: Sequence[str], *, extra: bool) -> None:
        """Write the file anew, in one step: nobody may read half of it."""
        assert self.site is not None
        self.instances, self.extra = instances, extra
        file = self.config_file(self.site)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(self.config(self.site)))
        new.replace(file)
