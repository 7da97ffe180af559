"""How long a client may take: each scenario goes as its function says."""

from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial

import pytest

from tests.gateway.patience import PROGRESS, SCENARIOS
from tests.support.beside import side_by_side
from tests.support.gateway import EDGES
from tests.support.guarded import Kept
from tests.support.topology import BODY, LENIENT, Upstreams, impatient

Key = tuple[str, str]


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Key, Future[None]]]:
    """All of them, under way, against gateways of their own; nothing dubious arrives behind those."""
    with Upstreams() as upstreams:
        kept = {
            body: Kept(EDGES, tmp_path_factory.mktemp("patience"), impatient(upstreams, body))
            for body in (BODY, LENIENT)
        }
        found = {
            (edge, name): partial(
                scenario, kept[LENIENT if name in PROGRESS else BODY].at(edge), upstreams.main
            )
            for edge in EDGES
            for name, scenario in SCENARIOS.items()
        }
        with side_by_side(found) as running:
            yield running
        for each in kept.values():
            each.close()
        assert upstreams.faults == []


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("edge", EDGES)
def test_patience(scenarios: dict[Key, Future[None]], edge: str, name: str) -> None:
    """Who is slow is served as long as something comes; who stops is let go, and told where possible."""
    scenarios[edge, name].result(60)
