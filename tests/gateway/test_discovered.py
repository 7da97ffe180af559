"""Instances that a cluster tells of: there from the first request on, followed without a reload."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import ask
from tests.support.cluster import Cluster, a_slice, endpoints
from tests.support.gateway import EDGES, Gateway
from tests.support.upstream import Upstream
from tests.support.waiting import wait


@pytest.fixture(scope="module", params=EDGES)
def edge(request: pytest.FixtureRequest) -> str:
    """Each edge."""
    return str(request.param)


@pytest.fixture(scope="module")
def pods() -> Iterator[tuple[Upstream, Upstream]]:
    """Two pods."""
    with Upstream() as one, Upstream() as two:
        yield one, two


def test_pods_are_the_instances(edge: str, pods: tuple[Upstream, Upstream], tmp_path: Path) -> None:
    """A start waits for them; one that is replaced is asked no more; while the API is away, all goes on."""
    one, two = pods
    with Cluster() as api:
        api.put(a_slice("a", "orders", endpoints("127.0.0.1"), ("http", one.port)))
        config = {
            "discovery": {"kubernetes": {"api": api.url, "token_file": "", "ca_file": ""}},
            "metrics": {"allow": ["127.0.0.1"]},
            "services": {
                "orders": {
                    "kubernetes": {"service": "orders", "namespace": "shop", "path": "/base"}
                }
            },
            "routes": [{"path": "/orders", "service": "orders", "auth": "none"}],
        }
        gateway = Gateway(edge, config, tmp_path)
        try:
            gateway.wait_ready()
            answer = ask(gateway.port, "GET", "/orders")
            assert answer.status == 200
            got = one.of(answer)
            assert (got.target, got.get("host")) == (b"/base/orders", "orders.shop")
            api.put(a_slice("a", "orders", endpoints("127.0.0.1"), ("http", two.port)))
            before = len(two.requests)
            wait(lambda: ask(gateway.port, "GET", "/orders").status and len(two.requests) > before)
            metrics = ask(gateway.port, "GET", "/metrics").body.decode()
            assert 'propylon_discovery_up{source="kubernetes"} 1' in metrics
            api.statuses += [500] * 1000
            api.cut()
            wait(lambda: "the namespace shop is not watched" in gateway.said())
            assert ask(gateway.port, "GET", "/orders").status == 200
            metrics = ask(gateway.port, "GET", "/metrics").body.decode()
            assert 'propylon_discovery_up{source="kubernetes"} 0' in metrics
        finally:
            gateway.kill()
