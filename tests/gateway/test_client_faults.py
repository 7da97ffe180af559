"""What a client does wrong, and what the gateway itself lacks, is held against no service."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.gateway.circuits import THRESHOLD, Circuit, Circuits, Kind, is_refusal
from tests.support.answers import close, plain, raw, reset
from tests.support.client import Ended, RawClient, ask, request
from tests.support.gateway import Config, Gateway
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Script, Upstream
from tests.support.waiting import wait
from tests.upstream.test_dial import _certificate

BROKEN = plain("500 Broken")
SHARE = {"failure_threshold": 5, "failure_rate": "50%"}
TIMES = THRESHOLD + 2


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Circuits]:
    """The gateways on both edges, before services whose breakers open at the third failure, or at half of the calls."""
    kinds = {"usual": Kind(12), "shared": Kind(3, circuit=SHARE)}
    with Circuits(kinds, tmp_path_factory.mktemp("faults")) as found:
        yield found


@pytest.fixture
def fresh(edge: str, running: Circuits) -> Callable[[str], Circuit]:
    """A service of a kind that no case has asked yet."""
    return lambda kind: running.fresh(edge, kind)


Fresh = Callable[[str], Circuit]


def answering_early(status: str) -> Script:
    """Answer before the body is whole, as servers do that give up on a slow client."""
    said = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status.encode()
    return raw(said, early=True, end=close)


GIVES_UP = {
    "408": answering_early("408 Request Timeout"),
    "500": answering_early("500 Internal Server Error"),
    "502": answering_early("502 Bad Gateway"),
    "close": raw(early=True, end=close),
    "reset": raw(early=True, end=reset),
}


@pytest.mark.parametrize("how", GIVES_UP)
def test_slow_uploads_close_no_service(fresh: Fresh, how: str) -> None:
    """An upstream that gives up on bodies that do not come whole stays open to all other clients."""
    circuit = fresh("usual")
    circuit.on(GIVES_UP[how])
    clients = [circuit.begin("POST", body=b"0123456789", short=5) for _ in range(TIMES)]
    with ThreadPoolExecutor(TIMES) as threads:
        said = list(threads.map(RawClient.read, clients))
    assert {answer.status for answer in said} <= {408, 500, 502}
    wait(lambda: len(circuit.records()) == TIMES)
    assert circuit.failures == ("CLOSED", 0)
    circuit.on(plain())
    assert circuit.ask().status == 200
    for client in clients:
        client.sock.close()


@pytest.mark.parametrize("how", ["500", "reset"])
def test_the_same_failures_of_whole_requests_close_it(fresh: Fresh, how: str) -> None:
    """A body that the client has sent whole is no excuse."""
    circuit = fresh("usual")
    script = {"500": BROKEN, "reset": raw(end=reset)}[how]
    circuit.on(script)
    for _ in range(THRESHOLD):
        circuit.ask("POST", body=b"0123456789")
    assert circuit.state == "OPEN"


def test_a_slow_upload_is_no_failure_of_an_instance(start: Start) -> None:
    """Two instances stay in the rotation, though both give up on slow uploads more often than ejection allows."""
    with Upstream() as one, Upstream() as two:
        urls = [f"http://127.0.0.1:{each.port}" for each in (one, two)]
        gateway = start(_config({"instances": urls, "ejection": {"failures": 2}}))
        for each in (one, two):
            each.on("/x", answering_early("500 Internal Server Error"))
        for _ in range(8):
            with RawClient(gateway.port) as client:
                client.send(request("POST", "/x", [("Content-Length", "10")]) + b"12345").read()
        assert "ejected" not in gateway.said()
        for each in (one, two):
            each.on("/x", BROKEN)
        assert [ask(gateway.port, target="/x").status for _ in range(4)] == [500] * 4
        wait(lambda: "ejected" in gateway.said())


def test_a_bad_input_among_good_requests_closes_nothing(fresh: Fresh) -> None:
    """Five 500s on one path leave the service open while more than half of the requests succeed."""
    circuit = fresh("shared")
    circuit.on(plain())
    circuit.on(BROKEN, below="/bad")
    for _ in range(6):
        assert circuit.ask().status == 200
    for _ in range(5):
        assert circuit.ask(below="/bad").status == 500
    assert circuit.failures == ("CLOSED", 5)
    assert "reason" not in circuit.shown()
    assert circuit.ask().status == 200


def test_an_outage_closes_it_and_says_why(fresh: Fresh) -> None:
    """When half of the requests have failed, the breaker opens, and `/circuits` gives the numbers and the last failure."""
    circuit = fresh("shared")
    circuit.on(*[plain()] * 5, BROKEN)
    for _ in range(10):
        circuit.ask()
    assert is_refusal(circuit.ask())
    shown = circuit.shown()
    assert (shown["state"], shown["failures"]) == ("OPEN", 5)
    assert shown["reason"] == "5 of 10 calls failed within 120 s, the last one with status 500"


# What the gateway lacks


def _config(service: Config, **server: object) -> Config:
    return {
        "server": {"drain": 1, **server},
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "defaults": {"auth": "none"},
        "services": {"orders": service},
        "routes": [{"path": "/", "service": "orders"}],
    }


def _crowd(gateway: Gateway, most: int) -> list[RawClient]:
    """Connect until the gateway has no descriptor left: the last of them is not accepted."""
    crowd: list[RawClient] = []
    for _ in range(most):
        crowd.append(client := RawClient(gateway.port, timeout=1))
        try:
            client.send(request(target="/livez")).read()
        except (TimeoutError, Ended):
            client.sock.close()
            return crowd[:-1]
    return crowd


def test_too_few_files_open_no_breaker(start: Start) -> None:
    """Without descriptors the gateway answers 503, logs it once, counts it, and asks the service as soon as it can."""
    with Upstream() as upstream:
        gateway = start(_config({"url": f"http://127.0.0.1:{upstream.port}"}), files=80)
        crowd = _crowd(gateway, 120)
        assert len(crowd) < 120
        for client in crowd[:8]:
            answer = client.send(request(target="/x")).read()
            assert answer.status == 503
            assert answer.get("retry-after")
            assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
        for client in crowd:
            client.sock.close()
        wait(lambda: _status(gateway.port, "/x") == 200)
        shown = ask(gateway.port, target="/api/v1/circuits", headers=authorized(scope="admin"))
        assert (shown.json()["orders"]["state"], shown.json()["orders"]["failures"]) == (
            "CLOSED",
            0,
        )
        metrics = ask(gateway.port, target="/metrics").body.decode()
        counted = [
            line for line in metrics.splitlines() if 'local_faults_total{fault="EMFILE"}' in line
        ]
        assert float(counted[0].split()[-1]) >= 8
    wait(lambda: gateway.lines("EMFILE"))  # it is written by a thread of its own
    lines = [line for line in gateway.lines("EMFILE") if "duration_ms" not in line]
    assert len(lines) == 1
    assert lines[0]["level"] == "error"


def _status(port: int, target: str) -> int:
    with contextlib.suppress(OSError, Ended):
        return ask(port, target=target).status
    return 0


def test_run_raises_the_limit_of_files(edge: str, tmp_path: Path) -> None:
    """`propylon run` takes as many files as it may and says both numbers; in another server's process it takes none."""
    first = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))"
    with Upstream() as upstream:
        config = _config({"url": f"http://127.0.0.1:{upstream.port}"})
        gateway = Gateway(edge, config, tmp_path, first=first)
        try:
            gateway.wait_ready()
            limits = Path(f"/proc/{gateway.process.pid}/limits").read_text()
        finally:
            gateway.kill()
    found = next(line.split()[3:5] for line in limits.splitlines() if "open files" in line)
    assert found == (["512", "512"] if edge == "fast" else ["256", "512"])
    said = "open files: 512, raised from 256 to the hard limit" in gateway.said()
    assert said == (edge == "fast")


# Certificates


class Impostor:
    """A TLS listener whose certificate no client trusts; it counts connections."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.came = 0
        self._context = context
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.came += 1
                with contextlib.suppress(OSError), sock:
                    self._context.wrap_socket(sock, server_side=True).close()


def test_a_certificate_that_fails_is_not_retried(start: Start, tmp_path: Path) -> None:
    """One attempt, 502, and the reason in the log, whatever `retry` says."""
    impostor = Impostor(_certificate(tmp_path, "127.0.0.1")[0])
    service = {
        "url": f"https://127.0.0.1:{impostor.port}",
        "retry": {"attempts": 3, "backoff": "1ms", "non_idempotent": True},
    }
    gateway = start(_config(service))
    answer = ask(gateway.port, target="/x")
    impostor.listener.close()
    assert (answer.status, answer.get("x-error-source")) == (502, "gateway")
    assert impostor.came == 1
    record = gateway.record(answer)
    assert record["attempts"] == 1
    assert "certificate" in record["error"]
    assert "verify" not in answer.body.decode()
