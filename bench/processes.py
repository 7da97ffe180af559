"""Starts and stops what is measured, each on its core, and reads how much CPU time it took."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peers import HERE, Peer, Site
from peers.base import user_directive

GATEWAY_CORE = 0
LOAD_CORE = 1
# On a machine that others load, Python needs a while.
START_LIMIT = 60.0
STOP_LIMIT = 5.0
TICKS = os.sysconf("SC_CLK_TCK")
BODY_SIZE = 1024
# Longer answers come from a file: nginx takes no longer word in its configuration.
_LONGEST_WORD = 4000


class NotStarted(Exception):
    """It could not be started; the text says why."""


def pinned(core: int, command: list[str]) -> list[str]:
    """The command on one core, where the system can do that."""
    return ["taskset", "-c", str(core), *command] if can_pin() else command


def can_pin() -> bool:
    return shutil.which("taskset") is not None and (os.cpu_count() or 1) > LOAD_CORE


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass
class Running:
    """A program of ours that listens: its own session, so that all its processes are found again."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    stderr: Path

    def cpu_seconds(self) -> float:
        """User and system time of all its processes since they started."""
        return sum(_ticks(stat) for stat in _session(self.process.pid)) / TICKS

    def resident_bytes(self) -> int:
        pages = sum(int(stat[21]) for stat in _session(self.process.pid))
        return pages * os.sysconf("SC_PAGE_SIZE")

    def wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NotStarted(f"ended with {self.process.returncode}: {self.last_words()}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=0.2).close()
                return
            time.sleep(0.05)
        raise NotStarted(f"not listening after {START_LIMIT:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        lines = self.stderr.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def signal(self, number: signal.Signals) -> None:
        """Send it to the whole session that we started, if that is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def stop(self) -> None:
        """Ask it, then end it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT)
                return


def _session(leader: int) -> list[list[str]]:
    """The fields of /proc/PID/stat, from the third on, of every process in a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in parentheses may hold spaces: count from behind it.
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader:
                found.append(fields)
    return found


def _ticks(fields: list[str]) -> int:
    """Own user and system time, and that of children that have ended."""
    return sum(int(field) for field in fields[11:15])


def core_time(core: int) -> float:
    """How long a core was taken since the machine started, by its own work or by other machines."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / TICKS
    return 0.0


def start_upstream(
    directory: Path, size: int = BODY_SIZE, *, different_answers: bool = False
) -> Running:
    """The service behind all gateways, on the load side's core; its answers have `size` bytes, or a header that differs."""
    program = shutil.which("nginx")
    if program is None:
        raise NotStarted("the service behind the gateways is an nginx: apt-get install nginx")
    (port,) = free_ports(1)
    directory.mkdir()
    template = (HERE / "upstream" / "nginx.conf").read_text()
    values = {
        "DIRECTORY": str(directory),
        "PORT": str(port),
        "USER": user_directive(),
        "ANSWER": _answer(directory, size, different_answers=different_answers),
    }
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    config = directory / "nginx.conf"
    config.write_text(template)
    command = [program, "-p", str(directory), "-e", "stderr", "-c", str(config)]
    site = Site(directory, port, 0, port)
    return launch("upstream", pinned(LOAD_CORE, command), site, {})


def start_instance(directory: Path, name: str, port: int, *flags: str) -> Running:
    """A service of instance.py, on the load side's core."""
    directory.mkdir(exist_ok=True)
    command = [sys.executable, str(HERE / "instance.py"), str(port), name, *flags]
    return launch(name, pinned(LOAD_CORE, command), Site(directory, port, 0, port), {})


def _answer(directory: Path, size: int, *, different_answers: bool) -> str:
    """What nginx is told to answer."""
    header = "add_header X-Answer $request_id; " if different_answers else ""
    if size <= _LONGEST_WORD:
        return f"{header}return 200 '{body(size)}';"
    (directory / "answer.json").write_text(body(size))
    # A file answers no POST.
    return (
        f"{header}root {directory}; try_files /answer.json =404; error_page 405 =200 /answer.json;"
    )


def body(size: int = BODY_SIZE) -> str:
    """A JSON answer of exactly so many bytes."""
    start, end = '{"id": 1042, "status": "shipped", "currency": "EUR", "note": "', '"}'
    return start + "x" * (size - len(start) - len(end)) + end


def start_gateway(
    peer: Peer, directory: Path, upstream_port: int, secret: str | None = None
) -> tuple[Running, Site]:
    """One gateway on the gateways' core, listening when this returns."""
    directory.mkdir()
    port, admin_port = free_ports(2)
    site = Site(directory, port, admin_port, upstream_port, secret)
    command = pinned(GATEWAY_CORE, peer.command(site))
    return (
        launch(
            peer.name, command, site, peer.environment(site), logs_to_stdout=peer.logs_to_stdout
        ),
        site,
    )


def launch(
    name: str,
    command: list[str],
    site: Site,
    environment: dict[str, str],
    *,
    logs_to_stdout: bool = False,
) -> Running:
    """Start a program in a session of its own; it listens when this returns."""
    output = site.access_log if logs_to_stdout else site.stdout
    # Appending: the log is emptied between the rounds, and what is written next has to start at its beginning.
    with output.open("ab") as stdout, site.stderr.open("ab") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **environment},
            cwd=site.directory,
            start_new_session=True,
        )
    running = Running(name, process, site.port, site.stderr)
    try:
        running.wait_until_listening()
    except NotStarted:
        running.stop()
        raise
    return running


def until(condition: Callable[[], bool], limit: float) -> bool:
    """Whether something became true in time."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return condition()
