"""Measures one service's p99 while another service behind the same gateway accepts requests and never answers.

Each round measures twice, in turns: once with the neighbour's route at rest, once with all its callers waiting.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import load
from client import Connection, Failed, status_of
from peers import Site
from peers.in_python import Propylon
from processes import (
    LOAD_CORE,
    NotStarted,
    Running,
    can_pin,
    free_ports,
    start_gateway,
    start_instance,
    start_upstream,
    until,
)
from proof import PATH, WrongAnswer

STUCK = "/api/v1/stuck"
# As a caller that tries again: where the gateway refuses at once, this bounds what the callers take of its core.
PAUSE = 0.1
CLIENT_TIMEOUT = 60.0
ALL_WAIT_LIMIT = 10.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--seconds", type=int, default=4, help="load on the healthy route, twice a round"
    )
    parser.add_argument("--connections", type=int, default=16, help="callers of the healthy route")
    parser.add_argument(
        "--pause", type=int, default=10, help="ms between a caller's requests; 0: none"
    )
    parser.add_argument("--stuck", type=int, default=50, help="callers of the hanging neighbour")
    parser.add_argument(
        "--first-byte", type=float, default=30.0, help="s until the gateway gives it up"
    )
    parser.add_argument("--circuit", action="store_true", help="leave the neighbour's breaker on")
    return parser.parse_args()


class TwoServices(Propylon):
    """Propylon with a healthy route and one to the neighbour."""

    def __init__(self, stuck_port: int, first_byte: float, *, circuit: bool) -> None:
        self.stuck_port = stuck_port
        self.first_byte = first_byte
        self.circuit = circuit

    def config(self, site: Site) -> dict[str, Any]:
        config = super().config(site)
        config["services"]["stuck"] = {
            "url": f"http://127.0.0.1:{self.stuck_port}",
            "timeouts": {"first_byte": self.first_byte, "total": CLIENT_TIMEOUT},
        }
        route = {"path": STUCK, "service": "stuck", "auth": "none"}
        # With a breaker nothing would hang for long: without one is the worst case.
        config["routes"].append(route if self.circuit else {**route, "circuit": False})
        return config


class Callers:
    """So many callers of the neighbour's route, in a thread of their own while the load runs."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.count = count
        self.answers: Counter[str] = Counter()

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        everybody = asyncio.run_coroutine_threadsafe(self._everybody(), loop)
        try:
            yield
        finally:
            everybody.cancel()
            loop.call_soon_threadsafe(loop.call_later, PAUSE, loop.stop)
            thread.join()
            loop.close()

    async def _everybody(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.count):
                group.create_task(self._caller())

    async def _caller(self) -> None:
        connection = Connection(self.port, CLIENT_TIMEOUT)
        request = f"GET {STUCK}/1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        while True:
            try:
                self.answers[str((await connection.ask(request)).status)] += 1
            except Failed as failure:
                self.answers[str(failure)] += 1
            await asyncio.sleep(PAUSE)


@dataclass(frozen=True)
class Half:
    """The healthy route in one half of a round."""

    p50_ms: float
    p99_ms: float
    rps: float
    failures: int
    cpu: float


@dataclass(frozen=True)
class Scene:
    """Everything that runs."""

    options: argparse.Namespace
    gateway: Running
    stuck: Running

    def held(self) -> int:
        """How many requests wait at the neighbour."""
        return int(asyncio.run(status_of(self.stuck.port, "/held"))[1] or b"-1")

    def measure(self) -> Half:
        chosen = self.options
        before = self.gateway.cpu_seconds()
        flags = ["-t1", f"-c{chosen.connections}", "-s", "paced.lua"]
        address = f"http://127.0.0.1:{self.gateway.port}{PATH}"
        text = load.wrk([*flags, address], chosen.seconds, {"BENCH_PAUSE": str(chosen.pause)})
        spent = self.gateway.cpu_seconds() - before
        if not load.number(r"(\d+) requests in", text):
            raise WrongAnswer("the healthy route answered nothing")
        return Half(
            p50_ms=load.percentile(50, text),
            p99_ms=load.percentile(99, text),
            rps=load.number(r"Requests/sec:\s+([\d.]+)", text),
            failures=load.failures(text),
            cpu=spent / chosen.seconds,
        )

    def quiet(self) -> Half:
        if not until(lambda: self.held() == 0, ALL_WAIT_LIMIT):
            raise NotStarted("the neighbour's callers left, and their requests still wait there")
        return self.measure()

    def hanging(self, answers: Counter[str]) -> Half:
        callers = Callers(self.gateway.port, self.options.stuck)
        with callers.calling():
            # With a breaker they do not stay: then it is enough that they call.
            if not self.options.circuit and not self.all_wait():
                raise NotStarted(
                    f"{self.held()} of {self.options.stuck} requests wait at the neighbour"
                )
            half = self.measure()
        answers.update(callers.answers)
        return half

    def all_wait(self) -> bool:
        return until(lambda: self.held() >= self.options.stuck, ALL_WAIT_LIMIT)


def main() -> int:
    options = arguments()
    if can_pin():
        os.sched_setaffinity(0, {LOAD_CORE})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        try:
            return compare(start(options, folder, stack))
        except (NotStarted, WrongAnswer) as problem:
            print(f"Nothing can be measured: {problem}", file=sys.stderr)
            return 1


def start(options: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> Scene:
    healthy = start_upstream(folder / "healthy")
    stack.callback(healthy.stop)
    stuck = start_instance(folder / "stuck", "stuck", free_ports(1)[0], "--mode", "silent")
    stack.callback(stuck.stop)
    peer = TwoServices(stuck.port, options.first_byte, circuit=options.circuit)
    gateway, _ = start_gateway(peer, folder / "gateway", healthy.port)
    stack.callback(gateway.stop)
    return Scene(options, gateway, stuck)


def compare(scene: Scene) -> int:
    """The rounds, then what came of them."""
    scene.measure()  # nobody counts the first
    pairs: list[tuple[Half, Half]] = []
    answers: Counter[str] = Counter()
    for number in range(scene.options.rounds):
        if number % 2:
            hanging = scene.hanging(answers)
            quiet = scene.quiet()
        else:
            quiet = scene.quiet()
            hanging = scene.hanging(answers)
        pairs.append((quiet, hanging))
        print(
            f"round {number + 1}: p99 {quiet.p99_ms:.2f} ms quiet, {hanging.p99_ms:.2f} ms hanging",
            file=sys.stderr,
        )
    return show(scene, pairs, answers)


def show(scene: Scene, pairs: list[tuple[Half, Half]], answers: Counter[str]) -> int:
    chosen = scene.options
    print(f"| {chosen.stuck} callers of the neighbour | p50 ms | p99 ms | req/s | CPU | errors |")
    print("|---|---|---|---|---|---|")
    for name, halves in (("at rest", [q for q, _ in pairs]), ("waiting", [h for _, h in pairs])):
        p50, p99 = median(h.p50_ms for h in halves), median(h.p99_ms for h in halves)
        rps, cpu = median(h.rps for h in halves), median(h.cpu for h in halves)
        errors = sum(h.failures for h in halves)
        print(f"| {name} | {p50:.2f} | {p99:.2f} | {rps:,.0f} | {cpu:.0%} | {errors or '-'} |")
    ratios = sorted(h.p99_ms / q.p99_ms for q, h in pairs)
    print(
        f"\nThe healthy route's p99 is {median(ratios):.2f} x what it is without the hanging neighbour"
    )
    print(f"(median of {len(ratios)} rounds; {ratios[0]:.2f} to {ratios[-1]:.2f}).")
    said = ", ".join(f"{count} x {kind}" for kind, count in answers.items())
    print(f"Its callers were told: {said or 'nothing, as they all waited to the end'}.")
    return 1 if any(half.failures for pair in pairs for half in pair) else 0


if __name__ == "__main__":
    sys.exit(main())
