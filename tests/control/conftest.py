"""The desk where tokens are given out."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.control.desk import Desk
from tests.stores.kept import Clock


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[], Desk]]:
    """Start a worker: all of them share a database, a clock and a loop."""
    clock = Clock()
    desks: list[Desk] = []
    with asyncio.Runner() as runner:

        def start() -> Desk:
            desks.append(Desk(tmp_path, runner, clock, "id" * (1 + len(desks))))
            return desks[-1]

        yield start
        for desk in desks:
            desk.kept.close()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A worker that knows ann, for tests that change nothing."""
    with asyncio.Runner() as runner:
        desk = Desk(tmp_path_factory.mktemp("still"), runner, Clock())
        desk.add("ann", scopes="read")
        yield desk
        desk.kept.close()


@pytest.fixture
def desk(worker: Callable[[], Desk]) -> Desk:
    """One worker."""
    return worker()
