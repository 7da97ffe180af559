"""The token endpoints over real stores, one object for each worker."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.control.token_api import TokenApi
from tests.stores.kept import Clock


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[], TokenApi]]:
    """Start a worker: all of them share a database, a clock and a loop."""
    clock = Clock()
    apis: list[TokenApi] = []
    with asyncio.Runner() as runner:

        def start() -> TokenApi:
            apis.append(TokenApi(tmp_path, runner, clock, "id" * (1 + len(apis))))
            return apis[-1]

        yield start
        for api in apis:
            api.kept.close()


@pytest.fixture(scope="module")
def readonly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenApi]:
    """A worker that knows ann, for tests that change nothing."""
    with asyncio.Runner() as runner:
        api = TokenApi(tmp_path_factory.mktemp("readonly"), runner, Clock())
        api.add("ann", scopes="read")
        yield api
        api.kept.close()


@pytest.fixture
def api(worker: Callable[[], TokenApi]) -> TokenApi:
    """One worker."""
    return worker()
