"""Fixtures of the cases that run over real sockets: both edges, their upstreams, one gateway a module."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings

from tests.edge.published_keys import SCENARIOS, run
from tests.support import guarded as guarded_by
from tests.support.client import RawClient
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.issuer import Issuer
from tests.support.secrecy import pytest_runtest_logreport, secrecy  # noqa: F401 — for pytest
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


@pytest.fixture(scope="session")
def user_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the users of the guarded gateways are kept, once somebody adds them."""
    return tmp_path_factory.mktemp("users") / "users.db"


@pytest.fixture(scope="session")
def users(user_database: Path) -> Path:
    """The database with its users, added by the command."""
    guarded_by.add_users(user_database.parent, user_database)
    return user_database


@pytest.fixture(scope="session")
def guarded_upstreams() -> Iterator[Upstreams]:
    """Scripted upstreams behind authentication: identity headers may reach them, once each."""
    with Upstreams(identified=True) as running:
        yield running


@pytest.fixture(scope="session")
def kept(
    user_database: Path, guarded_upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[guarded_by.Kept]:
    """The guarded gateways of both edges, for as long as the session lasts."""
    config = guarded_by.configuration(guarded_upstreams, user_database)
    running = guarded_by.Kept(EDGES, tmp_path_factory.mktemp("guarded"), config)
    yield running
    running.close()


@pytest.fixture(scope="module")
def guarded(edge: str, kept: guarded_by.Kept) -> Gateway:
    """The guarded gateway on the edge in turn, the same for all modules."""
    return kept.at(edge)


@pytest.fixture
def behind(guarded: Gateway, guarded_upstreams: Upstreams) -> Iterator[Upstream]:
    """What stands behind the guarded gateway, with an empty record; nothing dubious may reach it."""
    guarded_upstreams.reset()
    yield guarded_upstreams.main
    assert guarded_upstreams.faults == []
    assert guarded.process.poll() is None, guarded.said()


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    """An identity provider that judges opaque tokens; no dubious request may reach it."""
    with Issuer() as running:
        yield running
        assert running.faults == []


@pytest.fixture(scope="session")
def kept_loose(
    user_database: Path,
    guarded_upstreams: Upstreams,
    issuer: Issuer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[guarded_by.Kept]:
    """The loose gateways of both edges: introspection, a trusted proxy, CORS for all, debug."""
    config = guarded_by.loose_configuration(guarded_upstreams, user_database, issuer)
    running = guarded_by.Kept(EDGES, tmp_path_factory.mktemp("loose"), config)
    yield running
    running.close()


@pytest.fixture(scope="module")
def loose(edge: str, kept_loose: guarded_by.Kept) -> Gateway:
    """The loose gateway on the edge in turn, the same for all modules."""
    return kept_loose.at(edge)


@pytest.fixture(scope="session")
def scenarios(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[tuple[str, str], Future[None]]]:
    """All scenarios of published keys, at the same time, and beside other cases: mostly they wait."""
    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {
            (edge, name): pool.submit(run, edge, name, tmp_path_factory.mktemp(name))
            for edge, name in SCENARIOS
        }
