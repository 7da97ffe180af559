"""TLS to upstreams: whom the gateway trusts, what it shows of itself, and what a broken end means."""

import datetime as dt
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import Config, Gateway, free_port
from tests.support.secure import Authority, SecureUpstream, close_notify, fin, serving
from tests.support.upstream import Script, Upstream
from tests.support.waiting import soon

OK = b"HTTP/1.1 200 OK\r\n"
HOUR = dt.timedelta(hours=1)
ONCE = {"attempts": 1}


class World:
    """The upstreams, and the services that lead to them in one way or another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = Authority(folder, "ca")
        self.other = Authority(folder, "other")
        self.client = self.ca.issue(subject="the-gateway")
        self.stranger = self.other.issue(subject="a-stranger")
        yesterday = self.ca.issue("localhost", valid=(-2 * HOUR, -HOUR))
        self.named = SecureUpstream(tls=self.ca.serving("localhost", "orders.internal"))
        self.ill = SecureUpstream(tls=self.ca.serving("localhost"))
        self.addressed = SecureUpstream(tls=self.ca.serving("127.0.0.1"))
        self.expired = SecureUpstream(tls=serving(yesterday))
        self.guarded = SecureUpstream(tls=self.ca.serving("127.0.0.1", clients=self.ca))
        self.either = SecureUpstream(
            tls=self.ca.serving("127.0.0.1", clients=self.ca, required=False)
        )
        self.plain = Upstream(greeting=OK + b"\r\n")

    @property
    def all(self) -> list[Upstream]:
        """Every upstream."""
        return [one for one in vars(self).values() if isinstance(one, Upstream)]

    def services(self) -> dict[str, Any]:
        """A service for each way to be connected to."""
        ca = {"ca": str(self.ca.file)}
        shown = {"certificate": str(self.client.chain), "key": str(self.client.key)}
        wrong = {"certificate": str(self.stranger.chain), "key": str(self.stranger.key)}
        named = f"https://localhost:{self.named.port}"
        return {
            "by-name": {"url": named, "tls": ca},
            "by-server-name": {
                "url": self.named.url,
                "tls": {**ca, "server_name": "orders.internal"},
            },
            "wrong-name": {"url": named, "tls": {**ca, "server_name": "bills.internal"}},
            "by-address": {"url": self.addressed.url, "tls": ca},
            "address-of-a-name": {"url": self.named.url, "tls": ca},
            "system-trust": {"url": named},
            "other-trust": {"url": named, "tls": {"ca": str(self.other.file)}},
            "expired": {"url": f"https://localhost:{self.expired.port}", "tls": ca},
            "unverified": {"url": self.expired.url, "tls": {"verify": False}},
            "shown": {"url": self.guarded.url, "tls": {**ca, **shown}},
            "not-shown": {"url": self.guarded.url, "tls": ca},
            "stranger": {"url": self.guarded.url, "tls": {**ca, **wrong}},
            "either-shown": {"url": self.either.url, "tls": {**ca, **shown}},
            "either-not": {"url": self.either.url, "tls": ca},
            "either-too": {"url": self.either.url, "tls": {**ca, "verify": True}},
            "no-tls": {"url": f"https://localhost:{self.plain.port}", "tls": ca},
            "probed": {
                "url": self.guarded.url,
                "tls": {**ca, **shown},
                "health": {"path": "/well", "interval": "10m"},
            },
            "ill": {
                "url": self.ill.url,
                "tls": ca,
                "health": {"type": "tcp", "interval": "10m"},
            },
        }


def configuration(services: dict[str, Any]) -> Config:
    """A route to each service; a request is one attempt."""
    routes = [{"path": f"/{name}", "service": name, "strip_prefix": True} for name in services]
    tuned = {name: {"retry": ONCE, **one} for name, one in services.items()}
    return {
        "services": tuned,
        "routes": routes,
        "defaults": {"auth": "none", "circuit": False},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The upstreams, for all cases of both edges."""
    found = World(tmp_path_factory.mktemp("certificates"))
    yield found
    for up in found.all:
        up.close()


@pytest.fixture(scope="module")
def secured(world: World, edge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway before them, on the edge in turn."""
    folder = tmp_path_factory.mktemp("secured")
    running = Gateway(edge, configuration(world.services()), folder)
    running.wait_ready()
    yield running
    running.kill()
    # On the portable edge an answer is cut by an exception, which the server logs.
    assert edge == "portable" or "Traceback" not in running.said()


@pytest.fixture(autouse=True)
def _fresh(world: World) -> Iterator[None]:
    for up in world.all:
        up.reset()
    yield
    assert [up.faults for up in world.all] == [[]] * len(world.all)


def get(gateway: Gateway, service: str) -> Answer:
    """Ask a service."""
    return ask(gateway.port, target=f"/{service}/x")


# Whom the gateway trusts


@pytest.mark.parametrize(
    ("service", "upstream", "server_name"),
    [
        ("by-name", "named", "localhost"),
        ("by-server-name", "named", "orders.internal"),
        # RFC 6066, 3: an address is no server name.
        ("by-address", "addressed", None),
        ("unverified", "expired", None),
    ],
)
def test_a_certificate_that_is_accepted(
    secured: Gateway, world: World, service: str, upstream: str, server_name: str | None
) -> None:
    """The certificate fits the host of the URL or `server_name`, which is sent as SNI and is not the Host."""
    up: SecureUpstream = getattr(world, upstream)
    up.server_names.clear()
    assert get(secured, service).status == 200
    assert up.server_names in ([server_name], [])  # []: over a connection that was open
    host = "localhost" if service == "by-name" else "127.0.0.1"
    assert up.last.get("host") == f"{host}:{up.port}"


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        ("wrong-name", "Hostname mismatch, certificate is not valid for 'bills.internal'"),
        ("address-of-a-name", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("system-trust", "unable to get local issuer certificate"),
        ("other-trust", "unable to get local issuer certificate"),
        ("expired", "certificate has expired"),
    ],
)
def test_a_certificate_that_is_refused(secured: Gateway, service: str, reason: str) -> None:
    """The log says which check failed, and what was expected; the client learns nothing but 502."""
    answer = get(secured, service)
    assert answer.status == 502
    error = secured.record(answer)["error"]
    assert f"certificate verify failed: {reason}; it has to be a certificate of " in error
    for inside in (reason, "internal", "127.0.0.1", "localhost"):
        assert inside not in answer.body.decode()


def test_an_upstream_without_tls(secured: Gateway) -> None:
    """502 at once, and the log says that there was no handshake."""
    answer = get(secured, "no-tls")
    assert answer.status == 502
    assert "no TLS handshake: wrong version number" in secured.record(answer)["error"]


def test_verify_false_is_said(secured: Gateway, world: World) -> None:
    """The log warns at the start, and `check` has a doubt; the certificate is not looked at."""
    assert get(secured, "unverified").status == 200
    where = "services.unverified.tls.verify: is false, so an attacker on the network can read"
    assert any(where in str(line.get("event")) for line in secured.lines("unverified"))


# What the gateway shows


def test_a_client_certificate_is_shown(secured: Gateway, world: World) -> None:
    """The upstream sees whose certificate it is."""
    assert get(secured, "shown").status == 200
    assert world.guarded.shown[world.guarded.last.connection] == "the-gateway"


@pytest.mark.parametrize("service", ["not-shown", "stranger"])
def test_a_client_certificate_that_the_upstream_refuses(secured: Gateway, service: str) -> None:
    """502, and the log has the upstream's alert."""
    answer = get(secured, service)
    assert answer.status == 502
    said = secured.record(answer)["error"]
    assert "ALERT" in said.upper(), said


def test_other_settings_share_no_connection(secured: Gateway, world: World) -> None:
    """A service without the certificate never gets a connection that was opened with it; equal settings share."""
    used: dict[str, int] = {}
    for service in ("either-shown", "either-not", "either-too") * 2:
        assert get(secured, service).status == 200
        connection = world.either.last.connection
        assert used.setdefault(service, connection) == connection
    assert used["either-shown"] != used["either-not"] == used["either-too"]
    assert world.either.shown[used["either-shown"]] == "the-gateway"
    assert used["either-not"] not in world.either.shown


def test_probes_go_as_requests_do(secured: Gateway) -> None:
    """A probe shows the certificate, too; a TCP check makes the handshake, and fails with it."""
    assert soon(lambda: "healthy" in _conditions(secured, "probed"))
    assert soon(lambda: "failed" in _conditions(secured, "ill"))
    assert get(secured, "ill").status == 503
    [said] = [line for line in secured.lines('of \\"ill\\"') if "failed" in str(line["event"])]
    assert "IP address mismatch" in str(said["event"])


def _conditions(gateway: Gateway, service: str) -> list[str]:
    events = [str(line.get("event")) for line in gateway.lines(f'of \\"{service}\\"')]
    return [event.partition(" -> ")[2].split(" ")[0] for event in events]


# How an answer ends


def truncated(*pieces: bytes, proper: bool = False) -> Script:
    """These bytes, and then the end of the connection, with or without that of TLS."""
    return answers.raw(*pieces, pause=0.05, end=close_notify if proper else fin)


@pytest.mark.parametrize(
    "pieces",
    [
        (OK + b"Content-Length: 10\r\n\r\n", b"hello"),
        (OK + b"Content-Length: 10\r\n\r\nhello",),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",),
        (OK + b"\r\n", b"hello"),
        (OK + b"\r\nhello",),
        (OK + b"Connection: close\r\n\r\n",),
    ],
    ids=["length", "length-at-once", "chunks", "chunks-at-once", "close", "close-at-once", "none"],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_truncated_answer_is_cut(
    secured: Gateway, world: World, pieces: tuple[bytes, ...], version: str
) -> None:
    """Without close_notify the client must see that the answer is not whole (RFC 9112, 9.8)."""
    world.addressed.on("/x", truncated(*pieces))
    with RawClient(secured.port) as client:
        answer = client.send(request(target="/by-address/x", version=version)).read()
    assert answer.status == 502 or answer.ended in ("cut", "reset"), answer
    assert secured.record(answer)["error"]


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (truncated(OK + b"\r\n", b"hello", proper=True), b"hello"),
        (truncated(OK + b"\r\nhello", proper=True), b"hello"),
        (truncated(OK + b"\r\n", proper=True), b""),
        # Whole by its length or its last chunk, whatever comes behind.
        (truncated(OK + b"Content-Length: 5\r\n\r\n", b"hello"), b"hello"),
        (
            truncated(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"0\r\n\r\n"),
            b"hello",
        ),
    ],
    ids=["close", "close-at-once", "none", "length", "chunks"],
)
def test_a_whole_answer_is_whole(
    secured: Gateway, world: World, script: Script, body: bytes
) -> None:
    """With close_notify an answer that ends with the connection is complete; others need none."""
    world.addressed.on("/x", script)
    answer = get(secured, "by-address")
    assert (answer.status, answer.body) == (200, body)
    assert answer.complete
    assert secured.record(answer)["error"] is None


# Changed files


def test_changed_files_take_effect_at_a_reload(
    world: World, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A certificate that was renewed in its place is shown after a reload; a service without changes keeps its connections."""
    chain, key = tmp_path / "client.crt", tmp_path / "client.key"
    shutil.copy(world.client.chain, chain)
    shutil.copy(world.client.key, key)
    services = world.services()
    tls = {"ca": str(world.ca.file), "certificate": chain.name, "key": key.name}
    folder = tmp_path
    written = configuration(
        {"changing": {"url": world.either.url, "tls": tls}, "staying": services["by-name"]}
    )
    gateway = Gateway("fast", written, folder)
    try:
        gateway.wait_ready()
        assert get(gateway, "changing").status == get(gateway, "staying").status == 200
        before = world.named.last.connection
        assert world.either.shown[world.either.last.connection] == "the-gateway"
        renewed = world.ca.issue(subject="renewed")
        shutil.copy(renewed.chain, chain)
        shutil.copy(renewed.key, key)
        _reload(gateway, 1)
        assert get(gateway, "changing").status == get(gateway, "staying").status == 200
        assert world.either.shown[world.either.last.connection] == "renewed"
        assert world.named.last.connection == before
        # Half a pair is refused, and all stays as it was.
        shutil.copy(world.client.key, key)
        gateway.process.send_signal(signal.SIGHUP)
        assert soon(
            lambda: "services.changing.tls: certificate and key cannot be" in gateway.said()
        )
        assert get(gateway, "changing").status == 200
        assert world.either.shown[world.either.last.connection] == "renewed"
    finally:
        gateway.kill()


def _reload(gateway: Gateway, times: int) -> None:
    gateway.process.send_signal(signal.SIGHUP)
    assert soon(lambda: gateway.said().count("reload: 2 services") >= times), gateway.said()[-2000:]


# A server that is not ours


NGINX = """
daemon off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {chain}; ssl_certificate_key {key};
    ssl_client_certificate {ca}; ssl_verify_client on;
    location / {{ return 200 "$ssl_server_name $ssl_client_s_dn"; }}
  }}
}}
"""


def test_nginx_with_client_certificates(world: World, edge: str, tmp_path: Path) -> None:
    """Nginx sees the name and the certificate of the gateway, and answers 400 to one without."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    port, identity = free_port(), world.ca.issue("shop.internal")
    conf = NGINX.format(
        folder=tmp_path, port=port, chain=identity.chain, key=identity.key, ca=world.ca.file
    )
    (tmp_path / "nginx.conf").write_text(conf)
    command = [nginx, "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    tls = {"ca": str(world.ca.file), "server_name": "shop.internal"}
    shown = {"certificate": str(world.client.chain), "key": str(world.client.key)}
    url = f"https://127.0.0.1:{port}"
    services = {"with": {"url": url, "tls": {**tls, **shown}}, "without": {"url": url, "tls": tls}}
    gateway = Gateway(edge, configuration(services), tmp_path)
    with (tmp_path / "said").open("wb") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            gateway.wait_ready()
            assert soon(lambda: get(gateway, "with").status == 200), (tmp_path / "said").read_text()
            assert get(gateway, "with").body == b"shop.internal CN=the-gateway"
            assert get(gateway, "without").status == 400
        finally:
            gateway.kill()
            server.terminate()
            server.wait(20)
