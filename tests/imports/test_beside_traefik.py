"""The same file in Traefik itself and in the gateway: the same requests get the same, or the report had said so.

Where Traefik is not installed, this is skipped; `.ci/servers` installs it.
"""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from propylon.commands.imports.command import translate
from propylon.commands.imports.draft import Draft
from propylon.commands.imports.report import Report
from propylon.commands.imports.source import Source
from propylon.commands.imports.traefik.labels import read_labels
from propylon.commands.imports.tree import parse
from propylon.testing.gateway import GatewayUnderTest
from tests.imports.driving import FOLDER, gateway_of
from tests.support.gateway import free_port
from tests.support.servers import FOLDER as INSTALLED
from tests.support.waiting import wait

SHOP, API = {"Host": "shop.example.com"}, {"Host": "api.example.com"}
REQUESTS: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/api/orders", SHOP),
    ("GET", "/api/orders/", SHOP),
    ("GET", "/api/orders/7?a=b%20c", SHOP),
    ("POST", "/api/orders", {**SHOP, "X-Debug": "1", "X-Edge": "mine"}),
    ("GET", "/api/orders/7", {"Host": "SHOP.example.com"}),
    ("GET", "/api/orders/7", {"Host": "other.example.com"}),
    ("GET", "/api/orders/internal", SHOP),
    ("GET", "/api/orders/internal/x", SHOP),
    ("GET", "/api/a%2Fb/%7Bx%7D", SHOP),
    ("GET", "/nowhere", SHOP),
    ("GET", "/v1", API),
    ("GET", "/v1/", API),
    ("GET", "/v1/orders/7?x=1", API),
    ("DELETE", "/v1/orders/7", API),
]
# What the reports say is not the same: (method, path) and the words.
DIFFERENT = {
    ("PUT", "/api/orders"): ("all routes", "another method is 405"),
    ("GET", "/api/ordersx"): ("http.routers.shop.rule", "/api/ordersx is not"),
    ("GET", "/ping"): ("http.routers.ping.entryPoints", "every route is on every listener"),
    ("GET", "/admin"): ("http.middlewares.admin-auth.basicauth.users", "reads them from a file"),
}


def traefik() -> str:
    """The program, or the test is skipped."""
    own = INSTALLED / "venv/bin/traefik"
    found = str(own) if own.exists() else shutil.which("traefik")
    if found is None:
        pytest.skip(f"Traefik is not installed: .ci/servers {INSTALLED}")
    return found


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


@pytest.fixture
def files() -> Iterator[dict[str, str]]:
    """The fixtures, with a server that is there in place of each name."""
    servers = Servers()
    file = re.sub(
        r"http://([a-z0-9-]+)\.internal:\d+",
        lambda match: f"http://127.0.0.1:{servers.port(match[1])}",
        (FOLDER / "traefik/dynamic.toml").read_text(),
    )
    compose = Source("compose.yml", (FOLDER / "traefik/compose.yml").read_text())
    labels = read_labels(parse(compose), Draft(Report())).value
    yield {"dynamic.toml": file, "labels.yml": _plain(labels, servers)}
    servers.stop()


def _plain(tree: Any, servers: Servers) -> str:
    """The labels as a dynamic file: without TLS, and without the router that sends clients there."""
    http = tree["http"]
    del http["routers"]["api-http"]
    http["routers"]["api"].pop("tls")
    for name, service in http["services"].items():
        balancer = next(value for key, value in service.items() if key.lower() == "loadbalancer")
        balancer["servers"] = [{"url": f"http://127.0.0.1:{servers.port(name)}"}]
        balancer.pop("healthcheck", None)
    for router in http["routers"].values():
        router.pop("entrypoints", None)
    return json.dumps(tree)


@contextmanager
def running_traefik(folder: Path, files: dict[str, str]) -> Iterator[int]:
    """Traefik with these files on a port of its own."""
    program = traefik()
    for name, text in files.items():
        (folder / name).write_text(text)
    port, inside = free_port(), free_port()
    process = subprocess.Popen(
        [
            program,
            f"--providers.file.directory={folder}",
            f"--entryPoints.web.address=127.0.0.1:{port}",
            f"--entryPoints.internal.address=127.0.0.1:{inside}",
            "--entryPoints.web.transport.lifeCycle.graceTimeOut=0",
            "--global.checkNewVersion=false",
            "--global.sendAnonymousUsage=false",
        ],
        env={"HOME": str(folder), "PATH": os.environ["PATH"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait(lambda: _ready(port))
        yield port
    finally:
        process.kill()
        process.wait()


def _ready(port: int) -> bool:
    try:
        both = [
            ask(port, "GET", path, host) for path, host in (("/v1", API), ("/api/orders", SHOP))
        ]
    except (OSError, ValueError):
        return False
    return all(status == 200 for status, _ in both)


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
    (one,) = got
    query = f"?{one.query}" if one.query else ""
    seen = {"path": one.path + query, "host": one.headers["host"]}
    return answer.status_code, seen | {
        name: one.headers.get(name) for name in ("X-Edge", "X-Debug")
    }


def test_the_same_requests_get_the_same(files: dict[str, str], tmp_path: Path) -> None:
    """Statuses, paths, hosts and headers, from a dynamic file and from labels; or the report had said so."""
    found = translate("traefik", [Source(name, text) for name, text in files.items()])
    folder = tmp_path / "traefik"
    folder.mkdir()
    with running_traefik(folder, files) as port, gateway_of(found.text, tmp_path) as gateway:
        for method, path, headers in REQUESTS:
            there, here = ask(port, method, path, headers), ours(gateway, method, path, headers)
            if there[1] is not None and here[1] is not None:
                # A service of the split is asked by its own name; both of them are on one port here.
                for seen in (there[1], here[1]):
                    seen["host"] = re.sub(r"^127\.0\.0\.1:\d+$", "shop.example.com", seen["host"])
            assert (method, path, here) == (method, path, there)
        said = {(one.at.what, one.text) for one in found.report.findings}
        for (method, path), (what, words) in DIFFERENT.items():
            headers = API if path == "/admin" else SHOP
            assert ask(port, method, path, headers) != ours(gateway, method, path, headers), path
            assert any(at == what and words.split("/")[-1] in text for at, text in said), (
                what,
                words,
            )
