"""`basic_auth`: users of a file with their passwords, over real sockets, on both edges."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.upstream import Upstream

# Made with little work on purpose: htpasswd -B -C 4, and argon2 with 64 KiB.
BCRYPT = "$2y$04$vGVtiheryo9nNBBks6LPaOPU1vb7v/fF9BKXPZBXJ8i8/KGqsppFq"
UTF8 = "$2b$04$NL2P182sqHNSO7pMSu7KV.VrFF9VWLKQG6uU9UIW4YDYng6C359wS"
ARGON2 = (
    "$argon2id$v=19$m=64,t=1,p=1$gHnOkXmU4y7Yn3+/5Na5Pw$4cC9nNXTNAhcO4GNcIIt06t597f1MuNOrXHUpwrdu3k"
)
HTPASSWD = f"# the team\nann:{BCRYPT}\n\nbob:{ARGON2}\njürgen:{UTF8}\r\n"
PASSWORD = "correct horse"
CHALLENGE = 'Basic realm="The \\"inner\\" pages", charset="UTF-8"'


def configuration(port: int, file: Path) -> Config:
    """Routes for the users of a file, with what each does besides."""
    users = {"file": str(file), "realm": 'The "inner" pages'}
    return {
        "auth": {"tokens": {"enabled": False}},
        "services": {"pages": {"url": f"http://127.0.0.1:{port}"}},
        "defaults": {"auth": "none", "basic_auth": users},
        "routes": [
            {"name": "inner", "path": "/inner", "service": "pages",
             "basic_auth": {"user_header": "X-Remote-User"}},
            {"name": "passing", "path": "/passing", "service": "pages", "basic_auth": {"forward": True}},
            {"name": "each", "path": "/each", "service": "pages",
             "rate_limit": {"rate": "1/h", "burst": 1, "key": "caller"}},
            {"name": "fixed", "path": "/fixed", "respond": {"body": "ok"}},
            {"name": "open", "path": "/open", "service": "pages", "basic_auth": "none"},
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def behind() -> Iterator[Upstream]:
    """The service behind all routes."""
    with Upstream(fallback=answers.plain(body=b"ok")) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def kept(behind: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A gateway on each edge."""
    folder = tmp_path_factory.mktemp("basic_auth")
    file = folder / "htpasswd"
    file.write_text(HTPASSWD, encoding="utf-8", newline="")
    found = Kept(EDGES, folder, configuration(behind.port, file))
    yield found
    found.close()


@pytest.fixture
def gateway(edge: str, kept: Kept) -> Gateway:
    """The gateway on that edge."""
    return kept.at(edge)


def basic(name: str, password: str = PASSWORD) -> tuple[str, str]:
    """Return the header with a user's credentials."""
    pair = f"{name}:{password}".encode()
    return ("Authorization", f"Basic {base64.b64encode(pair).decode()}")


def get(gateway: Gateway, target: str, *lines: tuple[str, str]) -> Answer:
    """Ask for a page."""
    return ask(gateway.port, target=target, headers=lines)


@pytest.mark.parametrize(
    ("name", "password"), [("ann", PASSWORD), ("bob", PASSWORD), ("jürgen", "pässwörd:x")]
)
def test_a_user_with_the_password(
    gateway: Gateway, behind: Upstream, name: str, password: str
) -> None:
    """The service gets the name in the header that the route names, and no password; the log has the name."""
    forged = [("X-Remote-User", "root"), ("x_remote_user", "root")]
    answer = get(gateway, "/inner/1", basic(name, password), *forged)
    assert (answer.status, answer.body) == (200, b"ok")
    arrived = behind.of(answer)
    assert arrived.all("x-remote-user") == [name.encode()]
    assert not {"authorization", "x_remote_user", "x-user-id"} & arrived.names
    assert gateway.record(answer)["principal"] == name
    assert get(gateway, "/inner/2", basic(name, password)).status == 200
    assert get(gateway, "/fixed", basic(name, password)).body == b"ok"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [basic("ann", "wrong")],
        [basic("nobody")],
        [basic("ann"), basic("ann")],
        [("Authorization", "Bearer abc")],
        [("Authorization", "Basic !")],
        [("Authorization", "Basic YW5u")],
    ],
    ids=["nothing", "wrong", "unknown", "twice", "token", "no base64", "no colon"],
)
def test_everybody_else_is_asked_for_a_password(
    gateway: Gateway, behind: Upstream, lines: list[tuple[str, str]]
) -> None:
    """401 with the challenge, and the same words whatever was wrong; nothing reaches the service."""
    before = len(behind.requests)
    answer = get(gateway, "/inner", *lines)
    assert (answer.status, answer.get("www-authenticate")) == (401, CHALLENGE)
    assert answer.json()["error"]["message"] == "A user name and a password are required"
    assert len(behind.requests) == before


def test_the_service_may_have_the_password(gateway: Gateway, behind: Upstream) -> None:
    """With `forward: true`; and a route with `none` asks nobody, and still drops the header that names users."""
    answer = get(gateway, "/passing", basic("ann"))
    assert behind.of(answer).get("authorization") == basic("ann")[1]
    answer = get(gateway, "/open", ("X-Remote-User", "root"))
    assert (answer.status, behind.of(answer).names & {"x-remote-user"}) == (200, set())


def test_users_are_callers(gateway: Gateway) -> None:
    """A limit by caller counts each of them."""
    statuses = [get(gateway, "/each", basic(name)).status for name in ("ann", "ann", "bob")]
    assert statuses == [200, 429, 200]


def test_a_websocket_needs_the_password_too(gateway: Gateway) -> None:
    """Its handshake is refused with the same challenge."""
    handshake = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    with RawClient(gateway.port) as client:
        answer = client.send(request(target="/inner", headers=handshake)).read()
    assert answer.status == 401
