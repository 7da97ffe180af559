"""A gateway that is reloaded, and three upstreams; each file of cases has its own."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.gateway.reload.live import Live, Start, configuration
from tests.support.tokens import SECRET
from tests.support.upstream import Upstream


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[Upstream, ...]]:
    """Three upstreams; nothing dubious may have reached them."""
    with Upstream(identified=True) as one, Upstream() as two, Upstream() as three:
        yield one, two, three
        assert one.faults + two.faults + three.faults == []


@pytest.fixture(scope="module")
def running(
    behind: tuple[Upstream, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """One gateway for most cases of a file."""
    with contextlib.closing(Start(behind)) as start:
        live = start(configuration(*behind), tmp_path_factory.mktemp("reload"))
        live.gateway.wait_ready()
        yield live


@pytest.fixture
def live(running: Live) -> Live:
    """The gateway, as the base configuration has it, with upstreams that know nothing."""
    running.env(SECRET)
    for upstream in (running.one, running.two, running.three):
        upstream.reset()
    running.put(running.config())
    return running


@pytest.fixture
def start(behind: tuple[Upstream, ...]) -> Iterator[Start]:
    """Start gateways of one's own; they end with the case."""
    for upstream in behind:
        upstream.reset()
    with contextlib.closing(Start(behind)) as starter:
        yield starter
