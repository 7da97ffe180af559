"""Instances that a cluster tells of: there from the first request on, followed without a reload."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import ask
from tests.support.cluster import Cluster, a_slice, endpoints
from tests.support.docker import Engine, container
from tests.support.gateway import EDGES, Gateway
from tests.support.upstream import Upstream
from tests.support.waiting import wait

# Routes of labels come into force as often as they change.
OFTEN = "import propylon.assembly.docker\npropylon.assembly.docker._BETWEEN = 0.0"


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


def labelled(name: str, path: str, upstream: Upstream) -> dict[str, str]:
    """Labels of a route to an upstream."""
    return {
        "propylon.enable": "true",
        f"propylon.routes.{name}.path": path,
        f"propylon.services.{name}.port": str(upstream.port),
    }


def test_labels_are_routes(edge: str, pods: tuple[Upstream, Upstream], tmp_path: Path) -> None:
    """From the first request on; a new container, a wrong one, and one that is not well, without a reload of the file."""
    one, two = pods
    with Engine(tmp_path / "docker.sock") as engine:
        web = container("web", labelled("web", "/web", one))
        engine.run(web)
        config = {
            "defaults": {"auth": "none"},
            "discovery": {"docker": {"socket": engine.url}},
            "metrics": {"allow": ["127.0.0.1"]},
            "services": {
                "file": {"url": f"http://127.0.0.1:{one.port}"},
                "pool": {"docker": True},
            },
            "routes": [
                {"path": "/file", "service": "file"},
                {"path": "/pool", "service": "pool"},
            ],
        }
        gateway = Gateway(edge, config, tmp_path, first=OFTEN)
        try:
            gateway.wait_ready()
            answer = ask(gateway.port, "GET", "/web/1")
            assert answer.status == 200
            assert one.of(answer).get("host") == "web"
            assert ask(gateway.port, "GET", "/pool").status == 503
            # An edit that nobody has asked to be put in force.
            gateway.file.write_text(gateway.file.read_text().replace("/file", "/edited"))
            pooled = {"propylon.enable": "true", "propylon.services.pool.port": str(two.port)}
            engine.run(
                web,
                container("pool", pooled, created=2),
                container("thief", labelled("thief", "/file/x", two), created=3),
                container("new", labelled("new", "/new", two), created=4),
            )
            wait(lambda: ask(gateway.port, "GET", "/new").status == 200)
            assert two.of(ask(gateway.port, "GET", "/pool")).target == b"/pool"
            assert one.of(ask(gateway.port, "GET", "/file/x")).target == b"/file/x"
            assert ask(gateway.port, "GET", "/edited").status == 404
            said = "docker: container thief, label propylon.routes.thief.path: /file/x would take"
            wait(lambda: said in gateway.said())
            if edge == "fast":  # a foreign server ends on it
                gateway.process.send_signal(signal.SIGHUP)
                wait(lambda: ask(gateway.port, "GET", "/edited").status == 200)
                assert ask(gateway.port, "GET", "/new").status == 200
            # One that is not well is asked no more; its route stays. One that has stopped has none.
            engine.run(web | {"Status": "Up 5 minutes (unhealthy)"})
            wait(lambda: ask(gateway.port, "GET", "/new").status == 404)
            assert ask(gateway.port, "GET", "/web").status == 503
            assert ask(gateway.port, "GET", "/pool").status == 503
            metrics = ask(gateway.port, "GET", "/metrics").body.decode()
            assert 'propylon_discovery_up{source="docker"} 1' in metrics
        finally:
            gateway.kill()
