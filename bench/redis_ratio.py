"""CPU time of a request that is limited in Redis, against the same request without a limit, in the same run.

One gateway, two routes, one after the other in short rounds. CPU time is the gateway's own (user and system); what Redis
takes is said beside it. A row for limits in this worker's memory comes from a second gateway.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import Site
from peers.in_python import Propylon
from processes import LOAD_CORE, Running, pinned, start_gateway, start_upstream
from redis_server import Server, running

# Never refused: what is measured is the decision, and a refused request would cost less.
LIMIT = {"rate": "1000000/s", "burst": 1_000_000, "key": "ip"}
ROUTES: dict[str, dict[str, Any]] = {
    "/free": {},
    "/limited": {"rate_limit": LIMIT},
    "/three": {"rate_limit": [{**LIMIT, "name": name} for name in ("a", "b", "c")]},
}


class Limited(Propylon):
    """Propylon with limited routes, in front of a Redis or without."""

    def __init__(self, redis_port: int | None) -> None:
        self.redis_port = redis_port

    def config(self, site: Site) -> dict[str, Any]:
        routes = [
            {"path": path, "service": "up", "auth": "none", **more} for path, more in ROUTES.items()
        ]
        config = {**super().config(site), "routes": routes}
        if self.redis_port is not None:
            config["redis"] = f"redis://127.0.0.1:{self.redis_port}"
        return config


def drive(port: int, path: str, seconds: int, connections: int) -> int:
    """Send requests for a while; return how many were answered with 200."""
    url = f"http://127.0.0.1:{port}{path}"
    load = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    done = subprocess.run(
        pinned(LOAD_CORE, load), capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        sys.exit(done)
    found = re.search(r"([0-9]+) requests in", done)
    assert found is not None
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement (2)")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running(core=LOAD_CORE) as server:
        folder = Path(name)
        upstream = start_upstream(folder / "up")
        gateways: list[Running] = []
        try:
            for label, port in (("redis", server.port), ("memory", None)):
                started, _ = start_gateway(Limited(port), folder / label, upstream.port)
                gateways.append(started)
            time.sleep(1)
            costs = measure(gateways, server, said)
        finally:
            for one in (*gateways, upstream):
                one.stop()
    report(costs, as_json=said.json)


def measure(
    gateways: list[Running], server: Server, said: argparse.Namespace
) -> dict[str, list[float]]:
    """µs of the gateway's CPU for a request, by store and route; of Redis under `redis itself`."""
    costs: dict[str, list[float]] = {}
    for _ in range(said.rounds):
        for gateway, store in zip(gateways, ("Redis", "memory"), strict=True):
            for path in ROUTES:
                began, redis_began = gateway.cpu_seconds(), server.cpu()
                count = drive(gateway.port, path, said.seconds, said.connections)
                took = gateway.cpu_seconds() - began
                costs.setdefault(f"{store} {path}", []).append(took / count * 1e6)
                if store == "Redis" and path == "/limited":
                    cost = (server.cpu() - redis_began) / count * 1e6
                    costs.setdefault("redis itself", []).append(cost)
    return costs


def report(costs: dict[str, list[float]], *, as_json: bool) -> None:
    medians = {name: statistics.median(values) for name, values in costs.items()}
    if as_json:
        print(json.dumps(medians))
        return
    for store in ("Redis", "memory"):
        free = costs[f"{store} /free"]
        for path in ROUTES:
            name = f"{store} {path}"
            # Of each round, and then the median: rounds differ more than what is compared.
            ratio = statistics.median(
                one / other for one, other in zip(free, costs[name], strict=True)
            )
            print(f"{name:18} {medians[name]:7.1f} µs of CPU a request   {ratio:5.2f} of no limit")
    print(f"Redis itself       {medians['redis itself']:7.1f} µs of CPU a request")


if __name__ == "__main__":
    main()
