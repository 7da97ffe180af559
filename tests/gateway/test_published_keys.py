"""Tokens of others, by the keys that they publish: each scenario goes as its function says."""

from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial

import pytest

from tests.gateway.published_keys import SCENARIOS, run
from tests.support.beside import side_by_side

Key = tuple[str, str]


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Key, Future[None]]]:
    """All of them, under way."""
    found = {
        (edge, name): partial(run, edge, name, tmp_path_factory.mktemp(name))
        for edge, name in SCENARIOS
    }
    with side_by_side(found) as running:
        yield running


@pytest.mark.parametrize("scenario", SCENARIOS, ids="-".join)
def test_published_keys(scenarios: dict[Key, Future[None]], scenario: Key) -> None:
    """Keys come, rotate, go and return: no restart, no stall, and nobody gets in for it."""
    scenarios[scenario].result()
