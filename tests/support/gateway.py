"""Run a gateway in a process of its own, on either edge, and read what it says."""

import codecs
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.support import zygote
from tests.support.client import Answer, Ended, RawClient, request
from tests.support.secrecy import SECRECY
from tests.support.zygote import ZYGOTE, Forked

EDGES = ("fast", "portable")
_UVICORN = (
    "--no-proxy-headers --host 127.0.0.1 --log-level warning --no-access-log"
    " --no-server-header --no-date-header --timeout-keep-alive 60"
)
# Below what Linux and macOS hand out to clients: a connection of anybody's may have any port above.
_PORTS = range(10_000, 32_000)
_CHANCE = random.SystemRandom()  # Hypothesis seeds the module's own, in every process alike
_claims: list[socket.socket] = []
# What libyaml writes is the same, and takes a tenth of the time.
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Config = dict[str, Any]


def free_port() -> int:
    """A port that nobody listens on; nobody who asks here gets it too, as long as this process lives.

    The claim is a datagram socket of the same number: it is in nobody's way, other processes cannot
    make the same one, and it ends with us, however we end.
    """
    while True:
        port = _CHANCE.choice(_PORTS)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            claim.close()
        else:
            _claims.append(claim)
            return port


def command(edge: str, file: Path, port: int, *, app: str = "", first: str = "") -> list[str]:
    """How the gateway is started on that edge.

    `app` is the module of one of somebody's own; `first` is Python that changes a constant before, such
    as a pause that no operator may shorten.
    """
    if edge == "fast":
        what = ["--app", f"{app}:gateway"] if app else ["--config", str(file)]
        return [*_python("propylon", first), "run", *what]
    what = [f"{app or 'propylon.main'}:app", *_UVICORN.split(), "--port", str(port)]
    return [*_python("uvicorn", first), *what]


def _python(module: str, first: str) -> list[str]:
    if not first:
        return [sys.executable, "-m", module]
    run = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-c", f"{first}\n{run}"]


def environment(file: Path) -> dict[str, str]:
    """What a gateway finds in its environment: its file, and nothing of the session that tests it."""
    return zygote.environment(PROPYLON_CONFIG=str(file))


class Running:
    """A running process that serves HTTP on a port, and its log."""

    def __init__(
        self,
        args: list[str],
        port: int,
        folder: Path,
        env: dict[str, str],
        *,
        files: int = 0,
        fresh: bool = False,
    ) -> None:
        """Start it in the folder; `files` is its limit on open ones, `fresh` gives it an interpreter of its own."""
        self.port = port
        self.log = folder / "log"
        self._ended = False
        self._said = ""
        self._lines: list[str] = []
        self._read = self._split = 0
        self._reading = threading.RLock()  # some cases have several threads that look for records
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        SECRECY.watch(self.log)
        self.process: Forked | subprocess.Popen[bytes]
        if fresh:
            assert not files, "the limit is what the zygote sets"
            self.process = _started(args, folder, env, self.log)
        else:
            self.process = ZYGOTE.start(args, cwd=folder, env=env, stdout=self.log, files=files)

    def wait_ready(self, within: float = 60.0) -> None:
        """Wait until /livez answers; whatever the gateway said is in the failure."""
        deadline = time.monotonic() + within
        status = 0
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, Ended), RawClient(self.port) as client:
                status = client.send(request(target="/livez")).read().status
                break
            time.sleep(0.02)
        if status != 200:
            self.kill()
            raise AssertionError(f"it did not start: /livez {status}\n{self.said()[-2000:]}")

    def said(self) -> str:
        """Everything it has logged."""
        with self._reading:
            with self.log.open("rb") as log:
                log.seek(self._read)  # the log of a gateway that many share is long
                new = log.read()
            self._read += len(new)
            if new:
                self._said += self._decoder.decode(new)
            return self._said

    def lines(self, holding: str = "") -> list[dict[str, Any]]:
        """Every JSON line of its log that holds that text."""
        with self._reading:
            end = self.said().rfind("\n") + 1
            self._lines += self._said[self._split : end].splitlines()
            self._split = max(self._split, end)
            lines = tuple(self._lines)
        found = []
        for line in lines:
            if holding not in line:
                continue
            with contextlib.suppress(json.JSONDecodeError):
                parsed = json.loads(line)
                if isinstance(parsed, dict):
                    found.append(parsed)
        return found

    def records(self, request_id: str, *, within: float = 20.0) -> list[dict[str, Any]]:
        """The access records of a request, as soon as there is one."""
        deadline = time.monotonic() + within
        while True:
            lines = self.lines(request_id)
            found = [line for line in lines if line.get("request_id") == request_id]
            access = [line for line in found if "duration_ms" in line]
            if access or time.monotonic() > deadline:
                return access
            time.sleep(0.02)

    def record(self, answer: Answer) -> dict[str, Any]:
        """The one access record of an answer."""
        identity = answer.get("x-request-id")
        assert identity
        records = self.records(identity)
        assert len(records) == 1, f"{len(records)} records of {identity}"
        return records[0]

    def pids(self) -> list[int]:
        """The process and those below it."""
        found = [self.process.pid]
        for pid in found:
            for file in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in file.read_text().split()]
        return found

    def rss(self, key: str = "RssAnon") -> int:
        """The memory that it holds, in bytes."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(key + ":"):
                    total += int(line.split()[1]) * 1024
        return total

    def ask_to_stop(self) -> None:
        """Ask it to stop, as an orchestrator does, and do not wait for it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self, within: float = 30.0) -> int:
        """Ask it to stop and return its exit status."""
        self.ask_to_stop()
        return self.status(within)

    def status(self, within: float = 30.0) -> int:
        """Wait for its end and return its exit status."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not stop on SIGTERM:\n{self.said()}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and everything it started; only once, for later the number may be somebody else's."""
        if not self._ended:
            self._ended = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


class Gateway(Running):
    """A running gateway, its port and its log."""

    def __init__(
        self,
        edge: str,
        config: Config,
        folder: Path,
        *,
        files: int = 0,
        app: str = "",
        first: str = "",
        more: Iterable[str] = (),
        fresh: bool = False,
    ) -> None:
        """Start it; `files` is its limit on open ones, `fresh` gives it an interpreter of its own.

        In `server.listen` the text {port} stands for its port, which has to be without TLS.
        `app` and `first` are as in `command`, and `more` is put at the end of it.
        """
        self.edge = edge
        port = free_port()
        server = {"host": "127.0.0.1", **config.get("server", {}), "port": port}
        if "listen" in server:
            del server["host"], server["port"]
        self.file = folder / "propylon.yaml"
        text = yaml.dump({**config, "server": server}, Dumper=_Dumper, sort_keys=False)
        self.file.write_text(text.replace("{port}", str(port)))
        SECRECY.note_config(config)
        args = [*command(edge, self.file, port, app=app, first=first), *more]
        super().__init__(args, port, folder, environment(self.file), files=files, fresh=fresh)


def _started(
    args: list[str], folder: Path, env: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """The same with a new interpreter, for those who look at what happens while it starts."""
    with log.open("wb") as said:
        return subprocess.Popen(
            args,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # so that workers can be ended with it
        )
