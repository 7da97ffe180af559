"""TLS on the listeners: handshakes, versions, certificates by name, clients' certificates, and their renewal."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import NameOID

from tests.support.certificates import Authority, Pair
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import Gateway, free_port
from tests.support.tokens import SECRET, bearer, mint
from tests.support.upstream import Upstream

HEADER = 1.0  # seconds
Start = Callable[..., Gateway]


@dataclass
class Shown:
    """What a handshake has led to: the DNS names of the gateway's certificate, the version, the protocol, the cipher."""

    names: list[str]
    version: str | None
    protocol: str | None
    cipher: str


class Site:
    """An authority, a port that speaks TLS, and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.port = free_port()

    def context(self, client: Pair | None = None, **change: Any) -> ssl.SSLContext:
        """A client's context; `change` sets attributes."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.check_hostname = False
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        for name, value in change.items():
            setattr(context, name, value)
        return context

    def connect(
        self, context: ssl.SSLContext | None = None, name: str | None = None, port: int = 0
    ) -> ssl.SSLSocket:
        """A connection that asks for a name."""
        plain = socket.create_connection(("127.0.0.1", port or self.port), timeout=20)
        try:
            return (context or self.context()).wrap_socket(plain, server_hostname=name)
        except OSError:
            plain.close()
            raise

    def shown(self, context: ssl.SSLContext | None = None, name: str | None = None) -> Shown:
        """What the gateway shows to a client."""
        with self.connect(context, name) as secured:
            certificate = secured.getpeercert() or {}
            names: Any = certificate.get("subjectAltName", ())
            cipher = secured.cipher() or ("",)
            return Shown(
                [value for kind, value in names if kind == "DNS"],
                secured.version(),
                secured.selected_alpn_protocol(),
                cipher[0],
            )

    def ask(
        self,
        client: Pair | None = None,
        target: str = "/up",
        headers: Any = (),
        port: int = 0,
    ) -> Answer:
        """One request by TLS, with a certificate if one is given."""
        connected = self.connect(self.context(client), port=port)
        with RawClient.over(connected) as raw:
            return raw.send(request(target=target, headers=headers)).read()

    def refuses(self, context: ssl.SSLContext) -> bool:
        """Whether a handshake fails; in TLS 1.3 the client learns it with the first byte that it reads."""
        try:
            with self.connect(context) as secured:
                secured.sendall(request(target="/livez"))
                return not secured.recv(1)
        except OSError:
            return True


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site for the case."""
    return Site(tmp_path)


@pytest.fixture(scope="module")
def up() -> Iterator[Upstream]:
    """An upstream behind authentication."""
    with Upstream(identified=True) as running:
        yield running
        assert running.faults == []


@pytest.fixture
def start(site: Site, up: Upstream, tmp_path: Path) -> Iterator[Start]:
    """Start gateways with this section `tls`; they are ended with the case."""
    started: list[Gateway] = []

    def run(tls: dict[str, Any], *, server: dict[str, Any] | None = None, **more: Any) -> Gateway:
        up.reset()
        secured = {"address": f"127.0.0.1:{site.port}", "tls": True}
        config = {
            "server": {
                "listen": ["127.0.0.1:{port}", secured],
                "timeouts": {"header": HEADER},
                **(server or {}),
            },
            "tls": tls,
            "services": {"up": {"url": f"http://127.0.0.1:{up.port}"}},
            "routes": [
                {"path": "/up", "service": "up", "auth": "none"},
                {"path": "/locked", "service": "up"},
                {"path": "/maybe", "service": "up", "auth": "optional"},
                {"path": "/scoped", "service": "up", "scopes": ["read"]},
            ],
            **more,
        }
        gateway = Gateway("fast", config, tmp_path)
        started.append(gateway)
        gateway.wait_ready()
        return gateway

    yield run
    for gateway in started:
        gateway.kill()


def soon(true: Callable[[], bool]) -> bool:
    """Whether it becomes true within a time that is long for every machine."""
    for _ in range(600):
        if true():
            return True
        signal.sigtimedwait([], 0.05)
    return False


# Handshakes


def test_a_handshake_has_its_time(start: Start, site: Site) -> None:
    """A client that connects and does not shake hands is closed within `timeouts.header`, and so is a slow one."""
    gateway = start(site.authority.sign("gateway", "a.example").written())
    for beginning in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection(("127.0.0.1", site.port), timeout=20) as client:
            client.sendall(beginning)
            assert client.recv(100) == b""
    assert site.ask().status == 200
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.said()
    assert "SSL" not in gateway.said()


def test_what_is_no_handshake_is_no_event(start: Start, site: Site) -> None:
    """Plain HTTP and garbage on a TLS listener are closed, and write no traceback."""
    gateway = start(site.authority.sign("gateway", "a.example").written())
    for garbage in (request(target="/up"), b"\x00" * 100, b"PROXY UNKNOWN\r\n"):
        with socket.create_connection(("127.0.0.1", site.port), timeout=20) as client:
            client.sendall(garbage)
            while client.recv(1000):
                pass  # an alert
    assert site.ask().status == 200
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.said()


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (["h2"], None), ([], None)],
)
def test_what_is_spoken_is_said(
    start: Start, site: Site, offered: list[str], spoken: str | None
) -> None:
    """ALPN says http/1.1 and nothing else: HTTP/2 is not spoken."""
    start(site.authority.sign("gateway", "a.example").written())
    context = site.context()
    if offered:
        context.set_alpn_protocols(offered)
    assert site.shown(context).protocol == spoken


def test_versions_and_ciphers_of_the_profile(start: Start, site: Site) -> None:
    """TLS 1.2 with the ciphers of Mozilla's intermediate profile, and 1.3; nothing older, nothing weaker."""
    start(site.authority.sign("gateway", "a.example").written())
    assert site.shown().version == "TLSv1.3"
    second = {"maximum_version": ssl.TLSVersion.TLSv1_2}
    assert site.shown(site.context(**second)).version == "TLSv1.2"
    # The client's first choice counts.
    context = site.context(**second)
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256")
    assert site.shown(context).cipher == "ECDHE-ECDSA-CHACHA20-POLY1305"
    for weak in ("ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"):
        context = site.context(**second)
        context.set_ciphers(weak)
        assert site.refuses(context)


@pytest.mark.parametrize("version", [1.3, "1.3"])
def test_a_least_version(start: Start, site: Site, version: object) -> None:
    """With `min_version: 1.3` a client of 1.2 is refused."""
    start({**site.authority.sign("gateway", "a.example").written(), "min_version": version})
    assert site.refuses(site.context(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert site.shown().version == "TLSv1.3"


def test_chosen_ciphers(start: Start, site: Site) -> None:
    """`ciphers` replaces the profile's for TLS 1.2."""
    chosen = "ECDHE-ECDSA-AES256-GCM-SHA384"
    start({**site.authority.sign("gateway", "a.example").written(), "ciphers": chosen})
    context = site.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    assert site.shown(context).cipher == chosen
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    assert site.refuses(context)


def test_openssl_agrees(start: Start, site: Site) -> None:
    """`openssl s_client` verifies the chain, and TLS 1.1 is not spoken to it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to connect with")
    start(site.authority.sign("gateway", "a.example").written())

    def said(*options: str) -> str:
        connect = [openssl, "s_client", "-connect", f"127.0.0.1:{site.port}", *options]
        done = subprocess.run(connect, input=b"", capture_output=True, timeout=60, check=False)
        return (done.stdout + done.stderr).decode()

    verify = ["-CAfile", str(site.authority.file), "-verify_return_error"]
    whole = said(*verify, "-servername", "a.example", "-verify_hostname", "a.example")
    assert "Verification: OK" in whole
    assert "Secure Renegotiation IS NOT" not in said("-tls1_2")
    assert "Cipher is (NONE)" in said("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")


# Certificates by name


def test_certificates_by_name(start: Start, site: Site) -> None:
    """The very name before a wildcard, a wildcard for one label, and the first certificate for all others."""
    sign = site.authority.sign
    first = sign("first", "first.example", "*.first.example")
    exact = sign("exact", "api.shop.example")
    wild = sign("wild", "*.shop.example", "shop.example")
    common = sign("common.example", subject=[(NameOID.COMMON_NAME, "Common.Example")])
    start({**first.written(), "certificates": [pair.written() for pair in (exact, wild, common)]})
    expected = {
        None: "first.example",
        "first.example": "first.example",
        "unknown.example": "first.example",
        "api.shop.example": "api.shop.example",
        "API.Shop.Example": "api.shop.example",
        "www.shop.example": "*.shop.example",
        "shop.example": "*.shop.example",
        "a.b.shop.example": "first.example",
    }
    assert {name: site.shown(name=name).names[0] for name in expected} == expected
    assert site.shown(name="common.example").names == []


def test_a_list_of_certificates_alone(start: Start, site: Site) -> None:
    """`certificates` without `certificate`: the first of the list is for clients that ask for no name."""
    pairs = [site.authority.sign(name, name) for name in ("one.example", "two.example")]
    start({"certificates": [pair.written() for pair in pairs]})
    assert site.shown().names == ["one.example"]
    assert site.shown(name="two.example").names == ["two.example"]


# Certificates of clients


def clients_of(site: Site, **more: Any) -> dict[str, Any]:
    """A section `tls` that asks clients for certificates."""
    pair = site.authority.sign("gateway", "a.example")
    return {**pair.written(), "clients": {"ca": str(site.authority.file), **more}}


PERSON = [
    (NameOID.COUNTRY_NAME, "AT"),
    (NameOID.ORGANIZATION_NAME, "Acme, Inc."),
    (NameOID.COMMON_NAME, "ann"),
]
SUBJECT = "CN=ann,O=Acme\\, Inc.,C=AT"


def test_the_upstream_is_told_of_the_certificate(start: Start, site: Site, up: Upstream) -> None:
    """Subject, issuer, serial number, names, end and fingerprint; every copy that the client sends is removed."""
    start(clients_of(site), auth={"jwt": {"secret": SECRET}, "tokens": {"enabled": False}})
    uri = "spiffe://acme.example/ann"
    client = site.authority.sign("ann", "ann.example", uri, subject=PERSON)
    forged = [("X-Client-Cert-Subject", "CN=root"), ("x_client_cert_other", "1")]
    answer = site.ask(client, headers=[*forged, ("X-Client-Cert-Verified", "yes")])
    arrived = up.of(answer)
    assert arrived.get("x-client-cert-subject") == SUBJECT
    assert arrived.get("x-client-cert-issuer") == "CN=authority"
    assert arrived.get("x-client-cert-names") == f"DNS:ann.example, URI:{uri}"
    assert (
        arrived.get(
            "x-client-cert-not-after",
        )
        is not None
    )
    assert arrived.get("x-client-cert-serial") is not None
    assert arrived.get("x-client-cert-fingerprint") is not None
    assert "x-client-cert-verified" not in arrived.names
    assert b"root" not in arrived.head
    assert b"cert_other" not in arrived.head


def test_the_certificate_is_the_principal(start: Start, site: Site, up: Upstream) -> None:
    """Where a route needs a token, a certificate will do, with its subject and without scopes; a token comes first."""
    jwt = {"secret": SECRET}
    gateway = start(clients_of(site), auth={"jwt": jwt, "tokens": {"enabled": False}})
    client = site.authority.sign("ann", subject=PERSON)
    for target in ("/locked", "/maybe"):
        answer = site.ask(client, target)
        assert up.of(answer).get("x-user-id") == SUBJECT
        assert up.of(answer).get("x-user-issuer") == "CN=authority"
        assert gateway.record(answer)["principal"] == SUBJECT
    assert up.of(site.ask(client, "/up")).get("x-user-id") is None
    assert site.ask(client, "/scoped").status == 403
    token = bearer(mint(sub="42", scope="read"))
    for target in ("/locked", "/scoped"):
        answer = site.ask(client, target, token)
        assert up.of(answer).get("x-user-id") == "42"
        assert up.of(answer).get("x-user-issuer") is None
    assert site.ask(client, "/locked", bearer("bad")).status == 401
    assert ask(gateway.port, target="/locked").status == 401  # the plain listener


def test_a_certificate_without_any_key_for_tokens(start: Start, site: Site, up: Upstream) -> None:
    """A gateway that verifies no tokens lets certificates in, and says nothing of missing keys."""
    gateway = start(clients_of(site))
    answer = site.ask(site.authority.sign("ann"), "/locked")
    assert up.of(answer).get("x-user-id") == "CN=ann"
    assert gateway.record(answer)["principal"] == "CN=ann"
    assert "nothing to verify one with" not in gateway.said()


def test_a_client_without_a_certificate(start: Start, site: Site, up: Upstream) -> None:
    """By default it is refused in the handshake, and so is a certificate of another authority or an expired one."""
    start(clients_of(site))
    foreign = Authority(site.folder, "foreign").sign("mallory")
    expired = site.authority.sign("old", lasts=-timedelta(hours=1))
    assert site.refuses(site.context())
    assert site.refuses(site.context(foreign))
    assert site.refuses(site.context(expired))
    assert site.ask(site.authority.sign("ann")).status == 200


def test_a_certificate_that_is_asked_for(start: Start, site: Site, up: Upstream) -> None:
    """With `required: false` a client without a certificate is anonymous; a client with a bad certificate is refused."""
    start(clients_of(site, required=False), auth={"jwt": {"secret": SECRET}})
    answer = site.ask(headers=[("X-Client-Cert-Subject", "CN=root")])
    assert "x-client-cert-subject" not in up.of(answer).names
    assert site.ask(target="/locked").status == 401
    assert site.refuses(site.context(Authority(site.folder, "foreign").sign("mallory")))
    ann = site.ask(site.authority.sign("ann"), "/locked")
    assert up.of(ann).get("x-user-id") == "CN=ann"


def test_a_resumed_session_has_its_certificate(start: Start, site: Site, up: Upstream) -> None:
    """A client that resumes its session is still known by the certificate of the first handshake."""
    start(clients_of(site))
    context = site.context(site.authority.sign("ann"), maximum_version=ssl.TLSVersion.TLSv1_2)
    with site.connect(context) as first:
        session = first.session
    plain = socket.create_connection(("127.0.0.1", site.port), timeout=20)
    again = context.wrap_socket(plain, session=session)
    assert again.session_reused
    with RawClient.over(again) as client:
        answer = client.send(request(target="/locked")).read()
    assert up.of(answer).get("x-user-id") == "CN=ann"


def test_a_reload_ends_sessions(start: Start, site: Site) -> None:
    """A session can be resumed until a reload: the keys of session tickets are made anew with it."""
    gateway = start(site.authority.sign("gateway").written())
    context = site.context(maximum_version=ssl.TLSVersion.TLSv1_2)

    def resumes(session: ssl.SSLSession | None) -> bool:
        plain = socket.create_connection(("127.0.0.1", site.port), timeout=20)
        with context.wrap_socket(plain, session=session) as again:
            return bool(again.session_reused)

    with site.connect(context) as first:
        session = first.session
    assert resumes(session)
    os.kill(gateway.process.pid, signal.SIGHUP)
    assert soon(lambda: not resumes(session))


# Other listeners


def test_tls_on_every_listener(start: Start, site: Site) -> None:
    """Unix sockets speak TLS where they say so; those of `admin` and `metrics` have the certificate in any case."""
    path, admin, metrics = site.folder / "p.sock", free_port(), free_port()
    listen: list[Any] = ["127.0.0.1:{port}", {"address": f"unix:{path}", "tls": True}]
    gateway = start(
        site.authority.sign("gateway", "a.example").written(),
        server={"listen": listen},
        admin={"listen": f"127.0.0.1:{admin}"},
        metrics={"listen": f"127.0.0.1:{metrics}"},
        auth={"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
    )
    plain = socket.socket(socket.AF_UNIX)
    plain.connect(str(path))
    with RawClient.over(site.context().wrap_socket(plain)) as client:
        assert client.send(request(target="/up")).read().status == 200
    token = bearer(mint(scope="admin"))
    assert site.ask(target="/api/v1/circuits", headers=token, port=admin).status == 200
    assert site.ask(target="/metrics", port=metrics).status == 200
    assert site.ask(target="/up", port=metrics).status == 404
    assert ask(gateway.port, target="/metrics").status == 404
    said = gateway.said()
    assert f"listening on https://127.0.0.1:{admin} for the endpoints that want admin" in said
    assert f"listening on https://127.0.0.1:{metrics} for /metrics" in said
    assert f"listening on unix:{path} (https);" in said


def test_a_redirect_to_the_port_of_the_certificate(start: Start, site: Site) -> None:
    """The port of the first listener with TLS, where it is not 443, takes the place of the request's."""
    port = free_port()
    listen: list[Any] = ["127.0.0.1:{port}", {"address": f"127.0.0.1:{port}", "redirect": "https"}]
    listen.append({"address": f"127.0.0.1:{site.port}", "tls": True})
    start(site.authority.sign("gateway", "a.example").written(), server={"listen": listen})
    answer = ask(port, target="/up/x?y", host=f"127.0.0.1:{port}")
    location = answer.get("location")
    assert (answer.status, location) == (308, f"https://127.0.0.1:{site.port}/up/x?y")
    assert site.ask(target="/up/x?y").status == 200


# Renewal


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_takes_over_everything(
    start: Start, site: Site, up: Upstream, workers: int
) -> None:
    """Certificates, names, the least version and the authority of clients change for new connections; old ones go on."""
    sign = site.authority.sign
    gateway = start(sign("one", "one.example").written(), server={"workers": workers})
    two, three = sign("two", "two.example"), sign("three", "three.example")
    text = gateway.file.read_text()
    assert site.shown().names == ["one.example"]
    with RawClient.over(site.connect()) as old:
        assert old.send(request(target="/up")).read().status == 200
        tls = (
            f"tls: {{certificate: {two.certificate}, key: {two.key}, min_version: 1.3,"
            f" certificates: [{{certificate: {three.certificate}, key: {three.key}}}],"
            f" clients: {{ca: {site.authority.file}, required: false}}}}\n"
        )
        begin = text.index("tls:\n  certificate")
        end = text.index("services:")
        gateway.file.write_text(text[:begin] + tls + text[end:])
        os.kill(gateway.process.pid, signal.SIGHUP)
        ann = sign("ann")

        def is_in_force() -> bool:
            with contextlib.suppress(OSError):
                shown = [site.shown(), site.shown(name="three.example")]
                told = up.of(site.ask(ann)).get("x-client-cert-subject")
                return [*shown[0].names, *shown[1].names, told] == [
                    "two.example",
                    "three.example",
                    "CN=ann",
                ]
            return False

        assert soon(lambda: all(is_in_force() for _ in range(4 * workers)))
        assert site.refuses(site.context(maximum_version=ssl.TLSVersion.TLSv1_2))
        assert old.send(request(target="/up")).read().status == 200
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.said()


def test_a_replaced_worker_starts_with_broken_files(start: Start, site: Site) -> None:
    """If the files are broken when a worker has died, the next one goes on with the certificates of the start."""
    pair = site.authority.sign("one", "one.example")
    gateway = start(pair.written(), server={"workers": 2})
    pair.key.write_text("broken")
    workers = [pid for pid in gateway.pids() if pid != gateway.process.pid]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    said = "a worker goes on with the certificates of the start"
    assert soon(lambda: gateway.said().count(said) == 2)
    assert site.shown().names == ["one.example"]
