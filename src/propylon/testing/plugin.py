"""The pytest plugin: its fixtures, which import the gateway only when a test asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from propylon.assembly.gateway import Gateway
    from propylon.testing.clocks import Clock
    from propylon.testing.gateway import GatewayUnderTest

__all__ = [
    "clock",
    "gateway",
    "propylon_config",
    "propylon_environ",
    "propylon_gateway",
    "propylon_prepare",
    "pytest_configure",
]

_MARKER = "propylon(config): the configuration file of the fixture `gateway`, from pytest's root directory"
_FILE = "propylon.yaml"
# For files that name ${JWT_SECRET_KEY}. It protects nothing: it is published here.
_SECRET = "propylon-test-secret-which-protects-nothing"  # noqa: S105


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def propylon_config(request: pytest.FixtureRequest) -> Path:
    """Return the configuration file: the marker's, else `propylon.yaml`. Override it to write one of the test's own."""
    marker = request.node.get_closest_marker("propylon")
    named = None if marker is None else marker.kwargs.get("config")
    return request.config.rootpath / (_FILE if named is None else named)


@pytest.fixture
def propylon_environ() -> Mapping[str, str]:
    """Return the variables that the configuration is read with, instead of the process's. Override it for your own."""
    return {"JWT_SECRET_KEY": _SECRET}


@pytest.fixture
def propylon_prepare() -> Callable[[Gateway], None]:
    """Return a function that gets the gateway before it starts. Override it to add policies and endpoints."""
    return lambda gateway: None  # noqa: ARG005 — nothing to add


@pytest.fixture
def propylon_gateway(
    propylon_config: Path,
    propylon_environ: Mapping[str, str],
    propylon_prepare: Callable[[Gateway], None],
    tmp_path: Path,
) -> Iterator[GatewayUnderTest]:
    """Run a gateway without sockets, on a clock that the test moves; each test has its own."""
    # Here, because who asks for no gateway is to load none.
    from propylon.testing.gateway import running  # noqa: PLC0415

    with running(propylon_config, propylon_environ, tmp_path, propylon_prepare) as tested:
        yield tested


@pytest.fixture
def gateway(propylon_gateway: GatewayUnderTest) -> GatewayUnderTest:
    """Return the gateway under test; a suite that has a fixture of this name asks for `propylon_gateway`."""
    return propylon_gateway


@pytest.fixture
def clock(propylon_gateway: GatewayUnderTest) -> Clock:
    """Return all clocks of the gateway under test."""
    return propylon_gateway.clock
