"""The PROXY protocol in front of HTTP and TLS: who is believed, what the address is good for, and what is closed."""

import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.certificates import Authority
from tests.support.client import Answer, Ended, RawClient, ask, request
from tests.support.examples import examples
from tests.support.gateway import Gateway, free_port
from tests.support.tokens import SECRET
from tests.support.upstream import Upstream

HEADER = 1.0  # seconds
CLIENT = "203.0.113.9"
V1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 50000 443\r\n"
V1_SIX = b"PROXY TCP6 2001:db8::9 ::1 50000 443\r\n"


def v2(source: str = CLIENT, *, command: int = 1, tlvs: bytes = b"\x04\x00\x02ab") -> bytes:
    """A header of version 2 with TLVs."""
    packed = ip_address(source).packed
    addresses = packed + packed + struct.pack("!HH", 50000, 443) + tlvs
    family = 0x11 if len(packed) == 4 else 0x21
    start = b"\r\n\r\n\x00\r\nQUIT\n" + bytes([0x20 | command, family])
    return start + struct.pack("!H", len(addresses)) + addresses


@dataclass
class Behind:
    """A gateway behind a load balancer: its listeners, and the upstream."""

    gateway: Gateway
    up: Upstream
    plain: int  # with the PROXY protocol, from 127.0.0.1
    secure: int  # the same with TLS
    foreign: int  # with the PROXY protocol, and a peer that is not trusted: 127.0.0.2
    authority: Authority

    def send(self, header: bytes, target: str = "/up", *, headers: Any = ()) -> Answer:
        """One request behind a header, in one segment."""
        with RawClient(self.plain) as client:
            return client.send(header + request(target=target, headers=headers)).read()

    def told(self, answer: Answer) -> tuple[str, str | None]:
        """Who the client is to the log and to the upstream."""
        upstream = self.up.of(answer).get("x-forwarded-for")
        return self.gateway.record(answer)["client_ip"], upstream


@pytest.fixture(scope="module", params=[1, 2])
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    """With one worker, and with two."""
    folder = tmp_path_factory.mktemp("behind")
    authority = Authority(folder)
    plain, secure, foreign = free_port(), free_port(), free_port()
    listen: list[Any] = ["127.0.0.1:{port}"]
    listen += [
        {"address": f"127.0.0.1:{plain}", "proxy_protocol": True},
        {"address": f"127.0.0.1:{secure}", "proxy_protocol": True, "tls": True},
        {"address": f"127.0.0.2:{foreign}", "proxy_protocol": True},
    ]
    with Upstream() as up:
        config = {
            "server": {
                "listen": listen,
                "workers": request.param,
                "trusted_proxies": ["127.0.0.1", "192.0.2.0/24"],
                "timeouts": {"header": HEADER},
            },
            "tls": authority.sign("gateway", "127.0.0.1").written(),
            "services": {"up": {"url": f"http://127.0.0.1:{up.port}"}},
            "routes": [{"path": "/up", "service": "up", "auth": "none"}],
            "metrics": {"allow": ["203.0.113.0/24"]},
            "auth": {
                "jwt": {"secret": SECRET},
                "tokens": {
                    "database": f"sqlite:///{folder}/users.db",
                    "rate_limit": {"rate": "1/h", "burst": 1, "key": "ip"},
                },
            },
        }
        gateway = Gateway("fast", config, folder)
        gateway.wait_ready()
        yield Behind(gateway, up, plain, secure, foreign, authority)
        gateway.kill()
        assert up.faults == []


@pytest.mark.parametrize(
    ("header", "client"),
    [(V1, CLIENT), (V1_SIX, "2001:db8::9"), (v2(), CLIENT), (v2("2001:db8::9"), "2001:db8::9")],
)
def test_the_address_is_the_clients(behind: Behind, header: bytes, client: str) -> None:
    """To the log and to the upstream, for every request of the connection, in any number of pieces."""
    assert behind.told(behind.send(header)) == (client, client)
    with RawClient(behind.plain) as connected:
        connected.trickle(header + request(target="/up/1"))
        assert behind.told(connected.read()) == (client, client)
        assert behind.told(connected.send(request(target="/up/2")).read()) == (client, client)


def test_the_address_comes_in_front_of_tls(behind: Behind) -> None:
    """The header is read in the clear, and the handshake behind it finds all of its bytes."""
    context = ssl.create_default_context(cafile=str(behind.authority.file))
    for header in (V1, v2()):
        connected = socket.create_connection(("127.0.0.1", behind.secure), timeout=20)
        connected.sendall(header)
        with RawClient.over(context.wrap_socket(connected, server_hostname="127.0.0.1")) as client:
            answer = client.send(request(target="/up")).read()
            assert behind.told(answer) == (CLIENT, CLIENT)
            assert behind.up.of(answer).get("x-forwarded-proto") == "https"


def test_the_first_segment_may_hold_both(behind: Behind) -> None:
    """Header and ClientHello in one segment: nothing of the handshake is lost."""
    context = ssl.create_default_context(cafile=str(behind.authority.file))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secured = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", behind.secure), timeout=20) as connected:
        first = v2()
        while True:
            try:
                secured.do_handshake()
                break
            except ssl.SSLWantReadError:
                connected.sendall(first + outgoing.read())
                first = b""
                incoming.write(connected.recv(65536))
        assert secured.version() == "TLSv1.3"


@pytest.mark.parametrize("header", [v2(command=0), b"PROXY UNKNOWN\r\n"])
def test_a_header_without_a_client(behind: Behind, header: bytes) -> None:
    """LOCAL and UNKNOWN, as health checks send them: the proxy itself is the client, and a trusted one."""
    assert behind.told(behind.send(header)) == ("127.0.0.1", "127.0.0.1")
    forwarded = [("X-Forwarded-For", "198.51.100.3")]
    answer = behind.send(header, headers=forwarded)
    assert behind.told(answer) == ("198.51.100.3", "198.51.100.3, 127.0.0.1")


def test_the_client_is_no_proxy(behind: Behind) -> None:
    """X-Forwarded-For of the client is not believed, though the peer that sent the header is trusted."""
    answer = behind.send(V1, headers=[("X-Forwarded-For", "6.6.6.6")])
    assert behind.told(answer) == (CLIENT, CLIENT)


def test_a_proxy_behind_a_proxy(behind: Behind) -> None:
    """If the address in the header is a trusted proxy's, its X-Forwarded-For is believed as always."""
    answer = behind.send(v2("192.0.2.4"), headers=[("X-Forwarded-For", "198.51.100.3")])
    assert behind.told(answer) == ("198.51.100.3", "198.51.100.3, 192.0.2.4")


def test_allow_lists_go_by_the_address(behind: Behind) -> None:
    """/metrics is open to the client's network, and the proxy's own loopback address opens nothing."""
    assert behind.send(V1, "/metrics").status == 200
    assert behind.send(v2("198.51.100.3"), "/metrics").status == 401
    assert behind.send(v2("127.0.0.1"), "/metrics").status == 401
    assert behind.send(v2("::1"), "/metrics").status == 401
    assert ask(behind.gateway.port, target="/metrics").status == 200


def test_limits_go_by_the_address(behind: Behind) -> None:
    """Two clients of one load balancer are two for the limit on logins."""

    def login(source: str) -> int:
        form = [("Content-Type", "application/x-www-form-urlencoded")]
        body = b"username=nobody&password=wrong"
        with RawClient(behind.plain) as client:
            sent = request("POST", "/api/v1/auth/token", form, body)
            return client.send(v2(source) + sent).read("POST").status

    # Each worker may count for itself: the second try may be the first one of the other.
    tries = [login("198.51.100.1") for _ in range(12)]
    assert (tries[0], tries[-1]) == (401, 429)
    assert login("198.51.100.99") == 401


@pytest.mark.parametrize(
    "first",
    [
        request(target="/up"),
        b"PROXY TCP4 203.0.113.9\r\n" + request(target="/up"),
        b"PROXY TCP4 203.0.113.9 127.0.0.1 0x1 2\r\n" + request(target="/up"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x00",
        b"PROXY " + b"x" * 200,
    ],
)
def test_a_trusted_peer_without_a_header_is_closed(behind: Behind, first: bytes) -> None:
    """Without an answer: what follows is no request of a client that is known."""
    behind.up.reset()
    with RawClient(behind.plain) as client, pytest.raises(Ended):
        client.send(first).read()
    assert behind.up.raw == b""


@pytest.mark.parametrize("beginning", [b"", V1[:-1], v2()[:-1]])
def test_a_header_that_does_not_end_is_closed(behind: Behind, beginning: bytes) -> None:
    """Within `timeouts.header`, also from a peer that sends nothing at all."""
    with RawClient(behind.plain) as client:
        assert client.send(beginning).is_closed()


@pytest.mark.parametrize("behind_it", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_behind_a_header_has_its_time(behind: Behind, behind_it: bytes) -> None:
    """The header is there, and no handshake follows, or half of one: closed, and nothing is logged of it."""
    with socket.create_connection(("127.0.0.1", behind.secure), timeout=20) as client:
        client.sendall(V1 + behind_it)
        assert client.recv(100) == b""
    assert "Traceback" not in behind.gateway.said()


@pytest.mark.parametrize("header", [V1, v2()])
def test_a_header_of_an_untrusted_peer_is_refused(behind: Behind, header: bytes) -> None:
    """A peer that is not trusted cannot choose its address: 400, and nothing reaches the upstream."""
    behind.up.reset()
    with from_elsewhere(behind.foreign) as client:
        answer = client.send(header + request(target="/up")).read()
    assert (answer.status, answer.get("connection")) == (400, "close")
    assert behind.up.raw == b""


def test_an_untrusted_peer_is_a_client(behind: Behind) -> None:
    """Without a header it is served, under its own address."""
    with from_elsewhere(behind.foreign) as client:
        assert behind.told(client.send(request(target="/up")).read()) == ("127.0.0.2", "127.0.0.2")


def from_elsewhere(port: int) -> RawClient:
    """A connection from 127.0.0.2, which is not trusted."""
    sock = socket.socket()
    sock.settimeout(20)
    sock.bind(("127.0.0.2", 0))
    sock.connect(("127.0.0.2", port))
    return RawClient.over(sock)


def test_a_listener_without_it_refuses_the_header(behind: Behind) -> None:
    """On a plain listener a header is no request, whether the peer is trusted or not."""
    with RawClient(behind.gateway.port) as client:
        assert client.send(V1 + request(target="/up")).read().status == 400


def test_a_peer_that_leaves_is_no_event(behind: Behind) -> None:
    """A health check that connects and leaves, politely or not, is served like any other and logs nothing."""
    before = behind.gateway.said()
    for rude in (False, True):
        client = RawClient(behind.plain)
        if rude:
            client.reset()
        else:
            client.sock.close()
    assert behind.send(V1).status == 200
    assert "Traceback" not in behind.gateway.said()
    assert "no PROXY" not in behind.gateway.said().removeprefix(before)


def test_a_stop_serves_who_has_sent_its_header(tmp_path: Path) -> None:
    """SIGTERM lets an exchange behind a header finish, and does not wait for a header that does not come."""
    port = free_port()
    listen = ["127.0.0.1:{port}", {"address": f"127.0.0.1:{port}", "proxy_protocol": True}]
    with Upstream() as up:
        config = {
            "server": {"listen": listen, "trusted_proxies": ["127.0.0.1"], "drain": 5},
            "services": {"up": {"url": f"http://127.0.0.1:{up.port}"}},
            "routes": [{"path": "/up", "service": "up", "auth": "none"}],
        }
        gateway = Gateway("fast", config, tmp_path)
        gateway.wait_ready()
        with RawClient(port) as client, RawClient(port) as silent:
            assert client.send(V1 + request(target="/up/1")).read().status == 200
            client.send(request(target="/up/2"))
            up.arrived("/up/2")
            gateway.ask_to_stop()
            assert client.read().status == 200
            assert gateway.status() == 0
            assert silent.is_closed()


@given(st.sampled_from([b"", V1[:20], V1, v2()[:16], v2()]), st.binary(max_size=200))
@examples(100, deadline=None)
def test_no_bytes_do_harm(behind: Behind, start: bytes, raw: bytes) -> None:
    """Random bytes in front of, within or behind a header end the connection, and nothing else."""
    for port in (behind.plain, behind.secure):
        with RawClient(port) as client:
            answer = client.send(start + raw).half_close().rest()  # raises if it is not closed
            assert not answer.startswith(b"HTTP/1.1 2")
    assert behind.gateway.process.poll() is None
    assert "Traceback" not in behind.gateway.said()


# Real senders

_HAPROXY = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen one
  bind 127.0.0.1:{first}
  server gateway 127.0.0.1:{plain} send-proxy
listen two
  bind 127.0.0.1:{second}
  server gateway 127.0.0.1:{plain} send-proxy-v2 check
"""


@pytest.mark.parametrize("version", [1, 2])
def test_haproxy_in_front(behind: Behind, tmp_path: Path, version: int) -> None:
    """HAProxy sends both versions, and checks the gateway's health with LOCAL."""
    haproxy = shutil.which("haproxy")
    if haproxy is None:
        pytest.skip("no haproxy to send the header")
    ports = [free_port(), free_port()]
    file = tmp_path / "haproxy.cfg"
    file.write_text(_HAPROXY.format(first=ports[0], second=ports[1], plain=behind.plain))
    with running([haproxy, "-f", str(file)], ports):
        with from_address(ports[version - 1], "127.0.0.3") as client:
            answer = client.send(request(target="/up")).read()
        assert behind.told(answer) == ("127.0.0.3", "127.0.0.3")


_NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
load_module {module};
events {{}}
stream {{
  server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{plain}; proxy_protocol on; }}
}}
"""


def test_nginx_in_front(behind: Behind, tmp_path: Path) -> None:
    """Version 1 in front of a stream, as nginx sends it."""
    nginx = shutil.which("nginx")
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    if nginx is None or not module.exists():
        pytest.skip("no nginx with its stream module to send the header")
    port = free_port()
    file = tmp_path / "nginx.conf"
    file.write_text(_NGINX.format(folder=tmp_path, module=module, port=port, plain=behind.plain))
    with running([nginx, "-p", str(tmp_path), "-c", str(file)], [port]):
        with from_address(port, "127.0.0.3") as client:
            answer = client.send(request(target="/up")).read()
        assert behind.told(answer) == ("127.0.0.3", "127.0.0.3")


class running:  # noqa: N801 — it reads as a function
    """Run a foreign program until its ports answer; end it with the block."""

    def __init__(self, command: list[str], ports: list[int]) -> None:
        self._process = subprocess.Popen(command)
        self._ports = ports

    def __enter__(self) -> None:
        deadline = time.monotonic() + 20
        while not all(map(answers, self._ports)):
            assert self._process.poll() is None, "it did not start"
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.02)

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(20)


def answers(port: int) -> bool:
    """Whether a program listens there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def from_address(port: int, address: str) -> RawClient:
    """A connection from an address of this machine."""
    sock = socket.socket()
    sock.settimeout(20)
    sock.bind((address, 0))
    sock.connect(("127.0.0.1", port))
    return RawClient.over(sock)
