"""The same file in Traefik itself and in the gateway: the same requests get the same, or the report had said so.

Where Traefik is not installed, this is skipped; `.ci/servers` installs it.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from propylon.commands.imports.command import translate
from propylon.commands.imports.draft import Draft
from propylon.commands.imports.report import Report
from propylon.commands.imports.source import Source
from propylon.commands.imports.traefik.labels import read_labels
from propylon.commands.imports.tree import parse
from tests.imports.beside import Servers, ask, ours
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
