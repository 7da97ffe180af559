"""The stores of a worker, and of others beside it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stores.kept import Clock, Kept


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[], Kept]]:
    """Start a worker: all of them share a database, a clock and a loop."""
    clock = Clock()
    workers: list[Kept] = []
    with asyncio.Runner() as runner:

        def start() -> Kept:
            workers.append(Kept(tmp_path, runner, clock))
            return workers[-1]

        yield start
        for started in workers:
            started.close()


@pytest.fixture
def kept(worker: Callable[[], Kept]) -> Kept:
    """One worker."""
    return worker()
