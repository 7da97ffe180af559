"""Open sockets: what a listener needs before it may serve."""

import os
import socket
from pathlib import Path

import pytest

from propylon.config.models.schema import GatewayConfig
from propylon.process.inherited import adopt, passed_by_systemd
from propylon.process.sockets import CannotListen, open_listeners, wanted


def test_tls_without_a_certificate_opens_nothing() -> None:
    """A configuration that code has made may lack the certificate: it must not be served in the clear."""
    listen = [{"address": "127.0.0.1:0"}, {"address": "127.0.0.1:0", "tls": True}]
    config = GatewayConfig.model_validate({"server": {"listen": listen}})
    with pytest.raises(CannotListen, match="with TLS: set tls.certificate and tls.key"):
        open_listeners(config)


def test_the_short_form_has_tls_where_there_is_a_certificate() -> None:
    """Host and port make one listener, as before there was a list; admin and metrics follow the certificate as well."""
    written = {"server": {"host": "h", "port": 1}, "admin": {"listen": "127.0.0.1:2"}}
    tls = {"certificate": "a", "key": "b"}
    plain = GatewayConfig.model_validate(written)
    secured = GatewayConfig.model_validate({**written, "tls": tls})
    assert [(str(one.address), one.tls) for one in wanted(plain)] == [
        ("h:1", False),
        ("127.0.0.1:2", False),
    ]
    assert [one.tls for one in wanted(secured)] == [True, True]


@pytest.mark.parametrize(
    ("pid", "count"),
    [("", "1"), ("1", "1"), ("self", ""), ("self", "0"), ("self", "-1"), ("x", "1")],
)
def test_variables_that_promise_nothing(pid: str, count: str) -> None:
    """Without both numbers, and the very process, no descriptor is touched; the variables stay for the right one."""
    environ = {"LISTEN_PID": str(os.getpid()) if pid == "self" else pid, "LISTEN_FDS": count}
    before = dict(environ)
    with pytest.raises(ValueError):
        passed_by_systemd(environ)
    assert environ == before


def test_variables_of_systemd_are_taken_out() -> None:
    """Children of this process must not take the sockets for theirs (sd_listen_fds)."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "A": "1"}
    assert list(passed_by_systemd(environ)) == [3, 4]
    assert environ == {"A": "1"}


def test_only_listening_stream_sockets_are_adopted(tmp_path: Path) -> None:
    """A file, a datagram socket and a socket that does not listen are refused, and stay open for their owner."""
    with (tmp_path / "file").open("wb") as file:
        with pytest.raises(ValueError, match="is no open socket"):
            adopt(file.fileno())
        file.write(b"still open")
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            with pytest.raises(ValueError, match="is no listening stream socket"):
                adopt(sock.fileno())
            sock.bind(("127.0.0.1", 0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        adopted = adopt(listener.fileno())
        assert adopted.getsockname() == listener.getsockname()
        assert not adopted.getblocking()
        assert not os.get_inheritable(listener.fileno())
        adopted.detach()
