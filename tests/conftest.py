"""Fixtures of the cases that run over real sockets: both edges, their upstreams, gateways that many share."""

import functools
import gc
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
import typer.main
import typer.testing
from hypothesis import HealthCheck, settings

from tests.support import guarded as guarded_by
from tests.support.client import RawClient
from tests.support.examples import FEW, FULL
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.hanging import (  # noqa: F401 — for pytest
    pytest_configure,
    pytest_runtest_protocol,
    pytest_unconfigure,
)
from tests.support.hashing import hash_cheaply
from tests.support.issuer import Issuer
from tests.support.secrecy import pytest_runtest_logreport, secrecy  # noqa: F401 — for pytest
from tests.support.spread import (  # noqa: F401 — for pytest
    pytest_addoption,
    pytest_runtestloop,
    pytest_shuffle,
)
from tests.support.topology import Upstreams, configuration
from tests.support.topology import impatient as impatient_configuration
from tests.support.upstream import Upstream
from tests.support.zygote import ZYGOTE

# Where bytecode is not kept, every gateway that is started compiles the package anew: half its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# For each call of a program typer reads the signatures of all its commands: a tenth of what tests of commands take.
typer.main.get_command = typer.testing._get_command = functools.cache(typer.main.get_command)

hash_cheaply()

# A deadline for an example is a timing assertion, and so is one for drawing it: on a busy machine
# either fails for no fault of the code.
_CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What a run takes that names no profile, for whoever waits for it: a quarter of the examples, the same
# ones on each run. One that fails does so because of a change.
settings.register_profile("propylon", _CALM, derandomize=True, max_examples=FEW)
# What `.ci/run` takes: every example, and the same ones on each run, too.
settings.register_profile("full", _CALM, derandomize=True, max_examples=FULL)
# To look for what no change has brought in: four times as many, and others on each run.
settings.register_profile("search", _CALM, max_examples=4 * FULL)
settings.load_profile("propylon")


# What takes longest begins first, or one worker would have it alone at the end.
_LONG = (
    "tests/gateway/test_regressions.py",
    "tests/gateway/test_breaker.py",
    "tests/gateway/test_health_probes.py",
    "tests/gateway/test_circuits.py",
    "tests/gateway/test_published_keys.py",
    "tests/gateway/test_drain.py",
    "tests/gateway/test_process.py",
    "tests/gateway/test_pool.py",
    "tests/gateway/test_bodies.py",
    "tests/gateway/retries/test_time.py",
    "tests/gateway/test_errors.py",
    "tests/cli/test_demo.py",
    "tests/gateway/test_patience.py",
    "tests/acceptance/test_c_guide.py",
    "tests/acceptance/test_b_readme.py",
    "tests/acceptance/test_e_services.py",
)
_WAITING = ("tests/gateway/", "tests/cli/", "tests/smuggling/", "tests/acceptance/")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect ten thousand cases without looking for garbage among them, then or ever after."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that wait and files that compute by turns, so that no core is idle, or wanted by all."""
    turns = _turns(dict.fromkeys(_file(item) for item in items))
    items.sort(key=lambda item: turns[_file(item)])


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _turns(files: Iterable[str]) -> dict[str, float]:
    """Where each file stands: the longest first, and those that compute spread evenly among the others."""
    rank = {file: number for number, file in enumerate(_LONG)}
    ordered = sorted(files, key=lambda file: rank.get(file, len(rank)))
    waiting = [file for file in ordered if file.startswith(_WAITING)]
    computing = [file for file in ordered if not file.startswith(_WAITING)]
    step = len(waiting) / max(1, len(computing))
    turns = {file: float(number) for number, file in enumerate(waiting)}
    return turns | {file: (number + 0.5) * step for number, file in enumerate(computing)}


class Start(Protocol):
    """Start a gateway; `files` is its limit on open ones, `fresh` gives it a new interpreter."""

    def __call__(self, config: Config, *, files: int = 0, fresh: bool = False) -> Gateway:
        """Return it as soon as it answers."""


@pytest.fixture(scope="module", params=EDGES)
def edge(request: pytest.FixtureRequest) -> str:
    """Each way into the gateway, in turn."""
    name: str = request.param
    return name


@pytest.fixture(scope="session", autouse=True)
def zygote() -> Iterator[None]:
    """What has started the gateways outlives them all."""
    yield
    ZYGOTE.close()


@pytest.fixture(scope="session")
def upstreams() -> Iterator[Upstreams]:
    """Scripted upstreams, for as long as the session lasts."""
    with Upstreams() as running:
        yield running


@pytest.fixture(scope="session")
def kept_shared(
    upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[guarded_by.Kept]:
    """The gateways of both edges with the shared configuration."""
    folder = tmp_path_factory.mktemp("shared")
    running = guarded_by.Kept(EDGES, folder, configuration(upstreams))
    yield running
    running.close()


@pytest.fixture(scope="module")
def gateway(edge: str, kept_shared: guarded_by.Kept) -> Gateway:
    """The gateway with the shared configuration on the edge in turn, the same for all modules."""
    return kept_shared.at(edge)


@pytest.fixture(scope="session")
def kept_impatient(
    upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[guarded_by.Kept]:
    """The gateways of both edges that give a client a second."""
    folder = tmp_path_factory.mktemp("impatient")
    running = guarded_by.Kept(EDGES, folder, impatient_configuration(upstreams))
    yield running
    running.close()


@pytest.fixture(scope="module")
def impatient(edge: str, kept_impatient: guarded_by.Kept) -> Gateway:
    """The impatient gateway on the edge in turn, the same for all modules."""
    return kept_impatient.at(edge)


@pytest.fixture
def start(edge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start gateways of one's own; they are ended with the case."""
    started: list[Gateway] = []

    def run(config: Config, *, files: int = 0, fresh: bool = False) -> Gateway:
        folder = tmp_path_factory.mktemp(edge)
        running = Gateway(edge, config, folder, files=files, fresh=fresh)
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
    folder = tmp_path_factory.mktemp("guarded")
    running = guarded_by.Kept(EDGES, folder, config, first=guarded_by.FIRST)
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
    folder = tmp_path_factory.mktemp("loose")
    running = guarded_by.Kept(EDGES, folder, config, first=guarded_by.FIRST)
    yield running
    running.close()


@pytest.fixture(scope="module")
def loose(edge: str, kept_loose: guarded_by.Kept) -> Gateway:
    """The loose gateway on the edge in turn, the same for all modules."""
    return kept_loose.at(edge)
