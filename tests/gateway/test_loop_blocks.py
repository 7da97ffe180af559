"""A policy that really holds the loop is named, with its stack, in the log and in a metric; one that waits is not."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import ask
from tests.support.gateway import Gateway
from tests.support.upstream import Upstream
from tests.support.waiting import wait

# The first second of a gateway is its start. A real program would wait in a library; here it is seen.
TEAM = """
import asyncio, time
from propylon import Gateway
gateway = Gateway.from_file("propylon.yaml")

@gateway.before("slow")
async def asks_a_database(request, principal):
    time.sleep(0.4)

@gateway.before("good")
async def awaits(request, principal):
    await asyncio.sleep(0.4)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with both policies, whose watch has begun."""
    folder: Path = tmp_path_factory.mktemp("blocks")
    (folder / "team.py").write_text(TEAM)
    with Upstream() as upstream:
        service = {"url": f"http://127.0.0.1:{upstream.port}"}
        routes = [
            {"name": name, "path": f"/{name}", "service": "up", "auth": "none"}
            for name in ("slow", "good", "plain")
        ]
        config = {"services": {"up": service}, "routes": routes}
        gateway = Gateway("fast", config, folder, app="team")
        gateway.wait_ready()
        yield gateway
        gateway.stop()


def blocks(gateway: Gateway) -> dict[str, float]:
    """How often each name has held the loop."""
    text = ask(gateway.port, target="/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith("propylon_loop_blocks_total{")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}


def test_who_holds_the_loop_is_named(running: Gateway) -> None:
    """Once for each block, with the stack down to the line; who only awaits is not."""

    def found() -> bool:
        assert ask(running.port, target="/slow").status == 200
        return "policy asks_a_database" in blocks(running)

    wait(found)
    ask(running.port, target="/good")
    running.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)  # what is looked for is that this silence counts for nothing
    running.process.send_signal(signal.SIGCONT)
    ask(running.port, target="/plain")
    assert not any("awaits" in name for name in blocks(running))

    def said() -> bool:
        return bool(running.lines("asks_a_database"))

    wait(said)
    line = running.lines("asks_a_database")[0]
    assert line["level"] == "warning"
    assert line["where"] == "policy asks_a_database"
    assert "team.py:8 asks_a_database" in line["traceback"]
    assert line["seconds"] > 0.05  # the budget
