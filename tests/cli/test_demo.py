"""demo: every line that it prints works, and nothing is left of it afterwards."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from propylon.commands.demo import EXAMPLES
from tests.support.gateway import ROOT

_SHOWN = re.compile(r"  # ([0-9]{3}): .+\n  (curl .+)\n")


class Demo:
    """A running demo, and what it has said."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "propylon", "demo", *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 15
        while "Ctrl-C" not in self.said and time.monotonic() < end:
            assert self.process.poll() is None, self.said
            time.sleep(0.02)

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    @property
    def lines(self) -> list[tuple[int, str]]:
        """The lines to try, and the status that each one promises."""
        return [(int(status), line) for status, line in _SHOWN.findall(self.said)]

    @property
    def ports(self) -> list[int]:
        """Every port that it names."""
        found = re.findall(r"http://127\.0\.0\.1:([0-9]+)", self.said)
        return sorted({int(port) for port in found})

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(8)

    def kill(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(5)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo on a free port."""
    running = Demo(tmp_path_factory.mktemp("demo"), "--port", "0")
    yield running
    running.kill()


def curl(line: str) -> str:
    """What the line prints."""
    if shutil.which("curl") is None:
        pytest.skip("no curl to try the lines with")
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=15, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=[e.arguments for e in EXAMPLES])
def test_every_line_works(demo: Demo, number: int) -> None:
    """A line as it is printed, in a shell: the status that stands above it."""
    status, line = demo.lines[number]
    assert curl(line).startswith(f"HTTP/1.1 {status} ")


def test_every_line_is_printed(demo: Demo) -> None:
    """All examples are shown, each with what it shows."""
    assert len(demo.lines) == len(EXAMPLES)
    assert {status for status, _ in demo.lines} == {200, 400, 404, 405, 504}


def test_the_echo_shows_what_the_service_gets(demo: Demo) -> None:
    """No forged identity, no hop-by-hop header, one true X-Forwarded-For."""
    answer = curl(next(line for _, line in demo.lines if "X-User-Id" in line)).lower()
    assert "x-forwarded-for: 127.0.0.1" in answer
    assert "root" not in answer
    assert "6.6.6.6" not in answer
    assert "x-gone" not in answer


def test_two_instances_take_turns(demo: Demo) -> None:
    """The same line twice: another instance."""
    line = next(line for _, line in demo.lines if "/orders/7" in line)
    assert len({curl(line).rpartition("answered_by")[2] for _ in range(2)}) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM: status 0, no traceback, every port is free again."""
    running = Demo(tmp_path, "--port", "0")
    try:
        assert len(running.ports) == 5
        with socket.create_connection(("127.0.0.1", running.ports[0]), timeout=5):
            assert running.stop(number) == 0
        assert "Traceback" not in running.said
        assert [port for port in running.ports if is_open(port)] == []
        with pytest.raises(ProcessLookupError):
            os.killpg(running.process.pid, 0)
    finally:
        running.kill()


def test_a_stop_does_not_wait_for_the_slow_service(tmp_path: Path) -> None:
    """A request that hangs in the slow service does not keep the demo alive."""
    running = Demo(tmp_path, "--port", "0")
    try:
        line = next(line for _, line in running.lines if "slow" in line)
        with subprocess.Popen(["sh", "-c", line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):  # fmt: skip
            time.sleep(0.2)
            assert running.stop() == 0
    finally:
        running.kill()


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    """A port that was asked for and is taken: one sentence, status 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "propylon", "demo", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == f"propylon: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def is_open(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0
