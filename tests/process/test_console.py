"""In JSON mode, every line on either stream is JSON: start, reload, warnings, dead workers, what other libraries say."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from propylon.config.reading.problems import ConfigError, Problem
from propylon.process.console import Console
from tests.support.gateway import Gateway
from tests.support.waiting import wait

# A library warns through logging, another through warnings, and a thread dies.
NOISE = """
import logging, threading, warnings
def make_noise():
    logging.getLogger("asyncio").warning("a task was not awaited")
    warnings.warn("something is old")
    threading.Thread(target=lambda: 1 / 0).start()
import propylon.assembly.running as running
start = running.Running.start
def noisy(self, *given):
    start(self, *given)
    make_noise()
running.Running.start = noisy
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of two workers, in which much is said that is not its own."""
    config = {
        "server": {"workers": 2},
        "services": {"idle": {"url": "http://127.0.0.1:9"}, "a": {"url": "http://127.0.0.1:9"}},
        "routes": [{"path": "/", "service": "a", "auth": "none"}],
    }
    running = Gateway("fast", config, tmp_path, first=NOISE)
    running.wait_ready()
    yield running
    running.kill()


def test_every_line_is_json(gateway: Gateway) -> None:
    """From the start to the stop, with a worker that dies and a reload of a broken file between them."""

    def said(text: str) -> Callable[[], bool]:
        return lambda: text in gateway.said()

    os.kill(gateway.pids()[1], signal.SIGKILL)
    wait(said("a worker died (signal 9); starting another"))
    gateway.file.write_text("server: {port: x}\n")
    gateway.process.send_signal(signal.SIGHUP)
    wait(said("reload: nothing changes"))
    # A worker that starts now finds the file broken, and says what is wrong with it.
    os.kill(gateway.pids()[1], signal.SIGKILL)
    wait(said("a worker goes on with what is in force"))
    assert gateway.stop() == 0
    lines = [json.loads(line) for line in gateway.said().splitlines()]
    assert all({"time", "level", "event", "logger"} <= line.keys() for line in lines)
    events = "\n".join(line["event"] for line in lines)
    for text in (
        f"listening on http://127.0.0.1:{gateway.port}; {gateway.file}: 2 services, 1 route; nothing verifies",
        "services.idle: no route leads to it",
        "a task was not awaited",
        "something is old",
        "uncaught ZeroDivisionError",
    ):
        assert text in events


@pytest.mark.parametrize("json_", [True, False])
def test_problems_of_the_configuration(capsys: pytest.CaptureFixture[str], *, json_: bool) -> None:
    """Each is a line of its own, as `propylon check` has it."""
    Console(json=json_).refuse(
        ConfigError([Problem("a:1", "x", "is 1"), Problem("a:2", "y", "is 2")])
    )
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["event"] if json_ else line for line in lines] == [
        "a:1 x: is 1",
        "a:2 y: is 2",
    ]


def test_a_traceback_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would end the process is in one object, with its traceback."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("threading.excepthook", sys.__excepthook__)
    Console(json=True).take_tracebacks()
    error = ValueError("no")
    sys.excepthook(ValueError, error, None)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["traceback"] == "ValueError: no\n"


def test_people_read_text(capsys: pytest.CaptureFixture[str]) -> None:
    """In text mode each line names the program."""
    console = Console(json=False)
    console.say("one")
    console.warn("two")
    console.fail("three")
    said = "propylon: one\npropylon: warning: two\npropylon: three\n"
    assert capsys.readouterr().err == said


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    """A fault in the start ends the process with status 3, and its traceback is a line of the log."""
    config = {
        "services": {"a": {"url": "http://127.0.0.1:9"}},
        "routes": [{"path": "/", "service": "a", "auth": "none"}],
    }
    broken = """
import propylon.assembly.running as running
def start(self, *given):
    raise TypeError("a fault of the start")
running.Running.start = start
"""
    gateway = Gateway("fast", config, tmp_path, first=broken)
    assert gateway.process.wait(60) == 3
    records = [json.loads(line) for line in gateway.said().splitlines()]
    (told,) = [one for one in records if one["event"] == "the gateway cannot start"]
    assert "TypeError: a fault of the start" in told["traceback"]
