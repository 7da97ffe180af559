"""run: what keeps it from starting, how it stops, and what happens to its workers."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from propylon.commands import user as accounts
from propylon.commands.app import GatewayNotLoaded, load_gateway
from propylon.config.reading.load import load
from tests.support.client import RawClient, ask, request
from tests.support.gateway import Config, Gateway, free_port
from tests.support.secrecy import SECRECY
from tests.support.upstream import Arrived, Peer, Upstream
from tests.support.zygote import ZYGOTE, environment

Start = Callable[..., Gateway]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start gateways; they are ended with the test."""
    started: list[Gateway] = []

    def run(config: Config) -> Gateway:
        gateway = Gateway("fast", config, tmp_path)
        started.append(gateway)
        gateway.wait_ready()
        return gateway

    yield run
    for gateway in started:
        gateway.kill()


RUN = [sys.executable, "-m", "propylon", "run"]


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`propylon run` that is expected to end by itself."""
    return ZYGOTE.run(
        [*RUN, "--log-format", "text", *arguments], cwd=folder, env=environment(**more)
    )


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of its own making, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    files = folder / f"{name}.pem", folder / f"{name}.key"
    kind = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, *kind, *names, "-out", str(files[0]), "-keyout", str(files[1])],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return files


def test_broken_file_starts_nothing(tmp_path: Path) -> None:
    """Status 2, every problem with its line, no traceback, nothing listening."""
    (tmp_path / "propylon.yaml").write_text("server: {port: 0, hots: x}\nroutes: [{path: /a}]\n")
    done = subprocess.run(
        RUN,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        "propylon.yaml:1",
        "propylon.yaml:2",
    ]


def test_file_without_permission_is_one_sentence(tmp_path: Path) -> None:
    """A file that may not be read: one sentence, status 2."""
    file = tmp_path / "propylon.yaml"
    file.write_text("")
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("root may read everything")
    done = run(tmp_path)
    assert done.stderr == "propylon.yaml: cannot be read: permission denied\n"
    assert done.returncode == 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use_is_one_sentence(tmp_path: Path, workers: str) -> None:
    """Somebody else's port: one sentence, status 1, with one worker or several."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = run(tmp_path, "--port", port, "--workers", workers)
    assert done.returncode == 1
    said = f"propylon: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert done.stderr.startswith(said)
    assert done.stderr.endswith("; choose another port (--port, server.port)\n")
    assert f"(process {os.getpid()})" in done.stderr or sys.platform != "linux"


def test_unknown_host_is_one_sentence(tmp_path: Path) -> None:
    """A host that is not ours to listen on: one sentence, status 1."""
    done = run(tmp_path, "--host", "no.such.host.invalid", "--port", "0")
    assert done.returncode == 1
    assert (
        done.stderr == 'propylon: cannot listen on "no.such.host.invalid": the host is not known\n'
    )


def test_certificate_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    """One certificate, another one's key: run and check say so in a sentence."""
    chain, _ = certificate(tmp_path, "one")
    _, key = certificate(tmp_path, "other")
    (tmp_path / "propylon.yaml").write_text(f"tls: {{certificate: {chain}, key: {key}}}\n")
    done = run(tmp_path, "--port", "0")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"propylon: the certificate {chain} and the key {key} do not fit")


def test_certificate_that_fits_is_served(tmp_path: Path, start: Start) -> None:
    """With a certificate and its key, clients are spoken to in TLS."""
    chain, key = certificate(tmp_path, "fits")
    context = ssl.create_default_context(cafile=str(chain))
    port = free_port()
    file = tmp_path / "propylon.yaml"
    file.write_text(f"tls: {{certificate: {chain}, key: {key}}}\n")
    process = subprocess.Popen(
        [*RUN, "-c", str(file), "--port", str(port)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        assert b"listening on https://127.0.0.1:%d; " % port in process.stderr.readline()
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(request(target="/livez"))
            assert secure.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(20)
        if process.stderr is not None:
            process.stderr.close()


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_a_stop_is_a_success(start: Start, number: signal.Signals, workers: int) -> None:
    """SIGTERM and Ctrl-C end the gateway with status 0, and leave no process behind."""
    gateway = start({"server": {"workers": workers}})
    pids = gateway.pids()
    assert len(pids) == (1 if workers == 1 else 1 + workers)
    gateway.process.send_signal(number)
    assert gateway.process.wait(30) == 0, gateway.said()
    assert [pid for pid in pids if is_alive(pid)] == []
    assert "Traceback" not in gateway.said()


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.1, 0.2])
def test_a_stop_during_a_reload_is_a_success(start: Start, pause: float) -> None:
    """Whatever the reload of a long file is at just then: reading, making, letting go."""
    routes = [{"path": f"/r{at}/{{id}}", "service": "up", "auth": "none"} for at in range(3000)]
    gateway = start({"services": {"up": {"url": "http://127.0.0.1:9"}}, "routes": routes})
    gateway.process.send_signal(signal.SIGHUP)
    time.sleep(pause)
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(30) == 0, gateway.said()
    assert "Traceback" not in gateway.said()


def test_a_stop_lets_exchanges_finish(start: Start) -> None:
    """SIGTERM in the middle of an exchange: its answer arrives whole."""
    with Upstream() as upstream:
        go = threading.Event()

        def slowly(peer: Peer, arrived: Arrived) -> None:
            peer.send(ANSWER[:60])
            go.wait(20)
            peer.send(ANSWER[60:])

        upstream.on("/slow", slowly)
        gateway = start(
            {
                "services": {"up": {"url": f"http://127.0.0.1:{upstream.port}"}},
                "routes": [{"path": "/slow", "service": "up", "auth": "none"}],
            }
        )
        with RawClient(gateway.port) as client:
            client.send(request(target="/slow")).has_come(b"\r\n\r\nx")
            gateway.process.terminate()
            assert until(lambda: "stopping: unready from now on" in gateway.said())
            go.set()
            answer = client.read()
        assert (answer.status, answer.body, answer.complete) == (200, b"x" * 50, True)
        assert gateway.process.wait(30) == 0


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + b"x" * 50


def test_hangup_does_not_kill_and_a_killed_worker_is_replaced(start: Start) -> None:
    """SIGHUP: the same processes go on. Kill -9 of a worker: another one takes its place."""
    gateway = start({"server": {"workers": 2}})
    parent, first, second = gateway.pids()
    gateway.process.send_signal(signal.SIGHUP)
    assert until(lambda: gateway.said().count("reload: ") == 2)
    assert gateway.pids() == [parent, first, second]
    os.kill(first, signal.SIGKILL)
    assert until(lambda: first not in children(parent) and len(children(parent)) == 2)
    assert second in children(parent)
    for _ in range(4):
        assert ask(gateway.port, target="/livez").status == 200
    assert "a worker died (signal 9); starting another" in gateway.said()
    assert gateway.stop() == 0


def test_command_line_wins(tmp_path: Path) -> None:
    """--port stands above the environment and the file."""
    (tmp_path / "propylon.yaml").write_text("server: {port: 1}\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = run(tmp_path, "--port", port, PROPYLON_SERVER__PORT="2")
    assert f"127.0.0.1:{port}" in done.stderr


# A gateway of one's own

OWN = """\
import os
from propylon import Gateway
print("imported by", os.getpid(), flush=True)
gateway = Gateway.from_file("mine.yaml")

@gateway.api.get("/health/mine")
async def mine() -> dict[str, int]:
    return {"pid": os.getpid()}
"""


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing:gateway", 'cannot import "nothing": there is no module "nothing"'),
        ("own:nothing", '"own:nothing" does not exist; it must be a propylon.Gateway'),
        ("own:os", '"own:os" is a module; it must be a propylon.Gateway'),
        ("own", '"own" is not of the form pkg.module:gateway'),
    ],
)
def test_an_app_that_is_none_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    """A module or a name that is not there, or is no gateway: one sentence."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "mine.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    with pytest.raises(GatewayNotLoaded) as caught:
        load_gateway(name)
    assert str(caught.value) == sentence


def test_an_app_that_is_none_starts_nothing(tmp_path: Path) -> None:
    """The sentence, and status 2."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "mine.yaml").write_text("")
    done = run(tmp_path, "--app", "own:nothing")
    sentence = '"own:nothing" does not exist; it must be a propylon.Gateway'
    assert (done.returncode, done.stderr) == (2, f"propylon: {sentence}\n")


def test_a_bug_in_an_app_has_its_traceback(tmp_path: Path) -> None:
    """What the module itself raises is not ours to shorten."""
    (tmp_path / "own.py").write_text("import propylon\n1 / 0\n")
    done = run(tmp_path, "--app", "own:gateway")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_an_app_with_a_broken_file_tells_its_problems(tmp_path: Path) -> None:
    """The gateway's own file is broken: its problems, status 2."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "mine.yaml").write_text("sever: {}\n")
    done = run(tmp_path, "--app", "own:gateway")
    assert done.returncode == 2
    assert done.stderr.startswith("mine.yaml:1 sever: ")
    assert len(done.stderr.splitlines()) == 1


def test_app_and_config_exclude_each_other(tmp_path: Path) -> None:
    """Two sources of one configuration are a mistake."""
    done = run(tmp_path, "--app", "own:gateway", "--config", "propylon.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith("propylon: --app and --config exclude each other")


def test_an_app_with_listeners_has_no_port(tmp_path: Path) -> None:
    """A list of listeners in the file and --port on the command line: one sentence, status 2."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "mine.yaml").write_text("server: {listen: ['127.0.0.1:0']}\n")
    done = run(tmp_path, "--app", "own:gateway", "--port", "1")
    msg = "server.listen replaces host and port: leave the options --host and --port out"
    assert (done.returncode, done.stderr) == (2, f"mine.yaml:1 server.listen: {msg}\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_app_of_ones_own_is_served(tmp_path: Path, workers: str) -> None:
    """Its file is used, the command line wins over it, and every worker imports it."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "mine.yaml").write_text("server: {port: 1, workers: 4}\nlog: {level: error}\n")
    port = free_port()
    said = tmp_path / "log"
    command = [*RUN, "--app", "own:gateway", "--port", str(port), "--workers", workers]
    process = ZYGOTE.start(command, cwd=tmp_path, env=environment(), stdout=said)
    try:
        assert until(lambda: is_up(port)), said.read_text()
        assert until(lambda: said.read_text().count("imported by") == 1 + int(workers))
        assert f"imported by {process.pid}" in said.read_text() or workers == "2"
        process.terminate()
        assert process.wait(30) == 0, said.read_text()
    finally:
        process.kill()
        process.wait(20)


def children(parent: int) -> list[int]:
    """The processes right below one that lives; those below may come and go meanwhile."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in children.split()]


def is_up(port: int) -> bool:
    """Whether a gateway answers there."""
    with contextlib.suppress(OSError):
        return ask(port, target="/livez").status == 200
    return False


def is_alive(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def until(true: Callable[[], object], within: float = 60.0) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + within
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_an_auth_service_by_variables_alone(tmp_path: Path) -> None:
    """Its login is open by POST; with another method, below it and elsewhere a token is needed, and none is 405.

    The gateway's own token endpoint is on only while there are users: one that is added turns it on in all workers.
    """
    port, said = free_port(), tmp_path / "said"
    secret = SECRECY.note("Zk8vQw3xN0pT6rJ2yHs9LmBdFgCeXaUi71oKqRtV")
    with Upstream() as upstream:
        (tmp_path / ".env").write_text(
            f"AUTH_SERVICE_URL=http://127.0.0.1:{upstream.port}\nJWT_SECRET_KEY={secret}\n"
        )
        command = [*RUN, "--port", str(port), "--workers", "2"]
        more = {"PROPYLON_AUTH__TOKENS__DATABASE": f"sqlite:///{tmp_path}/users.db"}
        loaded = load(None, {"JWT_SECRET_KEY": secret, **more})
        process = ZYGOTE.start(command, cwd=tmp_path, env=environment(**more), stdout=said)
        try:
            assert until(lambda: is_up(port)), said.read_text()
            asked = [
                ("POST", "/login"),
                ("GET", "/login"),
                ("POST", "/login/x"),
                ("POST", "/login/"),
                ("POST", "/me"),
                ("POST", "/token"),
            ]
            statuses = {
                (method, path): ask(port, method, target=f"/api/v1/auth{path}").status
                for method, path in asked
            }
            document = ask(port, target="/openapi.json").json()
            accounts.add(loaded, accounts.User("ann"), "correct horse battery")
            assert until(lambda: said.read_text().count("auth/token is on") == 2), said.read_text()
            # The form is empty: it is the gateway itself that says so.
            found = [ask(port, "POST", target="/api/v1/auth/token").status for _ in range(8)]
            accounts.remove(loaded, "ann")
            assert until(lambda: said.read_text().count("auth/token is off") == 2)
            gone = ask(port, "POST", target="/api/v1/auth/token").status
        finally:
            process.kill()
    # With a slash behind it, some servers would take it for the open path, and others not: 400.
    assert statuses == dict(zip(asked, (200, 401, 401, 400, 401, 401), strict=True))
    assert "/api/v1/auth/token" not in document["paths"]
    assert found == [422] * 8
    assert gone == 401
