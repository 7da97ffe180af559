"""What the operator may write about how a service is connected to, and how it is probed."""

from pathlib import Path

import pytest
import yaml

from propylon.config.models.health import HealthConfig
from propylon.config.models.services import ServiceConfig
from propylon.config.models.syntax import parse_upstream
from propylon.upstream.tls import tls_context
from tests.config.texts import loaded, problems, warnings
from tests.support.secure import Authority

URL = "url: 'https://a'"
HEALTH = "url: 'http://a', health: "


def service(written: str) -> ServiceConfig:
    """Load what is written under services.a."""
    return loaded(f"services: {{a: {{{written}}}}}").config.services["a"]


def certificates() -> Authority:
    """A certificate authority in ca.pem, and a pair of client.crt and client.key."""
    ca = Authority(Path())
    identity = ca.issue("client")
    identity.chain.rename("client.crt")
    identity.key.rename("client.key")
    return ca


# Unix sockets


@pytest.mark.parametrize(
    ("text", "socket", "base"),
    [
        ("unix:/run/app.sock", "/run/app.sock", ""),
        ("UNIX:/run/app.sock", "/run/app.sock", ""),
        ("unix:/run/app.sock:/", "/run/app.sock", ""),
        ("unix:/run/app.sock:/base/v1/", "/run/app.sock", "/base/v1"),
        ("unix:/run/my app@1.sock:/base", "/run/my app@1.sock", "/base"),
    ],
)
def test_a_unix_socket(text: str, socket: str, base: str) -> None:
    """Behind a second colon stands the base path; the Host is localhost."""
    found = parse_upstream(text)
    assert (found.scheme, found.socket, found.base, found.host) == (
        "unix",
        socket,
        base,
        "localhost",
    )
    assert service(f"url: '{text}'").urls == (text,)
    assert service(f"instances: ['{text}', 'http://localhost:1']").urls[0] == text


SOCKET = "must have the absolute path of a Unix socket: unix:/run/app.sock"
ONE_PROBLEM = {
    "url: 'unix:run/app.sock'": f"url: {SOCKET}",
    "url: 'unix://run/app.sock'": f"url: {SOCKET}",
    "url: 'unix:'": f"url: {SOCKET}",
    "url: 'unix:/run/'": f"url: {SOCKET}",
    "url: 'unix:@abstract'": f"url: {SOCKET}",
    f"url: 'unix:/{'a' * 103}'": "url: has a path of more than 103 bytes, which no Unix socket can have",
    'url: "unix:/run/a\\tb"': "url: has a path with control characters, which no log can show",
    "url: 'unix:/a.sock:base'": 'url: the path behind the second colon must start with "/"',
    "url: 'http://unix:/run/app.sock'": "url: is a Unix socket: write unix:/run/app.sock, without http://",
    "instances: ['unix:/a.sock', 'unix:/a.sock:/b']": "instances: the same instance is listed twice:"
    " each needs a host, a port or a socket of its own",
    "url: 'unix:/a.sock', health: {port: 81}": "health: port cannot be set: an instance of the service is"
    " a Unix socket, which has no other port",
    "url: 'unix:/a.sock', tls: {server_name: a}": "tls: does nothing: no instance of the service has a URL"
    " that starts with https://; write one, or take it away",
    "url: 'http://a', tls: {verify: true}": "tls: does nothing: no instance of the service has a URL that"
    " starts with https://; write one, or take it away",
    "proxy_protocol: v3": "proxy_protocol: must be one of v1, v2",
    "proxy_protocol: true": "proxy_protocol: must be one of v1, v2",
    # TLS
    f"{URL}, tls: {{ca: none.pem}}": "tls.ca: is neither PEM nor the path of a file with PEM: no such file"
    " or directory",
    f"{URL}, tls: {{ca: .}}": "tls.ca: is neither PEM nor the path of a file with PEM: it is not a file",
    f"{URL}, tls: {{ca: client.key}}": "tls.ca: must be the path of a file with certificates in PEM, or the"
    " PEM itself",
    f"{URL}, tls: {{ca: bad.pem}}": "tls.ca: no certificate could be read",
    f"{URL}, tls: {{certificate: client.crt}}": "tls: certificate and key go together: key is missing",
    f"{URL}, tls: {{key: client.key}}": "tls: certificate and key go together: certificate is missing",
    f"{URL}, tls: {{certificate: ca.pem, key: client.key}}": "tls: certificate and key cannot be used"
    " together (key values mismatch)",
    f"{URL}, tls: {{certificate: client.crt, key: ca.pem}}": "tls.key: must be the path of a file with a"
    " private key in PEM",
    f"{URL}, tls: {{certificate: client.crt, key: encrypted.key}}": "tls.key: is encrypted, and the gateway"
    " has no password for it; decrypt it: openssl pkey -in … -out …",
    f"{URL}, tls: {{server_name: 'a:443'}}": "tls.server_name: must be a host name without a port",
    f"{URL}, tls: {{server_name: '*.a'}}": "tls.server_name: must be one host name; wildcards are not supported",
    f"{URL}, tls: {{sni: a}}": "tls.sni: unknown key; here it is called server_name",
    "send-proxy: true": "send-proxy: unknown key; here it is called proxy_protocol",
    # Health checks
    f"{HEALTH}{{type: udp}}": "health.type: must be one of http, tcp",
    f"{HEALTH}{{method: get}}": "health.method: methods are written in upper case: GET",
    f"{HEALTH}{{method: WEBSOCKET}}": "health.method: is no method of a probe: write GET or HEAD",
    f"{HEALTH}{{method: CONNECT}}": "health.method: CONNECT is never forwarded",
    f"{HEALTH}{{host: 'a b'}}": 'health.host: "a b" is no Host: write a host name, and a port if it is not'
    " the usual one",
    f"{HEALTH}{{headers: {{Host: a}}}}": "health.headers: Host has a key of its own: write it as host",
    f"{HEALTH}{{headers: {{X-A: a, x-a: b}}}}": "health.headers: a header is listed twice: upper and lower"
    " case are the same",
    f"{HEALTH}{{headers: {{Content-Length: '1'}}}}": "health.headers.Content-Length: Content-Length is the"
    " gateway's own and cannot be set or removed",
    f"{HEALTH}{{status: 99}}": "health.status: must be a status or a range of them: 204, or 200-399",
    f"{HEALTH}{{status: 399-200}}": "health.status: must be a status or a range of them: 204, or 200-399",
    f"{HEALTH}{{status: [200, ok]}}": "health.status[1]: must be a status or a range of them: 204, or 200-399",
    f"{HEALTH}{{status: []}}": "health.status: is empty; leave the key out for 200-299",
    f"{HEALTH}{{body: '('}}": "health.body: is no regular expression: missing ), unterminated subpattern at"
    " position 0",
    f"{HEALTH}{{method: HEAD, body: ok}}": "health.body: cannot match: the answer to HEAD has no body; write"
    " method: GET",
    f"{HEALTH}{{port: 0}}": "health.port: must be at least 1",
    f"{HEALTH}{{type: tcp, path: /up, status: 200}}": "health: with type: tcp no request is sent, so path,"
    " status would do nothing; take it away",
    f"{HEALTH}{{hostname: a}}": 'health.hostname: unknown key; did you mean "host"?',
    f"{HEALTH}{{rise: 2}}": "health.rise: unknown key; here it is called healthy_after",
}


@pytest.mark.parametrize(("written", "expected"), ONE_PROBLEM.items())
def test_each_problem_is_one(written: str, expected: str) -> None:
    """A mistake is one problem, at its key; it says what to write instead, and quotes nothing of a key."""
    certificates()
    broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    Path("bad.pem").write_text(broken)
    Path("encrypted.key").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END")
    [found] = problems(f"services: {{a: {{{written}}}}}")
    start = f"propylon.yaml:1 services.a.{expected}"
    assert found.startswith(start) if "could be read" in expected else found == start


# TLS


def test_files_are_read_into_the_configuration() -> None:
    """Paths are relative to the configuration's file; what counts is the content, so a renewed file is a change."""
    ca = certificates()
    tls = "tls: {ca: ca.pem, certificate: client.crt, key: client.key, server_name: B.internal}"
    text = f"services: {{a: {{{URL}, {tls}}}}}"
    first = loaded(text).config.services["a"]
    assert first.tls is not None
    assert first.tls.ca == ca.file.read_text()
    assert first.tls.name == "b.internal"
    assert loaded(text).config.services["a"] == first
    key = Path("client.key").read_text()
    assert key.splitlines()[1] not in repr(first)
    ca.issue("client").chain.rename("client.crt")
    assert "go together" not in "".join(problems(text))
    again = ca.issue("client")
    again.chain.rename("client.crt")
    again.key.rename("client.key")
    renewed = loaded(text).config.services["a"]
    assert renewed != first
    assert renewed.tls is not None
    assert tls_context(renewed.tls.settings) is not tls_context(first.tls.settings)


def test_pem_in_place_of_a_path() -> None:
    """The PEM itself may come from a variable."""
    ca = certificates()
    environ = {"CA": ca.file.read_text(), "KEY": Path("client.key").read_text()}
    tls = {"ca": "${CA}", "certificate": "client.crt", "key": "${KEY}"}
    text = yaml.safe_dump({"services": {"a": {"url": "https://a", "tls": tls}}})
    found = loaded(text, environ).config.services["a"].tls
    assert found is not None
    assert found.settings.key == environ["KEY"]


def test_a_bundle_with_text_around_its_certificates() -> None:
    """The names and comments that bundles have are no mistake."""
    ca = certificates()
    Path("bundle.pem").write_text(
        f"# Our authority, 2026: ca\n\n{ca.file.read_text()}\nSubject: x\n"
    )
    assert service(f"{URL}, tls: {{ca: bundle.pem}}").tls is not None


def test_a_service_whose_instances_register() -> None:
    """Without a URL, `tls` says how those are asked that register."""
    for written in ("[2001:db8::1]", "2001:db8::1"):
        found = service(f"tls: {{server_name: '{written}'}}").tls
        assert found is not None
        assert found.name == "2001:db8::1"


def test_what_is_not_verified_is_doubtful() -> None:
    """`verify: false` is a doubt, which says what to write instead."""
    [doubt] = warnings(f"services:\n  a:\n    {URL}\n    tls: {{verify: false}}\n")
    assert doubt.startswith("propylon.yaml:4 services.a.tls.verify: is false, so an attacker")
    assert "server_name" in doubt
    assert warnings(f"services: {{a: {{{URL}, tls: {{verify: true}}}}}}") == []


# Health checks


def test_probes_as_they_are_written() -> None:
    """Each key has the form in which it is used."""
    health = service(
        "url: 'http://a', health: {method: HEAD, host: 'b.internal:81', headers: {X-Probe: '1'},"
        " status: [200-204, '302', 401], port: 8081}"
    ).health
    assert health is not None
    assert (health.method, health.host, health.port) == ("HEAD", "b.internal:81", 8081)
    assert health.statuses == {200, 201, 202, 203, 204, 302, 401}
    assert health.headers == {"X-Probe": "1"}
    assert service("url: 'http://a', health: {status: 204}").health == HealthConfig(status=("204",))
    assert HealthConfig().statuses == frozenset(range(200, 300))
    assert service("url: 'http://a', health: {type: tcp, port: 5432}").health is not None
