"""What only the portable edge has to know: the server above it, which adds headers and forgets clients."""

import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.answers import after, flood, plain
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import Config, Gateway, environment, free_port
from tests.support.upstream import Upstream
from tests.support.waiting import wait
from tests.support.zygote import ZYGOTE, Forked

DATE = "Tue, 01 Jan 2030 00:00:00 GMT"
OWN = plain(headers=[f"Date: {DATE}", "Server: theirs", "X-Other: stays"], body=b"hi")


@pytest.fixture(scope="module")
def up() -> Iterator[Upstream]:
    """An upstream that says its own Date and Server."""
    with Upstream() as upstream:
        upstream.on("/x", OWN)
        upstream.on("/slow", after(0.5, plain(body=b"late")))
        upstream.on("/slow-large", after(0.5, flood(65536 * 64)[0]))
        upstream.on("/broken", after(0.5, plain("500 Broken")))
        yield upstream


def config(up: Upstream) -> Config:
    """One service on every path."""
    return {
        "defaults": {"auth": "none", "circuit": False},
        "services": {"orders": {"url": f"http://127.0.0.1:{up.port}", "retry": {"attempts": 1}}},
        "routes": [{"path": "/", "service": "orders"}],
    }


@pytest.fixture(scope="module")
def portable(up: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway under uvicorn, which adds no headers as the tests start it."""
    gateway = Gateway("portable", config(up), tmp_path_factory.mktemp("portable"))
    gateway.wait_ready()
    yield gateway
    gateway.kill()


MOUNTED = """
from fastapi import FastAPI
from propylon import Gateway
gateway = Gateway.from_file({file!r}, {{}})
app = FastAPI(lifespan=gateway.lifespan)
app.mount("/", gateway.asgi)
"""


@pytest.fixture(scope="module")
def running(up: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The same under uvicorn as it is by default, plain and mounted in an application, and with `--no-date-header`."""
    folder = tmp_path_factory.mktemp("servers")
    source = Gateway("portable", config(up), folder)
    source.kill()
    (folder / "mounted.py").write_text(MOUNTED.format(file=str(source.file)))
    kinds = {
        "plain": ["propylon.main:app"],
        "mounted": ["mounted:app"],
        "h11": ["propylon.main:app", "--http", "h11"],
        "dateless": ["propylon.main:app", "--no-date-header"],
    }
    ports = {kind: free_port() for kind in kinds}
    started = [_started(folder, source.file, ports[kind], kinds[kind]) for kind in kinds]
    for port in ports.values():
        wait(lambda port=port: _listens(port))  # type: ignore[misc]
    yield ports
    for process in started:
        process.kill()
        process.wait()


def _started(folder: Path, file: Path, port: int, what: list[str]) -> Forked:
    command = [sys.executable, "-m", "uvicorn", *what, "--no-proxy-headers", "--port", str(port)]
    log = folder / f"log-{port}"
    return ZYGOTE.start(command, cwd=folder, env=environment(file), stdout=log)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def own(answer: Answer) -> tuple[list[bytes], list[bytes]]:
    """The Date and Server of an answer that has passed."""
    assert (answer.status, answer.body, answer.get("x-other")) == (200, b"hi", "stays")
    return answer.all("date"), answer.all("server")


@pytest.mark.parametrize("kind", ["plain", "mounted", "h11"])
def test_date_and_server_stand_once(running: dict[str, int], kind: str) -> None:
    """Where the server adds them, those of the upstream do not pass."""
    dates, servers = own(ask(running[kind], target="/x"))
    assert (len(dates), servers) == (1, [b"uvicorn"])
    assert dates != [DATE.encode()]


def test_what_the_server_does_not_add_passes(running: dict[str, int], portable: Gateway) -> None:
    """Each of the two passes where the server was told not to add it."""
    assert own(ask(running["dateless"], target="/x")) == ([DATE.encode()], [b"uvicorn"])
    assert own(ask(portable.port, target="/x")) == ([DATE.encode()], [b"theirs"])


@pytest.mark.parametrize("path", ["/slow", "/slow-large", "/broken"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_in_mid_pipeline(portable: Gateway, how: str, path: str) -> None:
    """It is logged as gone, without a traceback, though uvicorn does not tell the gateway that it has left."""
    identity = f"leaves-{how}{path.replace('/', '-')}"
    first = request(target=path, headers=[("X-Request-ID", identity)])
    with RawClient(portable.port) as client:
        client.send(first + request(target="/x") * 4)
        time.sleep(0.2)
        if how == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    records = portable.records(identity)
    assert len(records) == 1
    assert "client_gone" in records[0]["flags"]
    assert ask(portable.port, target="/x").status == 200
    said = portable.said()
    assert "Traceback" not in said
    assert "ERROR" not in said
