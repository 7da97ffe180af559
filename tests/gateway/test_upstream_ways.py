"""Upstreams on Unix sockets, and upstreams that are told of the client by the PROXY protocol."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import Config, Gateway, free_port
from tests.support.secure import Authority, SecureUpstream, read_header
from tests.support.upstream import Upstream
from tests.support.waiting import soon

ONCE = {"attempts": 1}
PROXY_V1, PROXY_V2 = {"proxy_protocol": "v1"}, {"proxy_protocol": "v2"}


class World:
    """The upstreams, and the services that lead to them in one way or another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ca = Authority(folder)
        self.local = SecureUpstream(path=folder / "app.sock")
        self.tcp = Upstream()
        self.told = SecureUpstream(proxied=True)
        self.told_secretly = SecureUpstream(proxied=True, tls=ca.serving("127.0.0.1"))
        self.told_locally = SecureUpstream(proxied=True, path=folder / "told.sock")
        self.narrow = SecureUpstream(proxied=True)
        self.ca = ca.file

    @property
    def all(self) -> list[Upstream]:
        """Every upstream."""
        return [one for one in vars(self).values() if isinstance(one, Upstream)]

    def services(self) -> dict[str, Any]:
        """A service for each way to be connected to."""
        health = {"path": "/well", "interval": "100ms", "timeout": "20s"}
        tls = {"ca": str(self.ca)}
        return {
            "unix": {"url": self.local.url},
            "based": {"url": f"{self.local.url}:/base/v1"},
            "mixed": {"instances": [self.local.url, f"http://127.0.0.1:{self.tcp.port}"]},
            "missing": {"url": f"unix:{self.folder}/missing.sock"},
            "probed": {"url": self.local.url, "health": health},
            "v1": {"url": self.told.url, **PROXY_V1},
            "v2": {"url": self.told.url, **PROXY_V2},
            "v1-tls": {"url": self.told_secretly.url, "tls": tls, **PROXY_V1},
            "v2-tls": {"url": self.told_secretly.url, "tls": tls, **PROXY_V2},
            "v1-unix": {"url": self.told_locally.url, **PROXY_V1},
            "v2-unix": {"url": self.told_locally.url, **PROXY_V2},
            "v1-probed": {"url": self.told_locally.url, "health": health, **PROXY_V1},
            "v2-probed": {"url": self.told_secretly.url, "tls": tls, "health": health, **PROXY_V2},
            "narrow": {"url": self.narrow.url, "max_connections": 1, **PROXY_V2},
        }


def configuration(services: dict[str, Any], **server: Any) -> Config:
    """A route to each service; a request is one attempt."""
    routes = [{"path": f"/{name}", "service": name, "strip_prefix": True} for name in services]
    tuned = {name: {"retry": ONCE, **one} for name, one in services.items()}
    return {
        "server": server,
        "services": tuned,
        "routes": routes,
        "defaults": {"auth": "none", "circuit": False},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The upstreams, for all cases of both edges."""
    found = World(tmp_path_factory.mktemp("ways"))
    yield found
    for up in found.all:
        up.close()


@pytest.fixture(scope="module")
def led(world: World, edge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway before them, on the edge in turn; 127.0.0.9 is a proxy that it trusts."""
    config = configuration(world.services(), trusted_proxies=["127.0.0.9"])
    running = Gateway(edge, config, tmp_path_factory.mktemp("led"))
    running.wait_ready()
    yield running
    running.kill()
    assert "Traceback" not in running.said()


@pytest.fixture(autouse=True)
def _fresh(world: World) -> Iterator[None]:
    for up in world.all:
        up.reset()
    yield
    assert [up.faults for up in world.all] == [[]] * len(world.all)


def get(gateway: Gateway, service: str) -> Answer:
    """Ask a service."""
    return ask(gateway.port, target=f"/{service}/x")


# Unix sockets


def test_a_unix_socket_is_asked(led: Gateway, world: World) -> None:
    """It is asked as any other instance, with the Host localhost, over connections that are kept."""
    answered = [get(led, "unix") for _ in range(3)]
    assert [one.status for one in answered] == [200] * 3
    first, *others = (world.local.of(one) for one in answered)
    assert (first.target, first.get("host")) == (b"/x", "localhost")
    assert {one.connection for one in others} == {first.connection}
    assert led.record(answered[0])["instance"] == world.local.url


def test_a_body_over_a_unix_socket(led: Gateway, world: World) -> None:
    """Bodies stream both ways."""
    script, digest = answers.flood(4_194_304)
    world.local.on("/x", script)
    answer = ask(led.port, "POST", "/unix/x", body=b"b" * 500_000)
    assert (answer.status, len(answer.body)) == (200, 4_194_304)
    assert digest
    assert world.local.of(answer).length == 500_000


def test_a_base_path_behind_the_socket(led: Gateway, world: World) -> None:
    """What stands behind the second colon is put in front of the path."""
    answer = get(led, "based")
    assert world.local.of(answer).target == b"/base/v1/x"


def test_a_unix_socket_among_instances(led: Gateway, world: World) -> None:
    """It takes its turn beside an instance with a port."""
    for _ in range(4):
        assert get(led, "mixed").status == 200
    asked = [one.connection for one in world.local.requests if one not in _probes(world.local)]
    assert (len(asked), len(world.tcp.requests)) == (2, 2)


def test_a_socket_that_is_missing(led: Gateway) -> None:
    """502, and the log names the socket; the client learns no path."""
    answer = get(led, "missing")
    assert answer.status == 502
    assert b"missing.sock" not in answer.body
    said = led.record(answer)["error"]
    assert "missing.sock: [Errno 2] No such file or directory" in said


def test_probes_go_over_the_socket(led: Gateway, world: World) -> None:
    """A health check asks the socket, with the Host of requests."""
    assert soon(lambda: _probes(world.local))
    assert _probes(world.local)[-1].get("host") == "localhost"
    world.local.on("/well", answers.plain("503 Ill"))
    assert soon(lambda: get(led, "probed").status == 503)
    world.local.on("/well", answers.plain())
    assert soon(lambda: get(led, "probed").status == 200)


def _probes(up: Upstream) -> list[Any]:
    return [one for one in list(up.requests) if one.target == b"/well"]


APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    host = dict(scope["headers"])[b"host"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (scope["path"].encode(), b" ", host):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})
"""


def test_uvicorn_on_a_unix_socket(edge: str, tmp_path: Path) -> None:
    """An application that uvicorn serves with --uds is reached, kept alive, and may be restarted."""
    (tmp_path / "app.py").write_text(APP)
    path = tmp_path / "u.sock"
    command = [sys.executable, "-m", "uvicorn", "app:app", "--uds", str(path), "--lifespan", "off"]
    services = {"app": {"url": f"unix:{path}:/v1", "retry": {"attempts": 3}}}
    gateway = Gateway(edge, configuration(services), tmp_path)
    try:
        gateway.wait_ready()
        for _ in range(2):  # the second one listens on a new socket of the same path
            with subprocess.Popen(
                [*command, "--log-level", "warning"],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": ""},
            ) as server:
                try:
                    assert soon(lambda: get(gateway, "app").status == 200)
                    assert get(gateway, "app").body == b"/v1/x localhost"
                finally:
                    server.terminate()
    finally:
        gateway.kill()


# The PROXY protocol


@pytest.mark.parametrize("service", ["v1", "v2", "v1-tls", "v2-tls", "v1-unix", "v2-unix"])
def test_the_upstream_is_told_of_the_client(led: Gateway, world: World, service: str) -> None:
    """Each connection begins with a header that has the client's address and port, and ours; TLS begins behind it."""
    up = {"": world.told, "tls": world.told_secretly, "unix": world.told_locally}[service[3:]]
    with RawClient(led.port) as client:
        host, port = client.sock.getsockname()
        answer = client.send(request(target=f"/{service}/x")).read()
    assert answer.status == 200
    header = up.header_of(up.of(answer))
    assert header.startswith(b"PROXY ") == service.startswith("v1")
    assert read_header(header) == ("TCP4", host, "127.0.0.1", str(port), str(led.port))


@pytest.mark.parametrize("service", ["v1", "v2", "v2-tls"])
def test_no_two_clients_share_a_connection(led: Gateway, world: World, service: str) -> None:
    """The requests of one client connection share one; those of another never get it, though it is idle."""
    up = world.told_secretly if service.endswith("tls") else world.told
    used: dict[int, set[int]] = {}
    with RawClient(led.port) as one, RawClient(led.port) as other:
        for _ in range(3):
            for client in (one, other):
                answer = client.send(request(target=f"/{service}/x")).read()
                arrived = up.of(answer)
                port = client.sock.getsockname()[1]
                assert read_header(up.header_of(arrived))[3] == str(port)
                used.setdefault(port, set()).add(arrived.connection)
    assert [len(connections) for connections in used.values()] == [1, 1]
    assert len(set.union(*used.values())) == 2


def test_a_client_that_a_trusted_proxy_reports(led: Gateway, world: World) -> None:
    """The header has the client that the gateway believes in; its port is not known."""
    with RawClient(led.port) as plain:
        forged = plain.send(request(target="/v1/x", headers=[("X-Forwarded-For", "192.0.2.7")]))
        port = plain.sock.getsockname()[1]
        found = read_header(world.told.header_of(world.told.of(forged.read())))
    assert found[1:4:2] == ("127.0.0.1", str(port))
    for client, kind in (("192.0.2.7", "TCP4"), ("2001:db8::7", "TCP6")):
        for service in ("v1", "v2"):
            with _from("127.0.0.9", led.port) as proxy:
                told = [("X-Forwarded-For", client)]
                answer = proxy.send(request(target=f"/{service}/x", headers=told)).read()
            found = read_header(world.told.header_of(world.told.of(answer)))
            assert found[:2] + found[3:] == (kind, client, "0", str(led.port))


def _from(host: str, port: int) -> RawClient:
    """A client with an address of its own."""
    client = RawClient(port)
    client.sock.close()
    client.sock = socket.create_connection(("127.0.0.1", port), 20, source_address=(host, 0))
    return client


@pytest.mark.parametrize(
    ("service", "said"), [("v1-probed", ("UNKNOWN",)), ("v2-probed", ("LOCAL",))]
)
def test_a_probe_is_no_clients(
    led: Gateway, world: World, service: str, said: tuple[str, ...]
) -> None:
    """A health check begins with the header that says that the gateway itself asks."""
    up = world.told_locally if service == "v1-probed" else world.told_secretly
    assert soon(lambda: _probes(up))
    assert read_header(up.header_of(_probes(up)[-1])) == said
    assert get(led, service).status == 200


def test_an_idle_connection_makes_room(led: Gateway, world: World) -> None:
    """With all connections taken by clients that are idle, the next client gets one of its own."""
    with RawClient(led.port) as one, RawClient(led.port) as other:
        for client in (one, other, one):
            answer = client.send(request(target="/narrow/x")).read()
            found = read_header(world.narrow.header_of(world.narrow.of(answer)))
            assert found[3] == str(client.sock.getsockname()[1])


def test_who_waits_gets_a_connection_of_its_own(led: Gateway, world: World) -> None:
    """A request in the queue is not sent over the connection that another client leaves, but over a new one."""
    world.narrow.on("/slow", answers.after(0.3, answers.plain()))
    with RawClient(led.port) as one, RawClient(led.port) as other:
        one.send(request(target="/narrow/slow"))
        world.narrow.arrived("/slow")
        second = other.send(request(target="/narrow/x")).read()
        assert (one.read().status, second.status) == (200, 200)
        found = read_header(world.narrow.header_of(world.narrow.of(second)))
        assert found[3] == str(other.sock.getsockname()[1])


HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend told
  bind 127.0.0.1:{port} accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port]"
"""


@pytest.mark.parametrize("service", ["v1", "v2"])
def test_haproxy_understands_the_header(edge: str, service: str, tmp_path: Path) -> None:
    """HAProxy takes the address and the port of the client from the header."""
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if haproxy is None:
        pytest.skip("HAProxy is not installed")
    port = free_port()
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(port=port))
    services = {"told": {"url": f"http://127.0.0.1:{port}", "proxy_protocol": service}}
    gateway = Gateway(edge, configuration(services), tmp_path)
    with subprocess.Popen([haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg")]) as server:
        try:
            gateway.wait_ready()
            assert soon(lambda: get(gateway, "told").status == 200)
            with RawClient(gateway.port) as client:
                ends = client.sock.getsockname()
                for _ in range(2):
                    answer = client.send(request(target="/told/x")).read()
                    assert answer.body == f"{ends[0]} {ends[1]}".encode()
        finally:
            gateway.kill()
            server.terminate()


# Names


HOSTS = """
import pathlib, propylon.names.lookup as lookup
lookup.Lookup.__init__.__defaults__ = (
    lookup._name_servers, pathlib.Path({path!r}), lookup.time.monotonic
)
"""


def test_loopback_addresses_of_one_name_are_instances(edge: str, tmp_path: Path) -> None:
    """Each address that the hosts file has for a name gets its share, and is left alone while it is ill."""
    first = Upstream()
    second = Second(port=first.port)
    (tmp_path / "hosts").write_text("127.0.0.1 both.internal\n127.0.0.2 both.internal\n")
    health = {"path": "/well", "interval": "100ms", "timeout": "20s"}
    services = {"both": {"url": f"http://both.internal:{first.port}", "health": health}}
    folder = tmp_path / "gateway"
    folder.mkdir()
    first_code = HOSTS.format(path=str(tmp_path / "hosts"))
    gateway = Gateway(edge, configuration(services), folder, first=first_code)
    try:
        gateway.wait_ready()
        ids = {f"127.0.0.{number}:{first.port}" for number in (1, 2)}
        asked: set[str] = set()

        def everyone_was_asked() -> bool:
            asked.add(gateway.record(get(gateway, "both"))["instance"])
            return asked == ids

        assert soon(everyone_was_asked)
        first.on("/well", answers.plain("503 Ill"))
        assert soon(
            lambda: f"127.0.0.1:{first.port} of" in gateway.said() and "unhealthy" in gateway.said()
        )
        found = {gateway.record(get(gateway, "both"))["instance"] for _ in range(4)}
        assert found == {f"127.0.0.2:{first.port}"}
    finally:
        gateway.kill()
        first.close()
        second.close()


class Second(Upstream):
    """An upstream on another loopback address, at a port that is taken on the first one."""

    def listen(self, port: int) -> socket.socket:
        """Listen there."""
        return socket.create_server(("127.0.0.2", port))
