"""Where the gateway listens: addresses, Unix sockets, sockets of systemd, and a listener that only redirects."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.cli.test_run import until
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import Gateway, environment, free_port
from tests.support.topology import ONCE, PATIENT
from tests.support.upstream import Upstream

Start = Callable[..., Gateway]


@pytest.fixture(scope="module")
def up() -> Iterator[Upstream]:
    """An upstream for the module."""
    with Upstream() as running:
        yield running
        assert running.faults == []


@pytest.fixture
def start(tmp_path: Path, up: Upstream) -> Iterator[Start]:
    """Start gateways with these sections; they are ended with the case."""
    started: list[Gateway] = []

    def run(server: dict[str, Any], **more: Any) -> Gateway:
        up.reset()
        gateway = Gateway("fast", configuration(up, server, **more), tmp_path)
        started.append(gateway)
        gateway.wait_ready()
        return gateway

    yield run
    for gateway in started:
        gateway.kill()


def configuration(up: Upstream, server: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One open route, and these sections."""
    service = {"url": f"http://127.0.0.1:{up.port}", "timeouts": PATIENT, "retry": ONCE}
    return {
        "server": server,
        "services": {"up": service},
        "routes": [{"path": "/up", "service": "up", "auth": "none"}],
        **more,
    }


def over_unix(path: Path | str, target: str = "/up", headers: Any = ()) -> Answer:
    """One request over a Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(path))
    with RawClient.over(sock) as client:
        return client.send(request(target=target, headers=headers)).read()


def over(family: socket.AddressFamily, host: str, port: int) -> Answer:
    """One request to an address of either family."""
    sock = socket.socket(family)
    sock.settimeout(20)
    sock.connect((host, port))
    with RawClient.over(sock) as client:
        return client.send(request(target="/up")).read()


def has_ipv6() -> bool:
    """Whether this machine has a loopback address of IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")


# Addresses


@pytest.mark.parametrize("workers", [1, 2])
def test_every_listener_of_the_list_serves(
    start: Start, up: Upstream, tmp_path: Path, workers: int
) -> None:
    """TCP and a Unix socket side by side, with one worker and with several."""
    path = tmp_path / "p.sock"
    other = free_port()
    listen = ["127.0.0.1:{port}", f"127.0.0.1:{other}", f"unix:{path}"]
    gateway = start({"listen": listen, "workers": workers})
    assert ask(gateway.port, target="/up").status == 200
    assert ask(other, target="/up").status == 200
    answer = over_unix(path)
    assert (answer.status, gateway.record(answer)["client_ip"]) == (200, "")
    assert up.of(answer).get("x-forwarded-for") is None
    assert f"listening on unix:{path} (http); " in gateway.said()
    assert gateway.stop() == 0
    assert not path.exists()


@needs_ipv6
@pytest.mark.parametrize("server", [{"host": "::"}, {"listen": ["[::]:{port}"]}])
def test_an_empty_ipv6_address_is_dual_stack(
    start: Start, up: Upstream, server: dict[str, Any]
) -> None:
    """`::` takes IPv4 as well, and an IPv4 client has its own address in the log and upstream."""
    gateway = start(server)
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        answer = over(family, host, gateway.port)
        assert up.of(answer).get("x-forwarded-for") == host
        assert gateway.record(answer)["client_ip"] == host


@needs_ipv6
def test_both_any_addresses_share_a_port(start: Start) -> None:
    """0.0.0.0 and [::] with one port, as nginx configurations have it: each takes its own family."""
    gateway = start({"listen": ["0.0.0.0:{port}", "[::]:{port}"]})
    assert over(socket.AF_INET, "127.0.0.1", gateway.port).status == 200
    assert over(socket.AF_INET6, "::1", gateway.port).status == 200


def test_an_address_in_use_opens_nothing(tmp_path: Path, up: Upstream) -> None:
    """One listener that cannot be opened keeps all closed, and leaves no Unix socket behind."""
    path = tmp_path / "p.sock"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        config = configuration(up, {"listen": [f"unix:{path}", taken]})
        gateway = Gateway("fast", config, tmp_path)
        assert gateway.status() == 1
    assert f'"event":"cannot listen on {taken}: Address already in use' in gateway.said()
    assert gateway.said().count("\n") == 1
    assert not path.exists()


# Unix sockets


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o660), ("0666", 0o666), (600, 0o600)])
def test_the_mode_of_a_unix_socket(
    start: Start, tmp_path: Path, mode: str | int | None, expected: int
) -> None:
    """User and group by default; what is written otherwise, whatever the umask."""
    path = tmp_path / "p.sock"
    entry = {"address": f"unix:{path}"} | ({} if mode is None else {"mode": mode})
    start({"listen": ["127.0.0.1:{port}", entry]})
    assert stat.S_IMODE(path.stat().st_mode) == expected


def test_a_stale_socket_is_replaced(start: Start, tmp_path: Path) -> None:
    """What a killed process has left does not keep the next one from starting."""
    path = tmp_path / "p.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    start({"listen": ["127.0.0.1:{port}", f"unix:{path}"]})
    assert over_unix(path).status == 200


def test_a_live_socket_is_left_alone(tmp_path: Path, up: Upstream) -> None:
    """A socket on which another process listens is not taken away from it."""
    path = tmp_path / "p.sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        gateway = Gateway("fast", configuration(up, {"listen": [f"unix:{path}"]}), tmp_path)
        assert gateway.status() == 1
    (line,) = gateway.lines()
    assert line["event"] == f"cannot listen on unix:{path}: another process listens there"
    assert path.is_socket()


def test_a_file_is_left_alone(tmp_path: Path, up: Upstream) -> None:
    """A path that holds something else than a socket is not overwritten."""
    path = tmp_path / "notes"
    path.write_text("mine")
    gateway = Gateway("fast", configuration(up, {"listen": [f"unix:{path}"]}), tmp_path)
    assert gateway.status() == 1
    assert "a file is there that is no socket; remove it, or write another path" in gateway.said()
    assert path.read_text() == "mine"


def test_a_stop_leaves_the_socket_of_a_successor(start: Start, tmp_path: Path) -> None:
    """If another process has put its own socket on the path meanwhile, it stays."""
    path = tmp_path / "p.sock"
    gateway = start({"listen": ["127.0.0.1:{port}", f"unix:{path}"]})
    path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        assert gateway.stop() == 0
    assert path.is_socket()


def test_a_unix_socket_of_a_trusted_proxy(start: Start, up: Upstream, tmp_path: Path) -> None:
    """With `unix` among `trusted_proxies`, what the local proxy says of its client is believed."""
    path = tmp_path / "p.sock"
    told = [("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https")]
    listen = ["127.0.0.1:{port}", f"unix:{path}"]
    gateway = start({"listen": listen, "trusted_proxies": ["unix"]})
    answer = over_unix(path, headers=told)
    assert gateway.record(answer)["client_ip"] == "192.0.2.7"
    assert up.of(answer).get("x-forwarded-for") == "192.0.2.7"
    assert up.of(answer).get("x-forwarded-proto") == "https"
    answer = ask(gateway.port, target="/up", headers=told)
    assert gateway.record(answer)["client_ip"] == "127.0.0.1"


def test_a_stop_serves_what_waits_in_a_unix_socket(
    start: Start, up: Upstream, tmp_path: Path
) -> None:
    """SIGTERM lets an exchange over a Unix socket finish."""
    path = tmp_path / "p.sock"
    gateway = start({"listen": ["127.0.0.1:{port}", f"unix:{path}"]})
    up.on("/slow", lambda peer, arrived: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    with RawClient.over(sock) as client:
        assert client.send(request(target="/up/1")).read().status == 200
        client.send(request(target="/up/2"))
        up.arrived("/up/2")
        gateway.ask_to_stop()
        assert client.read().status == 200
    assert gateway.status() == 0


def test_too_few_descriptors_end_nothing(tmp_path: Path, up: Upstream) -> None:
    """Clients of a Unix socket that use up all descriptors are not the end of it: later ones are accepted."""
    path = tmp_path / "p.sock"
    config = configuration(up, {"listen": ["127.0.0.1:{port}", f"unix:{path}"]})
    gateway = Gateway("fast", config, tmp_path, files=64)
    try:
        gateway.wait_ready()
        many = [socket.socket(socket.AF_UNIX) for _ in range(100)]
        for sock in many:
            sock.connect(str(path))
        complaint = f"cannot accept on unix:{path}: Too many open files"
        while not gateway.lines(complaint):
            assert gateway.process.poll() is None, gateway.said()
            time.sleep(0.02)
        for sock in many:
            sock.close()
        assert over_unix(path).status == 200
    finally:
        gateway.kill()


# Inherited sockets

# As systemd does: the sockets from descriptor 3 on, and the number of the very process.
_ACTIVATE = """
import os, sys
source, count, pid, *command = sys.argv[1:]
os.dup2(int(source), 3)
os.environ["LISTEN_PID"] = pid or str(os.getpid())
os.environ["LISTEN_FDS"] = count
os.execv(command[0], command)
"""


class Activated:
    """A gateway that is started with a socket of its parent."""

    def __init__(
        self, folder: Path, listen: str, sock: socket.socket, *, count: str = "1", pid: str = ""
    ) -> None:
        file = folder / "propylon.yaml"
        file.write_text(f"server: {{listen: [{listen!r}]}}\n")
        self.log = folder / "log"
        run = [sys.executable, "-m", "propylon", "run", "--config", str(file)]
        with self.log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _ACTIVATE, str(sock.fileno()), count, pid, *run],
                cwd=folder,
                env=environment(file),
                stdout=said,
                stderr=said,
                pass_fds=[sock.fileno()],
            )

    def stop(self) -> int:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait(20)


@pytest.mark.parametrize("listen", ["systemd", "fd:3"])
def test_inherited_sockets_are_served(tmp_path: Path, listen: str) -> None:
    """A client that has connected before the gateway runs is served: the parent's socket queues it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        Activated(tmp_path, listen, sock) as gateway,
    ):
        assert ask(sock.getsockname()[1], target="/livez").status == 200
        assert gateway.stop() == 0
        said = f"listening on http://127.0.0.1:{sock.getsockname()[1]}; "
        assert said in gateway.log.read_text()
        # It is still the parent's: a new client waits in its queue.
        socket.create_connection(sock.getsockname(), timeout=20).close()


def test_an_inherited_unix_socket_stays(tmp_path: Path) -> None:
    """The path belongs to systemd, and is there after the stop."""
    path = tmp_path / "p.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        with Activated(tmp_path, "systemd", sock) as gateway:
            assert over_unix(path, target="/livez").status == 200
            assert gateway.stop() == 0
    assert path.is_socket()


@pytest.mark.parametrize(
    ("listen", "count", "pid", "complaint"),
    [
        (
            "systemd",
            "1",
            "1",
            "systemd has passed no sockets to this process: they are for process 1",
        ),
        ("systemd", "0", "", 'LISTEN_FDS is "0": systemd has passed no socket'),
        ("systemd", "x", "", 'LISTEN_FDS is "x": systemd has passed no socket'),
        ("fd:77", "1", "", "cannot listen on fd:77: descriptor 77 is no open socket"),
    ],
)
def test_sockets_that_are_not_ours(
    tmp_path: Path, listen: str, count: str, pid: str, complaint: str
) -> None:
    """Variables that are meant for another process, or promise nothing: one sentence, status 1."""
    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        Activated(tmp_path, listen, sock, count=count, pid=pid) as gateway,
    ):
        assert gateway.process.wait(60) == 1
        assert complaint in json.loads(gateway.log.read_text())["event"]  # one line


def test_a_descriptor_that_does_not_listen(tmp_path: Path) -> None:
    """A connected or unbound socket is no listener."""
    with (
        socket.socket() as sock,
        Activated(tmp_path, "fd:3", sock) as gateway,
    ):
        assert gateway.process.wait(60) == 1
        assert "descriptor 3 is no listening stream socket" in gateway.log.read_text()


# A listener that only redirects


@pytest.fixture(scope="module")
def redirecting(
    up: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, int]]:
    """A gateway whose second listener only redirects, without TLS of its own: a proxy ends it."""
    port = free_port()
    listen = ["127.0.0.1:{port}", {"address": f"127.0.0.1:{port}", "redirect": "https"}]
    folder = tmp_path_factory.mktemp("redirect")
    gateway = Gateway("fast", configuration(up, {"listen": listen}), folder)
    gateway.wait_ready()
    yield gateway, port
    gateway.kill()


@pytest.mark.parametrize(
    ("host", "target", "location"),
    [
        ("shop.example", "/a/b?c=d&e", "https://shop.example/a/b?c=d&e"),
        ("shop.example:8080", "/", "https://shop.example/"),
        ("[::1]:8080", "/x", "https://[::1]/x"),
        ("192.0.2.1", "/a%2Fb", "https://192.0.2.1/a%2Fb"),
        ("SHOP.example", "//evil.example/x", "https://SHOP.example//evil.example/x"),
        ("shop.example", "http://shop.example/whole?x", "https://shop.example/whole?x"),
    ],
)
def test_every_request_is_redirected(
    redirecting: tuple[Gateway, int], up: Upstream, host: str, target: str, location: str
) -> None:
    """308 to the same host, path and query with https, byte for byte; the port is that of https."""
    up.reset()
    answer = ask(redirecting[1], target=target, host=host)
    assert (answer.status, answer.get("location"), answer.body) == (308, location, b"")
    assert up.raw == b""


@pytest.mark.parametrize("host", ["", "a b", "evil.example/x", "a@b", "a\\b", "a..b", "a:b", "a?b"])
def test_a_host_that_is_none_is_not_redirected(redirecting: tuple[Gateway, int], host: str) -> None:
    """A host that could lead elsewhere is 400, and so is a request without one."""
    answer = ask(redirecting[1], target="/", host=host)
    assert (answer.status, answer.get("location")) == (400, None)
    with RawClient(redirecting[1]) as client:
        assert client.send(b"GET / HTTP/1.0\r\n\r\n").read().status == 400


def test_bodies_and_methods_are_redirected(redirecting: tuple[Gateway, int]) -> None:
    """Any method, with a body that is not waited for, and endpoints of the gateway's own as well."""
    head = b"POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000000\r\n\r\n"
    with RawClient(redirecting[1]) as client:
        answer = client.send(head).read()
    assert (answer.status, answer.get("connection")) == (308, "close")
    assert ask(redirecting[1], "DELETE", "/livez").status == 308
    assert ask(redirecting[1], "HEAD", "/metrics").status == 308
    with RawClient(redirecting[1]) as client:  # kept alive
        for _ in range(3):
            assert client.send(request(target="/again")).read().status == 308
    record = redirecting[0].record(ask(redirecting[1], target="/logged"))
    assert (record["route"], record["status"], record["client_ip"]) == (
        "redirect",
        308,
        "127.0.0.1",
    )


def test_a_reload_keeps_the_listeners(start: Start) -> None:
    """Listeners are opened at the start; a reload that names others says so, and the old ones go on."""
    port = free_port()
    listen = ["127.0.0.1:{port}", {"address": f"127.0.0.1:{port}", "redirect": "https"}]
    gateway = start({"listen": listen})
    text = gateway.file.read_text()
    gateway.file.write_text(text.replace("redirect: https", "proxy_protocol: false"))
    os.kill(gateway.process.pid, signal.SIGHUP)
    message = "reload: server.listen takes effect with the next start"
    assert until(lambda: bool(gateway.lines("reload: 1 service")))
    assert gateway.lines(message)
    assert ask(port, target="/up").status == 308
    assert ask(gateway.port, target="/up").status == 200
