"""Measure once a second what nothing counts by itself: open connections, the loop's lag, what the process takes.

Each worker writes its part into rows of its own, and so `/metrics` tells the sum of all, at most a second old, whichever
worker is asked.
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from propylon.services.service import Service
from propylon.telemetry.families import (
    CACHE_BYTES,
    CONNECTIONS,
    CPU,
    FILES,
    LOOP_LAG,
    MEMORY,
    UPSTREAM_CONNECTIONS,
    UPSTREAM_WAITING,
    WORKERS,
    Family,
)
from propylon.telemetry.metrics import Metrics
from propylon.telemetry.watchdog import Watchdog
from propylon.upstream.pool import Pool

__all__ = ["Gauges"]

_EVERY = 1.0  # seconds
# To list ten thousand descriptors takes a millisecond: not each second.
_FILES_EVERY = 10
_PROCESS = Path("/proc/self")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Gauges:
    """The figures of one worker, for as long as its loop runs."""

    def __init__(
        self,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        *,
        connections: Callable[[], int],
        services: Callable[[], Iterable[Service]],
        cached: Callable[[], int] = lambda: 0,
    ) -> None:
        """Write into `metrics`. `connections` returns how many connections clients have open, `cached` bytes of answers."""
        self.watchdog = Watchdog(loop, metrics)
        self._cached = cached
        self._metrics = metrics
        self._loop = loop
        self._connections = connections
        self._services = services
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._cpu = _cpu_seconds()
        self._turns = 0
        # The rows that have a value other than zero: what is gone is set to zero.
        self._set: set[tuple[Family, tuple[str, ...]]] = set()

    def start(self) -> None:
        """Measure from now on."""
        self._measure()
        self._plan()

    def stop(self) -> None:
        """Measure no longer: this worker has nothing open any more."""
        self.watchdog.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._write({})

    def _plan(self) -> None:
        self._due = self._loop.time() + _EVERY
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        lag = max(0.0, self._loop.time() - self._due)
        row = self._metrics.row(LOOP_LAG)
        row[bisect_left(LOOP_LAG.buckets, lag)] += 1
        row[-1] += lag
        self._measure()
        self._plan()

    def _measure(self) -> None:
        spent = _cpu_seconds()
        self._metrics.row(CPU)[0] += spent - self._cpu
        self._cpu = spent
        found = {
            (WORKERS, ()): 1.0,
            (CONNECTIONS, ()): float(self._connections()),
            (CACHE_BYTES, ()): float(self._cached()),
            **self._of_pools(),
        }
        with suppress(OSError):  # elsewhere than on Linux
            found[MEMORY, ()] = float(_resident())
            if self._turns % _FILES_EVERY == 0:
                self._metrics.row(FILES)[0] = sum(1 for _ in (_PROCESS / "fd").iterdir())
        self._turns += 1
        self._write(found)

    def _of_pools(self) -> dict[tuple[Family, tuple[str, ...]], float]:
        found: dict[tuple[Family, tuple[str, ...]], float] = {}
        for service in self._services():
            pools = [one.upstream for one in service.instances if isinstance(one.upstream, Pool)]
            idle = sum(pool.idle for pool in pools)
            found[UPSTREAM_CONNECTIONS, (service.name, "idle")] = idle
            found[UPSTREAM_CONNECTIONS, (service.name, "busy")] = (
                sum(pool.open for pool in pools) - idle
            )
            waiting = 0 if service.room is None else service.room.waiting
            found[UPSTREAM_WAITING, (service.name,)] = waiting + sum(pool.waiting for pool in pools)
        return found

    def _write(self, found: dict[tuple[Family, tuple[str, ...]], float]) -> None:
        for family, labels in self._set - found.keys():
            self._metrics.row(family, *labels)[0] = 0.0
        for (family, labels), value in found.items():
            self._metrics.row(family, *labels)[0] = value
        self._set = set(found)


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system


def _resident() -> int:
    """Return the bytes of resident memory. Raises OSError where the system does not tell."""
    return int((_PROCESS / "statm").read_text("ascii").split()[1]) * _PAGE
