"""The gateway before instances that fail, and those instances; each file of cases has its own."""

from collections.abc import Iterator

import pytest

from tests.gateway.retries.attempts import Behind, Retrying, configuration
from tests.support.gateway import Gateway


@pytest.fixture(scope="module")
def running() -> Iterator[Behind]:
    """What stands behind both edges."""
    found = Behind()
    yield found
    found.close()


@pytest.fixture(scope="module")
def retrying(
    edge: str, running: Behind, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Retrying]:
    """The gateway; it ends cleanly."""
    gateway = Gateway(edge, configuration(running), tmp_path_factory.mktemp("retrying"))
    gateway.wait_ready()
    yield Retrying(gateway, list(running.kinds()))
    status = gateway.stop()
    # uvicorn ends by the signal that stopped it: excused as "exit-status".
    assert status in ((0,) if edge == "fast" else (0, -15)), gateway.said()
    for trouble in ("never retrieved", "was destroyed", "never awaited"):
        assert trouble not in gateway.said()
    # An answer that is cut is an error to a server that does the cutting for us.
    assert edge == "portable" or "Traceback" not in gateway.said()


@pytest.fixture
def behind(running: Behind) -> Iterator[Behind]:
    """The instances with empty records; whatever they got must have been beyond doubt."""
    for up in (running.one, running.two):
        up.reset()
    yield running
    assert running.one.faults + running.two.faults == []
