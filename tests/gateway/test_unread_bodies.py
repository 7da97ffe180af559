"""A body that the upstream does not read never becomes a request: http.server, the simplest upstream that there is."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import Start
from tests.support.client import RawClient, ask, chunked, request
from tests.support.gateway import Config, Gateway
from tests.support.tokens import SECRET

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


@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("method", METHODS)
def test_a_body_is_never_executed_as_a_request(
    start: Start, unread: Unread, method: str, coding: str
) -> None:
    """A public request's body that holds another request reaches no handler, and no client gets its answer."""
    gateway = start(configuration(unread))
    assert attack(gateway, method, coding) == 200
    for number in range(5):
        path = f"/a/innocent/{number}"
        assert ask(gateway.port, target=path).body == path.encode()
        attack(gateway, method, coding)
    assert [path for _, path, _ in unread.executed if path.startswith("/admin")] == []
    assert {user for _, _, user in unread.executed} == {None}
