"""What soak.py sees of a gateway from outside: its processes in /proc, its metrics, its log, its tasks."""

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from client import status_of

PROC = Path("/proc")
MB = 1 << 20
LISTENS = "0A"
# A worker keeps up to so many connections to its database (SQLAlchemy's pool), opened when several are needed at once.
DATABASE, POOL = re.compile(r"\.db(-wal|-shm)?$"), 5
# Of these the idle state and the end are compared.
GAUGES = (
    "propylon_open_connections",
    "propylon_open_sockets",
    "propylon_upstream_connections",
    "propylon_upstream_waiting_requests",
)


@dataclass(frozen=True)
class Process:
    """A process at one moment. `files` are its descriptors by kind."""

    pid: int
    resident: int
    files: Counter[str]
    threads: int


@dataclass(frozen=True)
class Sample:
    """The gateway at one moment; `at` is in seconds since the start."""

    at: float
    parent: Process
    workers: tuple[Process, ...]
    gauges: Mapping[str, float]


def children(pid: int) -> list[int]:
    """The workers of a supervisor, the oldest first."""
    found = (PROC / f"{pid}/task/{pid}/children").read_text().split()
    return sorted(map(int, found), key=_born)


def _born(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int((PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return 1 << 62


def process(pid: int) -> Process:
    status = dict(
        line.split(":", 1) for line in (PROC / f"{pid}/status").read_text().splitlines() if line
    )
    resident = int(status.get("VmRSS", "0 kB").split()[0]) * 1024
    return Process(pid, resident, files(pid), int(status["Threads"]))


def files(pid: int) -> Counter[str]:
    return Counter(link.partition(":[")[0] for link in _links(pid))


def _links(pid: int) -> Iterable[str]:
    for entry in (PROC / f"{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            yield str(entry.readlink())


def client_ports(pid: int, port: int) -> set[int]:
    """The far ends of the connections to `port` that a process has."""
    own = {link[8:-1] for link in _links(pid) if link.startswith("socket:[")}
    found = set()
    for line in (PROC / f"{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        near, far = (int(end.rpartition(":")[2], 16) for end in fields[1:3])
        if near == port and fields[3] != LISTENS and fields[9] in own:
            found.add(far)
    return found


async def gauges(port: int) -> dict[str, float]:
    """Sums of GAUGES over services and routes, the mean of the loop's lag in ms, and the reloads."""
    status, body = await status_of(port, "/metrics")
    if status != 200:
        return {}
    sums: Counter[str] = Counter()
    for line in body.decode().splitlines():
        name, _, value = line.rpartition(" ")
        if not line.startswith("#"):
            sums[name.partition("{")[0]] += float(value)
    wanted = {name.removeprefix("propylon_"): sums[name] for name in GAUGES}
    for end in ("sum", "count"):
        wanted[f"lag_{end}"] = sums[f"propylon_loop_lag_seconds_{end}"]
    return wanted


async def sample(parent: int, port: int, begun: float) -> Sample:
    seen = await gauges(port)
    workers = []
    for pid in children(parent):
        with contextlib.suppress(OSError, KeyError):  # it has just ended
            worker = process(pid)
            if worker.resident:  # else it has ended
                workers.append(worker)
    return Sample(time.monotonic() - begun, process(parent), tuple(workers), seen)


async def tasks(parent: int, folder: Path) -> dict[int, dict[str, int]]:
    """The tasks of each worker, by the name of what they run (soak_tasks)."""
    for old in folder.glob("*.json"):
        old.unlink()
    pids = children(parent)
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    for _ in range(50):
        await asyncio.sleep(0.1)
        if len(list(folder.glob("*.json"))) == len(pids):
            break
    return {int(file.stem): json.loads(file.read_text())["tasks"] for file in folder.glob("*.json")}


def left_over(idle: Sample, end: Sample) -> list[str]:
    """What the end has more of than the idle state had, each in a few words."""
    more = [
        f"{name}: {count:g} instead of {idle.gauges[name]:g}"
        for name, count in end.gauges.items()
        if not name.startswith("lag") and count > idle.gauges[name]
    ]
    most: Counter[str] = Counter()
    for worker in idle.workers:
        most |= worker.files
    for kind in most:
        if DATABASE.search(kind):
            most[kind] = max(most[kind], POOL)
    pairs = [(worker, most) for worker in end.workers]
    for one, allowed in [*pairs, (end.parent, idle.parent.files)]:
        who = "parent" if one is end.parent else f"worker {one.pid}"
        for kind, count in (one.files - allowed).items():
            more.append(f"{who}: {count} x {kind} more than {allowed[kind]}")
    if len(end.workers) != len(idle.workers):
        more.append(f"{len(end.workers)} workers instead of {len(idle.workers)}")
    return more


def growth(samples: Sequence[Sample], pid: int, since: float) -> tuple[float, float]:
    """Resident MB of a process: the median of the first minute after `since`, and of the last one."""
    seen = [
        (one.at, each.resident / MB)
        for one in samples
        for each in (one.parent, *one.workers)
        if each.pid == pid and one.at >= since
    ]
    if not seen:
        return 0.0, 0.0
    first, last = seen[0][0] + 60, seen[-1][0] - 60
    return (
        median(size for at, size in seen if at <= first),
        median(size for at, size in seen if at >= last),
    )


def log_table(lines: Iterable[str]) -> tuple[Counter[tuple[str, str]], list[str]]:
    """How often each message was logged, requests left out; and the lines that are no log lines."""
    messages: Counter[tuple[str, str]] = Counter()
    strange = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            strange.append(line)
            continue
        if entry.get("event") == "request":
            continue
        words = str(entry.get("event")).split()
        plain = " ".join("N" if any(c.isdigit() for c in word) else word for word in words)
        messages[entry.get("level", "?"), plain] += 1
        if "exception" in entry or "Traceback" in line:
            strange.append(line)
    return messages, strange
