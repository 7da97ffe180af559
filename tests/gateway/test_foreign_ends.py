"""As tests/gateway/test_foreign_bugs.py, with what no `except Exception` catches."""

from collections.abc import Iterator

import pytest

from tests.gateway import test_foreign_bugs as module
from tests.gateway.test_foreign_bugs import TEAM, configuration
from tests.support.client import ask
from tests.support.gateway import EDGES, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import authorized
from tests.support.topology import Upstreams

ODD = """
    if kind == "base-group":
        raise BaseExceptionGroup(marker, [asyncio.CancelledError(), KeyError("k")])
    if kind == "base":
        raise Odd(marker)
    if kind == "assertion":"""
SOURCE = TEAM.replace('\n    if kind == "assertion":', ODD).replace(
    "def deep(", "class Odd(BaseException):\n    pass\n\n\ndef deep(", 1
)


@pytest.fixture(scope="module")
def teams(guarded_upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A team's gateway on each edge."""
    config = configuration(guarded_upstreams.main.port)
    running = Kept(EDGES, tmp_path_factory.mktemp("odd"), config, app="team", source=SOURCE)
    yield running
    running.close()


@pytest.mark.parametrize("kind", ["base-group", "base"])
@pytest.mark.parametrize("place", ["guarded", "plain", "depends", "streamed"])
def test_told(edge: str, teams: Kept, place: str, kind: str) -> None:
    """Its client is told, or cut, and does not wait."""
    assert module
    team: Gateway = teams.at(edge)
    answer = ask(team.port, target=f"/{place}/{kind}", headers=authorized())
    if place == "streamed":
        assert (answer.status, answer.complete) == (200, False)
    else:
        assert (answer.status, answer.complete) == (500, True)
