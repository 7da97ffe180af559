"""The process: trusted proxies, stopping, draining, crashed workers, too few files."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.support import answers
from tests.support.certificates import Authority
from tests.support.client import Ended, RawClient, ask, request
from tests.support.excused import excused
from tests.support.gateway import EDGES, Gateway
from tests.support.guarded import Kept
from tests.support.topology import DRAIN, PATIENT, Upstreams, configuration
from tests.support.upstream import Arrived, Peer


def clean(edge: str) -> tuple[int, ...]:
    """The exit statuses of an orderly stop."""
    return (0, -signal.SIGTERM) if excused(edge, "exit-status") else (0,)


@pytest.fixture(scope="module")
def kept_proxied(upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Gateways that believe what proxies on this host, or in another network, say."""
    config = configuration(upstreams, trusted_proxies=["127.0.0.1", "10.0.0.0/8"])
    running = Kept(EDGES, tmp_path_factory.mktemp("proxied"), config)
    yield running
    running.close()


@pytest.fixture(scope="module")
def proxied(edge: str, kept_proxied: Kept) -> Gateway:
    """The one on the edge in turn."""
    return kept_proxied.at(edge)


def test_trusted_proxy_is_believed(proxied: Gateway, upstreams: Upstreams) -> None:
    """Behind a trusted proxy X-Forwarded-For is appended to, and the client is who it says."""
    upstreams.reset()
    chain = [("X-Forwarded-For", "6.6.6.6, 9.9.9.9"), ("X-Forwarded-Proto", "https"),
             ("X-Forwarded-Host", "shop.example"), ("X-Real-IP", "9.9.9.9")]  # fmt: skip
    answer = ask(proxied.port, headers=chain)
    last = upstreams.main.last
    assert last.get("x-forwarded-for") == "6.6.6.6, 9.9.9.9, 127.0.0.1"
    assert last.get("x-forwarded-proto") == "https"
    assert last.get("x-forwarded-host") == "shop.example"
    assert proxied.record(answer)["client_ip"] == "9.9.9.9"
    assert upstreams.faults == []


@pytest.mark.parametrize(
    ("sent", "client_ip"),
    [
        ("9.9.9.9", "9.9.9.9"),
        ("6.6.6.6, 10.0.0.3", "6.6.6.6"),
        ("6.6.6.6, 9.9.9.9, 10.0.0.3, 10.0.0.4", "9.9.9.9"),
        ("", "127.0.0.1"),
    ],
)
def test_client_is_the_rightmost_untrusted(
    proxied: Gateway, upstreams: Upstreams, sent: str, client_ip: str
) -> None:
    """Of a chain, the last address that is no trusted proxy is the client."""
    answer = ask(proxied.port, headers=[("X-Forwarded-For", sent)] if sent else [])
    assert proxied.record(answer)["client_ip"] == client_ip


@pytest.mark.parametrize("asks", [False, True])
def test_certificate_headers_of_a_trusted_proxy(
    edge: str, start: Start, upstreams: Upstreams, tmp_path: Path, asks: bool
) -> None:
    """They pass, because the proxy has ended TLS; where the gateway asks clients itself, every copy is removed."""
    upstreams.reset()
    authority = Authority(tmp_path)
    own = authority.sign("gateway", "127.0.0.1").written()
    server = {"trusted_proxies": ["127.0.0.1"], "listen": ["127.0.0.1:{port}"]}
    config = configuration(upstreams, **server)
    if asks:
        server["listen"] = [{"address": "127.0.0.1:{port}", "tls": False}]
        config = configuration(upstreams, **server)
        config["tls"] = {**own, "clients": {"ca": str(authority.file)}}
    gateway = start(config)
    sent = [("X-Client-Cert-Subject", "CN=ann"), ("x-client-cert-verified", "1"),
            ("X_Client_Cert_Subject", "CN=root")]  # fmt: skip
    ask(gateway.port, headers=sent)
    last = upstreams.main.last
    expected = (None, None) if asks else ("CN=ann", "1")
    assert (last.get("x-client-cert-subject"), last.get("x-client-cert-verified")) == expected
    assert b"root" not in last.head
    assert upstreams.faults == []


def test_keys_of_other_sockets_are_said_once(
    edge: str, start: Start, upstreams: Upstreams, tmp_path: Path
) -> None:
    """A server with sockets of its own says which keys it cannot obey; `propylon run` obeys them."""
    own = Authority(tmp_path).sign("gateway", "127.0.0.1").written()
    config = configuration(upstreams, listen=[{"address": "127.0.0.1:{port}", "tls": False}])
    gateway = start({**config, "tls": own})
    assert ask(gateway.port).status == 200
    said = gateway.said()
    times = 0 if edge == "fast" else 1
    for key in ("server.listen", "tls"):
        sentence = f'"{key}: only `propylon run` obeys it; this server has its own"'
        assert said.count(sentence) == times


def test_stop_finishes_what_is_in_flight(edge: str, start: Start, upstreams: Upstreams) -> None:
    """SIGTERM: the request in flight completes, new connections are refused, the exit is clean."""
    upstreams.reset()
    gateway = start(configuration(upstreams), fresh=edge == "fast")
    go = threading.Event()

    def slowly(peer: Peer, arrived: Arrived) -> None:
        go.wait(20)
        answers.plain(body=b"finished")(peer, arrived)

    def refused() -> bool:
        with contextlib.suppress(OSError, Ended):
            return ask(gateway.port).status == 503
        return True

    upstreams.main.on("/slow", slowly)
    with RawClient(gateway.port) as client:
        client.send(request(target="/up/slow"))
        upstreams.main.arrived("/slow")
        gateway.process.send_signal(signal.SIGTERM)
        assert upstreams.main.wait(refused, 8)
        go.set()
        assert client.read().body == b"finished"
    assert gateway.status() in clean(edge)


def test_stop_under_load_loses_no_request(edge: str, start: Start, upstreams: Upstreams) -> None:
    """SIGTERM under load: whatever was accepted is answered, and nobody sees a reset."""
    gateway = start(configuration(upstreams))
    faults: list[str] = []

    def load() -> None:
        while True:
            try:
                client = RawClient(gateway.port)
            except OSError:
                return
            with client:
                for number in range(5):
                    client.send(request())
                    try:
                        answer = client.read()
                    except Ended as error:
                        # Closed between two requests is fine; a request that had begun is not.
                        if str(error) == "reset" or client.buffer:
                            faults.append(f"{error} at request {number}")
                        break
                    if answer.status != 200 or not answer.complete:
                        faults.append(f"{answer.status} {answer.ended}")
                    if (answer.get("connection") or "").lower() == "close":
                        break

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert gateway.stop() in clean(edge)
    for thread in threads:
        thread.join(20)
    if not excused(edge, "linger"):
        assert faults == []


def test_stop_does_not_wait_for_idle_connections(
    edge: str, start: Start, upstreams: Upstreams
) -> None:
    """An open connection without a request does not keep the gateway from stopping."""
    gateway = start(configuration(upstreams))
    with RawClient(gateway.port) as idle, RawClient(gateway.port) as used:
        assert used.send(request()).read().status == 200
        started = time.monotonic()
        assert gateway.stop() in clean(edge)
        assert time.monotonic() - started < DRAIN * 0.8
        assert idle.is_closed()


def test_stop_ends_what_does_not_end(edge: str, start: Start, upstreams: Upstreams) -> None:
    """A request that hangs is waited for as long as `drain` says, no longer."""
    if edge != "fast":
        pytest.skip("uvicorn is told by its own --timeout-graceful-shutdown")
    upstreams.reset()
    gateway = start(configuration(upstreams, drain=1))
    upstreams.main.on("/big/hang", answers.hang)
    with RawClient(gateway.port) as client:
        client.send(request(target="/big/hang"))
        upstreams.main.arrived("/big/hang")
        started = time.monotonic()
        assert gateway.stop() == 0
        assert 0.5 < time.monotonic() - started < PATIENT["first_byte"] * 0.8


def test_readyz_turns_before_the_listener_closes(
    edge: str, start: Start, upstreams: Upstreams
) -> None:
    """With drain_delay the gateway is unready, and still serves, before it stops listening."""
    if edge != "fast":
        pytest.skip("uvicorn closes its listener before the app hears of it")
    gateway = start(configuration(upstreams, drain_delay=20))
    assert ask(gateway.port, target="/readyz").status == 200
    gateway.process.send_signal(signal.SIGTERM)
    assert upstreams.main.wait(lambda: ask(gateway.port, target="/readyz").status == 503)
    assert ask(gateway.port, target="/up/x").status == 200
    assert gateway.stop() == 0  # asked twice, it does not wait for the rest of the delay


def test_too_few_files_end_nothing(start: Start, upstreams: Upstreams) -> None:
    """At the limit of open files the gateway neither dies nor spins, and recovers by itself."""
    gateway = start(configuration(upstreams), files=80)
    crowd: list[RawClient] = []
    try:
        with contextlib.suppress(OSError, TimeoutError):
            crowd.extend(RawClient(gateway.port, timeout=1) for _ in range(150))
        time.sleep(0.3)
        before = _cpu(gateway.process.pid)
        time.sleep(0.5)
        # A busy loop would have used all of it.
        assert _cpu(gateway.process.pid) - before < 0.4
    finally:
        for client in crowd:
            client.sock.close()
    assert gateway.process.poll() is None
    deadline = time.monotonic() + 20
    status = 0
    while status != 200 and time.monotonic() < deadline:
        with contextlib.suppress(OSError, Ended, TimeoutError):
            status = ask(gateway.port).status
    assert status == 200
    assert gateway.said().count("\n") < 200


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
