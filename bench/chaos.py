"""Breaks one of three instances after the other under load, and counts the requests that a client saw fail.

In turn an instance is killed, stopped (SIGSTOP), made to answer 500, and made to reset in the middle of an answer's
head and of its body; after each it is brought back. All requests are idempotent. A failure is any 5xx, a reset, a
cut or wrong body, an answer that is not 200, or none within 10 s.

--reloads N sends SIGHUP so many times under load, after a route and an instance were added to the file or taken out,
and waits each time until the change can be seen. It comes after the faults; --seconds 0 leaves those out.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from chaos_gateway import EXTRA, Resilient
from chaos_load import Load, Phase
from client import status_of
from processes import (
    LOAD_CORE,
    NotStarted,
    Running,
    can_pin,
    free_ports,
    start_gateway,
    start_instance,
)

INSTANCES = ("a", "b", "c")
# How soon a reload has to show: a reload that never does is counted, and the next one begins.
RELOAD_LIMIT = 5.0
POLL = 0.01
# What was sent before a fault gets its answer before it, and is not counted against the phase before.
SETTLE = 0.1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="all faults together (60)")
    parser.add_argument("--reloads", type=int, default=0, help="how many, after the faults (0)")
    parser.add_argument("--every", type=float, default=0.2, help="s between two reloads (0.2)")
    parser.add_argument("--connections", type=int, default=32, help="callers (32)")
    parser.add_argument(
        "--rate", type=float, default=600.0, help="requests a second, all callers (600)"
    )
    parser.add_argument("--workers", type=int, default=1, help="of the gateway (1)")
    parser.add_argument(
        "--blind-health",
        action="store_true",
        help="/health stays fine whatever an instance does: only retries and ejection help",
    )
    parser.add_argument(
        "--rules",
        choices=("said", "default"),
        default="said",
        help="said: retries, health, ejection and breaker as chaos_gateway.py has them (said); "
        "default: the file says nothing of them",
    )
    return parser.parse_args()


class Fleet:
    """The instances, and what is done to them."""

    def __init__(self, folder: Path, *, blind: bool) -> None:
        self.folder = folder
        self.flags = ("--blind",) if blind else ()
        self.ports = dict(zip(INSTANCES, free_ports(len(INSTANCES)), strict=True))
        self.running: dict[str, Running] = {}

    async def start(self, name: str) -> None:
        folder, port = self.folder / name, self.ports[name]
        self.running[name] = await asyncio.to_thread(
            start_instance, folder, name, port, *self.flags
        )

    async def kill(self, name: str) -> None:
        self.running[name].signal(signal.SIGKILL)
        await asyncio.to_thread(self.running[name].process.wait)

    async def stop(self, name: str) -> None:
        self.running[name].signal(signal.SIGSTOP)

    async def resume(self, name: str) -> None:
        self.running[name].signal(signal.SIGCONT)

    async def fine(self, name: str) -> None:
        await self._mode(name, "fine")

    def mode(self, mode: str) -> Callable[[str], Awaitable[None]]:
        """What sends an instance into that mode."""
        return lambda name: self._mode(name, mode)

    async def _mode(self, name: str, mode: str) -> None:
        status, _ = await status_of(self.ports[name], f"/mode/{mode}", "PUT")
        if status != 200:
            raise NotStarted(f"instance {name} does not go into mode {mode}")

    def end(self) -> None:
        for running in self.running.values():
            running.signal(signal.SIGCONT)
            running.stop()


@dataclass(frozen=True)
class Fault:
    """Something that happens to an instance, and what undoes it."""

    name: str
    hurt: Callable[[str], Awaitable[None]]
    heal: Callable[[str], Awaitable[None]]
    avoidable: bool = True


def faults(fleet: Fleet) -> Sequence[Fault]:
    return (
        Fault("killed", fleet.kill, fleet.start),
        Fault("hung", fleet.stop, fleet.resume),
        Fault("answers 500", fleet.mode("errors"), fleet.fine),
        Fault("resets in the head", fleet.mode("cut-head"), fleet.fine),
        Fault("resets in the body", fleet.mode("cut-body"), fleet.fine, avoidable=False),
    )


class Chaos:
    """One run against one gateway."""

    def __init__(self, options: argparse.Namespace, fleet: Fleet, peer: Resilient) -> None:
        self.options = options
        self.fleet = fleet
        self.peer = peer
        self.waits: list[float] = []

    async def break_all(self, load: Load) -> None:
        """Calm, then each fault and its recovery, all equally long."""
        every = faults(self.fleet)
        pause = self.options.seconds / (1 + 2 * len(every))
        load.enter(Phase("calm"))
        await asyncio.sleep(pause)
        for turn, fault in enumerate(every):
            victim = INSTANCES[turn % len(INSTANCES)]
            load.enter(Phase(fault.name, victim, avoidable=fault.avoidable))
            await asyncio.sleep(SETTLE)
            await fault.hurt(victim)
            await asyncio.sleep(pause)
            await fault.heal(victim)
            load.enter(Phase("brought back", victim))
            await asyncio.sleep(pause)

    async def reload_often(self, load: Load, gateway: Running) -> None:
        """The file changes to and fro; each time the change has to be seen."""
        load.enter(Phase(f"{self.options.reloads} reloads"))
        for turn in range(self.options.reloads):
            smaller = turn % 2 == 0
            self.peer.rewrite(INSTANCES[:-1] if smaller else INSTANCES, extra=not smaller)
            load.gone = ""
            gateway.signal(signal.SIGHUP)
            await self._seen(gateway.port, 404 if smaller else 200)
            load.gone = INSTANCES[-1] if smaller else ""
            await asyncio.sleep(self.options.every)

    async def _seen(self, port: int, status: int) -> None:
        """Wait until the added route is there, or gone, in every worker."""
        begun, right = time.monotonic(), 0
        # Connections go to any of the workers: so many in a row will have met them all.
        wanted = 1 if self.options.workers == 1 else 8 * self.options.workers
        while right < wanted and time.monotonic() - begun < RELOAD_LIMIT:
            right = right + 1 if (await status_of(port, EXTRA))[0] == status else 0
            await asyncio.sleep(POLL if right < wanted else 0)
        if right == wanted:
            self.waits.append(time.monotonic() - begun)

    async def run(self, gateway: Running) -> Load:
        load = Load(gateway.port, self.options.connections, self.options.rate)
        async with load.running():
            if self.options.seconds:
                await self.break_all(load)
            if self.options.reloads:
                await self.reload_often(load, gateway)
        return load


async def chaos(options: argparse.Namespace, folder: Path) -> int:
    fleet = Fleet(folder, blind=options.blind_health)
    with contextlib.ExitStack() as stack:
        stack.callback(fleet.end)
        for name in INSTANCES:
            await fleet.start(name)
        peer = Resilient(fleet.ports, said=options.rules == "said", workers=options.workers)
        gateway, _ = await asyncio.to_thread(start_gateway, peer, folder / "gateway", 0)
        stack.callback(gateway.stop)
        run = Chaos(options, fleet, peer)
        load = await run.run(gateway)
        if gateway.process.poll() is not None:
            raise NotStarted(f"the gateway ended: {gateway.last_words()}")
    print(load.table())
    return show_reloads(options, run.waits, load)


def show_reloads(options: argparse.Namespace, waits: Sequence[float], load: Load) -> int:
    if not options.reloads:
        return 0
    slowest = f", the slowest after {max(waits) * 1000:.0f} ms" if waits else ""
    print(f"\n{len(waits)} of {options.reloads} reloads were seen to take effect{slowest};")
    print(f"{load.strays} answers came from an instance that was no longer in the file.")
    return 1 if len(waits) < options.reloads or load.strays else 0


def main() -> int:
    options = arguments()
    if can_pin():
        os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            return uvloop.run(chaos(options, Path(folder)))
        except NotStarted as problem:
            print(f"Nothing was measured: {problem}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
