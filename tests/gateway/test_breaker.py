"""The breaker of a service: what opens it, what never does, and what an open one means."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway.circuits import (
    BODY,
    THRESHOLD,
    Circuit,
    Circuits,
    Kind,
    Routes,
    held,
    is_refusal,
    moment,
)
from tests.support import answers
from tests.support.answers import close, hang, plain, raw, reset
from tests.support.client import Answer, RawClient, ask, chunked, request
from tests.support.tokens import authorized
from tests.support.topology import Silence
from tests.support.upstream import Arrived, Peer, Script
from tests.support.waiting import wait

LASTS = 600  # seconds that an open breaker stays open
HASTE = 0.2  # seconds after which an upstream that says nothing has failed
PATIENCE = 1.0  # the same, where it is the client who takes longer
LIMIT = 50  # bytes of a body
LARGE = 16_000_000  # bytes: more than waits in sockets

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
TWO_LENGTHS = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"
STRICT: Routes = {
    "/locked": {"auth": "required"},
    "/scoped": {"auth": "required", "scopes": ["write"]},
    "/few": {"methods": ["POST"]},
    "/small": {"max_body": LIMIT},
}


def kinds(refusing: int, silent: int) -> dict[str, Kind]:
    """What services there are."""
    hasty = {"connect": HASTE, "first_byte": HASTE, "idle": HASTE}
    return {
        "usual": Kind(48),
        "strict": Kind(5, routes=STRICT),
        "hasty": Kind(3, timeouts=hasty),
        "brisk": Kind(1, timeouts={"idle": PATIENCE}),
        "prompt": Kind(1, timeouts={"total": PATIENCE}),
        "bounded": Kind(2, timeouts={"max_duration": PATIENCE / 2}),
        "refused": Kind(1, url=f"http://127.0.0.1:{refusing}"),
        "silent": Kind(1, url=f"http://127.0.0.1:{silent}", timeouts=hasty),
        "nohost": Kind(1, url="http://nosuch.invalid:8000"),
        "empty": Kind(1, url="none"),
        "seldom": Kind(1, circuit={"failure_threshold": 2, "min_throughput": 5}),
        "counting": Kind(1, circuit={"failure_threshold": 2, "min_throughput": 3}),
        "forgetful": Kind(1, circuit={"failure_threshold": 2, "failure_window": 1}),
        "stubborn": Kind(2, retry={"attempts": 3, "backoff": "10ms"}),
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Circuits]:
    """The gateways on both edges, before everything that can be wrong with an upstream."""
    silence = Silence()
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # so that nobody else comes to listen there
        said = kinds(refusing.getsockname()[1], silence.port)
        with Circuits(said, tmp_path_factory.mktemp("breaker")) as found:
            for circuit in found.all("forgetful"):
                circuit.fail(1)  # long ago, when the case comes that looks at it
            yield found
    silence.close()


@pytest.fixture
def fresh(edge: str, running: Circuits) -> Iterator[Callable[[str], Circuit]]:
    """A service of a kind that nobody has asked yet; no dubious request may reach any."""
    yield lambda kind: running.fresh(edge, kind)
    assert running.upstream.faults == []


Fresh = Callable[[str], Circuit]


def opened(circuit: Circuit) -> Circuit:
    """Have it fail until its breaker is open."""
    circuit.fail()
    assert circuit.state == "OPEN"
    return circuit


# What opens it


def silent_after(data: bytes) -> Script:
    """Say that, and nothing more."""

    def script(peer: Peer, arrived: Arrived) -> None:
        peer.send(data)
        hang(peer, arrived)

    return script


def check_opens(circuit: Circuit, *, asked: bool = True) -> None:
    """Assert that it takes so many of those failures, and no more."""
    found = circuit.together(THRESHOLD)
    assert all(not answer.complete or answer.status >= 500 for answer in found)
    assert not any(is_refusal(answer) for answer in found)
    assert circuit.failures == ("OPEN", THRESHOLD)
    # A kept connection that closes is replaced, so that more may arrive than were sent.
    if asked:
        wait(lambda: len(circuit.arrived()) >= THRESHOLD)
    arrived = len(circuit.arrived())
    assert asked or arrived == 0
    assert is_refusal(circuit.ask())
    assert len(circuit.arrived()) == arrived


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_opens_after_answers_of_a_broken_service(fresh: Fresh, status: int) -> None:
    """What a service answers that is broken, or whose own upstream is, opens it."""
    circuit = fresh("usual")
    circuit.on(plain(f"{status} Broken"))
    check_opens(circuit)


@pytest.mark.parametrize(
    "script",
    [
        raw(end=close),
        raw(end=reset),
        raw(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", end=close),
        raw(TWO_LENGTHS, end=close),
        raw(HALF[:30], end=close),
        raw(HALF, end=close),
        raw(HALF, pause=0.05, end=reset),
        raw(CHUNKS, end=close),
        raw(CHUNKS, b"no size\r\n", pause=0.02, end=close),
    ],
    ids=[
        "closed",
        "reset",
        "banner",
        "lengths",
        "head",
        "body",
        "body-reset",
        "chunks",
        "no-chunk",
    ],
)
def test_opens_after_broken_answers(fresh: Fresh, script: Script) -> None:
    """No answer, one that is not HTTP or is ambiguous, and one that breaks off wherever."""
    circuit = fresh("usual")
    circuit.on(script)
    check_opens(circuit)


@pytest.mark.parametrize(
    "script", [hang, silent_after(HALF[:30]), silent_after(HALF)], ids=["all", "head", "body"]
)
def test_opens_after_silence(fresh: Fresh, script: Script) -> None:
    """Before an answer, in the middle of its head, and in the middle of its body."""
    circuit = fresh("hasty")
    circuit.on(script)
    check_opens(circuit)


@pytest.mark.parametrize("kind", ["refused", "silent", "nohost"])
def test_opens_without_a_connection(fresh: Fresh, kind: str) -> None:
    """Refused, not in time, or nowhere to go."""
    check_opens(fresh(kind), asked=False)


def test_failures_need_not_follow_each_other(fresh: Fresh) -> None:
    """A success takes back no failure."""
    circuit = fresh("usual")
    broken, well = plain("500 Broken"), plain()
    circuit.on(broken, well, broken, well, well, broken)
    assert [circuit.ask().status for _ in range(6)] == [500, 200, 500, 200, 200, 500]
    assert circuit.state == "OPEN"


def test_few_requests_do_not_open_it(fresh: Fresh) -> None:
    """`min_throughput`: two failures of two are not enough, and three of five are."""
    circuit = fresh("seldom")
    circuit.on(plain("500 Broken"))
    assert [circuit.ask().status for _ in range(2)] == [500] * 2
    circuit.on(plain())
    assert [circuit.ask().status for _ in range(2)] == [200] * 2
    assert circuit.state == "CLOSED"
    circuit.fail(1)
    assert circuit.state == "OPEN"


@pytest.mark.parametrize(("last", "failures"), [("503 Busy", 1), ("200 OK", 0)])
def test_a_request_counts_once(fresh: Fresh, last: str, failures: int) -> None:
    """By what came of it after all its attempts."""
    circuit = fresh("stubborn")
    circuit.on(plain("503 Busy"), plain("503 Busy"), plain(last))
    assert circuit.ask().status == int(last[:3])
    assert (len(circuit.arrived()), circuit.failures) == (3, ("CLOSED", failures))


# What never does


@pytest.mark.parametrize(
    "status", [204, 301, 304, 400, 401, 403, 404, 408, 409, 422, 429, 501, 505, 507]
)
def test_what_a_service_says_that_is_well(fresh: Fresh, status: int) -> None:
    """Whoever says 404 or 429 is well, and 501 is about the request."""
    circuit = fresh("usual")
    circuit.on(plain(f"{status} Said"))
    for _ in range(THRESHOLD + 1):
        answer = circuit.ask()
        assert answer.status == status
    assert circuit.failures == ("CLOSED", 0)


def test_nobody_to_ask(fresh: Fresh) -> None:
    """A service without an instance is none that failed: it is there as soon as it has one."""
    circuit = fresh("empty")
    found = [circuit.ask().json()["error"]["code"] for _ in range(THRESHOLD + 1)]
    assert found == ["SERVICE_UNAVAILABLE"] * (THRESHOLD + 1)
    assert circuit.failures == ("CLOSED", 0)


STREAM = answers.endless(b"4\r\nmore\r\n", CHUNKS, pause=0.02)


def receive_and_reset(client: RawClient) -> None:
    """Leave as soon as the answer begins."""
    client.receive()
    client.reset()


@pytest.mark.parametrize(
    ("script", "short", "leave"),
    [
        (hang, 0, RawClient.reset),
        (hang, 0, RawClient.half_close),
        (STREAM, 0, receive_and_reset),
        (hang, 5, RawClient.reset),
        (hang, 5, RawClient.half_close),
    ],
    ids=["reset", "half-closed", "in-its-answer", "in-its-body", "half-closed-in-its-body"],
)
def test_clients_that_leave(
    fresh: Fresh, script: Script, short: int, leave: Callable[[RawClient], object]
) -> None:
    """Whatever they leave in the middle of, it says nothing about the service."""
    circuit = fresh("usual")
    circuit.on(script)
    times = THRESHOLD + 1
    clients = [circuit.begin("POST", body=b"0123456789", short=short) for _ in range(times)]
    wait(lambda: len(circuit.arrived()) == times)
    for client in clients:
        leave(client)
    wait(lambda: len(circuit.records()) == times)
    assert all(set(one["flags"]) & {"client_gone"} for one in circuit.records())
    assert circuit.failures == ("CLOSED", 0)
    for client in clients:
        client.sock.close()


@pytest.mark.parametrize(
    ("more", "status"),
    [(b"", 408), (chunked(b"x" * LIMIT), 413), (b"no size\r\n", 400)],
    ids=["silent", "too-large", "no-chunk"],
)
def test_clients_that_are_at_fault(fresh: Fresh, more: bytes, status: int) -> None:
    """A body that does not come, is too large or is none is not the service's, who had begun."""
    circuit = fresh("strict")
    head = request("POST", f"{circuit.path}/small", [("Transfer-Encoding", "chunked")])
    times = THRESHOLD + 1
    clients = [RawClient(circuit.gateway.port).send(head + b"1\r\nx\r\n") for _ in range(times)]
    wait(lambda: len(circuit.arrived()) == times)
    for client in clients:
        client.send(more)
    with ThreadPoolExecutor(times) as threads:
        said = list(threads.map(RawClient.rest, clients))
    assert all(answer.startswith(b"HTTP/1.1 %d " % status) for answer in said), said
    wait(lambda: len(circuit.records()) == times)
    assert circuit.failures == ("CLOSED", 0)
    for client in clients:
        client.sock.close()


Over = Callable[[], bool]


def read_late(circuit: Circuit, over: Over) -> tuple[int, str]:
    """Take an answer only then; return its status, and how it ended."""
    circuit.on(plain(body=b"x" * LARGE))
    with circuit.begin() as client:
        wait(over)
        answer = client.read()
        return answer.status, answer.ended


def send_late(circuit: Circuit, over: Over) -> int:
    """Send a body byte by byte until then, and its rest; return what is said of it."""
    left = 1000
    with circuit.begin("POST", body=b"x" * left, short=left) as client:
        late = time.monotonic() + 60
        while not over():
            assert time.monotonic() < late, "neither the exchange nor its record came to an end"
            client.trickle(b"x", pause=BODY / 10)
            left -= 1
        return client.send(b"x" * left).read().status


def test_clients_that_are_slow(fresh: Fresh) -> None:
    """Who reads or sends slower than any timeout of the service is served all the same."""
    read, sent = fresh("brisk"), fresh("prompt")
    late = time.monotonic() + 1.3 * PATIENCE
    with ThreadPoolExecutor(2) as threads:
        answer = threads.submit(read_late, read, lambda: time.monotonic() > late)
        status = threads.submit(send_late, sent, lambda: time.monotonic() > late)
    assert (answer.result(), status.result()) == ((200, "whole"), 200)
    assert (read.failures, sent.failures) == (("CLOSED", 0), ("CLOSED", 0))


def test_clients_that_are_too_slow(fresh: Fresh) -> None:
    """Where an exchange has a bound, theirs ends there, and the service looks no worse."""
    read, sent = fresh("bounded"), fresh("bounded")
    with ThreadPoolExecutor(2) as threads:
        answer = threads.submit(read_late, read, lambda: bool(read.records()))
        status = threads.submit(send_late, sent, lambda: bool(sent.records()))
    assert answer.result()[0] == 200
    assert answer.result()[1] in ("cut", "reset")
    assert status.result() == 408
    assert (read.failures, sent.failures) == (("CLOSED", 0), ("CLOSED", 0))


# What an open one means


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_everything_is_refused_and_nothing_asked(fresh: Fresh, method: str) -> None:
    """Whatever the method: 503, not a byte to the upstream, and the connection goes on."""
    circuit = opened(fresh("usual"))
    arrived, connections = len(circuit.arrived()), circuit.upstream.connections
    with RawClient(circuit.gateway.port) as client:
        data = request(method, circuit.path, body=b"x" * 1000 if method[0] == "P" else b"")
        for _ in range(3):
            answer = client.send(data).read(method)
            assert (answer.status, answer.get("x-error-source")) == (503, "gateway")
            assert int(answer.get("retry-after") or 0) > 0
            assert method == "HEAD" or is_refusal(answer)
    assert len(circuit.arrived()) == arrived
    assert circuit.upstream.connections == connections


def test_what_the_client_is_told(fresh: Fresh) -> None:
    """Which service it is, and when it is worth coming back: in seconds, and as a moment."""
    circuit = fresh("usual")
    before = time.time()
    opened(circuit)
    after = time.time()
    answer = circuit.ask()
    now = time.time()
    error = answer.json()["error"]
    assert (answer.status, error["code"]) == (503, "CIRCUIT_OPEN")
    assert error["details"].keys() == {"service", "retry_after"}
    assert error["details"]["service"] == circuit.name
    again = moment(error["details"]["retry_after"])
    # Rounded up to a second, so that nobody who goes by it is too early.
    assert before + LASTS - 0.1 <= again <= after + LASTS + 1.1
    assert now + int(answer.get("retry-after") or 0) >= again - 1.1
    assert int(answer.get("retry-after") or 0) <= LASTS
    assert answer.get("content-type") == "application/json"
    assert answer.get("cache-control") == "no-store"
    assert answer.get("x-error-source") == "gateway"
    assert answer.json()["request_id"] == answer.get("x-request-id")
    assert str(circuit.upstream.port) not in answer.body.decode()


def test_what_the_log_is_told(fresh: Fresh) -> None:
    """A request that was refused, where to, and that nobody was asked."""
    circuit = opened(fresh("usual"))
    record = circuit.gateway.record(circuit.ask())
    assert (record["status"], record["service"]) == (503, circuit.name)
    assert record["error"].startswith("CIRCUIT_OPEN ")
    assert (record["attempts"], record["upstream_status"], record["instance"]) == (0, None, None)


def test_the_neighbour_goes_on(fresh: Fresh) -> None:
    """Another service has a breaker of its own, though it be the same instance."""
    circuit, other = opened(fresh("usual")), fresh("usual")
    assert is_refusal(circuit.ask())
    assert other.ask().status == 200
    assert other.failures == ("CLOSED", 0)


def test_routes_of_one_service_share_it(fresh: Fresh) -> None:
    """What fails on one route and on another is counted together, and closes both."""
    circuit = fresh("strict")
    circuit.on(plain("500 Broken"))
    circuit.on(plain("500 Broken"), below="/small")
    belows = ["", "/small", "", "/small"]
    assert [circuit.ask(below=below).status for below in belows] == [500, 500, 500, 503]
    assert is_refusal(circuit.ask(below="/small"))
    assert is_refusal(circuit.ask("POST", below="/few"))


def test_a_route_without_it(fresh: Fresh) -> None:
    """`circuit: false`: its failures are not counted, and it passes where others are refused."""
    circuit = fresh("usual")
    circuit.on(plain("500 Broken"), below="/bare")
    assert [circuit.ask(below="/bare").status for _ in range(2 * THRESHOLD)] == [500] * 6
    assert circuit.failures == ("CLOSED", 0)
    shown = opened(circuit).shown()
    circuit.on(plain(), below="/bare")
    assert [circuit.ask(below="/bare").status for _ in range(THRESHOLD)] == [200] * THRESHOLD
    assert (circuit.shown()["state"], shown["state"]) == ("OPEN", "OPEN")
    assert is_refusal(circuit.ask())


def test_what_the_gateway_says_itself_comes_first(fresh: Fresh) -> None:
    """Who must not, or cannot, ask the service is told that, not how it fares."""
    circuit = opened(fresh("strict"))
    port = circuit.gateway.port
    writer, reader = authorized(scope="write"), authorized(scope="read")
    found = {
        "nowhere": ask(port, target="/nowhere"),
        "dots": circuit.ask(below="/../secret"),
        "method": circuit.ask("GET", "/few"),
        "anonymous": circuit.ask(below="/locked"),
        "bad token": circuit.ask(below="/locked", headers=[("Authorization", "Bearer nonsense")]),
        "scope": circuit.ask(below="/scoped", headers=reader),
        "body": circuit.ask("POST", "/small", body=b"x" * (LIMIT + 1)),
        "wish": circuit.ask(headers=[("X-Privacy-Level", "bogus")]),
        "last hop": circuit.ask("OPTIONS", headers=[("Max-Forwards", "0")]),
        "let in": circuit.ask(below="/scoped", headers=writer),
    }
    assert {name: answer.status for name, answer in found.items()} == {
        "nowhere": 404,
        "dots": 400,
        "method": 405,
        "anonymous": 401,
        "bad token": 401,
        "scope": 403,
        "body": 413,
        "wish": 400,
        "last hop": 204,
        "let in": 503,
    }
    assert is_refusal(found["let in"])


@pytest.mark.parametrize("kind", ["usual", "counting"])
def test_who_set_out_before_has_no_say(fresh: Fresh, kind: str) -> None:
    """Requests that were let through before it opened end as they end, and change nothing."""
    circuit = fresh(kind)
    go = threading.Event()
    circuit.on(*[held(go, plain())] * THRESHOLD, *[held(go, plain("500 Late"))] * THRESHOLD)
    with ThreadPoolExecutor(2 * THRESHOLD) as threads:
        waiting = [threads.submit(circuit.ask) for _ in range(2 * THRESHOLD)]
        wait(lambda: len(circuit.arrived()) == 2 * THRESHOLD)
        shown = opened(circuit).shown()
        go.set()
        late: list[Answer] = [one.result() for one in waiting]
    assert sorted(answer.status for answer in late) == [200] * THRESHOLD + [500] * THRESHOLD
    assert circuit.failures == ("OPEN", shown["failures"])
    assert is_refusal(circuit.ask())
    wait(lambda: len(circuit.records()) == 3 * THRESHOLD + 1)
    assert len(circuit.moves()) == 1


def test_failures_grow_old(fresh: Fresh) -> None:
    """One that is older than `failure_window` counts no more."""
    circuit = fresh("forgetful")
    wait(lambda: circuit.failures == ("CLOSED", 0))
    circuit.fail(1)
    assert circuit.state == "CLOSED"
    assert circuit.arrived()[1].started - circuit.arrived()[0].started > 0.9
