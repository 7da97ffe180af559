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
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from propylon.commands.demo.demo import SECTIONS
from tests.support.beside import side_by_side
from tests.support.client import RawClient, request
from tests.support.zygote import ZYGOTE, environment

DEMO = [sys.executable, "-m", "propylon", "demo"]
_SHOWN = re.compile(r"  # (?:([0-9]{3}): )?.+\n  ((?:curl|TOKEN=).+)\n")
_MARK = "-- next --"
STOPS = (signal.SIGINT, signal.SIGTERM)
EXAMPLES = [example for _, examples in SECTIONS for example in examples]


class Demo:
    """A running demo, and what it has said."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self.log = folder / "log"
        self.process = ZYGOTE.start(
            [*DEMO, *arguments], cwd=folder, env=environment(**environ), stdout=self.log
        )
        end = time.monotonic() + 60
        while "Ctrl-C" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    @property
    def all(self) -> str:
        """The file that it names, with all lines to try."""
        (name,) = re.findall(r"  less (/\S+)", self.said)
        return Path(name).read_text()

    @property
    def lines(self) -> list[tuple[int, str]]:
        """The lines to try, and the status that each one promises; 0: it shows none."""
        return [(int(status or 0), line) for status, line in _SHOWN.findall(self.all)]

    def line(self, holding: str) -> str:
        """The first line that holds that text."""
        return next(line for _, line in self.lines if holding in line)

    @property
    def password(self) -> str:
        """The password of its user."""
        (found,) = re.findall(r"has the password ([^,]+),", self.said)
        return str(found)

    @property
    def ports(self) -> list[int]:
        """Every port that it names."""
        found = re.findall(r"http://127\.0\.0\.1:([0-9]+)", self.all)
        return sorted({int(port) for port in found})

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def kill(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo on a free port."""
    running = Demo(tmp_path_factory.mktemp("demo"), "--port", "0")
    yield running
    running.kill()


@pytest.fixture(scope="module", autouse=True)
def stops(
    demo: Demo, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[signal.Signals, Future[None]]]:
    """Demos of their own, which start and stop while the lines of the first one are tried."""
    found = {
        number: partial(stop_everything, number, tmp_path_factory.mktemp("stop"), demo.password)
        for number in STOPS
    }
    with side_by_side(found) as running:
        yield running


def stop_everything(number: signal.Signals, folder: Path, password: str) -> None:
    """Start a demo, and stop it in the middle of two exchanges."""
    temporary = folder / "temporary"
    temporary.mkdir()
    running = Demo(folder, "--port", "0", TMPDIR=str(temporary))
    try:
        assert len(running.ports) == 6
        assert [file.name for file in temporary.glob("*/users.db")] == ["users.db"]
        # No password is the demo's for ever.
        assert running.password != password
        # Neither a client that says nothing nor a service that does not answer keeps it alive.
        with (
            socket.create_connection(("127.0.0.1", running.ports[0]), timeout=20),
            RawClient(urlsplit(running.line("slow").split()[-1]).port or 0) as slow,
        ):
            slow.send(request(target="/clock/slow"))
            time.sleep(0.2)
            assert running.stop(number) == 0
        assert "Traceback" not in running.said
        assert list(temporary.iterdir()) == []
        # Nobody is left of it, so nobody holds a port; by now it may be somebody else's.
        with pytest.raises(ProcessLookupError):
            os.killpg(running.process.pid, 0)
    finally:
        running.kill()


@pytest.fixture(scope="module")
def answers(demo: Demo) -> list[str]:
    """What each line prints, all of them pasted into one shell from top to bottom."""
    pasted = [f"{line}\nprintf '%s\\n' '{_MARK}'" for _, line in demo.lines]
    return curl("\n".join(pasted)).split(f"{_MARK}\n")[:-1]


def curl(lines: str) -> str:
    """What the lines print."""
    if shutil.which("curl") is None:
        pytest.skip("no curl to try the lines with")
    done = subprocess.run(
        ["sh", "-c", lines], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer_to(demo: Demo, answers: list[str], holding: str, status: int = 200) -> str:
    """What the line printed that holds that text and promises that status."""
    return next(
        answer
        for (promised, line), answer in zip(demo.lines, answers, strict=True)
        if holding in line and promised == status
    )


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=[e.text for e in EXAMPLES])
def test_every_line_works(demo: Demo, answers: list[str], number: int) -> None:
    """A line as it is printed, in a shell: the status that stands above it."""
    status, _ = demo.lines[number]
    shown = f"HTTP/1.1 {status} " if status else ""
    assert shown == answers[number][: len(shown) or None]


def test_the_greeting_fits_on_a_small_terminal(demo: Demo) -> None:
    """24 lines of 80 characters, the address first: three lines to try, and where the rest is."""
    greeting = demo.said.partition("logged below.\n")[0].splitlines()
    assert len(greeting) <= 20
    assert max(map(len, greeting)) <= 80
    assert re.fullmatch(r"Propylon listens on http://127\.0\.0\.1:[0-9]+, in .+", greeting[0])
    shown = _SHOWN.findall("\n".join(greeting))
    assert [int(status) for status, _ in shown] == [200, 401, 200]
    assert all(f"  {line}\n" in demo.all for _, line in shown)


def test_every_line_is_written(demo: Demo) -> None:
    """All examples are shown, each with what it shows."""
    assert len(demo.lines) == len(EXAMPLES)
    statuses = {0, 200, 204, 400, 401, 403, 404, 405, 502, 503, 504}
    assert {status for status, _ in demo.lines} == statuses


def test_the_echo_shows_what_the_service_gets(demo: Demo, answers: list[str]) -> None:
    """No forged identity, no hop-by-hop header, one true X-Forwarded-For."""
    answer = answer_to(demo, answers, "X-User-Id: root").lower()
    assert "x-forwarded-for: 127.0.0.1" in answer
    assert "root" not in answer
    assert "6.6.6.6" not in answer
    assert "x-gone" not in answer


def test_two_instances_take_turns(demo: Demo) -> None:
    """The same line twice: another instance."""
    line = demo.line("/orders/7")
    assert len({curl(line).rpartition("answered_by")[2] for _ in range(2)}) == 2


def test_the_token_says_who_asks(demo: Demo, answers: list[str]) -> None:
    """Behind the token there is a user, and the service is told who."""
    answer = answer_to(demo, answers, "/private -H")
    for header in ("id: ann", "email: ann@example.com", "roles: clerk", "scopes: read,write"):
        assert f"x-user-{header}" in answer.lower()
    assert '"username":"ann"' in answer_to(demo, answers, "/users/me")


def test_preflight_is_answered(demo: Demo, answers: list[str]) -> None:
    """The page's origin may read a protected route, without having shown a token."""
    answer = answer_to(demo, answers, "-X OPTIONS", 204)
    assert "Access-Control-Allow-Origin: https://app.example.com" in answer


def test_a_failure_is_not_noticed_and_a_broken_service_is_left_alone(
    demo: Demo, answers: list[str]
) -> None:
    """The instance that works has answered; the second request was not sent to the broken service."""
    assert "127.0.0.1:" in answer_to(demo, answers, "/shaky").rpartition("answered_by")[2]
    assert "X-Error-Source: upstream" in answer_to(demo, answers, "/broken", 502)
    assert '"CIRCUIT_OPEN"' in answer_to(demo, answers, "/broken", 503)


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    """A port that was asked for and is taken: one sentence, status 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [*DEMO, "--port", str(port)],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    said = f"propylon: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert done.stderr.startswith(said)
    assert done.stderr.endswith("; choose another port (--port, server.port)\n")
    assert f"(process {os.getpid()})" in done.stderr or sys.platform != "linux"


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_stops_everything(
    stops: dict[signal.Signals, Future[None]], number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM: status 0, no traceback, no process and no user is left."""
    stops[number].result(120)
