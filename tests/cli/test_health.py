"""health: which listeners it asks, what it takes for an answer, and what it says of one that gives none."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from propylon.commands.health import LIVE, READY, ask
from propylon.config.models.listeners import Tcp, UnixPath
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.load import load_listeners
from propylon.process import sockets
from propylon.process.sockets import addresses
from tests.cli.test_run import until
from tests.support.certificates import Authority
from tests.support.gateway import Gateway, free_port
from tests.support.zygote import ZYGOTE, environment

HEALTH = [sys.executable, "-m", "propylon", "health"]


def health(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return ZYGOTE.run([*HEALTH, *arguments], cwd=folder, env=environment(**more))


def problems(server: dict[str, Any], path: str = READY, timeout: float = 20.0) -> dict[str, str]:
    """What each listener of these says."""
    config = GatewayConfig.model_validate({"server": server})
    return {one.address: one.problem for one in ask(config, path, timeout)}


@contextmanager
def listening(says: bytes | None) -> Iterator[int]:
    """A port on which somebody says this to one client, and closes; None: he says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                if says is not None:
                    client.sendall(says)
                    client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(20)


def test_every_public_listener_is_asked(tmp_path: Path) -> None:
    """TCP, a Unix socket, TLS and the PROXY protocol; one that only redirects is not asked, nor one of the admin's."""
    pair = Authority(tmp_path).sign("gateway", "localhost")
    secure, proxied, redirecting, admin = (free_port() for _ in range(4))
    path = tmp_path / "p.sock"
    config = {
        "server": {
            "trusted_proxies": ["127.0.0.0/8"],
            "drain_delay": "60s",
            "listen": [
                "127.0.0.1:{port}",
                f"unix:{path}",
                {"address": f"0.0.0.0:{secure}", "tls": True},
                {"address": f"127.0.0.1:{proxied}", "tls": True, "proxy_protocol": True},
                {"address": f"127.0.0.1:{redirecting}", "redirect": "https"},
            ],
        },
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "tls": pair.written(),
    }
    gateway = Gateway("fast", config, tmp_path)
    try:
        gateway.wait_ready()
        done = health(tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")
        # What clients of one listener cannot reach is an outage, whatever the others do.
        path.unlink()
        done = health(tmp_path, "--live")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"propylon: unix:{path}: no such file or directory\n"
        # While it drains it lives, and is not ready.
        gateway.ask_to_stop()
        assert until(lambda: "stopping: unready" in gateway.said())
        named = ("--address", f"127.0.0.1:{gateway.port}")
        assert health(tmp_path, *named, "--live").stdout == "live\n"
        done = health(tmp_path, *named)
        assert (done.returncode, done.stderr) == (
            1,
            f"propylon: 127.0.0.1:{gateway.port}: /readyz answered 503\n",
        )
    finally:
        gateway.kill()


def test_the_command_finds_the_gateway_as_it_was_started(tmp_path: Path) -> None:
    """PORT and the options name the address, as for `run`; a file that was broken since is passed over."""
    assert load_listeners(None, {"PORT": "9000"}).server.ports == {9000}
    (tmp_path / "propylon.yaml").write_text("routes: [{path: /, service: gone}]\nnonsense: 1\n")
    with listening(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        assert health(tmp_path, "--host", "127.0.0.1", "--port", str(port)).returncode == 0
    done = health(tmp_path, PROPYLON_SERVER__PORT="many")
    assert done.returncode == 1
    assert "PROPYLON_SERVER__PORT server.port" in done.stderr
    for address, word in (("systemd", "another process"), ("nowhere", "no address to listen on")):
        done = health(tmp_path, "--address", address)
        assert (done.returncode, word in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", "/livez answered 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what listens there speaks no HTTP"),
        (b"", "it closed the connection"),
    ],
)
def test_only_200_is_healthy(says: bytes, problem: str) -> None:
    """Whatever else listens on the port is not a gateway that lives."""
    with listening(says) as port:
        where = f"127.0.0.1:{port}"
        assert problems({"listen": [where]}, LIVE) == {where: problem}


def test_a_silent_gateway_is_not_healthy() -> None:
    """The time is for everything: a worker whose loop hangs still has its connections accepted by the kernel."""
    with listening(None) as port:
        where = f"127.0.0.1:{port}"
        assert problems({"listen": [where]}, timeout=0.2) == {where: "no answer within 0.2 s"}


def test_nobody_listens() -> None:
    """The reason is the system's."""
    port = free_port()
    assert problems({"port": port}) == {f"127.0.0.1:{port}": "connection refused"}


def test_all_addresses_are_asked_from_the_machine_itself() -> None:
    """`0.0.0.0` and `::` are no addresses to connect to; a dual-stack listener is found by IPv4, too."""
    for host, shown in (("0.0.0.0", "0.0.0.0"), ("::", "[::]")):
        with listening(b"HTTP/1.1 200 OK\r\n\r\n") as port:
            assert problems({"host": host, "port": port}) == {f"{shown}:{port}": ""}


def test_an_address_that_only_the_gateway_knows() -> None:
    """Inherited sockets and free ports are not guessed; the operator names the address."""
    listen = ["systemd", "127.0.0.1:0"]
    inherited, free = problems({"listen": listen}).values()
    assert inherited.endswith("name its address: --address 127.0.0.1:8000")
    assert free.endswith("name the one that it took: --port 8000")
    config = GatewayConfig.model_validate({"server": {"listen": ["fd:3"]}})
    with listening(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        (verdict,) = ask(config, READY, 20.0, Tcp("127.0.0.1", port))
    assert verdict.problem == ""
    (verdict,) = ask(config, READY, 20.0, UnixPath("/nowhere.sock"))
    assert verdict.problem == "no such file or directory"


def test_a_listener_that_wants_a_certificate(tmp_path: Path) -> None:
    """It is asked only where there is no other, and the answer says what to write."""
    authority = Authority(tmp_path)
    tls = {**authority.sign("gateway").written(), "clients": {"ca": str(authority.file)}}
    secure = free_port()
    listen = ["127.0.0.1:{port}", {"address": f"127.0.0.1:{secure}", "tls": True}]
    gateway = Gateway("fast", {"server": {"listen": listen}, "tls": tls}, tmp_path)
    try:
        gateway.wait_ready()
        config = load_listeners(gateway.file, {})
        assert [one.address for one in ask(config, READY, 20.0)] == [f"127.0.0.1:{gateway.port}"]
        (verdict,) = ask(config, READY, 20.0, Tcp("127.0.0.1", secure))
        assert verdict.problem.startswith("it wants a client's certificate (tls.clients.required);")
    finally:
        gateway.kill()


def test_where_there_is_no_ipv6_all_addresses_are_those_of_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An image that listens on `::` starts on a machine that was booted with ipv6.disable=1."""
    monkeypatch.setattr(sockets, "_has_ipv6", lambda: False)
    assert [found[4] for found in addresses("::", 8000)] == [("0.0.0.0", 8000)]
    monkeypatch.undo()
    assert [found[4][:2] for found in addresses("::", 8000)] == [("::", 8000)]
