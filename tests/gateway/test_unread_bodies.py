"""A body that the upstream does not read never becomes a request: http.server, the simplest upstream that there is."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product

import pytest

from tests.conftest import Start
from tests.support.answers import in_turn, plain
from tests.support.client import RawClient, ask, chunked, request
from tests.support.gateway import Config, Gateway
from tests.support.tokens import SECRET
from tests.support.upstream import Arrived, Upstream

CODINGS = ("length", "chunked")
METHODS = ("GET", "HEAD", "DELETE", "OPTIONS")
# Another user's request, with the identity that only the gateway may state.
SMUGGLED = b"GET /admin/keys HTTP/1.1\r\nHost: x\r\nX-User-Id: root\r\n\r\n"


class Unread(ThreadingHTTPServer):
    """Python's own server with a handler that reads no body, as most handlers for GET."""

    daemon_threads = True

    def __init__(self) -> None:
        self.executed: list[tuple[str, str, str | None]] = []
        self.connections = 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def process_request(self, request: object, client_address: object) -> None:
        """Count the connections."""
        self.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Says which path it was asked for."""

    protocol_version = "HTTP/1.1"
    server: Unread

    def answer(self) -> None:
        """Answer without a look at the body."""
        self.server.executed.append((self.command, self.path, self.headers["X-User-Id"]))
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_DELETE = do_OPTIONS = do_POST = answer  # noqa: N815 — http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — http.server's name
        """Be silent."""


@pytest.fixture
def unread() -> Iterator[Unread]:
    """A server that reads no bodies."""
    server = Unread()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def up_alone() -> Iterator[Upstream]:
    """A scripted upstream that judges what it gets."""
    with Upstream() as upstream:
        yield upstream
        assert upstream.faults == []


def configuration(server: Unread, **service: object) -> Config:
    """A public route and a protected one, both to that server."""
    return {
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "services": {"app": {"url": f"http://127.0.0.1:{server.server_address[1]}", **service}},
        "routes": [
            {"path": "/a", "service": "app", "auth": "none"},
            {"path": "/admin", "service": "app"},
        ],
    }


def attack(gateway: Gateway, method: str, coding: str) -> int:
    """Send a public request whose body is another request; return the status of its answer."""
    if coding == "length":
        payload = request(method, "/a/attack", body=SMUGGLED)
    else:
        head = request(method, "/a/attack", [("Transfer-Encoding", "chunked")])
        payload = head + chunked(SMUGGLED)
    with RawClient(gateway.port) as client:
        return client.send(payload).read(method).status


def test_a_body_is_never_executed_as_a_request(start: Start, unread: Unread) -> None:
    """A public request's body that holds another request reaches no handler, and no client gets its answer."""
    gateway = start(configuration(unread))
    for case in product(METHODS, CODINGS):
        unread.executed.clear()
        assert attack(gateway, *case) == 200, case
        for number in range(5):
            path = f"/a/innocent/{number}"
            assert ask(gateway.port, target=path).body == path.encode(), case
            attack(gateway, *case)
        assert [path for _, path, _ in unread.executed if path.startswith("/admin")] == [], case
        assert {user for _, _, user in unread.executed} == {None}, case


def test_no_answer_crosses_between_clients(start: Start, unread: Unread) -> None:
    """With attackers and others at the same time, every client gets the answer to its own request."""
    gateway = start(configuration(unread))

    def attacker(number: int) -> None:
        for turn in range(15):
            attack(gateway, METHODS[(number + turn) % 4], CODINGS[turn % 2])

    def innocent(number: int) -> None:
        with RawClient(gateway.port) as client:
            for turn in range(40):
                path = f"/a/{number}/{turn}"
                answer = client.send(request(target=path)).read()
                assert (answer.status, answer.body) == (200, path.encode())

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(one, n) for n in range(4) for one in (attacker, innocent)]
        for each in working:
            each.result()
    assert [path for _, path, _ in unread.executed if path.startswith("/admin")] == []


def test_content_length_zero_is_no_body(start: Start, unread: Unread) -> None:
    """`Content-Length: 0` announces nothing that could be left unread: the connection is used again."""
    gateway = start(configuration(unread, bodies_on_get="refuse"))
    for _ in range(4):
        assert ask(gateway.port, target="/a", headers=[("Content-Length", "0")]).status == 200
    assert unread.connections == 1


def test_refuse_answers_400_and_forwards_nothing(start: Start, unread: Unread) -> None:
    """`bodies_on_get: refuse` refuses the body, in either framing; a POST may have one."""
    gateway = start(configuration(unread, bodies_on_get="refuse"))
    for method in METHODS:
        assert [attack(gateway, method, coding) for coding in CODINGS] == [400, 400]
    assert unread.executed == []
    assert ask(gateway.port, "POST", "/a", body=b"hello").status == 200


@pytest.mark.parametrize("service", [{}, {"bodies": "close"}], ids=["reuse", "close"])
def test_pass_treats_the_body_as_any_other(
    start: Start, up_alone: Upstream, service: Config
) -> None:
    """`bodies_on_get: pass` leaves the connection of a GET with a body to what `bodies` says."""
    gateway = start(to(up_alone, bodies_on_get="pass", **service))
    seen = [asked(gateway, up_alone, method) for method in ("GET", "DELETE", "POST")]
    closing = bool(service)
    assert [arrived.get("connection") for arrived in seen] == ["close" if closing else None] * 3
    assert len({arrived.connection for arrived in seen}) == (3 if closing else 1)


def test_a_post_stays_open_until_bodies_close(start: Start, unread: Unread) -> None:
    """`bodies: close` is the cure for a server that answers a POST without reading it."""
    gateway = start(configuration(unread, bodies="close"))
    for number in range(4):
        assert attack(gateway, "POST", "length") == 200
        path = f"/a/innocent/{number}"
        assert ask(gateway.port, target=path).body == path.encode()
    assert [path for _, path, _ in unread.executed if path.startswith("/admin")] == []


def test_a_body_with_a_meaning_keeps_its_connection(start: Start, up_alone: Upstream) -> None:
    """POST, PUT and PATCH share connections with other requests, as long as nobody says otherwise."""
    gateway = start(to(up_alone))
    seen = [asked(gateway, up_alone, method) for method in ("POST", "PUT", "PATCH")]
    assert [arrived.get("connection") for arrived in seen] == [None] * 3
    assert len({arrived.connection for arrived in seen}) == 1


def test_a_connection_with_a_body_on_get_is_never_used_again(
    start: Start, up_alone: Upstream
) -> None:
    """The gateway closes it even if the upstream would keep it, and other connections stay."""
    gateway = start(to(up_alone))
    before = asked(gateway, up_alone, "PUT")
    seen = [asked(gateway, up_alone, method) for method in METHODS]
    after = asked(gateway, up_alone, "PUT")
    assert [arrived.get("connection") for arrived in seen] == ["close"] * len(METHODS)
    assert [bytes(arrived.body) for arrived in seen] == [b"hello"] * len(METHODS)
    assert len({arrived.connection for arrived in seen} | {before.connection}) == 1 + len(METHODS)
    assert after.connection == before.connection


def test_each_attempt_has_a_connection_of_its_own(start: Start, up_alone: Upstream) -> None:
    """A GET with a body that is sent again closes the connection of each attempt."""
    up_alone.on("/x", in_turn(plain("503 Service Unavailable"), plain(body=b"at last")))
    gateway = start(to(up_alone, retry={"attempts": 2, "backoff": "1ms"}))
    answer = ask(gateway.port, target="/x", body=b"hello")
    seen = up_alone.requests
    assert (answer.status, len(seen), len({one.connection for one in seen})) == (200, 2, 2)
    assert [(one.get("connection"), bytes(one.body)) for one in seen] == [("close", b"hello")] * 2


def to(upstream: Upstream, **service: object) -> Config:
    """Everything to that upstream."""
    return {
        "services": {"app": {"url": f"http://127.0.0.1:{upstream.port}", **service}},
        "routes": [{"path": "/x", "service": "app", "auth": "none"}],
    }


def asked(gateway: Gateway, upstream: Upstream, method: str) -> Arrived:
    """A request with a body, as it arrived."""
    return upstream.of(ask(gateway.port, method, "/x", body=b"hello"))
