"""Run real servers of others, each with the routes /admin and /teams/{id}/keys: what they read is what counts."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import free_port
from tests.support.zygote import ZYGOTE, Forked, environment

# Where `.ci/servers` has installed them.
FOLDER = Path(os.environ.get("TEST_SERVERS", ".servers")).absolute()

EXPRESS = """
const app = require("express")();
app.get("/admin", (_, answer) => answer.send("ADMIN"));
app.get("/teams/:id/keys", (_, answer) => answer.send("KEYS"));
app.listen(Number(process.argv[2]), "127.0.0.1");
"""
FLASK = """
import sys
from flask import Flask
app = Flask("app")
app.add_url_rule("/admin", "admin", lambda: "ADMIN")
app.add_url_rule("/teams/<id>/keys", "keys", lambda id: "KEYS")
app.run("127.0.0.1", int(sys.argv[1]))
"""
DJANGO = """
import sys
from wsgiref.simple_server import make_server
from django.conf import settings
settings.configure(
    ROOT_URLCONF="__main__", ALLOWED_HOSTS=["*"], SECRET_KEY="k",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
urlpatterns = [
    path("admin", lambda _: HttpResponse("ADMIN")),
    path("teams/<id>/keys", lambda _, id: HttpResponse("KEYS")),
]
make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application()).serve_forever()
"""
STARLETTE = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
routes = [
    Route("/admin", lambda _: PlainTextResponse("ADMIN")),
    Route("/teams/{id}/keys", lambda _: PlainTextResponse("KEYS")),
]
uvicorn.run(Starlette(routes=routes), port=int(sys.argv[1]), log_level="error")
"""
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location = /admin {{ return 200 ADMIN; }}
    location ~ ^/teams/[^/]+/keys$ {{ return 200 KEYS; }}
    location / {{ return 404; }}
  }}
}}
"""


def _express(version: int) -> Callable[[int, Path], list[str]]:
    def start(port: int, folder: Path) -> list[str]:
        home = FOLDER / f"express{version}"
        if shutil.which("node") is None or not (home / "node_modules/express").is_dir():
            pytest.skip(f"Express {version} is not installed: .ci/servers {FOLDER}")
        program = home / "server.js"
        program.write_text(EXPRESS)
        return ["node", str(program), str(port)]

    return start


def _python(package: str, source: str) -> Callable[[int, Path], list[str]]:
    def start(port: int, folder: Path) -> list[str]:
        python = FOLDER / "venv/bin/python"
        if not (python.exists() and any(FOLDER.glob(f"venv/lib/*/site-packages/{package}"))):
            pytest.skip(f"{package} is not installed: .ci/servers {FOLDER}")
        program = folder / "server.py"
        program.write_text(source)
        return [str(python), str(program), str(port)]

    return start


def _nginx(port: int, folder: Path) -> list[str]:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, port=port))
    return ["nginx", "-p", str(folder), "-c", str(file)]


_COMMANDS: dict[str, Callable[[int, Path], list[str]]] = {
    "express 4": _express(4),
    "express 5": _express(5),
    "flask": _python("flask", FLASK),
    "django": _python("django", DJANGO),
    "nginx": _nginx,
}
_OURS = "starlette"  # the gateway's own dependency: it runs in the gateway's environment
SERVERS = (*_COMMANDS, _OURS)


@contextlib.contextmanager
def running(name: str, folder: Path) -> Iterator[int]:
    """Run a server for as long as the block lasts, and give its port; skip the test where it is not installed."""
    if name == _OURS:
        with run_python(STARLETTE, folder) as port:
            yield port
        return
    port = free_port()
    with _run(_COMMANDS[name](port, folder), port):
        yield port


@contextlib.contextmanager
def run_python(source: str, folder: Path, *arguments: str) -> Iterator[int]:
    """Run a program of the gateway's own environment, whose first argument is the port that is given."""
    port = free_port()
    command = [sys.executable, "-c", source, str(port), *arguments]
    process = ZYGOTE.start(command, cwd=folder, env=environment(), stdout=folder / "program.log")
    try:
        _wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def _run(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(port, process)
            yield
        finally:
            process.terminate()


def _wait(port: int, process: "subprocess.Popen[bytes] | Forked") -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise AssertionError("the server did not start")
