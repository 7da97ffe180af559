"""The way back: what a breaker lets through when its time is over, and what operators see of it all."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.gateway.circuits import (
    ADMIN,
    CIRCUITS,
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
from tests.support.answers import close, hang, plain, raw
from tests.support.client import Answer, RawClient, ask, chunked, request
from tests.support.gateway import EDGES
from tests.support.tokens import authorized
from tests.support.upstream import Script
from tests.support.waiting import wait

SHORT = 1.0  # seconds: the shortest that a breaker may be told
EARLY = 0.05  # between the gateway's clock and the upstream's
CLIENTS = 30
LIMIT = 50  # bytes of a body
LASTS = 600  # seconds that a breaker stays open where nobody waits for it

OPENED = "CLOSED -> OPEN (failure_threshold reached within failure_window)"
OVER = "OPEN -> HALF_OPEN (recovery_timeout is over)"
CLOSED = "HALF_OPEN -> CLOSED (all probes succeeded)"
FAILED = "HALF_OPEN -> OPEN (a probe failed)"
EXPIRED = "HALF_OPEN -> OPEN (a probe took longer than half_open_timeout)"

STREAM = answers.endless(
    b"4\r\nmore\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", pause=0.02
)
STRICT: Routes = {"/locked": {"auth": "required"}, "/small": {"max_body": LIMIT}}
AGAIN = {"attempts": 3, "backoff": "10ms"}
SOON = {"recovery_timeout": SHORT}
# Those that are open when the first case comes, and whose time is over.
KINDS = {
    "due": Kind(28, SOON, retry=AGAIN, routes=STRICT),
    "three": Kind(4, {**SOON, "probes": 3}),
    "leased": Kind(1, {**SOON, "half_open_timeout": SHORT}, {"first_byte": 300, "total": 300}),
}
OTHERS = {"lasting": Kind(2)}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Circuits]:
    """The gateways on both edges; nearly all breakers have been open for as long as they should."""
    folder = tmp_path_factory.mktemp("circuits")
    with Circuits({**KINDS, **OTHERS}, folder) as found:
        ill = [circuit for kind in KINDS for circuit in found.all(kind)]
        for circuit in ill:
            circuit.fail()
        # The last one first: when it is, all of its edge are, and those of the other one were before.
        wait(lambda: all(circuit.state == "HALF_OPEN" for circuit in (ill[-1], ill[0])))
        yield found


@dataclass
class Hanging:
    """A probe that is answered when somebody says so."""

    circuit: Circuit
    client: RawClient
    go: threading.Event


@pytest.fixture(scope="module")
def hanging(running: Circuits) -> Iterator[dict[str, Hanging]]:
    """One on each edge, begun with the first case: its time passes while others are looked at."""
    found = {}
    for edge in EDGES:
        circuit = running.fresh(edge, "leased").forget()
        go = threading.Event()
        circuit.on(held(go, plain("500 Late")), plain())
        found[edge] = Hanging(circuit, circuit.begin(), go)
        wait(circuit.arrived)
    yield found
    for one in found.values():
        one.go.set()
        one.client.sock.close()


@pytest.fixture
def fresh(
    edge: str, running: Circuits, hanging: dict[str, Hanging]
) -> Iterator[Callable[[str], Circuit]]:
    """A service of a kind that no case has asked yet; no dubious request may reach any."""
    yield lambda kind: running.fresh(edge, kind).forget()
    assert running.upstream.faults == []


@pytest.fixture
def due(fresh: Callable[[str], Circuit]) -> Circuit:
    """A service that is to show now whether it is well."""
    circuit = fresh("due")
    circuit.on(plain())
    return circuit


Fresh = Callable[[str], Circuit]


def let_through(circuit: Circuit) -> Answer:
    """Ask until somebody but the breaker answers."""
    found: list[Answer] = []

    def passed() -> bool:
        found.append(circuit.ask())
        return not is_refusal(found[-1])

    wait(passed)
    assert {answer.get("retry-after") for answer in found[:-1]} <= {"1"}
    return found[-1]


# Who passes


@pytest.mark.parametrize(("kind", "probes"), [("due", 1), ("three", 3)])
@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", b"x" * 1000)])
def test_as_many_pass_as_there_may_be_probes(
    fresh: Fresh, kind: str, probes: int, method: str, body: bytes
) -> None:
    """Of many at the same time; the others are told to come back in a second."""
    circuit = fresh(kind)
    go = threading.Event()
    circuit.on(held(go, plain()))
    with ThreadPoolExecutor(CLIENTS) as threads:
        asked = [threads.submit(circuit.ask, method, body=body) for _ in range(CLIENTS)]
        wait(lambda: sum(one.done() for one in asked) >= CLIENTS - probes)
        wait(lambda: len(circuit.arrived()) >= probes)
        refused = [one.result() for one in asked if one.done()]
        shown = circuit.shown()
        go.set()
        passed = [one.result() for one in asked if one.result() not in refused]
    assert (len(passed), len(circuit.arrived())) == (probes, probes)
    assert all(is_refusal(answer) for answer in refused)
    assert {answer.get("retry-after") for answer in refused} == {"1"}
    assert (shown["state"], shown["probes_in_flight"]) == ("HALF_OPEN", probes)
    assert {answer.status for answer in passed} == {200}
    assert circuit.state == "CLOSED"
    assert {answer.status for answer in circuit.together(5)} == {200}


def test_a_route_without_the_breaker(due: Circuit) -> None:
    """It is no probe: it takes nobody's place, proves nothing, and passes beside one."""
    go = threading.Event()
    due.on(plain(), plain("500 Broken"), plain(), below="/bare")
    found = [due.ask(below="/bare").status for _ in range(2)]
    assert (found, due.shown()["probes_in_flight"]) == ([200, 500], 0)
    assert due.state == "HALF_OPEN"
    due.on(held(go, plain()))
    with ThreadPoolExecutor(1) as threads:
        probe = threads.submit(due.ask)
        wait(lambda: due.shown()["probes_in_flight"] == 1)
        assert (due.ask(below="/bare").status, is_refusal(due.ask())) == (200, True)
        go.set()
        assert probe.result().status == 200
    assert due.state == "CLOSED"


def test_what_the_gateway_refuses_itself(due: Circuit) -> None:
    """It is no probe either."""
    found = [
        due.ask(below="/locked"),
        due.ask("POST", "/small", body=b"x" * (LIMIT + 1)),
        due.ask(headers=[("X-Privacy-Level", "bogus")]),
    ]
    assert [answer.status for answer in found] == [401, 413, 400]
    assert (due.shown()["probes_in_flight"], due.arrived()) == (0, [])
    assert due.ask().status == 200


# What comes of it


@pytest.mark.parametrize("status", [200, 204, 404, 429, 501])
def test_a_good_probe_closes_it(due: Circuit, status: int) -> None:
    """Counters are clean: only as many failures as ever open it again."""
    due.on(plain(f"{status} Said"))
    assert due.ask().status == status
    assert due.failures == ("CLOSED", 0)
    due.fail(THRESHOLD - 1)
    assert due.failures == ("CLOSED", THRESHOLD - 1)
    due.fail(1)
    wait(lambda: due.moves()[:4] == [OPENED, OVER, CLOSED, OPENED])


def test_all_probes_must_succeed(fresh: Fresh) -> None:
    """One after the other, too."""
    circuit = fresh("three")
    circuit.on(plain())
    assert [circuit.ask().status for _ in range(2)] == [200, 200]
    assert circuit.state == "HALF_OPEN"
    assert circuit.ask().status == 200
    assert circuit.state == "CLOSED"


def test_one_bad_probe_is_enough(fresh: Fresh) -> None:
    """Though others went well before."""
    circuit = fresh("three")
    circuit.on(plain(), plain(), plain("500 Broken"), plain())
    assert [circuit.ask().status for _ in range(3)] == [200, 200, 500]
    wait(lambda: circuit.moves()[:3] == [OPENED, OVER, FAILED])


@pytest.mark.parametrize(
    "script",
    [
        plain("503 Busy"),
        raw(end=close),
        raw(b"220 mail.example ESMTP\r\n", end=close),
        raw(b"HTTP/1.1 200 OK\r\nContent-Le", end=close),
    ],
    ids=["busy", "closed", "banner", "head"],
)
def test_a_bad_probe_opens_it_again(due: Circuit, script: Script) -> None:
    """A failure is what it always is; and the probe's own client is told."""
    due.on(script, script, script, plain())
    answer = due.ask()
    assert answer.status in (502, 503)
    assert not is_refusal(answer)
    wait(lambda: due.moves()[:3] == [OPENED, OVER, FAILED])


def test_a_probe_is_not_tried_again(due: Circuit) -> None:
    """It is one request, even where others are three."""
    due.on(plain("503 Busy"))
    answer = due.ask()
    assert (answer.status, answer.get("x-error-source")) == (503, "upstream")
    assert len(due.arrived()) == 1


def test_time_starts_anew(due: Circuit) -> None:
    """After a bad probe it is open for as long as at first; then there is another one."""
    due.on(plain("500 Broken"), plain())
    assert due.ask().status == 500
    assert let_through(due).status == 200
    bad, good = due.arrived()
    assert good.started - bad.started > SHORT - EARLY
    wait(lambda: due.moves() == [OPENED, OVER, FAILED, OVER, CLOSED])


def test_a_probe_that_hangs(edge: str, hanging: dict[str, Hanging]) -> None:
    """It has failed by `half_open_timeout`, and what comes of it later has no say."""
    circuit = hanging[edge].circuit
    assert let_through(circuit).status == 200
    hanging[edge].go.set()
    assert hanging[edge].client.read().status == 500
    bad, good = circuit.arrived()
    assert good.started - bad.started > 2 * SHORT - EARLY
    assert circuit.failures == ("CLOSED", 0)
    wait(lambda: circuit.moves() == [OPENED, OVER, EXPIRED, OVER, CLOSED])


# Who is not waited for


def test_an_answer_without_an_end(due: Circuit) -> None:
    """A stream has shown with its head that the service is well; others need not wait for its end."""
    due.on(STREAM, plain())
    with due.begin() as client:
        assert client.receive().startswith(b"HTTP/1.1 200 ")
        assert due.ask().status == 200
        assert due.state == "CLOSED"
        assert client.receive()


def test_a_client_that_sends_slowly(due: Circuit) -> None:
    """It keeps nobody out: another request is the probe, and it is answered all the same.

    Not at once, though: of many that come together, all would have only begun to send.
    """
    size = 200
    with due.begin("POST", body=b"x" * size, short=size - 1) as client:
        wait(due.arrived)
        left = size - 1
        while left > 1 and is_refusal(due.ask()):
            client.trickle(b"x", pause=0.02)
            left -= 1
        assert due.state == "CLOSED"
        assert client.send(b"x" * left).read().status == 200
    slow, probe = due.arrived()
    assert (slow.method, probe.method) == ("POST", "GET")
    assert probe.started - slow.started > SHORT / 2


@pytest.mark.parametrize(
    ("short", "leave"),
    [(0, RawClient.reset), (0, RawClient.half_close), (5, RawClient.reset)],
    ids=["reset", "half-closed", "in-its-body"],
)
def test_a_client_that_leaves(
    due: Circuit, short: int, leave: Callable[[RawClient], object]
) -> None:
    """Nothing was found out, and the next one is the probe."""
    due.on(hang, plain())
    client = due.begin("POST", body=b"0123456789", short=short)
    wait(lambda: due.shown()["probes_in_flight"] == 1)
    wait(due.arrived)
    leave(client)
    wait(lambda: due.shown()["probes_in_flight"] == 0)
    assert due.state == "HALF_OPEN"
    assert due.ask().status == 200
    assert due.state == "CLOSED"
    client.sock.close()


@pytest.mark.parametrize(
    ("more", "status"),
    [(chunked(b"x" * LIMIT), 413), (b"no size\r\n", 400)],
    ids=["too-large", "no-chunk"],
)
def test_a_client_that_is_at_fault(due: Circuit, more: bytes, status: int) -> None:
    """Nothing was found out either."""
    head = request("POST", f"{due.path}/small", [("Transfer-Encoding", "chunked")])
    with RawClient(due.gateway.port) as client:
        client.send(head + b"1\r\nx\r\n")
        wait(due.arrived)
        assert due.shown()["probes_in_flight"] == 1
        assert client.send(more).rest().startswith(b"HTTP/1.1 %d " % status)
    wait(lambda: due.shown()["probes_in_flight"] == 0)
    assert due.state == "HALF_OPEN"
    assert due.ask().status == 200


# What operators see


def test_it_is_for_admins(running: Circuits, edge: str) -> None:
    """Every service with a breaker is shown, to whoever has the scope, and to nobody else."""
    port = running.gateways[edge].port
    assert ask(port, target=CIRCUITS).status == 401
    assert ask(port, target=CIRCUITS, headers=authorized(scope="read write")).status == 403
    assert ask(port, "POST", CIRCUITS, authorized(**ADMIN)).status == 405
    answer = ask(port, target=CIRCUITS, headers=authorized(**ADMIN))
    assert (answer.status, answer.get("cache-control")) == (200, "no-store")
    names = {circuit.name for kind in running.kinds for circuit in running.all(kind)}
    assert set(answer.json()) == {name for name in names if name.startswith(edge)}
    assert str(running.upstream.port) not in answer.body.decode()


def test_closed_is_shown(fresh: Fresh) -> None:
    """Failures, and no time."""
    circuit = fresh("lasting")
    nothing = {"opened_at": None, "retry_after": None, "probes_in_flight": 0}
    assert circuit.shown() == {"state": "CLOSED", "failures": 0, **nothing}
    circuit.fail(1)
    assert circuit.shown() == {"state": "CLOSED", "failures": 1, **nothing}


def test_open_is_shown(fresh: Fresh) -> None:
    """Since when, and until when; clients are told the same moment."""
    circuit = fresh("lasting")
    circuit.fail()
    shown = circuit.shown()
    assert (shown["state"], shown["failures"], shown["probes_in_flight"]) == ("OPEN", THRESHOLD, 0)
    # The one is rounded down to a second, the other one up.
    assert LASTS <= moment(shown["retry_after"]) - moment(shown["opened_at"]) <= LASTS + 1
    told = circuit.ask().json()["error"]["details"]["retry_after"]
    assert abs(moment(told) - moment(shown["retry_after"])) <= 1


def test_half_open_is_shown(due: Circuit) -> None:
    """Since when it had been open, and how many probes there are."""
    since = due.shown()["opened_at"]
    go = threading.Event()
    due.on(held(go, plain()))
    with ThreadPoolExecutor(1) as threads:
        probe = threads.submit(due.ask)
        wait(due.arrived)
        shown = due.shown()
        go.set()
        assert probe.result().status == 200
    assert (shown["state"], shown["probes_in_flight"]) == ("HALF_OPEN", 1)
    assert shown["retry_after"] is None
    assert abs(moment(shown["opened_at"]) - moment(since)) <= 1


def test_each_move_is_logged(due: Circuit) -> None:
    """Opening as something that somebody should look at, the others so that they are seen."""
    assert due.ask().status == 200
    due.fail()
    wait(lambda: len(due.moves()) >= 4)
    assert due.moves()[:4] == [OPENED, OVER, CLOSED, OPENED]
    levels = [line["level"] for line in due.news()[:4]]
    assert levels[0] == levels[3] == "error"
    assert set(levels[1:3]) <= {"info", "warning"}
