"""Tokens of others, by the keys that they publish: each scenario goes as its function says."""

from concurrent.futures import Future

import pytest

from tests.gateway.published_keys import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS, ids="-".join)
def test_published_keys(
    scenarios: dict[tuple[str, str], Future[None]], scenario: tuple[str, str]
) -> None:
    """Keys come, rotate, go and return: no restart, no stall, and nobody gets in for it."""
    scenarios[scenario].result()
