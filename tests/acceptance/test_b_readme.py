"""Lines B01 to B17: what the README of Tracklore's gateway says, at `examples/tracklore`."""

import gzip
import hashlib
import re
import sys
import threading
from pathlib import Path

import pytest

from tests.support import answers
from tests.support.client import RawClient, request
from tests.support.gateway import free_port
from tests.support.systems import (
    APPS,
    System,
    Systems,
    ask_from,
    copy,
    is_envelope,
    run_code,
    run_tests,
)
from tests.support.tokens import OTHER_SECRET, authorized, mint
from tests.support.upstream import Arrived, Peer
from tests.support.zygote import ZYGOTE, environment

MB = 1_000_000
PIECE = 65536
PIECES = 1525  # 100 MB
PUBLISHED = "your-super-secret-jwt-key"  # the default in the document


@pytest.fixture
def bare(systems: Systems) -> System:
    """Tracklore without any variable."""
    return systems.keep("bare", "tracklore", alone=True)


@pytest.fixture
def rotated(systems: Systems) -> System:
    """Tracklore with another key."""
    return systems.keep("rotated", "tracklore", {"JWT_SECRET_KEY": OTHER_SECRET})


def test_b01_it_starts_without_any_variable(bare: System) -> None:
    """B01: `uvicorn app.main:app` starts with nothing set, and /health answers."""
    answer = bare.ask(target="/health")
    assert (answer.status, answer.json()["services"].keys()) == (200, {"user", "auth"})


def test_b02_variables_name_the_services(bare: System, tmp_path: Path) -> None:
    """B02: each service has the document's address, unless .env says another, or the environment."""
    code = """if True:
        from app.main import gateway, settings
        found = gateway.config.services
        print(settings.USER_SERVICE_URL, settings.AUTH_SERVICE_URL, sep="\\n")
        print(*(str(found[name].url) for name in ("user", "auth")), sep="\\n")
    """

    def addresses(folder: Path, **variables: str) -> list[str]:
        lines = run_code(code, folder, **variables).stdout.split()
        said = [line.rstrip("/") for line in lines if line.startswith("http")]
        assert said[:2] == said[2:]
        return said[:2]

    default = copy("tracklore", tmp_path / "default")
    assert addresses(default) == ["http://user-service:8000", "http://auth-service:8000"]
    filed = copy("tracklore", tmp_path / "filed")
    (filed / ".env").write_text("USER_SERVICE_URL=http://file:1\nAUTH_SERVICE_URL=http://file:2\n")
    assert addresses(filed, USER_SERVICE_URL="http://env:3") == ["http://env:3", "http://file:2"]


def test_b03_prefix_is_stripped_and_the_query_kept(tracklore: System) -> None:
    """B03: the service gets the path without its prefix, and every byte of the query."""
    answer = tracklore.ask_as("42", "GET", "/user/profile?x=1&x=2&y=")
    assert (answer.status, tracklore.hit()) == (200, {"user": 1})
    assert tracklore.of("user", answer).target == b"/profile?x=1&x=2&y="


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_b04_auth_goes_to_the_auth_service(tracklore: System, method: str) -> None:
    """B04: each method of the document reaches the auth service, by the same rule."""
    answer = tracklore.ask_as("42", method, "/auth/sessions?x=1")
    assert (answer.status, tracklore.hit()) == (200, {"auth": 1})
    arrived = tracklore.of("auth", answer)
    assert (arrived.method, arrived.target) == (method, b"/sessions?x=1")


def test_b05_login_needs_no_token(tracklore: System) -> None:
    """B05: who logs in, signs up or refreshes has no token yet; everything else needs one."""
    for name in ("login", "signup", "refresh"):
        answer = tracklore.ask("POST", f"/auth/{name}", body=b"{}")
        assert (answer.status, tracklore.of("auth", answer).target) == (200, f"/{name}".encode())
    for method, path in (("POST", "/auth/logout"), ("GET", "/auth/login"), ("GET", "/auth/users")):
        assert tracklore.ask(method, path).status == 401


def test_b06_path_arrives_as_it_was_sent(tracklore: System) -> None:
    """B06: nothing in a path is decoded or encoded."""
    answer = tracklore.ask_as("42", "GET", "/user/a%2Fb%20c;v=1/%E6%B5%8B")
    assert tracklore.of("user", answer).target == b"/a%2Fb%20c;v=1/%E6%B5%8B"


@pytest.mark.parametrize(
    "path",
    [
        "/user",
        "/user/",
        "/users/x",
        "/user/../auth/x",
        "/user//evil.com/",
        "/user/http://169.254.169.254/",
    ],
)
def test_b07_no_path_leads_elsewhere(tracklore: System, path: str) -> None:
    """B07: whatever stands in the path, the user service is asked, under its own name, or nobody."""
    answer = tracklore.ask_as("42", "GET", path)
    assert tracklore.hit().keys() <= {"user"}
    if path == "/users/x":
        assert (answer.status, tracklore.hit()) == (404, {})
    for arrived in tracklore.ups["user"].requests:
        assert arrived.get("host") == f"127.0.0.1:{tracklore.ups['user'].port}"


@pytest.mark.parametrize("status", ["201 Created", "204 None", "304 Same", "404 No", "500 Broken"])
def test_b08_answer_arrives_as_it_was_given(tracklore: System, status: str) -> None:
    """B08: status, body and headers of the service's answer reach the client."""
    body = b"" if status.startswith(("204", "304")) else b"\x00said by the service\xff"
    script = answers.plain(status, ["X-Own: yes", "ETag: W/1", "Content-Type: a/b"], body)
    tracklore.on("user", "/it", script)
    answer = tracklore.ask_as("42", "POST", "/user/it")
    assert (answer.status, answer.body) == (int(status[:3]), body)
    headers = [answer.get(name) for name in ("X-Own", "ETag", "Content-Type")]
    assert headers == ["yes", "W/1", "a/b"]


def test_b09_two_cookies_stay_two(tracklore: System) -> None:
    """B09: two Set-Cookie headers are two at the client, in order."""
    cookies = ["a=1; Path=/, x", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT"]
    tracklore.on("user", "/it", answers.plain(headers=[f"Set-Cookie: {one}" for one in cookies]))
    answer = tracklore.ask_as("42", "GET", "/user/it")
    assert [one.decode() for one in answer.all("set-cookie")] == cookies


def test_b10_compressed_answer_is_left_alone(tracklore: System) -> None:
    """B10: a compressed body arrives as it is, with its length."""
    body = gzip.compress(b"tracks " * 1000)
    tracklore.on("user", "/it", answers.plain(headers=["Content-Encoding: gzip"], body=body))
    answer = tracklore.ask_as("42", "GET", "/user/it")
    assert (answer.get("content-encoding"), answer.get("content-length")) == (
        "gzip",
        str(len(body)),
    )
    assert gzip.decompress(answer.body) == b"tracks " * 1000


HOP_BY_HOP = {
    "X-Foo": "1",
    "TE": "trailers",
    "Trailer": "X-After",
    "Keep-Alive": "timeout=5",
    "Proxy-Authorization": "Basic Zm9vOmJhcg==",
    "Upgrade": "foo/1",
}


def test_b11_hop_by_hop_headers_end_here(tracklore: System) -> None:
    """B11: headers of one connection, and those that Connection names, are not passed on, both ways."""
    own = [
        "Connection: x-foo, keep-alive",
        "X-Foo: 1",
        "Keep-Alive: timeout=9",
        "Proxy-Authenticate: x",
    ]
    tracklore.on("user", "/it", answers.plain(headers=own))
    headers = [*authorized(), ("Connection", "x-foo, keep-alive"), *HOP_BY_HOP.items()]
    answer = tracklore.ask("GET", "/user/it", headers)
    hidden = {name.lower() for name in HOP_BY_HOP}
    assert tracklore.of("user", answer).names & hidden == set()
    got = {name.lower().decode() for name, _ in answer.headers}
    assert got & {"x-foo", "keep-alive", "proxy-authenticate"} == set()


def test_b12_service_is_told_who_asked(tracklore: System) -> None:
    """B12: the service sees its own name in Host, and the client's side in X-Forwarded-*."""
    # uvicorn itself believes what comes from 127.0.0.1.
    forged = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil"),
    ]
    answer = ask_from("127.0.0.2", tracklore.port, "GET", "/user/it", [*authorized(), *forged])
    arrived = tracklore.of("user", answer)
    assert arrived.get("host") == f"127.0.0.1:{tracklore.ups['user'].port}"
    told = [arrived.get(f"x-forwarded-{name}") for name in ("for", "proto", "host")]
    assert told == ["127.0.0.2", "http", "gw.test"]


def test_b13_no_client_gets_anothers_cookie(tracklore: System) -> None:
    """B13: a cookie that one client was given is not sent for another."""
    tracklore.on("user", "/login", answers.plain(headers=["Set-Cookie: session=alice; Path=/"]))
    assert tracklore.ask_as("alice", "GET", "/user/login").get("set-cookie")
    answer = tracklore.ask_as("bob", "GET", "/user/it")
    assert "cookie" not in tracklore.of("user", answer).names


def test_b14_repeated_header_stays_repeated(tracklore: System) -> None:
    """B14: the same header twice arrives twice, in order."""
    answer = tracklore.ask("GET", "/user/it", [*authorized(), ("X-A", "1"), ("X-A", "2")])
    assert tracklore.of("user", answer).all("x-a") == [b"1", b"2"]


class Half:
    """An upstream that sends half of its answer, and the rest when the client has seen some of it."""

    def __init__(self) -> None:
        self.seen = threading.Event()
        self.digest = hashlib.sha256(bytes(range(256)) * (PIECE // 256) * PIECES).hexdigest()

    def __call__(self, peer: Peer, arrived: Arrived) -> None:
        """Answer."""
        block = bytes(range(256)) * (PIECE // 256)
        peer.read_body(arrived)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (PIECE * PIECES))
        for number in range(PIECES):
            if number == PIECES // 2:
                assert self.seen.wait(20)
            peer.send(block)


def test_b15_large_bodies_stream(tracklore: System) -> None:
    """B15: 100 MB pass in each direction while they are sent, and the gateway keeps little of them."""
    assert tracklore.ask_as("42", "GET", "/user/warm").status == 200
    up, half = tracklore.ups["user"], Half()
    before, block = tracklore.rss(), bytes(range(256)) * (PIECE // 256)
    with RawClient(tracklore.port) as client:
        length = ("Content-Length", str(PIECE * PIECES))
        client.send(request("POST", "/user/big", [*authorized(), length]) + block)
        arrived = up.arrived("/big")
        assert up.wait(lambda: arrived.length > 0)
        highest = 0
        for number in range(PIECES - 1):
            client.send(block)
            if number % 200 == 0:
                highest = max(highest, tracklore.rss())
        assert client.read().status == 200
    assert arrived.hash.hexdigest() == half.digest
    tracklore.on("user", "/big", half)
    with RawClient(tracklore.port) as client:
        client.send(request("GET", "/user/big", authorized())).has_come(b"\r\n\r\n\0\1")
        half.seen.set()
        answer = client.read()
    assert hashlib.sha256(answer.body).hexdigest() == half.digest
    assert max(highest, tracklore.rss()) - before < 20 * MB


def test_b16_the_key_decides(rotated: System, bare: System, tmp_path: Path) -> None:
    """B16: the variable is the key; the published one does not start; without one, protected routes are 503."""
    assert rotated.ask_as("42", "GET", "/user/x").status == 401
    headers = [("Authorization", f"Bearer {mint(secret=OTHER_SECRET)}")]
    assert rotated.ask("GET", "/user/x", headers).status == 200
    answer = bare.ask_as("42", "GET", "/user/x")
    assert (answer.status, is_envelope(answer, "SERVICE_UNAVAILABLE")) == (503, True)
    assert bare.ask("POST", "/auth/login").status == 502  # passed on, to a name that is not there
    assert "JWT_SECRET_KEY" in bare.said()
    started = ZYGOTE.run(
        [sys.executable, "-m", "uvicorn", APPS["tracklore"], "--port", str(free_port())],
        cwd=copy("tracklore", tmp_path),
        env=environment(JWT_SECRET_KEY=PUBLISHED),
    )
    assert started.returncode != 0
    assert "auth.jwt.secret" in started.stdout + started.stderr
    assert PUBLISHED not in started.stdout + started.stderr


def test_b17_its_own_tests_pass(tmp_path: Path) -> None:
    """B17: `pytest --cov=app`, from a clean checkout: nothing fails, and the coverage is told.

    One file of them; tests/examples/test_systems.py runs them all.
    """
    ran = run_tests("tracklore", tmp_path, "--cov=app", "tests/test_routing.py")
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert re.search(r"(?m)^\d+ passed|=+ \d+ passed", ran.stdout)
    assert not re.search(r"\b\d+ (failed|errors?)\b", ran.stdout)
    assert re.search(r"(?m)^TOTAL .*\d+%", ran.stdout)
