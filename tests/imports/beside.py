"""Send the same requests to the original gateway and to the imported one."""

import json
import threading
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from propylon.testing.gateway import GatewayUnderTest


class Echo(BaseHTTPRequestHandler):
    """Answers with what it got."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        got = {"path": self.path, "host": self.headers["Host"]}
        got |= {name: self.headers.get(name) for name in ("X-Edge", "X-Debug")}
        body = json.dumps(got).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 — as the class wants it

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Servers:
    """A server for each name of the fixtures."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self._servers: list[ThreadingHTTPServer] = []

    def port(self, name: str) -> int:
        """The port of the server with a name, which is started when it is first asked for."""
        if name not in self.ports:
            server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self._servers.append(server)
            self.ports[name] = server.server_address[1]
        return self.ports[name]

    def stop(self) -> None:
        """Stop all of them."""
        for server in self._servers:
            server.shutdown()
            server.server_close()


def ask(port: int, method: str, path: str, headers: dict[str, str]) -> tuple[int, Any]:
    """Status, and what the service got; None if nobody did."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.status == 200 else None


def ours(
    gateway: GatewayUnderTest, method: str, path: str, headers: dict[str, str]
) -> tuple[int, Any]:
    """The same of the gateway in memory."""
    upstreams = [gateway.upstream(name) for name in gateway.gateway.config.services]
    before = [len(one.requests) for one in upstreams]
    answer = gateway.request(method, path, headers=headers, client="127.0.0.1")
    got = [
        one.requests[-1]
        for one, count in zip(upstreams, before, strict=True)
        if len(one.requests) > count
    ]
    if not got:
        return answer.status_code, None
    one = got[0]
    assert all(other is one for other in got)  # two services may have one address
    query = f"?{one.query}" if one.query else ""
    seen = {"path": one.path + query, "host": one.headers["host"]}
    return answer.status_code, seen | {
        name: one.headers.get(name) for name in ("X-Edge", "X-Debug")
    }
