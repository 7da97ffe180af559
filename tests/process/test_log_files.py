"""The log in a file that is rotated under two workers, and at a syslog daemon that is away."""

import json
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_run import until
from tests.support.client import RawClient, ask, request
from tests.support.gateway import Config, Gateway
from tests.support.tokens import SECRET, authorized

LOST = re.compile(rb'propylon_log_lost_lines_total\{output="syslog"\} ([0-9.]+)')
HOSTILE = "a\tb\x9b31m\xe2\x80\xa8"


Begin = Callable[[Config], Gateway]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a gateway; it ends with the case."""
    started: list[Gateway] = []

    def run(config: Config) -> Gateway:
        folder = tmp_path / "running"
        folder.mkdir()
        started.append(Gateway("fast", config, folder))
        started[-1].wait_ready()
        return started[-1]

    yield run
    for one in started:
        one.kill()


def asked(gateway: Gateway, number: int) -> set[str]:
    """Ask so often, on connections of their own, and return the ids."""
    found = set()
    for _ in range(number):
        with RawClient(gateway.port) as client:
            client.send(request(target="/readyz/nothing", headers=[("X-Shop", HOSTILE)]))
            found.add(str(client.read().get("x-request-id")))
    return found


def records(file: Path) -> list[dict[str, Any]]:
    """The records of requests in a file; each line is JSON, and has nothing that steers a terminal."""
    found = []
    for line in file.read_text("utf-8").split("\n")[:-1]:
        assert line.isprintable(), line
        parsed = json.loads(line)
        if parsed["event"] == "request":
            found.append(parsed)
    return found


def ids(*files: Path) -> set[str]:
    """The ids of the requests in these files."""
    return {record["request_id"] for file in files if file.exists() for record in records(file)}


def test_a_rotation_by_signal_loses_nothing(begin: Begin, tmp_path: Path) -> None:
    """All workers go on with the old file until SIGUSR1, and open the new one then; a value ends no line."""
    file, old = tmp_path / "gateway.log", tmp_path / "gateway.log.1"
    gateway = begin(
        {
            "server": {"workers": 2},
            "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
            "log": {
                "file": str(file),
                "fields": {"shop": "header:X-Shop", "tenant": "claim:tenant"},
                "redact": ["client_ip"],
            },
        }
    )
    before = asked(gateway, 20)
    assert until(lambda: before <= ids(file))
    file.rename(old)
    meanwhile = asked(gateway, 20)
    gateway.process.send_signal(signal.SIGUSR1)
    assert until(file.exists)
    assert until(lambda: meanwhile <= ids(old, file))
    after = asked(gateway, 20)
    assert until(lambda: after <= ids(file))
    hostile = authorized("ann", tenant="x\n\x1b[2J\u2028")
    assert ask(gateway.port, target="/api/v1/services", headers=hostile).status in {200, 403}
    assert until(lambda: any(one["tenant"] for one in records(file)))
    (told,) = [one for one in records(file) if one["tenant"]]
    assert told["tenant"] == "x\\n\\x1b[2J\\u2028"
    assert told["client_ip"] == "redacted"
    assert {one["shop"] for one in records(old)} == {"a\\tb\\x9b31m\xe2\\x80\xa8"}
    assert gateway.stop() == 0
    assert before | meanwhile | after <= ids(old, file)
    assert not any("x-shop" in line for line in gateway.said().lower().splitlines())


def test_a_syslog_daemon_that_is_away_stops_nobody(begin: Begin, tmp_path: Path) -> None:
    """Requests are answered, what is lost is counted and said once, and what comes later arrives."""
    place = tmp_path / "log.socket"
    gateway = begin({"log": {"syslog": str(place)}})
    asked(gateway, 5)

    def lost() -> float:
        match = LOST.search(ask(gateway.port, target="/metrics").body)
        return 0.0 if match is None else float(match[1])

    assert until(lambda: lost() >= 5)
    assert until(lambda: "the log cannot be written to" in gateway.said())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(place))
        daemon.setblocking(False)

        def arrives() -> bool:
            asked(gateway, 1)
            try:
                return b"request - {" in daemon.recv(65536)
            except BlockingIOError:
                return False

        assert until(arrives)
        daemon.settimeout(20)
        said = b""
        while b"lines are lost" not in said:
            said = daemon.recv(65536)
    assert gateway.said().count("the log cannot be written to") == 1
    assert gateway.stop() == 0


def test_a_file_that_cannot_be_written_is_refused(begin: Begin, tmp_path: Path) -> None:
    """Before anything listens."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(AssertionError, match="did not start"):
        begin({"log": {"file": f"/proc/{tmp_path.name}.log"}})
