"""Workers of one gateway share their limits, under `propylon run` and under another server, and lose none by a death."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_run import children, until
from tests.process.test_workers import Start, start
from tests.support.client import ask, request
from tests.support.gateway import Config, Gateway
from tests.support.upstream import Upstream

__all__ = ["start"]

BUDGET = 500
CONNECTIONS, EACH = 400, 25  # 10,000 requests


@pytest.fixture(scope="module")
def up() -> Iterator[Upstream]:
    """What stands behind the gateways."""
    with Upstream() as upstream:
        yield upstream


def configuration(up: Upstream, limit: dict[str, Any], **server: Any) -> Config:
    """A gateway with one limit for all clients together."""
    return {
        "server": {"drain": "5s", **server},
        "services": {"main": {"url": f"http://127.0.0.1:{up.port}"}},
        "routes": [
            {
                "path": "/a",
                "service": "main",
                "auth": "none",
                "rate_limit": {"key": "route", **limit},
            }
        ],
    }


async def statuses(port: int) -> list[int]:
    """What ten thousand requests get that are under way at the same time, on many connections."""

    async def one() -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(target="/a") * EACH)
        found = []
        for _ in range(EACH):
            head = await reader.readuntil(b"\r\n\r\n")
            found.append(int(head.split(b" ", 2)[1]))
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        writer.close()
        return found

    found = await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return [status for statuses in found for status in statuses]


@pytest.mark.parametrize("window", ["bucket", "sliding"])
def test_four_workers_admit_exactly_the_budget(start: Start, up: Upstream, window: str) -> None:
    """Of 10,000 concurrent requests to four workers without Redis exactly 500 pass; the upstream sees no more."""
    up.reset()
    limit = {"rate": f"{BUDGET}/d", "window": window}
    gateway = start(configuration(up, limit, workers=4))
    found = asyncio.run(statuses(gateway.port))
    assert (found.count(200), found.count(429), len(up.requests)) == (BUDGET, 9500, BUDGET)


def spent(gateway: Gateway, times: int) -> list[int]:
    """The statuses of requests, each on a connection of its own: workers take them by turns."""
    return [ask(gateway.port, target="/a").status for _ in range(times)]


def test_killed_workers_lose_no_count(start: Start, up: Upstream) -> None:
    """Workers that are killed with SIGKILL are replaced, and what was spent stays spent."""
    gateway = start(configuration(up, {"rate": "20/d"}, workers=2))
    assert spent(gateway, 15) == [200] * 15
    for pid in children(gateway.process.pid):
        os.kill(pid, signal.SIGKILL)
    gateway.wait_ready()
    until(lambda: len(children(gateway.process.pid)) == 2)
    found = spent(gateway, 12)
    assert (found.count(200), found.count(429)) == (5, 7)


def test_reload_keeps_what_was_spent(start: Start, up: Upstream) -> None:
    """A reload keeps the counts of a limit that it does not change."""
    gateway = start(configuration(up, {"rate": "10/d"}))
    assert spent(gateway, 7) == [200] * 7
    more = {"path": "/b", "service": "main", "auth": "none"}
    written = yaml.safe_load(gateway.file.read_text())
    written["routes"].append(more)
    gateway.file.write_text(yaml.safe_dump(written))
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: ask(gateway.port, target="/b").status == 200)
    assert spent(gateway, 5) == [200] * 3 + [429] * 2


def test_other_server_shares_in_a_directory(start: Start, up: Upstream, tmp_path: Path) -> None:
    """Under uvicorn's own workers the budget is one, if they have a directory to meet in."""
    state = tmp_path / "state"
    config = configuration(up, {"rate": "30/d"}, state_dir=str(state))
    gateway = start(config, workers=3)
    found = spent(gateway, 60)
    assert (found.count(200), found.count(429)) == (30, 30)
