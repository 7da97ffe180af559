"""Sends the requests: one to see that a gateway answers rightly, then wrk for the numbers."""

import http.client
import ipaddress
import json
import re
import resource
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from peers import HERE, Peer, Site
from processes import BODY_SIZE, GATEWAY_CORE, LOAD_CORE, Running, core_time, pinned, until

PATH = "/api/v1/orders/1042?expand=lines"
SEEN = "/api/v1/orders/seen"
LOG_LIMIT = 5.0
ROUTES_LIMIT = 5.0


class WrongAnswer(Exception):
    """What a gateway did is not what was asked; the text says how."""


@dataclass(frozen=True)
class Sample:
    """One gateway in one round."""

    rps: float
    p50_ms: float
    p99_ms: float
    gateway_cpu: float
    load_core: float
    # What processes that are not ours took from both cores.
    foreign: float
    failures: int

    @property
    def rps_per_cpu_second(self) -> float:
        return self.rps / self.gateway_cpu if self.gateway_cpu else 0.0


def check(peer: Peer, site: Site) -> None:
    """One request for each thing that every gateway has to do."""
    # Traefik listens before it has read its routes.
    until(lambda: _get(site.port, PATH)[0] == 200, ROUTES_LIMIT)
    status, headers, content = _get(site.port, PATH)
    if (status, len(content)) != (200, BODY_SIZE):
        raise WrongAnswer(f"{status} with {len(content)} bytes instead of 200 with {BODY_SIZE}")
    json.loads(content)
    if headers.get("content-type") != "application/json":
        raise WrongAnswer(f"content-type {headers.get('content-type')}")
    seen = json.loads(_get(site.port, SEEN)[2])
    if peer.sends_request_id and len(seen["request_id"]) < 8:
        raise WrongAnswer("no X-Request-ID reached the service")
    # Envoy writes the machine's own address where the client is on loopback.
    if not _is_address(seen["forwarded_for"]):
        raise WrongAnswer(f"X-Forwarded-For reached the service as {seen['forwarded_for']!r}")
    if seen["protocol"] != "HTTP/1.1":
        raise WrongAnswer(f"the service was asked in {seen['protocol']}")
    if _get(site.port, "/nowhere")[0] == 200:
        raise WrongAnswer("a path without a route was forwarded")
    if not until(lambda: _logged(site), LOG_LIMIT):
        raise WrongAnswer("no JSON line with the request's path in its access log")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _get(port: int, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()


def _logged(site: Site) -> bool:
    lines = site.access_log.read_bytes().splitlines() if site.access_log.exists() else []
    about = [line for line in lines if PATH.partition("?")[0].encode() in line]
    return any(isinstance(json.loads(line), dict) for line in about)


def warm_up(port: int, connections: int, seconds: int, *, vary: bool) -> None:
    """Load that nobody counts."""
    _wrk(port, connections, seconds, vary=vary)


def measure(
    running: Running, upstream: Running, connections: int, seconds: int, *, vary: bool
) -> Sample:
    """One gateway under load, with what it and the cores did meanwhile."""
    ours = {running.process.pid: running, upstream.process.pid: upstream}.values()
    before = _Meter.read(running, ours)
    text = _wrk(running.port, connections, seconds, vary=vary)
    spent = _Meter.read(running, ours).since(before)
    return Sample(
        rps=_number(r"Requests/sec:\s+([\d.]+)", text),
        p50_ms=_milliseconds(r"\s50%\s+([\d.]+)(us|ms|s)", text),
        p99_ms=_milliseconds(r"\s99%\s+([\d.]+)(us|ms|s)", text),
        gateway_cpu=spent.gateway / spent.time,
        load_core=spent.load_core / spent.time,
        foreign=max(0.0, spent.cores - spent.ours) / spent.time,
        failures=failures(text),
    )


@dataclass(frozen=True)
class _Meter:
    """The clock, and seconds of CPU time that went to whom."""

    time: float
    gateway: float
    ours: float
    load_core: float
    cores: float

    @classmethod
    def read(cls, gateway: Running, ours: Iterable[Running]) -> Self:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)  # wrk, once it has ended
        wrk = children.ru_utime + children.ru_stime
        load_core = core_time(LOAD_CORE)
        return cls(
            time=time.monotonic(),
            gateway=gateway.cpu_seconds(),
            ours=wrk + sum(each.cpu_seconds() for each in ours),
            load_core=load_core,
            cores=load_core + core_time(GATEWAY_CORE),
        )

    def since(self, before: Self) -> "_Meter":
        return _Meter(
            self.time - before.time,
            self.gateway - before.gateway,
            self.ours - before.ours,
            self.load_core - before.load_core,
            self.cores - before.cores,
        )


def _wrk(port: int, connections: int, seconds: int, *, vary: bool) -> str:
    script = "vary.lua" if vary else "headers.lua"
    flags = [
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "--timeout",
        "10s",
        "-s",
        script,
    ]
    command = ["wrk", *flags, f"http://127.0.0.1:{port}{PATH}"]
    done = subprocess.run(
        pinned(LOAD_CORE, command),
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=seconds + 20,
        check=False,
    )
    if done.returncode != 0 or "Requests/sec" not in done.stdout:
        raise WrongAnswer(f"wrk: {(done.stderr or done.stdout).strip()[:300]}")
    return done.stdout


def failures(text: str) -> int:
    """Answers other than 2xx and 3xx, and socket errors of every kind."""
    found = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    count = int(found.group(1)) if found else 0
    errors = re.search(r"Socket errors: (.*)", text)
    return count + (sum(map(int, re.findall(r"\d+", errors.group(1)))) if errors else 0)


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0.0


def _milliseconds(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    return float(found.group(1)) * scale[found.group(2)] if found else 0.0
