"""Tokens of sockets: in a header, a subprotocol or the query; never forwarded, never logged; and no socket outlives its own."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import guarded as guarded_by
from tests.support.client import Headers, RawClient, ask
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from tests.support.secrecy import SECRECY
from tests.support.sockets import Socket, echo, handshake
from tests.support.tokens import OTHER_SECRET, SECRET, authorized, mint
from tests.support.topology import PATIENT
from tests.support.upstream import Upstream

POLICY = 1008
SHORT = 1.5  # seconds that a token lasts whose end is waited for


def configuration(upstream: Upstream, issuer: Issuer, database: str) -> Config:
    """A gateway that wants a token on most routes."""
    url = f"http://127.0.0.1:{upstream.port}"
    services = {
        "up": {"url": url, "timeouts": dict(PATIENT)},
        "tokenless": {"url": url, "timeouts": dict(PATIENT), "forward_token": False},
    }
    routes: list[dict[str, Any]] = [
        {"path": "/ws", "service": "up"},
        {"path": "/tokenless", "service": "tokenless"},
        {"path": "/scoped", "service": "up", "scopes": ["chat"]},
        {"path": "/maybe", "service": "up", "auth": "optional"},
        {"path": "/open", "service": "up", "auth": "none"},
        {"path": "/claims", "service": "up", "claims": {"X-Tenant": "tenant"}},
        {"path": "/long", "service": "up", "websocket": {"close_on_expiry": False}},
        {"path": "/listed", "service": "up", "websocket": {"origins": ["https://a.example"]}},
        {"path": "/any", "service": "up", "websocket": {"origins": "*"}},
    ]
    auth = {
        "jwt": {"secret": SECRET},
        "tokens": {"database": f"sqlite:///{database}"},
        "from": ["header", "cookie:session"],
        "introspection": {
            "url": issuer.introspection_url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "cache": "200ms",
        },
    }
    return {"auth": auth, "services": services, "routes": routes}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A strict upstream that echoes, behind authentication."""
    with Upstream(fallback=echo, upgrades=True, identified=True) as running:
        yield running


@pytest.fixture(scope="module")
def kept_gateways(
    upstream: Upstream, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[guarded_by.Kept]:
    """The gateways of both edges."""
    folder = tmp_path_factory.mktemp("tokens")
    config = configuration(upstream, issuer, str(folder / "users.db"))
    running = guarded_by.Kept(EDGES, folder, config)
    yield running
    running.close()


def protocols(*names: str) -> Headers:
    """Offer subprotocols."""
    return [("Sec-WebSocket-Protocol", ", ".join(names))]


def test_token_in_the_header(socket: Socket, up: Upstream) -> None:
    """It is verified, and the upstream gets it with the identity headers, as with any request."""
    token = mint("alice")
    socket.open("/ws", [("Authorization", f"Bearer {token}")])
    assert socket.ask("hello") == "hello"
    assert up.last.get("authorization") == f"Bearer {token}"
    assert up.last.get("x-user-id") == "alice"


def test_token_as_the_only_subprotocol(socket: Socket, up: Upstream) -> None:
    """The gateway answers with it itself; the upstream sees no subprotocol, no token, and who it is."""
    token = mint("alice")
    socket.open("/ws", protocols(f"bearer.{token}"))
    assert socket.answer is not None
    assert socket.answer.get("sec-websocket-protocol") == f"bearer.{token}"
    assert socket.ask("hello") == "hello"
    assert up.last.get("sec-websocket-protocol") is None
    check_tokenless(up, token)


@pytest.mark.parametrize("order", [1, -1])
def test_token_among_subprotocols(socket: Socket, up: Upstream, order: int) -> None:
    """The upstream chooses among the others, and the token is never chosen."""
    token = mint("alice")
    socket.open("/ws", protocols(*["chat", f"bearer.{token}"][::order]))
    assert socket.answer is not None
    assert socket.answer.get("sec-websocket-protocol") == "chat"
    assert up.last.get("sec-websocket-protocol") == "chat"
    check_tokenless(up, token)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("?token={}", b""),
        ("?a=1&token={}&b=%20", b"?a=1&b=%20"),
        ("?%74oken={}&b", b"?b"),
        ("?tokens=1&token={}", b"?tokens=1"),
    ],
)
def test_token_in_the_query(
    gateway: Gateway, socket: Socket, up: Upstream, query: str, left: bytes
) -> None:
    """It is taken out before the request is forwarded; the rest of the query stays byte for byte."""
    token = mint("alice")
    socket.open("/ws" + query.format(token))
    assert socket.ask("hello") == "hello"
    assert up.last.target == b"/ws" + left
    check_tokenless(up, token)
    socket.client.sock.close()
    assert socket.answer is not None
    assert gateway.record(socket.answer)["principal"] == "alice"


def check_tokenless(up: Upstream, token: str) -> None:
    """Assert that the upstream got the user, and nothing of the token."""
    assert up.last.get("x-user-id") == "alice"
    assert up.last.get("authorization") is None
    assert token.encode() not in up.raw
    assert token.split(".")[2].encode() not in up.raw


def test_claims_become_headers(socket: Socket, up: Upstream) -> None:
    """The route's claims reach the upstream of a socket, too."""
    socket.open("/claims", protocols(f"bearer.{mint(tenant='t1')}"))
    assert up.last.get("x-tenant") == "t1"


def test_forward_token_false(socket: Socket, up: Upstream) -> None:
    """Neither the header nor a token in another place reaches such a service."""
    token = mint("alice")
    headers = [("Authorization", f"Bearer {token}"), *protocols("chat", f"bearer.{token}")]
    socket.open("/tokenless", [*headers, ("Cookie", f"a=b; session={token}")])
    check_tokenless(up, token)
    assert up.last.get("sec-websocket-protocol") == "chat"
    assert up.last.get("cookie") == "a=b"


def test_token_in_a_cookie(socket: Socket, up: Upstream) -> None:
    """A place of `auth.from` counts, and the rule about origins guards it."""
    cookie = [("Cookie", f"session={mint('alice')}")]
    evil = [*cookie, ("Origin", "https://evil.test")]
    assert socket.shake("/ws", evil).status == 403
    assert not up.raw
    with RawClient(socket.client.port) as client:
        Socket(client).open("/ws", [*cookie, ("Origin", "http://gw.test")])
    assert up.last.get("x-user-id") == "alice"


REFUSED: dict[str, tuple[str, Headers, int]] = {
    "none": ("/ws", [], 401),
    "expired": ("/ws", protocols("bearer." + mint(lasts=-10)), 401),
    "expired-query": ("/ws?token=" + mint(lasts=-10), [], 401),
    "forged": ("/ws", protocols("bearer." + mint(secret=OTHER_SECRET)), 401),
    "garbage": ("/ws", protocols("bearer.abc"), 401),
    "empty": ("/ws", protocols("bearer."), 401),
    "empty-query": ("/ws?token=", [], 401),
    "two-protocols": ("/ws", protocols("bearer." + mint("a"), "bearer." + mint("b")), 401),
    "two-parameters": (f"/ws?token={mint('a')}&token={mint('b')}", [], 401),
    "scope": ("/scoped", protocols("bearer." + mint(scope="read")), 403),
    "optional-bad": ("/maybe", protocols("bearer." + mint(lasts=-10)), 401),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_the_upgrade(socket: Socket, up: Upstream, name: str) -> None:
    """A handshake without a good token is an HTTP answer with the envelope, and the upstream hears nothing."""
    target, headers, status = REFUSED[name]
    answer = socket.shake(target, headers)
    assert (answer.status, answer.json()["error"]["code"]) == (status, "AUTH_ERROR")
    assert (answer.get("www-authenticate") or "").startswith("Bearer")
    assert not up.raw


def test_optional(socket: Socket, up: Upstream) -> None:
    """Without a token a socket is anonymous where the token is optional."""
    socket.open("/maybe")
    assert up.last.get("x-user-id") is None


def test_no_token_is_looked_at_where_none_is_asked_for(socket: Socket, up: Upstream) -> None:
    """With `auth: none` subprotocols and query are the service's own, and pass."""
    socket.open("/open?token=mine", protocols("bearer.own", "chat"))
    assert up.last.target == b"/open?token=mine"
    assert up.last.get("sec-websocket-protocol") == "bearer.own, chat"


def test_a_request_has_no_token_in_its_query(gateway: Gateway, up: Upstream) -> None:
    """The other places are for handshakes only."""
    assert ask(gateway.port, target=f"/ws?token={mint()}").status == 401
    assert not up.raw


def test_no_token_is_logged(gateway: Gateway, socket: Socket) -> None:
    """The session's search for secrets looks for those of subprotocols and queries, too."""
    token = mint()
    socket.open("/ws", protocols(f"bearer.{token}"))
    assert token in SECRECY.secrets
    assert token not in gateway.said()


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        ("/listed", "https://a.example", 101),
        ("/listed", "https://b.example", 403),
        ("/any", "https://b.example", 101),
        ("/any", "null", 403),
        ("/ws", "https://a.example", 403),
    ],
)
def test_listed_origins(socket: Socket, path: str, origin: str, status: int) -> None:
    """`websocket.origins` says which pages may open a socket; `null` never does."""
    assert socket.shake(path, [("Origin", origin), *authorized()]).status == status


# The end of a token


@pytest.mark.parametrize("place", ["header", "protocol", "query"])
def test_a_socket_ends_with_its_token(gateway: Gateway, socket: Socket, place: str) -> None:
    """When the token expires, both sides get 1008."""
    token = mint(exp=time.time() + SHORT)
    headers = {
        "header": [("Authorization", f"Bearer {token}")],
        "protocol": protocols(f"bearer.{token}"),
        "query": [],
    }[place]
    socket.open("/ws" + (f"?token={token}" if place == "query" else ""), headers)
    assert socket.ask("hello") == "hello"
    assert socket.farewell().code == POLICY
    assert socket.answer is not None
    assert gateway.record(socket.answer)["close_code"] == POLICY


def test_a_socket_may_outlive_its_token(socket: Socket) -> None:
    """With `close_on_expiry: false` it stays open."""
    until = time.time() + SHORT
    socket.open("/long", [("Authorization", f"Bearer {mint(exp=until)}")])
    while time.time() < until + 1:
        assert socket.ask("hello") == "hello"
        time.sleep(0.1)


@pytest.mark.parametrize("path", ["/ws", "/long"])
def test_a_revoked_token_closes_its_sockets(
    gateway: Gateway, socket: Socket, up: Upstream, path: str
) -> None:
    """It does so with 1008, whatever `close_on_expiry` says; another token's socket stays open."""
    token, other = mint("alice"), mint("alice")
    socket.open(path, protocols(f"bearer.{token}"))
    with RawClient(gateway.port) as client:
        second = Socket(client).open(path, protocols(f"bearer.{other}"))
        headers = [
            ("Authorization", f"Bearer {token}"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ]
        answer = ask(
            gateway.port, "POST", "/api/v1/auth/revoke", headers, f"token={token}".encode()
        )
        assert answer.status == 200, answer.body
        assert socket.farewell().code == POLICY
        assert second.ask("still here") == "still here"


@pytest.mark.parametrize("path", ["/ws", "/long"])
def test_an_opaque_token_is_asked_about_again(
    socket: Socket, up: Upstream, issuer: Issuer, path: str
) -> None:
    """When its issuer says that it is not active any more, its sockets are closed with 1008."""
    token = issuer.grant(f"opaque-{time.time_ns()}", {"active": True, "sub": "alice"})
    socket.open(path, protocols(f"bearer.{token}"))
    check_user(up, "alice")
    assert issuer.wait(lambda: issuer.asked.count(token) >= 2)
    assert socket.ask("still here") == "still here"
    issuer.grant(token, {"active": False})
    assert socket.farewell().code == POLICY


def check_user(up: Upstream, user: str) -> None:
    """Assert who the upstream was told it is."""
    assert up.last.get("x-user-id") == user


def test_a_key_of_any_sort(socket: Socket) -> None:
    """Each client makes a key of its own."""
    key = base64.b64encode(bytes(range(16))).decode()
    sent = handshake("/open", [("Sec-WebSocket-Key", key)], without=("Sec-WebSocket-Key",))
    assert socket.client.send(sent).read().status == 101
