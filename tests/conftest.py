"""Fixtures of the cases that run over real sockets: both edges, their upstreams, one gateway a module."""

from collections.abc import Iterator
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings

from tests.support.client import RawClient
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.topology import Upstreams, configuration
from tests.support.upstream import Upstream

# A deadline for an example is a timing assertion, and so is one for drawing it: on a busy machine
# either fails for no fault of the code. What is checked stays what it was.
settings.register_profile("propylon", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("propylon")


class Start(Protocol):
    """Start a gateway; `files` is its limit on open ones."""

    def __call__(self, config: Config, *, files: int = 0) -> Gateway:
        """Return it as soon as it answers."""


@pytest.fixture(scope="module", params=EDGES)
def edge(request: pytest.FixtureRequest) -> str:
    """Each way into the gateway, in turn."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Upstreams]:
    """Scripted upstreams, one set a module."""
    with Upstreams() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    edge: str, upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway with the shared configuration, one a module and edge."""
    running = Gateway(edge, configuration(upstreams), tmp_path_factory.mktemp(edge))
    running.wait_ready()
    yield running
    status = running.stop()
    # uvicorn ends by the signal that stopped it: excused as "exit-status".
    assert status in ((0,) if edge == "fast" else (0, -15)), running.said()


@pytest.fixture
def start(edge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start gateways of one's own; they are ended with the case."""
    started: list[Gateway] = []

    def run(config: Config, *, files: int = 0) -> Gateway:
        running = Gateway(edge, config, tmp_path_factory.mktemp(edge), files=files)
        started.append(running)
        running.wait_ready()
        return running

    yield run
    for running in started:
        running.kill()


@pytest.fixture
def up(gateway: Gateway, upstreams: Upstreams) -> Iterator[Upstream]:
    """The main upstream with an empty record; whatever it got must have been beyond doubt."""
    upstreams.reset()
    yield upstreams.main
    assert upstreams.faults == []
    assert gateway.process.poll() is None, gateway.said()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[RawClient]:
    """A connection to the gateway."""
    with RawClient(gateway.port) as connected:
        yield connected
