"""A gateway that stops leaves no task and no socket behind, whatever was under way."""

import asyncio
import subprocess
import sys
from pathlib import Path

from propylon.loop.tasks import cancelled_tasks_end, spawn
from tests.support.virtual import run

# A gateway that looks two names up at a name server that never answers, and stops when the queries have come there.
STOPS = """
import asyncio, gc, socket, sys
import dns.asyncresolver, uvloop
from propylon import Gateway
from propylon.names import lookup
from propylon.names.nameserver import NameServers

def servers():
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], silent.getsockname()[1]
    resolver.lifetime = resolver.timeout = 60.0
    return NameServers(resolver)

async def main():
    gateway = Gateway.from_file(sys.argv[1], {})
    async with gateway.lifespan():
        for _ in range(4):  # A and AAAA of two names
            await asyncio.get_running_loop().sock_recv(silent, 1024)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, left

lookup.Lookup.__init__.__defaults__ = (servers, *lookup.Lookup.__init__.__defaults__[1:])
for factory in (uvloop.new_event_loop, asyncio.new_event_loop):
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    silent.setblocking(False)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    silent.close()
    gc.collect()
    print(factory.__module__)
"""
CONFIG = """
defaults: {auth: none}
services:
  orders: {url: "http://orders.example:8000"}
  users: {url: "http://users.example:8000", health: {interval: 1s}}
routes: [{path: /orders, service: orders}, {path: /users, service: users}]
"""


def test_a_name_lookup_is_under_way(tmp_path: Path) -> None:
    """On either loop, the stop ends the lookups and closes their sockets before the loop is closed: no warning, with warnings as errors."""
    file = tmp_path / "propylon.yaml"
    file.write_text(CONFIG)
    strict = [sys.executable, "-W", "error", "-c", STOPS, str(file)]
    done = subprocess.run(strict, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["uvloop", "asyncio.events"]


def test_only_cancelled_tasks_are_waited_for() -> None:
    """Tasks that were not cancelled go on, and a task that does not end is not waited for any longer than was said."""

    async def stubborn() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(50)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        goes_on, ends, stays = (
            spawn(one) for one in (asyncio.sleep(3600), asyncio.sleep(3600), stubborn())
        )
        await asyncio.sleep(0)
        ends.cancel()
        await cancelled_tasks_end(1.0)
        assert ends.cancelled()
        assert (goes_on.done(), loop.time()) == (False, began)
        stays.cancel()
        await cancelled_tasks_end(1.0)
        assert (stays.done(), loop.time()) == (False, began + 1.0)
        goes_on.cancel()
        await asyncio.wait([goes_on, stays])

    run(main())
