"""Upstreams that other people wrote: a body on GET is never their next request, whether they read it or not.

The case for Python's http.server, which does not read it, is in `test_unread_bodies`. CI installs those that are named
here; where one is not installed, its cases are skipped.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.support.client import RawClient, ask, chunked, request
from tests.support.gateway import Config, Gateway, free_port

SMUGGLED = b"GET /admin/keys HTTP/1.1\r\nHost: x\r\nX-User-Id: root\r\n\r\n"
# Each says which path it was asked for, and reads no body.
WSGI = """
def application(environ, start_response):
    path = environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Length", str(len(path)))])
    return [path]
"""
EXPRESS = """
const app = require("express")();
app.use((request, response) => response.send(request.path));
app.listen(Number(process.argv[2]), "127.0.0.1");
"""
NODE = """
require("http").createServer((request, response) => response.end(request.url))
  .listen(Number(process.argv[2]), "127.0.0.1");
"""
NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 $uri; }} }}
}}
"""


def gunicorn(folder: Path, port: int) -> list[str]:
    """Its sync worker, which keeps no connection, behind one thread that does."""
    (folder / "app.py").write_text(WSGI)
    return [_found("gunicorn"), "--bind", f"127.0.0.1:{port}", "--log-level", "error", "app"]


def gunicorn_threads(folder: Path, port: int) -> list[str]:
    """Its threaded worker, which keeps connections."""
    return [*gunicorn(folder, port), "--worker-class", "gthread", "--threads", "4"]


def nginx(folder: Path, port: int) -> list[str]:
    """A `return`, which reads nothing itself."""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    return [_found("nginx"), "-c", str(folder / "nginx.conf")]


def node(folder: Path, port: int) -> list[str]:
    """Node's own server."""
    (folder / "app.js").write_text(NODE)
    return [_found("node"), str(folder / "app.js"), str(port)]


def express(folder: Path, port: int) -> list[str]:
    """Express, found by NODE_PATH."""
    binary = _found("node")
    found = subprocess.run([binary, "-e", "require('express')"], check=False, capture_output=True)
    if found.returncode:
        pytest.skip("express is not installed (npm install express; NODE_PATH)")
    (folder / "app.js").write_text(EXPRESS)
    return [binary, str(folder / "app.js"), str(port)]


def _found(program: str) -> str:
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


PEERS: dict[str, Callable[[Path, int], list[str]]] = {
    "gunicorn sync": gunicorn,
    "gunicorn gthread": gunicorn_threads,
    "nginx": nginx,
    "node": node,
    "express": express,
}


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The port of each of them, in turn."""
    port = free_port()
    arguments = PEERS[request.param](tmp_path, port)
    process = subprocess.Popen(
        arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            RawClient(port).sock.close()
            return
        time.sleep(0.02)
    pytest.fail("the upstream did not start")


def configuration(port: int) -> Config:
    """Everything to that upstream."""
    return {
        "services": {"app": {"url": f"http://127.0.0.1:{port}"}},
        "routes": [{"path": "/a", "service": "app", "auth": "none"}],
    }


def attack(gateway: Gateway, method: str, *, in_chunks: bool) -> int:
    """Send a request whose body is another request; return the status of its answer."""
    payload = request(method, "/a/attack", body=SMUGGLED)
    if in_chunks:
        payload = request(method, "/a/attack", [("Transfer-Encoding", "chunked")]) + chunked(
            SMUGGLED
        )
    with RawClient(gateway.port) as client:
        return client.send(payload).read(method).status


def test_a_body_on_any_method_is_no_request(start: Start, peer: int) -> None:
    """Every client gets the answer to its own request, and requests with and without bodies go on working."""
    gateway = start(configuration(peer))
    for number in range(3):
        for method in ("GET", "DELETE", "OPTIONS", "HEAD", "POST"):
            # A server may refuse such a body (405 from nginx, say); then it has not executed it either.
            assert attack(gateway, method, in_chunks=bool(number % 2)) < 500
            path = f"/a/innocent/{number}/{method.lower()}"
            answer = ask(gateway.port, target=path)
            assert (answer.status, answer.body) == (200, path.encode())
