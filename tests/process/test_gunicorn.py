"""The worker class for Gunicorn, under the real one: the fast edge, a reload, a stop that loses nothing, and what is refused."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cli.test_run import until
from tests.support.certificates import Authority
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import free_port
from tests.support.tls import TlsClient
from tests.support.upstream import Arrived, Peer, Upstream, ok
from tests.support.zygote import ZYGOTE, Forked, environment

WORKER = "propylon.process.gunicorn.GatewayWorker"
Start = Callable[..., Forked]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start Gunicorn with these options; it is ended with the test."""
    started: list[Forked] = []

    def run(*options: str, app: str = "propylon.main:app") -> Forked:
        args = [sys.executable, "-m", "gunicorn", "--worker-class", WORKER, *options, app]
        env = environment(PROPYLON_CONFIG=str(tmp_path / "propylon.yaml"))
        more = ("--no-control-socket",)
        process = ZYGOTE.start([*args, *more], cwd=tmp_path, env=env, stdout=tmp_path / "log")
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()


def write(folder: Path, up: Upstream, *paths: str) -> None:
    """A file with open routes at these paths."""
    routes = [{"path": path, "service": "up", "auth": "none"} for path in paths]
    services = {"up": {"url": f"http://127.0.0.1:{up.port}"}}
    text = yaml.safe_dump({"services": services, "routes": routes})
    (folder / "propylon.yaml").write_text(text)


def said(folder: Path) -> str:
    """What Gunicorn and the workers have printed."""
    return (folder / "log").read_text()


def status(port: int, target: str) -> int:
    """The status of an answer; 0 where nobody listens yet."""
    try:
        return ask(port, target=target).status
    except OSError:
        return 0


def test_gunicorn_serves_reloads_and_stops(start: Start, tmp_path: Path) -> None:
    """The fast edge passes what a WSGI or ASGI server would not; SIGHUP reads the file again; SIGTERM waits for an answer."""
    port = free_port()
    go = threading.Event()

    def late(peer: Peer, arrived: Arrived) -> None:
        go.wait(30)
        ok(peer, arrived)

    with Upstream() as up:
        up.on("/late", late)
        write(tmp_path, up, "/late")
        # One worker: of two, one might hear of the reload before it serves, and would not say that it stops.
        gunicorn = start("--bind", f"127.0.0.1:{port}")
        assert until(lambda: status(port, "/livez") == 200)
        # Only our own protocol answers this one: uvicorn's says 400.
        with RawClient(port) as client:
            assert client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").read().status != 400
        assert ask(port, target="/new").status == 404
        write(tmp_path, up, "/late", "/new")
        gunicorn.send_signal(signal.SIGHUP)
        assert until(lambda: said(tmp_path).count("stopping: unready from now on") == 1)
        assert until(lambda: status(port, "/new") == 200)

        answers: list[Answer] = []
        asking = threading.Thread(target=lambda: answers.append(ask(port, target="/late")))
        asking.start()
        up.arrived("/late")
        gunicorn.terminate()
        assert until(lambda: "Handling signal: term" in said(tmp_path))
        go.set()
        asking.join(30)
        assert [answer.status for answer in answers] == [200]
        assert gunicorn.wait(30) == 0
    assert "CRITICAL" not in said(tmp_path)


def test_gunicorn_hands_over_a_unix_socket_and_a_certificate(start: Start, tmp_path: Path) -> None:
    """Both kinds of address with one worker, and TLS by Gunicorn's own options."""
    pair = Authority(tmp_path).sign("gateway", "localhost")
    port, path = free_port(), tmp_path / "p.sock"
    with Upstream() as up:
        write(tmp_path, up, "/up")
        options = ["--bind", f"127.0.0.1:{port}", "--bind", f"unix:{path}"]
        options += ["--certfile", str(pair.certificate), "--keyfile", str(pair.key)]
        gunicorn = start(*options)
        assert until(lambda: "Booting worker" in said(tmp_path))
        with TlsClient(port) as client:
            assert client.send(request(target="/up")).read().status == 200
        os.kill(gunicorn.pid, signal.SIGINT)
        assert gunicorn.wait(30) == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "app", "complaint"),
    [
        (["--max-requests", "9"], "propylon.main:app", "propylon: max_requests is not supported"),
        ([], "propylon.cli.main:main", "propylon: the application is no gateway"),
    ],
)
def test_what_gunicorn_cannot_have_is_refused(
    start: Start, tmp_path: Path, options: list[str], app: str, complaint: str
) -> None:
    """An option that would be ignored ends the start, once and with a reason."""
    with Upstream() as up:
        write(tmp_path, up, "/up")
        gunicorn = start(*options, "--bind", f"127.0.0.1:{free_port()}", app=app)
        assert gunicorn.wait(60) != 0
    assert said(tmp_path).count(complaint) == 1
