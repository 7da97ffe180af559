"""What a rate limit costs: CPU time per request with a limit, against the same gateway without one, in interleaved rounds.

One worker counts in memory, four workers count together in the files that they share. `--haproxy` compares two workers with HAProxy's
two threads instead: both check tokens, both limit each subject. CPU time, because a busy machine changes
how many requests there are in a second, and hardly what each of them costs. `--callers` measures the memory store alone:
what a million distinct callers take, and whether a decision gets dearer.
"""

import argparse
import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jwt
from peers import Site
from peers.in_c import token_rules
from processes import Running, free_ports, launch, start_upstream

from propylon.proxy.limit.rule import MICROSECONDS, Rule, Spend
from propylon.stores.limits.memory import MemoryLimits

SECRET = "Zk8vQw3xN0pT6rJ2yHs9LmBdFgCeXaUi71oKqRtV"
# Never reached: what is measured is a request that passes. So slow that its caller's key lives on from request to request,
# as it does for callers that a limit is made for.
LIMIT = "rate_limit: {rate: 10/s, burst: 100000000}"
CONFIG = """
server: {{port: {port}, workers: {workers}}}
log: {{level: error}}
auth: {{jwt: {{secret: "{secret}"}}, tokens: {{enabled: false, database: "sqlite:///{folder}/t.db"}}}}
services: {{orders: {{url: "http://127.0.0.1:{upstream}"}}}}
routes: [{{path: /, service: orders, {limit}}}]
"""
HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: application/json, text/plain, */*",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://app.example.com/",
    "Sec-Fetch-Dest: empty",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Site: same-site",
)


# A stick table counts requests of each subject in 10 s, as its users limit rates; the number is never reached.
HAPROXY = """
global
  nbthread 2
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend edge
  bind 127.0.0.1:{site.port} backlog 4096
  option forwardfor
  http-request set-header X-Forwarded-Proto http
{rules}
  http-request track-sc0 var(txn.sub) table subjects
  http-request deny deny_status 429 if {{ sc_http_req_rate(0,subjects) gt 100000000 }}
  default_backend up
backend subjects
  stick-table type string len 64 size 100k expire 60s store http_req_rate(10s)
backend up
  http-reuse always
  server up 127.0.0.1:{site.upstream_port} pool-max-conn 256
"""


@dataclass(frozen=True)
class Case:
    """A gateway to measure."""

    workers: int
    limited: bool


def started(case: Case, folder: Path, upstream: int, limit: str) -> Running:
    """The gateway, as soon as it listens."""
    folder.mkdir()
    (port,) = free_ports(1)
    file = folder / "propylon.yaml"
    limit = limit if case.limited else "rate_limit: none"
    file.write_text(
        CONFIG.format(
            port=port,
            workers=case.workers,
            secret=SECRET,
            folder=folder,
            upstream=upstream,
            limit=limit,
        )
    )
    command = [sys.executable, "-m", "propylon", "run", "--config", str(file)]
    name = f"{case.workers} workers, {'a' if case.limited else 'no'} limit"
    return launch(name, command, Site(folder, port, 0, upstream), {})


def wrk(port: int, seconds: int, connections: int, token: str) -> int:
    """How many requests were answered. Stops if one of them was no success."""
    headers = [
        part for line in (*HEADERS, f"Authorization: Bearer {token}") for part in ("-H", line)
    ]
    command = [
        "wrk",
        "-t2",
        f"-c{connections}",
        f"-d{seconds}",
        *headers,
        f"http://127.0.0.1:{port}/",
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        raise SystemExit(text)
    found = re.search(r"(\d+) requests in", text)
    return int(found[1]) if found else 0


def cost(running: Running, options: argparse.Namespace, token: str) -> float:
    """Microseconds of CPU time per request."""
    wrk(running.port, 1, options.connections, token)
    before = running.cpu_seconds()
    requests = wrk(running.port, options.seconds, options.connections, token)
    return (running.cpu_seconds() - before) / requests * 1e6


@contextlib.contextmanager
def gateways(folder: Path, upstream: int, limit: str) -> Iterator[dict[Case, Running]]:
    """All of them: two of a kind are asked by turns."""
    running: dict[Case, Running] = {}
    try:
        for workers in (1, 4):
            for limited in (False, True):
                case = Case(workers, limited)
                running[case] = started(case, folder / f"{workers}{limited}", upstream, limit)
        yield running
    finally:
        for each in running.values():
            each.stop()


def compare(options: argparse.Namespace) -> None:
    """Print the ratios."""
    claims = {"sub": "ann", "exp": int(time.time()) + 86_400, "scope": "read"}
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        folder.chmod(0o755)
        upstream = start_upstream(folder / "upstream")
        try:
            if options.haproxy:
                against_haproxy(options, token, folder, upstream.port)
                return
            with gateways(folder, upstream.port, options.limit) as running:
                print_ratios(running, options, token)
        finally:
            upstream.stop()


def print_ratios(running: dict[Case, Running], options: argparse.Namespace, token: str) -> None:
    for workers in (1, 4):
        ratios, costs = [], []
        for _ in range(options.rounds):
            without = cost(running[Case(workers, limited=False)], options, token)
            limited = cost(running[Case(workers, limited=True)], options, token)
            ratios.append(without / limited)
            costs.append((without, limited))
        middle = [statistics.median(column) for column in zip(*costs, strict=True)]
        print(
            f"{workers} workers: {middle[0]:.1f} µs without, {middle[1]:.1f} µs with a limit:"
            f" ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


def start_haproxy(folder: Path, upstream: int) -> Running:
    """HAProxy with two threads and the same duties, as soon as it listens."""
    folder.mkdir()
    (port,) = free_ports(1)
    site = Site(folder, port, 0, upstream, SECRET)
    file = folder / "haproxy.cfg"
    rules = token_rules(site) + (
        "\n  http-request set-var(txn.sub) var(txn.token),jwt_payload_query('$.sub')"
    )
    file.write_text(HAPROXY.format(site=site, rules=rules))
    return launch("HAProxy", ["haproxy", "-db", "-f", str(file)], site, {})


def against_haproxy(options: argparse.Namespace, token: str, folder: Path, upstream: int) -> None:
    """Print the ratio of requests per CPU second, in interleaved rounds."""
    ours = started(Case(2, limited=True), folder / "ours", upstream, options.limit)
    theirs = start_haproxy(folder / "theirs", upstream)
    try:
        costs = [
            (cost(ours, options, token), cost(theirs, options, token))
            for _ in range(options.rounds)
        ]
    finally:
        ours.stop()
        theirs.stop()
    mine, other = (statistics.median(column) for column in zip(*costs, strict=True))
    print(
        f"2 workers, a limit: {mine:.1f} µs; HAProxy with 2 threads: {other:.1f} µs;"
        f" {other / mine:.2f} of HAProxy's requests per CPU second"
    )


def callers(count: int) -> None:
    """Print the memory that so many distinct callers take, and what a decision costs beside them."""
    rule = Rule("defaults", "per-day", 1000, 86_400 * MICROSECONDS, 1000)
    store = MemoryLimits(time.monotonic_ns)
    print(f"a decision beside {store.keys(rule):>9,} keys: {decision(store, rule):.2f} µs")
    tracemalloc.start()
    for number in range(count):
        store.decide([Spend(rule, f"user-{number}\nhttps://id.example.com")])
        if number + 1 in {10_000, 100_000, 1_000_000}:
            taken = tracemalloc.get_traced_memory()[0] / (number + 1)
            tracemalloc.stop()
            cheap = decision(store, rule)
            print(
                f"a decision beside {store.keys(rule):>9,} keys: {cheap:.2f} µs; {taken:.0f} bytes a key"
            )
            tracemalloc.start()
    tracemalloc.stop()


def decision(store: MemoryLimits, rule: Rule) -> float:
    take = store.taker(rule, 1)
    assert take is not None
    began = time.process_time()
    for number in range(100_000):
        take(f"user-{number % 1000}\nhttps://id.example.com")
    return (time.process_time() - began) * 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--limit", default=LIMIT, help="what the limited route has")
    parser.add_argument("--callers", type=int, help="so many callers in memory instead")
    parser.add_argument(
        "--haproxy", action="store_true", help="two workers beside HAProxy's two threads"
    )
    options = parser.parse_args()
    if options.callers:
        callers(options.callers)
        return
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed")
    compare(options)


if __name__ == "__main__":
    main()
