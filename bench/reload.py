"""Measures reloads from outside: two routes against thousands, while a prober asks every few milliseconds.

In force: from SIGHUP until a route that was added to the file answers. Longest wait: the worst that a request saw from
SIGHUP until a second after that. Start: from the command until the first answer. CPU: the gateway's, until in force.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import Site
from peers.in_python import Propylon
from processes import (
    GATEWAY_CORE,
    LOAD_CORE,
    NotStarted,
    Running,
    can_pin,
    free_ports,
    pinned,
    start_instance,
)

PROBE = "/probe"
# How soon an answer, a start, a reload has to come; what is later fails the run, so that it always ends.
ANSWER_LIMIT = 10.0
START_LIMIT = 30.0
RELOAD_LIMIT = 30.0
# The old configuration is let go of after the new one is in force: that must not be felt either.
AFTERWARDS = 1.0
SERVICES = 50
MIB = 1 << 20


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--routes", type=int, default=5000, help="the many")
    parser.add_argument("--rounds", type=int, default=5, help="reloads of each kind")
    parser.add_argument("--pause", type=float, default=3.0, help="ms between a prober's requests")
    parser.add_argument("--json", type=Path, help="where to write the figures, too")
    parser.add_argument(
        "--style", choices=("block", "json"), default="block", help="how the file is written"
    )
    return parser.parse_args()


@dataclass(frozen=True)
class File:
    """The configuration: so many routes, one that is probed, one that tells which writing is in force."""

    path: Path
    port: int
    upstream: int
    routes: int
    style: str

    def write(self, mark: int, generation: int) -> None:
        """Write it in one step; `generation` stands in every route, `mark` in one."""
        new = self.path.with_suffix(".new")
        data = self._data(mark, generation)
        new.write_text(json.dumps(data) if self.style == "json" else block(data))
        new.replace(self.path)

    def _data(self, mark: int, generation: int) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.upstream}"
        return {
            "server": {"host": "127.0.0.1", "port": self.port},
            "log": {"level": "warning"},
            "services": {f"service-{n}": {"url": f"{url}/{n}"} for n in range(SERVICES)},
            "routes": [
                {"path": PROBE, "service": "service-0", "auth": "none"},
                {"path": mark_path(mark), "service": "service-0", "auth": "none"},
                *(self._route(number, generation) for number in range(self.routes - 2)),
            ],
        }

    @staticmethod
    def _route(number: int, generation: int) -> dict[str, Any]:
        return {
            "name": f"route-{number}",
            "path": f"/api/v{generation}/things-{number}/{{id}}/parts",
            "service": f"service-{number % SERVICES}",
            "methods": ["GET", "POST"],
            "auth": "none",
            "strip_prefix": True,
        }


def mark_path(mark: int) -> str:
    return f"/mark/{mark}"


def block(data: dict[str, Any]) -> str:
    """The file as an operator would write it: one key a line in a route, everything else in braces."""
    lines = [f"{key}: {json.dumps(data[key])}" for key in data if key != "routes"]
    lines.append("routes:")
    for route in data["routes"]:
        lead = "  - "
        for key, value in route.items():
            lines.append(f"{lead}{key}: {json.dumps(value)}")
            lead = "    "
    return "\n".join([*lines, ""])


@dataclass
class Prober:
    """A client that asks and waits; a strict one, since all answers are known."""

    port: int
    pause: float
    longest: float = 0.0
    _socket: socket.socket | None = None

    def ask(self, path: str) -> int:
        """One request on the kept connection; returns its status, and notes how long it took."""
        begun = time.perf_counter()
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self.port), ANSWER_LIMIT)
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        status = self._answer()
        self.longest = max(self.longest, time.perf_counter() - begun)
        return status

    def _answer(self) -> int:
        assert self._socket is not None
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, rest = data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        left = int(length) - len(rest)
        while left > 0:
            left -= len(self._more())
        return int(head[9:12])

    def _more(self) -> bytes:
        assert self._socket is not None
        if not (more := self._socket.recv(1 << 16)):
            raise NotStarted("the gateway closed the prober's connection")
        return more

    def until(self, path: str, status: int, limit: float) -> float:
        """Ask for the probe and for the path in turns until that answers so; return how long it took."""
        begun = time.perf_counter()
        while (passed := time.perf_counter() - begun) < limit:
            if self.ask(PROBE) != 200:
                raise NotStarted("the probed route did not answer 200")
            if self.ask(path) == status:
                return time.perf_counter() - begun
            time.sleep(self.pause)
        raise NotStarted(f"{path} did not answer {status} within {passed:.0f} s")

    def keep_on(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.ask(PROBE)
            time.sleep(self.pause)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass
class Seen:
    """What was seen of one kind of reload."""

    in_force: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    longest: list[float] = field(default_factory=list)


@dataclass
class Subject:
    """A gateway with so many routes, and what was measured of it."""

    routes: int
    file: File
    prober: Prober
    running: Running
    start: float
    resident: float
    quiet: float = 0.0  # the longest wait while nothing was reloaded
    kinds: dict[str, Seen] = field(default_factory=dict)
    resident_after: float = 0.0
    _mark: int = 0
    _generation: int = 0

    def reload(self, kind: str, *, every: bool) -> None:
        """Change one route, or every one; wait until that can be seen."""
        self._mark += 1
        self._generation += every
        self.file.write(self._mark, self._generation)
        self.prober.keep_on(0.3)  # what the writing has set in motion on this machine is over
        self.prober.longest = 0.0
        before = self.running.cpu_seconds()
        self.running.signal(signal.SIGHUP)
        seen = self.kinds.setdefault(kind, Seen())
        seen.in_force.append(self.prober.until(mark_path(self._mark), 200, RELOAD_LIMIT))
        seen.cpu.append(self.running.cpu_seconds() - before)
        self.prober.keep_on(AFTERWARDS)
        seen.longest.append(self.prober.longest)

    def rest(self) -> None:
        self.prober.longest = 0.0
        self.prober.keep_on(AFTERWARDS)
        self.quiet = max(self.quiet, self.prober.longest)


def begin(options: argparse.Namespace, folder: Path, routes: int, upstream: int) -> Subject:
    (port,) = free_ports(1)
    folder.mkdir()
    site = Site(folder, port, 0, upstream)
    file = File(folder / "propylon.yaml", port, upstream, routes, options.style)
    file.write(0, 0)
    peer = Propylon()
    command = [sys.executable, "-m", "propylon", "run", "--config", str(file.path)]
    begun = time.perf_counter()
    with site.stdout.open("ab") as stdout, site.stderr.open("ab") as stderr:
        process = subprocess.Popen(
            pinned(GATEWAY_CORE, command),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**environment(), **peer.environment(site)},
            cwd=folder,
            start_new_session=True,
        )
    running = Running("propylon", process, port, site.stderr)
    prober = Prober(port, options.pause / 1000)
    try:
        first_answer(running, prober)
    except NotStarted:
        running.stop()
        raise
    start = time.perf_counter() - begun
    return Subject(routes, file, prober, running, start, running.resident_bytes() / MIB)


def environment() -> dict[str, str]:
    """Ours, but bytecode is kept, as it is wherever a gateway is installed."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def first_answer(running: Running, prober: Prober) -> None:
    """Wait for it: the port listens long before anybody answers there."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            raise NotStarted(f"ended with {running.process.returncode}: {running.last_words()}")
        with contextlib.suppress(ConnectionRefusedError):
            prober.ask(PROBE)
            return
        time.sleep(0.005)
    raise NotStarted(f"no answer after {START_LIMIT:.0f} s: {running.last_words()}")


@contextlib.contextmanager
def both(options: argparse.Namespace, folder: Path) -> Iterator[list[Subject]]:
    with contextlib.ExitStack() as stack:
        upstream = start_instance(folder / "upstream", "upstream", free_ports(1)[0])
        stack.callback(upstream.stop)
        subjects = []
        # Two is the least: the one that is probed, and the one that comes and goes.
        for count in (2, options.routes):
            subject = begin(options, folder / str(count), count, upstream.port)
            stack.callback(subject.running.stop)
            stack.callback(subject.prober.close)
            subjects.append(subject)
        yield subjects


def measure(subjects: list[Subject], rounds: int) -> None:
    for turn in range(rounds):
        for subject in subjects:
            subject.rest()
            subject.reload("one route", every=False)
            subject.reload("every route", every=True)
            subject.resident_after = subject.running.resident_bytes() / MIB
        print(f"round {turn + 1} of {rounds}", file=sys.stderr)


def show(subjects: list[Subject]) -> None:
    print(f"| {'':<44} |" + "".join(f" {s.routes:>5} routes |" for s in subjects))
    print("|" + "-" * 46 + "|" + "-------------:|" * len(subjects))
    row("start, s", [f"{s.start:.2f}" for s in subjects])
    row("resident after the start, MiB", [f"{s.resident:.0f}" for s in subjects])
    row("resident after all reloads, MiB", [f"{s.resident_after:.0f}" for s in subjects])
    row("longest wait without a reload, ms", [f"{s.quiet * 1000:.1f}" for s in subjects])
    for kind in subjects[0].kinds:
        seen = [s.kinds[kind] for s in subjects]
        for words, summary, figures in (
            ("in force, ms (median)", statistics.median, [each.in_force for each in seen]),
            ("in force, CPU ms (median)", statistics.median, [each.cpu for each in seen]),
            ("longest wait, ms (median)", statistics.median, [each.longest for each in seen]),
            ("longest wait, ms (worst)", max, [each.longest for each in seen]),
        ):
            row(f"{kind} new: {words}", [f"{summary(each) * 1000:.0f}" for each in figures])


def row(name: str, values: list[str]) -> None:
    print(f"| {name:<44} |" + "".join(f" {value:>12} |" for value in values))


def as_data(subjects: list[Subject]) -> list[dict[str, Any]]:
    return [
        {
            "routes": s.routes,
            "start": s.start,
            "resident": s.resident,
            "resident_after": s.resident_after,
            "quiet": s.quiet,
            "reloads": {
                kind: {"in_force": seen.in_force, "cpu": seen.cpu, "longest": seen.longest}
                for kind, seen in s.kinds.items()
            },
        }
        for s in subjects
    ]


def main() -> int:
    options = arguments()
    if can_pin():
        os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            with both(options, Path(folder)) as subjects:
                measure(subjects, options.rounds)
                show(subjects)
        except (NotStarted, OSError) as problem:
            print(f"Nothing can be measured: {problem}", file=sys.stderr)
            return 1
    if options.json:
        options.json.write_text(json.dumps(as_data(subjects), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
