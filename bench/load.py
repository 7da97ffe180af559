"""Runs wrk against a gateway, and reads what it and the cores did meanwhile."""

import os
import re
import resource
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from peers import HERE
from processes import GATEWAY_CORE, LOAD_CORE, Running, core_time, pinned
from proof import PATH, WrongAnswer


@dataclass(frozen=True)
class Traffic:
    """What every gateway gets alike."""

    connections: int
    seconds: int
    vary: bool
    post: bool = False
    # How many different tokens, and the file that has one a line.
    tokens: int = 0
    tokens_file: Path | None = None

    @property
    def threads(self) -> int:
        """One for each token, so that a connection keeps its own: see requests.lua."""
        return max(1, min(self.tokens, self.connections))

    def environment(self) -> dict[str, str]:
        """What requests.lua is told."""
        said = {"BENCH_VARY": "1"} if self.vary else {}
        said |= {"BENCH_POST": "1"} if self.post else {}
        return said | ({"BENCH_TOKENS": str(self.tokens_file)} if self.tokens_file else {})


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


def warm_up(port: int, traffic: Traffic, seconds: int) -> None:
    """Load that nobody counts."""
    _wrk(port, replace(traffic, seconds=seconds))


def measure(running: Running, upstream: Running, traffic: Traffic) -> Sample:
    """One gateway under load, with what it and the cores did meanwhile."""
    ours = {running.process.pid: running, upstream.process.pid: upstream}.values()
    before = _Meter.read(running, ours)
    text = _wrk(running.port, traffic)
    spent = _Meter.read(running, ours).since(before)
    rps = number(r"Requests/sec:\s+([\d.]+)", text)
    # wrk's own clock: what it takes to start its threads is no load on the gateway.
    loaded = number(r"(\d+) requests in", text) / rps if rps else spent.time
    return Sample(
        rps=rps,
        p50_ms=percentile(50, text),
        p99_ms=percentile(99, text),
        gateway_cpu=spent.gateway / loaded,
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


def _wrk(port: int, traffic: Traffic) -> str:
    threads = traffic.threads
    flags = [f"-t{threads}", f"-c{traffic.connections}", "-s", "requests.lua"]
    address = f"http://127.0.0.1:{port}{PATH}"
    return wrk([*flags, address, "--", str(threads)], traffic.seconds, traffic.environment())


def wrk(arguments: list[str], seconds: int, environment: dict[str, str]) -> str:
    """Run wrk on the load side's core; what it printed."""
    done = subprocess.run(
        pinned(LOAD_CORE, ["wrk", f"-d{seconds}s", "--latency", "--timeout", "10s", *arguments]),
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=seconds + 20,
        check=False,
        env={**os.environ, **environment},
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


def number(pattern: str, text: str) -> float:
    """What wrk said there."""
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0.0


def percentile(rank: int, text: str) -> float:
    """In milliseconds."""
    found = re.search(rf"\s{rank}%\s+([\d.]+)(us|ms|s)", text)
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    return float(found.group(1)) * scale[found.group(2)] if found else 0.0
