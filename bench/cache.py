"""Hits of the cache beside nginx's proxy_cache and Varnish: one core each, in turns; prints ratios of requests per CPU second.

All caches are filled, and then the service is stopped: an answer that no cache has is a 502, and one of them fails the run.
`--vary` asks for 512 different answers. Then `Propylon (machine)` finds what its 1 MB of memory does not hold in the machine's
store; with one request, the worker's memory answers in both.
"""

import argparse
import contextlib
import http.client
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import load
from load import Sample, Traffic
from peers.base import PREFIXES, Peer, Site
from peers.in_c import Nginx
from peers.in_python import Propylon
from processes import BODY_SIZE, Running, start_gateway, start_upstream
from proof import PATH, WrongAnswer
from run import WARM_UP, log_place

SIZES = (BODY_SIZE, 100 * 1024)
TIMES = 2


class CachingNginx(Nginx):
    """nginx as in run.py, and its answers kept; the key has the cookie, as Propylon's has."""

    name = "nginx proxy_cache"

    def config(self, site: Site) -> str:
        kept = f"""proxy_cache_path {site.directory}/kept keys_zone=kept:10m;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=2000;
  upstream up {{"""
        rules = """proxy_cache kept;
    proxy_cache_key $scheme$http_host$request_uri$http_cookie;
    proxy_cache_valid 200 1h;
    proxy_http_version 1.1;"""
        text = super().config(site)
        return text.replace("upstream up {", kept).replace("proxy_http_version 1.1;", rules)


class Varnish(Peer):
    """Varnish with its answers in memory. It writes no access log: that is a program of its own."""

    name = "Varnish"
    program = "varnishd"
    source = "apt-get install varnish"

    def command(self, site: Site) -> list[str]:
        rules = site.directory / "rules.vcl"
        rules.write_text(self.rules(site))
        where = ["-n", str(site.directory / "work"), "-a", f"127.0.0.1:{site.port}", "-T", "none"]
        size = ["-s", "malloc,256m", "-p", "thread_pools=1", "-p", "thread_pool_min=100"]
        return [self.path(), "-F", "-j", "none", *where, *size, "-f", str(rules)]

    def rules(self, site: Site) -> str:
        return f"""vcl 4.1;
backend up {{ .host = "127.0.0.1"; .port = "{site.upstream_port}"; }}
sub vcl_recv {{
  if (req.url !~ "^({"|".join(PREFIXES)})/") {{ return (synth(404)); }}
  if (req.method != "GET" && req.method != "HEAD") {{ return (pass); }}
  return (hash);
}}
sub vcl_hash {{
  if (req.http.Cookie) {{ hash_data(req.http.Cookie); }}
}}
sub vcl_backend_response {{
  set beresp.ttl = 1h;
  return (deliver);
}}
sub vcl_deliver {{
  set resp.http.X-Request-ID = req.xid;
}}
"""


class CachingPropylon(Propylon):
    """Propylon as in run.py, and its answers kept in the memory of its worker."""

    name = "Propylon (memory)"
    cache: dict[str, str] = {"store": "memory"}  # noqa: RUF012 — a constant of the class

    def config(self, site: Site) -> dict[str, Any]:
        config = super().config(site)
        config["defaults"]["cache"] = {"ttl": "1h"}
        return {**config, "cache": self.cache}


class MachinePropylon(CachingPropylon):
    """Next to nothing in the worker's memory, all in the machine's store."""

    name = "Propylon (machine)"
    cache = {"memory": "1MB", "store": "machine"}  # noqa: RUF012 — a constant of the class


CACHES: tuple[Peer, ...] = (CachingNginx(), Varnish(), CachingPropylon(), MachinePropylon())


def answers(port: int, size: int) -> None:
    """Ask, and see that the answer is the service's."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", PATH)
        answer = connection.getresponse()
        got = answer.status, len(answer.read())
    if got != (200, size):
        raise WrongAnswer(f"{got[0]} with {got[1]} bytes instead of 200 with {size}")


def started(
    folder: Path, size: int, traffic: Traffic, stack: contextlib.ExitStack
) -> tuple[dict[str, Running], Running]:
    """All caches that this machine has, filled, and the service, which is stopped."""
    upstream = start_upstream(folder / "upstream", size)
    stack.callback(upstream.stop)
    running: dict[str, Running] = {}
    for number, peer in enumerate(CACHES):
        why = peer.missing()
        if why is not None:
            print(f"- {peer.name} left out: {why}.")
            continue
        gateway, _ = start_gateway(peer, folder / str(number), upstream.port)
        stack.callback(gateway.stop)
        for _ in range(TIMES):
            answers(gateway.port, size)
        load.warm_up(gateway.port, traffic, WARM_UP)
        running[peer.name] = gateway
    upstream.stop()
    for gateway in running.values():
        answers(gateway.port, size)
    return running, upstream


def measure(size: int, options: argparse.Namespace) -> dict[str, list[Sample]]:
    """The samples of each cache; each round begins with another one."""
    traffic = Traffic(options.connections, options.seconds, options.vary)
    samples: dict[str, list[Sample]] = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="bench-cache-", dir=log_place())
        )
        running, upstream = started(Path(folder), size, traffic, stack)
        names = list(running)
        for number in range(options.rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                sample = load.measure(running[name], upstream, traffic)
                if sample.failures:
                    raise WrongAnswer(f"{name}: {sample.failures} answers were no hits")
                samples.setdefault(name, []).append(sample)
    return samples


def report(size: int, samples: dict[str, list[Sample]]) -> list[dict[str, Any]]:
    """Print medians, and the median of the rounds' ratios to each cache that is not ours."""
    rows = []
    for name, mine in samples.items():
        row: dict[str, Any] = {"size": size, "name": name}
        for field in ("rps", "gateway_cpu", "rps_per_cpu_second", "p99_ms", "foreign"):
            row[field] = statistics.median(getattr(each, field) for each in mine)
        for other in (CachingNginx.name, Varnish.name):
            if other in samples:
                row[f"x {other}"] = statistics.median(
                    one.rps_per_cpu_second / two.rps_per_cpu_second
                    for one, two in zip(mine, samples[other], strict=True)
                )
        ratios = "  ".join(f"{row[key]:.2f} {key}" for key in row if key.startswith("x "))
        print(
            f"{size:7} bytes  {name:20} {row['rps']:9,.0f} req/s  {row['gateway_cpu']:4.0%} CPU"
            f"  {row['rps_per_cpu_second']:9,.0f} req/CPU-s  {row['foreign']:4.0%} foreign  {ratios}",
            flush=True,
        )
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="load on each cache in a round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--vary", action="store_true", help="512 different requests")
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    rows = []
    try:
        for size in SIZES:
            rows += report(size, measure(size, options))
    except WrongAnswer as problem:
        print(f"Aborted, since figures would mislead: {problem}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
