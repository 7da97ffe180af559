"""Breaks Redis under load, and says what clients of two gateways saw of it.

Every few seconds Redis is killed and started, stopped (SIGSTOP), made read-only, filled up (maxmemory), flushed, and its
scripts are forgotten, in turn. Two gateways share a limit that the load exceeds. What must be: no answer but 200 and 429,
and none that is slower because of it; the time of a request that Redis holds is bounded by `redis.timeout` (50 ms).

The machine itself makes some requests slow. So the slowest of a stretch without any fault is said beside them, and how
many were over 60 ms in both.
"""

import argparse
import asyncio
import itertools
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from client import Connection, Failed, Pace
from peers import Site
from peers.in_python import Propylon
from processes import Running, free_ports, start_gateway, start_instance
from redis_server import Server, running

REQUEST = b"GET /limited HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"
SLOW = 0.060
RATE, BURST = 100, 50  # of the limit, a second
FAULTS = ("kill", "stop", "read-only", "full", "flush", "forget scripts")


class Limited(Propylon):
    """Propylon with one limited route."""

    def __init__(self, redis_port: int) -> None:
        self.redis_port = redis_port

    def config(self, site: Site) -> dict[str, Any]:
        limit = {"rate": f"{RATE}/s", "burst": BURST, "key": "route"}
        route = {"path": "/limited", "service": "up", "auth": "none", "rate_limit": limit}
        config = {**super().config(site), "routes": [route], "log": {"level": "warning"}}
        return {**config, "redis": f"redis://127.0.0.1:{self.redis_port}"}


@dataclass
class Seen:
    """What clients saw in a stretch of the run."""

    name: str
    began: float = field(default_factory=time.monotonic)
    answers: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def row(self) -> str:
        wrong = {kind: count for kind, count in self.answers.items() if kind not in {"200", "429"}}
        slow = sum(one > SLOW for one in self.seconds)
        passed, lasted = self.answers["200"], time.monotonic() - self.began
        return (
            f"{self.name:16} {len(self.seconds):6} requests   {passed / lasted:6.0f}/s pass"
            f"   slowest {max(self.seconds, default=0) * 1000:5.0f} ms   over 60 ms: {slow:3}   wrong: {wrong or 0}"
        )


class Load:
    """Callers at a steady pace, by turns at each gateway."""

    def __init__(self, ports: list[int], callers: int, rate: float) -> None:
        self.ports, self.callers, self.rate = ports, callers, rate
        self.now = Seen("warm-up")
        self.stopping = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.callers):
                group.create_task(self._caller(number))

    async def _caller(self, number: int) -> None:
        connections = itertools.cycle([Connection(port, 10.0) for port in self.ports])
        interval = self.callers / self.rate
        pace = Pace(interval, first=interval * number / self.callers)
        while not self.stopping:
            await pace.turn()
            began, seen = time.monotonic(), self.now
            try:
                kind = str((await next(connections).ask(REQUEST)).status)
            except Failed as failure:
                kind = str(failure)
            seen.answers[kind] += 1
            seen.seconds.append(time.monotonic() - began)


async def break_it(server: Server, fault: str, half: float) -> None:
    """Do it, and undo it after a while."""
    do, undo = {
        "kill": (server.kill, server.start),
        "stop": (lambda: server.signal(signal.SIGSTOP), lambda: server.signal(signal.SIGCONT)),
        "read-only": (lambda: server.ask("REPLICAOF 127.0.0.1 1"), lambda: server.ask("REPLICAOF NO ONE")),
        "full": (lambda: server.ask("CONFIG SET maxmemory 1"), lambda: server.ask("CONFIG SET maxmemory 0")),
        "flush": (lambda: server.ask("FLUSHALL"), lambda: None),
        "forget scripts": (lambda: server.ask("SCRIPT FLUSH"), lambda: None),
    }[fault]  # fmt: skip
    await asyncio.to_thread(do)
    await asyncio.sleep(half)
    await asyncio.to_thread(undo)
    await asyncio.sleep(half)


def changes(gateways: list[Path]) -> str:
    """How often the gateways left Redis and came back, and whether anything else was said."""
    text = "".join(path.read_text() for path in gateways)
    away, back = len(re.findall("is away: ", text)), len(re.findall("is back after", text))
    others = [line for line in text.splitlines() if '"level":"error"' in line]
    return f"the two logs: away {away} times, back {back} times, errors {len(others)}"


async def main(said: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name, running() as server:
        folder = Path(name)
        (port,) = free_ports(1)
        started: list[Running] = [start_instance(folder / "up", "up", port)]
        logs = []
        try:
            for at in range(2):
                gateway, site = start_gateway(Limited(server.port), folder / f"g{at}", port)
                started.append(gateway)
                logs.append(site.access_log)
            load = Load([one.port for one in started[1:]], said.callers, said.rate)
            task = asyncio.ensure_future(load.run())
            await asyncio.sleep(2)
            phases = await play(server, load, said)
            load.stopping = True
            await task
        finally:
            for one in started:
                one.stop()
        print(changes(logs))
        wrong = sum(
            count
            for phase in phases
            for kind, count in phase.answers.items()
            if kind not in {"200", "429"}
        )
        return 1 if wrong else 0


async def play(server: Server, load: Load, said: argparse.Namespace) -> list[Seen]:
    """Calm, each fault by turns, calm."""
    phases = []
    faults = said.faults.split(",") if said.faults else FAULTS
    rounds = max(1, round(said.seconds / said.every))
    names = ["calm", *itertools.islice(itertools.cycle(faults), rounds), "calm"]
    for name in names:
        load.now = Seen(name)
        phases.append(load.now)
        if name == "calm":
            await asyncio.sleep(max(5.0, said.every))
        else:
            await break_it(server, name, said.every / 2)
        print(load.now.row(), flush=True)
    return phases


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="all faults together (60)")
    parser.add_argument("--every", type=float, default=5.0, help="s from one fault to the next (5)")
    parser.add_argument("--faults", default="", help=f"some of {','.join(FAULTS)}")
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--rate", type=float, default=400.0, help="requests a second (400)")
    sys.exit(uvloop.run(main(parser.parse_args())))
