"""Runs examples/isaas under mixed traffic for minutes while it is reloaded and its workers are killed.

The services are the real ones, and `propylon run --workers 2` runs in a copy of the directory. There are GET, POST,
WebSockets, event streams, logins, 429s, 401s, clients that go away in the middle, a service that is always dead, and
one that is down for 30 s of every three minutes. Every 20 s the file changes and SIGHUP is sent, every fifth time with
a file that is broken. Each minute the youngest worker is killed; the oldest lives through the whole run.

It passes if nothing was lost but what was on a connection of a killed worker, if memory is flat after two minutes, and
if after the end no connection, socket, file or task is left that the idle gateway did not have.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import soak_watch as watch
import uvloop
from client import Connection, status_of
from peers import HERE, Site
from processes import NotStarted, Running, free_ports, launch
from soak_load import MIX, Ledger, Loss, Traffic
from tokens import make_tokens

EXAMPLE = HERE.parent / "examples" / "isaas"
SERVICES = ("context", "intent", "prediction", "realtime")
PROPYLON = [sys.executable, "-m", "propylon"]
RELOAD_EVERY = 20.0
RELOAD_LIMIT = 5.0
REPLACE_LIMIT = 15.0
# The prediction service: when it is killed, when it is back (s of each cycle), and how long its breaker may be open after.
CYCLE, DOWN, BACK, BREAKER = 180.0, 20.0, 50.0, 62.0
SAMPLE_EVERY = 5.0
SETTLED = 120.0
# s for what is idle to be closed: kept connections of clients (75 s) and to services.
QUIET_LIMIT = 100.0
# A worker's memory is not flat if it grows by more than this share, and by more than this (MB).
SHARE, LEAST = 0.05, 4.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of traffic (10)")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second, about (50)")
    parser.add_argument("--workers", type=int, default=2, help="of the gateway (2)")
    parser.add_argument("--keep", type=Path, help="a new directory for the logs and data")
    return parser.parse_args()


class System:
    """The copy of the example, its services and its gateway."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.workers = workers
        self.copy = folder / "isaas"
        kept = shutil.ignore_patterns("__pycache__", ".*_cache", ".env", "*.db*", "data")
        shutil.copytree(EXAMPLE, self.copy, ignore=kept)
        self.file = self.copy / "propylon.yaml"
        self.text = self.file.read_text()
        self.tokens = make_tokens(32, int(time.time()))
        self.password = secrets.token_urlsafe(12)
        self.port, *ports = free_ports(2 + len(SERVICES))
        self.ports = dict(zip((*SERVICES, "dead"), ports, strict=True))
        self.services: dict[str, Running] = {}
        (folder / "tasks").mkdir()
        self.write(0)

    def environment(self) -> dict[str, str]:
        urls = {
            f"{name.upper()}_SERVICE_URL": f"http://127.0.0.1:{port}"
            for name, port in self.ports.items()
        }
        return {
            **urls,
            "SECRET_KEY": self.tokens.secret,
            "DATA_DIR": str(self.folder / "data"),
            "PYTHONPATH": os.pathsep.join([str(self.copy), str(HERE / "soak_tasks")]),
            "SOAK_TASKS": str(self.folder / "tasks"),
        }

    def write(self, mark: int, *, broken: bool = False) -> None:
        """The example's file, with a dead service, and a route that tells which writing is in force."""
        dead = f"services:\n  dead: {{url: 'http://127.0.0.1:{self.ports['dead']}'}}\n"
        more = (
            "  - {name: dead, path: /dead, service: dead, rate_limit: none}\n"
            f"  - {{name: mark, path: /mark-{mark}, service: context, auth: none, rate_limit: none}}\n"
        )
        text = self.text.replace("services:\n", dead, 1) + more + ("  - {path: [" if broken else "")
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def start_service(self, name: str) -> None:
        folder, port = self.folder / name, self.ports[name]
        folder.mkdir(exist_ok=True)
        command = [sys.executable, str(HERE / "soak_services.py"), name, str(port)]
        self.services[name] = launch(name, command, Site(folder, port, 0, port), self.environment())

    def start(self) -> None:
        for name in SERVICES:
            self.start_service(name)
        environment = {**os.environ, **self.environment()}
        add = [*PROPYLON, "user", "add", "ann", "--password-stdin", "--scopes", "read write"]
        done = subprocess.run(
            add,
            cwd=self.copy,
            env=environment,
            input=self.password.encode(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise NotStarted(done.stderr.decode())
        run = [*PROPYLON, "run", "--workers", str(self.workers), "--log-format", "json"]
        command = [*run, "--host", "127.0.0.1", "--port", str(self.port)]
        self.gateway = launch(
            "gateway", command, Site(self.copy, self.port, 0, 0), self.environment()
        )

    @property
    def parent(self) -> int:
        return self.gateway.process.pid

    def log(self) -> Iterator[str]:
        for name in ("stdout.log", "stderr.log"):
            yield from (self.copy / name).read_text(errors="replace").splitlines()

    def stop_gateway(self) -> list[str]:
        """End it as an operator does; returns what went wrong with that."""
        os.kill(self.parent, signal.SIGTERM)
        try:
            code = self.gateway.process.wait(40)
        except subprocess.TimeoutExpired:
            return ["the gateway did not stop within 40 s of SIGTERM"]
        left = [str(path) for path in Path("/dev/shm").glob(f"propylon-{self.parent}-*")]
        left += [f"exit status {code}"] if code else []
        return left

    def end(self) -> None:
        for running in [
            *self.services.values(),
            *([self.gateway] if "gateway" in vars(self) else []),
        ]:
            running.stop()


@dataclass
class Soak:
    """One run."""

    system: System
    seconds: float
    traffic: Traffic
    begun: float = 0.0
    samples: list[watch.Sample] = field(default_factory=list)
    kills: int = 0
    replacements: list[float] = field(default_factory=list)
    reloads: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def at(self) -> float:
        return time.monotonic() - self.begun

    def outage(self) -> bool:
        return DOWN <= self.at % CYCLE <= BACK + BREAKER

    async def until(self, at: float) -> bool:
        """Wait for that time of the run; False if the run ends before it."""
        if at >= self.seconds:
            return False
        await asyncio.sleep(max(0.0, at - self.at))
        return True

    async def watch(self) -> None:
        turn = 0
        while await self.until((turn + 0.5) * SAMPLE_EVERY):  # never just at a kill
            seen = await watch.sample(self.system.parent, self.system.port, self.begun)
            self.samples.append(seen)
            if not seen.gauges:
                self.troubles.append(f"/metrics did not answer at {seen.at:.0f} s")
            if turn % 6 == 0:
                print(line(seen), flush=True)
            turn += 1

    async def kill(self) -> None:
        """In turns alone, and just after a SIGHUP."""
        minute = 0
        while await self.until(60.0 * minute + (30.0 if minute % 2 == 0 else 40.02)):
            victim = watch.children(self.system.parent)[-1]
            os.kill(victim, signal.SIGSTOP)
            now = time.monotonic()
            ports = watch.client_ports(victim, self.system.port)
            self.traffic.ledger.severed |= dict.fromkeys(ports, now)
            os.kill(victim, signal.SIGKILL)
            self.kills += 1
            await self._replaced(victim)
            minute += 1

    async def _replaced(self, victim: int) -> None:
        """Wait until the replacement has a client's connection."""
        begun = time.monotonic()
        while time.monotonic() - begun < REPLACE_LIMIT:
            await asyncio.sleep(0.05)
            youngest = watch.children(self.system.parent)[-1]
            with contextlib.suppress(OSError):  # it has just ended
                if youngest != victim and watch.client_ports(youngest, self.system.port):
                    self.replacements.append(time.monotonic() - begun)
                    return
        self.troubles.append(f"nobody took the place of worker {victim}")

    async def reload(self) -> None:
        turn = 1
        while await self.until(RELOAD_EVERY * turn):
            broken = turn % 5 == 0
            self.system.write(turn, broken=broken)
            os.kill(self.system.parent, signal.SIGHUP)
            await self._seen(turn - 1 if broken else turn)
            if broken:
                self.system.write(turn - 1)
            turn += 1

    async def _seen(self, mark: int) -> None:
        """Wait until all workers have the route of that writing."""
        begun, right = time.monotonic(), 0
        wanted = 8 * self.system.workers
        while right < wanted and time.monotonic() - begun < RELOAD_LIMIT:
            status, _ = await status_of(self.system.port, f"/mark-{mark}/health")
            right = right + 1 if status == 200 else 0
            await asyncio.sleep(0 if status == 200 else 0.01)
        if right < wanted:
            self.troubles.append(f"the reload at {self.at:.0f} s was not seen")
        self.reloads.append(time.monotonic() - begun)

    async def break_service(self) -> None:
        start = 0.0
        while await self.until(start + DOWN):
            self.system.services["prediction"].signal(signal.SIGKILL)
            await asyncio.to_thread(self.system.services["prediction"].process.wait)
            await self.until(start + BACK)
            await asyncio.to_thread(self.system.start_service, "prediction")
            start += CYCLE

    async def run(self) -> None:
        self.begun = self.traffic.ledger.begun = time.monotonic()
        self.traffic.outage = self.outage
        async with self.traffic.running(), asyncio.TaskGroup() as group:
            for work in (self.watch, self.kill, self.reload, self.break_service):
                group.create_task(work())
            await self.until(self.seconds - 0.01)


def line(seen: watch.Sample) -> str:
    sizes = ", ".join(
        f"{one.pid}: {one.resident / watch.MB:.0f} MB {one.files.total()} fds {one.threads} threads"
        for one in (seen.parent, *seen.workers)
    )
    counts = ", ".join(
        f"{name} {count:g}" for name, count in seen.gauges.items() if "lag" not in name
    )
    return f"{seen.at:4.0f} s  {sizes}; {counts}"


async def warm_up(system: System) -> None:
    """Each worker has asked each service once: what that opens for good is no leak."""
    head = f"Authorization: Bearer {system.tokens.good[0]}"
    for path in ("context", "intent/examples", "predict/next", "realtime/channels/a", "users/me"):
        for _ in range(6 * system.workers):
            await status_of(system.port, f"/api/v1/{path} HTTP/1.1\r\n{head}\r\nX-Rest:")
            await asyncio.sleep(0.1)
    teach = MIX[2].bytes(system.tokens.good[0])
    if (await Connection(system.port, 10.0).ask(teach)).status != 201:
        raise NotStarted("the intent service does not learn")


async def settle(system: System, idle: watch.Sample) -> tuple[watch.Sample, float]:
    """Wait until nothing is left over; returns the last look, and how long that took (s)."""
    begun = time.monotonic()
    while True:
        await asyncio.sleep(1.0)
        seen = await watch.sample(system.parent, system.port, begun)
        if not watch.left_over(idle, seen) or seen.at > QUIET_LIMIT:
            return seen, seen.at


def most_tasks(seen: dict[int, dict[str, int]]) -> dict[str, int]:
    names = {name for tasks in seen.values() for name in tasks}
    return {name: max(tasks.get(name, 0) for tasks in seen.values()) for name in sorted(names)}


async def soak(options: argparse.Namespace, system: System) -> bool:
    await asyncio.to_thread(system.start)
    await warm_up(system)
    await asyncio.sleep(10.0)
    idle = await watch.sample(system.parent, system.port, time.monotonic())
    tasks_before = most_tasks(await watch.tasks(system.parent, system.folder / "tasks"))
    print(f"idle    {line(idle)}")
    traffic = Traffic(system.port, system.tokens, system.password, options.rate)
    run = Soak(system, options.minutes * 60, traffic)
    await run.run()
    end, took = await settle(system, idle)
    print(f"quiet   {line(end)}")
    tasks_after = most_tasks(await watch.tasks(system.parent, system.folder / "tasks"))
    left = watch.left_over(idle, end)
    left += [
        f"tasks: {count} x {name} in a worker instead of {tasks_before.get(name, 0)}"
        for name, count in tasks_after.items()
        if count > tasks_before.get(name, 0)
    ]
    ended = [f"at the stop: {what}" for what in await asyncio.to_thread(system.stop_gateway)]
    show_outcomes(traffic.ledger)
    strange = show_log(system)
    return verdict(run, left + ended, took, tasks_after, strange)


def show_outcomes(ledger: Ledger) -> None:
    print("\n| what | outcome | how often |\n|---|---|---|")
    for (kind, outcome), count in sorted(ledger.outcomes.items()):
        print(f"| {kind} | {outcome[:110]} | {count:,} |")


def show_losses(title: str, losses: Sequence[Loss]) -> None:
    print(f"\n{title}: {len(losses)}")
    for one in losses[:60]:
        print(
            f"  {one.at:6.1f} s  {one.kind}: {one.reason[:200]} (client's port {one.port or '?'})"
        )


def show_log(system: System) -> list[str]:
    messages, strange = watch.log_table(system.log())
    print("\nThe gateway's log, without requests:")
    for (level, message), count in sorted(
        messages.items(), key=lambda item: (item[0][0], -item[1])
    ):
        print(f"  {count:5} x {level}: {message[:220]}")
    for text in strange[:10]:
        print(f"  not a line of the log, or a traceback: {text[:600]}")
    return strange


def slowest(waits: Sequence[float]) -> str:
    return f"{max(waits, default=0.0):.2f} s"


def verdict(
    run: Soak, left: Sequence[str], took: float, tasks: dict[str, int], strange: Sequence[str]
) -> bool:
    ledger = run.traffic.ledger
    show_losses("cut by a kill, on a connection of the killed worker", ledger.cut)
    show_losses("LOST", ledger.lost)
    oldest = run.samples[-1].workers[0].pid
    grown = []
    for name, pid in (("parent", run.system.parent), ("oldest worker", oldest)):
        first, last = watch.growth(run.samples, pid, min(SETTLED, run.seconds / 2))
        print(f"\n{name} {pid}: {first:.1f} MB in the third minute, {last:.1f} MB in the last")
        if last - first > max(LEAST, SHARE * first):
            grown.append(f"{name} grew by {last - first:.1f} MB")
    last = run.samples[-1].gauges
    lag = last["lag_sum"] / max(1.0, last["lag_count"]) if last else 0.0
    print(f"{run.kills} workers killed, the slowest replaced after {slowest(run.replacements)}")
    print(f"{len(run.reloads)} reloads, the slowest in all workers after {slowest(run.reloads)}")
    print(
        f"the loops were {lag * 1000:.1f} ms late on average; quiet {took:.0f} s after the traffic"
    )
    print(f"tasks of a quiet worker: {tasks}")
    missing = [
        what for what in ("429", "401") if not any(what == said for _, said in ledger.outcomes)
    ]
    faults = [
        *([f"{len(ledger.lost)} lost"] if ledger.lost else []),
        *[f"there was no {what}" for what in missing],
        *[f"left over: {what}" for what in left],
        *grown,
        *run.troubles,
        *([f"{len(strange)} strange lines in the log"] if strange else []),
    ]
    total = ledger.outcomes.total()
    print(f"\n{total:,} outcomes in {run.seconds / 60:g} minutes, {len(ledger.cut)} cut by kills.")
    print("FAILED: " + "; ".join(faults) if faults else "PASSED: nothing lost, nothing left, flat.")
    return not faults


def main() -> int:
    options = arguments()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))
        )
        folder.mkdir(exist_ok=True)
        try:
            system = System(folder, options.workers)
            stack.callback(system.end)
            return 0 if uvloop.run(soak(options, system)) else 1
        except NotStarted as problem:
            print(f"Nothing was measured: {problem}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
