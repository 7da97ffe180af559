"""Health checks of each kind, as a gateway sends them to upstreams that answer them in their own ways."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import answers
from tests.support.client import ask
from tests.support.gateway import Config, Gateway
from tests.support.upstream import Arrived, Upstream
from tests.support.waiting import soon

OFTEN = {"interval": "100ms", "timeout": "20s"}


class World:
    """The upstreams: where requests go, and where some services are probed instead."""

    def __init__(self) -> None:
        self.main, self.aside = Upstream(), Upstream()

    def services(self) -> dict[str, Any]:
        """A service for each kind of probe, all on one upstream, at another path each."""
        kinds: dict[str, dict[str, Any]] = {
            "method": {"method": "OPTIONS"},
            "post": {"method": "POST"},
            "host": {"host": "probe.internal:81"},
            "headers": {"headers": {"X-Probe": "yes", "User-Agent": "kube-probe/1"}},
            "status": {"status": [401, "300-399"]},
            "body": {"body": "status: *up"},
            "port": {"port": self.aside.port},
        }
        found: dict[str, Any] = {
            name: {"url": self.url, "health": {**OFTEN, "path": f"/{name}", **kind}}
            for name, kind in kinds.items()
        }
        found["tcp"] = {"url": self.url, "health": {**OFTEN, "type": "tcp"}}
        return found

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.main.port}"


def configuration(services: dict[str, Any]) -> Config:
    """A route to each service."""
    routes = [{"path": f"/{name}", "service": name, "strip_prefix": True} for name in services]
    return {"services": services, "routes": routes, "defaults": {"auth": "none"}}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The upstreams, for all cases of both edges."""
    found = World()
    yield found
    found.main.close()
    found.aside.close()


@pytest.fixture(scope="module")
def probing(world: World, edge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that probes, on the edge in turn."""
    folder = tmp_path_factory.mktemp("probing")
    running = Gateway(edge, configuration(world.services()), folder)
    running.wait_ready()
    yield running
    assert running.edge == "portable" or running.stop() == 0
    running.kill()
    assert "Traceback" not in running.said()


@pytest.fixture(autouse=True)
def _fresh(world: World) -> Iterator[None]:
    world.main.reset()
    world.aside.reset()
    yield
    assert world.main.faults == world.aside.faults == []


def status(gateway: Gateway, service: str) -> int:
    """Ask a service, at a path that no probe has."""
    return ask(gateway.port, target=f"/{service}/mine").status


def becomes(gateway: Gateway, service: str, expected: int) -> bool:
    """Whether that is soon the answer of a service."""
    return soon(lambda: status(gateway, service) == expected)


def probe(up: Upstream, path: str) -> Arrived:
    """The first probe that arrives from now on."""
    return up.arrived(path)


@pytest.mark.parametrize(("service", "method"), [("method", "OPTIONS"), ("post", "POST")])
def test_the_method(probing: Gateway, world: World, service: str, method: str) -> None:
    """The probe has the method that was written, and no body."""
    found = probe(world.main, f"/{service}")
    assert (found.method, found.get("host")) == (method, f"127.0.0.1:{world.main.port}")
    assert found.get("content-length") == ("0" if method == "POST" else None)
    assert becomes(probing, service, 200)


def test_the_host(probing: Gateway, world: World) -> None:
    """The probe has the Host that was written; requests have theirs."""
    assert probe(world.main, "/host").get("host") == "probe.internal:81"
    assert becomes(probing, "host", 200)
    assert world.main.arrived("/mine").get("host") == f"127.0.0.1:{world.main.port}"


def test_the_headers(probing: Gateway, world: World) -> None:
    """The probe has the headers that were written, also in the place of the gateway's own."""
    found = probe(world.main, "/headers")
    assert (found.get("x-probe"), found.get("user-agent")) == ("yes", "kube-probe/1")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("401 Unauthorized", 200), ("302 Found", 200), ("200 OK", 503), ("500 Ill", 503)],
)
def test_the_status(probing: Gateway, world: World, answer: str, expected: int) -> None:
    """Only the statuses that were written are well."""
    world.main.on("/status", answers.plain(answer))
    assert becomes(probing, "status", expected)


@pytest.mark.parametrize(
    ("body", "expected"), [(b"status:  up\n", 200), (b"status: down\n", 503), (b"", 503)]
)
def test_the_body(probing: Gateway, world: World, body: bytes, expected: int) -> None:
    """The pattern must be in the body; the log says that it was not."""
    world.main.on("/body", answers.plain(body=body))
    assert becomes(probing, "body", expected)
    if expected == 503:
        assert "status 200, and the body does not match" in probing.said()


def test_the_port(probing: Gateway, world: World) -> None:
    """Probes go to the other port, and decide about requests, which do not."""
    assert probe(world.aside, "/port").get("host") == f"127.0.0.1:{world.main.port}"
    world.aside.on("/port", answers.plain("503 Ill"))
    assert becomes(probing, "port", 503)
    world.aside.on("/port", answers.plain())
    assert becomes(probing, "port", 200)
    assert not [one for one in world.aside.requests if one.target == b"/mine"]


def test_a_connection_is_enough(probing: Gateway, world: World) -> None:
    """A TCP check sends nothing: an upstream that answers every request with 500 is well."""
    world.main.fallback, usual = answers.plain("500 Broken"), world.main.fallback
    try:
        before = world.main.connections
        assert soon(lambda: world.main.connections > before + 2)
        assert status(probing, "tcp") == 500
    finally:
        world.main.fallback = usual


def test_a_port_where_nobody_listens(edge: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A TCP check of a port that was closed takes the instance out."""
    up, aside = Upstream(), Upstream()
    url = f"http://127.0.0.1:{up.port}"
    health = {**OFTEN, "type": "tcp", "port": aside.port}
    config = configuration({"tcp": {"url": url, "health": health}})
    gateway = Gateway(edge, config, tmp_path_factory.mktemp("closed"))
    try:
        gateway.wait_ready()
        assert becomes(gateway, "tcp", 200)
        assert soon(lambda: "-> healthy (connected)" in gateway.said())
        aside.close()
        assert becomes(gateway, "tcp", 503)
    finally:
        gateway.kill()
        up.close()
