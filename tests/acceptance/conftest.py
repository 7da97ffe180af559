"""Fixtures of the acceptance suite: the five systems, each started once for all lines that it serves."""

from collections.abc import Iterator

import pytest

from tests.support.systems import ORIGIN, System, Systems, once


@pytest.fixture(scope="session")
def kept_systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systems]:
    """The systems that the lines of a session share."""
    systems = Systems(tmp_path_factory)
    yield systems
    systems.close()


@pytest.fixture
def systems(kept_systems: Systems) -> Iterator[Systems]:
    """The same, looked at after each line."""
    yield kept_systems
    kept_systems.check()


@pytest.fixture
def tracklore(systems: Systems) -> System:
    """Tracklore's gateway, with both of its services."""
    return systems.keep("tracklore", "tracklore", {"CORS_ORIGINS": ORIGIN})


@pytest.fixture
def guide(systems: Systems) -> System:
    """The gateway of the guide."""
    return systems.keep("guide", "guide")


@pytest.fixture
def library(systems: Systems) -> System:
    """The gateway of the game library, with its three services."""
    return systems.keep("game-library", "game-library")


@pytest.fixture
def isaas(systems: Systems) -> System:
    """The gateway of ISaaS, with its four services. A subject has ten requests a second, and 20 at once."""
    return systems.keep("isaas", "isaas", once("realtime"))
