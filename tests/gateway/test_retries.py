"""Attempts before real instances: what is sent again, where to, after which pause, and what never is."""

import hashlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from tests.support import answers
from tests.support.client import Answer, Headers, RawClient, ask, chunked, request
from tests.support.gateway import Config, Gateway
from tests.support.topology import Silence
from tests.support.upstream import Arrived, Peer, Script, Upstream

PATH = b"/x"
BACKOFF, HASTE, TOTAL = 0.06, 0.2, 0.4  # seconds
KEPT = 64 * 1024  # of a body, for another attempt
EARLY = 0.005  # a loop counts in milliseconds
# So many cases may ask for one.
COPIES = {"one": 36, "two": 16}
FEW = 3

OK = answers.plain(body=b"at last")
ILL = answers.plain("503 Service Unavailable", ["X-From: upstream"], b"ill")


def lost(peer: Peer, arrived: Arrived) -> None:
    """Read the request and hang up."""
    peer.read_body(arrived)
    peer.close()


class Behind:
    """Two instances, an address that accepts nothing, and one that refuses."""

    def __init__(self) -> None:
        self.one, self.two = Upstream(), Upstream()
        self.silence = Silence()
        self._refusing = socket.socket()  # bound, so that nobody else comes to listen there
        self._refusing.bind(("127.0.0.1", 0))
        self.refusal: int = self._refusing.getsockname()[1]

    def close(self) -> None:
        """Give all addresses back."""
        for each in (self.one, self.two, self.silence, self._refusing):
            each.close()

    def kinds(self) -> dict[str, Config]:
        """What services there are; each kind says in what it differs from the usual."""
        one, two = self.one.port, self.two.port
        hasty, bounded = {"first_byte": HASTE}, {"total": TOTAL}
        return {
            "one": service(one),
            "two": service(one, two),
            "spaced": service(one, backoff=BACKOFF),
            "once": service(one, attempts=1),
            "opted": service(one, non_idempotent=True),
            "usual": service(one, backoff="1ms", budget="20%"),
            "refused": service(self.refusal),
            "refused-once": service(self.refusal, attempts=1),
            "silent": service(self.silence.port, attempts=2, timeouts={"connect": 0.1}),
            "hasty": service(one, timeouts=hasty),
            "hasty-again": service(one, on=["timeout"], timeouts=hasty),
            "bounded": service(one, timeouts=bounded),
            "crowded": service(one, attempts=10, backoff=BACKOFF, timeouts={"total": 10 * BACKOFF}),
            "leisurely": service(one, backoff=5, max_backoff=5, timeouts={"total": 4}),
            "waiting": service(one, backoff=2),
            "fragile": service(one, opens_after=1),
            "brittle": service(one, opens_after=2),
        }


def service(
    *ports: int, timeouts: Config | None = None, opens_after: int = 1000, **retry: Any
) -> Config:
    """A service with instances there; what is not bounded lasts longer than any client waits."""
    return {
        "instances": [f"http://127.0.0.1:{port}" for port in ports],
        "retry": {"backoff": "10ms", "budget": "100%", **retry},
        "ejection": {"max": "0%"},
        "timeouts": {"connect": 10, "first_byte": 10, "total": 30, **(timeouts or {})},
        "circuit": {"failure_threshold": opens_after, "min_throughput": 1},
    }


def configuration(behind: Behind) -> Config:
    """Every service in copies: a copy has its own budget, breaker, instances and connections."""
    services: dict[str, Config] = {}
    routes: list[Config] = []
    for kind, said in behind.kinds().items():
        for copy in range(COPIES.get(kind, FEW)):
            name = f"{kind}-{copy}"
            # Services with another limit share no connections.
            services[name] = {**said, "max_connections": 1000 + len(services)}
            routes.append({"path": f"/{name}", "service": name, "strip_prefix": True})
            if kind == "brittle":
                path = f"/stubborn/{name}"
                routes.append({"path": path, "service": name, "rewrite": "/", "circuit": False})
    return {"services": services, "routes": routes, "defaults": {"auth": "none"}}


class Retrying:
    """The gateway before them."""

    def __init__(self, gateway: Gateway, kinds: list[str]) -> None:
        self.gateway = gateway
        self._unused = {kind: iter(range(COPIES.get(kind, FEW))) for kind in kinds}

    def fresh(self, kind: str) -> str:
        """The name of a service of that kind that nobody has asked yet."""
        return f"{kind}-{next(self._unused[kind])}"

    def ask(
        self, name: str, method: str = "GET", headers: Headers = (), body: bytes = b""
    ) -> Answer:
        """Ask a service."""
        return ask(self.gateway.port, method, f"/{name}/x", headers, body)

    def attempts(self, answer: Answer) -> int:
        """How many the log says there were."""
        found: int = self.gateway.record(answer)["attempts"]
        return found


@pytest.fixture(scope="module")
def running() -> Iterator[Behind]:
    """What stands behind both edges."""
    found = Behind()
    yield found
    found.close()


@pytest.fixture(scope="module")
def retrying(
    edge: str, running: Behind, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Retrying]:
    """The gateway; it ends cleanly."""
    gateway = Gateway(edge, configuration(running), tmp_path_factory.mktemp("retrying"))
    gateway.wait_ready()
    yield Retrying(gateway, list(running.kinds()))
    status = gateway.stop()
    # uvicorn ends by the signal that stopped it: excused as "exit-status".
    assert status in ((0,) if edge == "fast" else (0, -15)), gateway.said()
    for trouble in ("never retrieved", "was destroyed", "never awaited"):
        assert trouble not in gateway.said()
    # An answer that is cut is an error to a server that does the cutting for us.
    assert edge == "portable" or "Traceback" not in gateway.said()


@pytest.fixture
def behind(running: Behind) -> Iterator[Behind]:
    """The instances with empty records; whatever they got must have been beyond doubt."""
    for up in (running.one, running.two):
        up.reset()
    yield running
    assert running.one.faults + running.two.faults == []


def arrived_at(up: Upstream) -> list[Arrived]:
    """The attempts that arrived there."""
    return [arrived for arrived in list(up.requests) if arrived.target == PATH]


def gaps(up: Upstream) -> list[float]:
    """From each attempt to the next."""
    return [later.started - one.started for one, later in pairwise(arrived_at(up))]


def script(up: Upstream, *steps: Script) -> None:
    """Do that, one step an attempt, the last one for all that follow."""
    up.on(PATH.decode(), answers.in_turn(*steps))


def check_error(answer: Answer, status: int, code: str) -> None:
    """Assert that it is the gateway's own error."""
    assert (answer.status, answer.get("x-error-source")) == (status, "gateway")
    assert answer.json()["error"]["code"] == code


# What is tried again, and how often


@pytest.mark.parametrize("statuses", [(502, 502), (503, 504)], ids=str)
def test_a_get_that_goes_well_the_third_time(
    retrying: Retrying, behind: Behind, statuses: tuple[int, int]
) -> None:
    """The client sees only how it ended, and the log how often it was sent."""
    failures = [answers.plain(f"{status} Failed", ["X-Failed: yes"]) for status in statuses]
    script(behind.one, *failures, OK)
    answer = retrying.ask(retrying.fresh("one"))
    assert (answer.status, answer.body, answer.complete) == (200, b"at last", True)
    assert (answer.get("x-failed"), answer.get("x-error-source")) == (None, None)
    record = retrying.gateway.record(answer)
    assert (record["attempts"], record["status"], record["upstream_status"]) == (3, 200, 200)
    assert (record["error"], record["level"], record["flags"]) == (None, "info", [])
    assert len(arrived_at(behind.one)) == 3


def test_pauses_grow(retrying: Retrying, behind: Behind) -> None:
    """Half of each is fixed and half is chance: one to two times `backoff`, then two to four."""
    script(behind.one, ILL, ILL, OK)
    assert retrying.ask(retrying.fresh("spaced")).status == 200
    first, second = gaps(behind.one)
    assert BACKOFF - EARLY <= first < 20 * BACKOFF
    assert 2 * BACKOFF - EARLY <= second < 40 * BACKOFF


def test_the_last_answer_is_passed_on_unchanged(retrying: Retrying, behind: Behind) -> None:
    """When every attempt fails, the client gets what the last one got, marked as the upstream's."""
    texts = ("502 First", "503 Second", "504 Third")
    failures = [answers.plain(text, [f"X-Which: {text}"], text.encode()) for text in texts]
    script(behind.one, *failures)
    answer = retrying.ask(retrying.fresh("one"))
    assert (answer.status, answer.get("x-which"), answer.body) == (504, texts[2], texts[2].encode())
    assert answer.head.startswith(b"HTTP/1.1 504 ")
    assert answer.get("x-error-source") == "upstream"
    assert (len(arrived_at(behind.one)), retrying.attempts(answer)) == (3, 3)


@pytest.mark.parametrize(
    "said",
    [
        answers.plain("500 Broken", body=b"no"),
        answers.plain("501 Never", body=b"no"),
        answers.plain("404 Not Found", body=b"no"),
        answers.plain("429 Too Many Requests", ["Retry-After: 1"], b"no"),
    ],
    ids=["500", "501", "404", "429"],
)
def test_an_answer_that_is_no_better_later(
    retrying: Retrying, behind: Behind, said: Script
) -> None:
    """It is passed on at once, Retry-After and all."""
    script(behind.one, said, OK)
    answer = retrying.ask(retrying.fresh("one"))
    assert (answer.body, answer.get("x-error-source")) == (b"no", "upstream")
    assert answer.get("retry-after") == ("1" if answer.status == 429 else None)
    assert (len(arrived_at(behind.one)), retrying.attempts(answer)) == (1, 1)


@pytest.mark.parametrize("how", [answers.close, answers.reset], ids=["close", "reset"])
def test_a_connection_that_breaks_before_an_answer(
    retrying: Retrying, behind: Behind, how: answers.End
) -> None:
    """It is tried again over another; when all break it is 502, after as many as may be."""
    broken = answers.raw(end=how)
    script(behind.one, broken, OK)
    answer = retrying.ask(retrying.fresh("one"))
    assert (answer.status, retrying.attempts(answer)) == (200, 2)
    behind.one.reset()
    script(behind.one, broken)
    check_error(retrying.ask(retrying.fresh("one")), 502, "UPSTREAM_ERROR")
    assert len(arrived_at(behind.one)) == 3


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ],
    ids=["no-http", "half-a-head", "two-lengths"],
)
def test_an_answer_that_is_none_is_not_asked_for_again(
    retrying: Retrying, behind: Behind, said: bytes
) -> None:
    """What is no HTTP, or could be read in two ways, is 502, and goes to no second instance."""
    for up in (behind.one, behind.two):
        script(up, answers.raw(said, end=answers.close))
    check_error(retrying.ask(retrying.fresh("two")), 502, "UPSTREAM_ERROR")
    assert len(arrived_at(behind.one) + arrived_at(behind.two)) == 1


def test_where_there_is_one_attempt(retrying: Retrying, behind: Behind) -> None:
    """`attempts: 1`: nothing is tried again, not even what never left."""
    script(behind.one, ILL, OK)
    answer = retrying.ask(retrying.fresh("once"))
    assert (answer.status, answer.body, retrying.attempts(answer)) == (503, b"ill", 1)
    assert len(arrived_at(behind.one)) == 1
    assert retrying.attempts(retrying.ask(retrying.fresh("refused-once"))) == 1


# Whose request may leave twice


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_a_method_that_may_arrive_twice(retrying: Retrying, behind: Behind, method: str) -> None:
    """It is sent again, as the same method."""
    script(behind.one, ILL, OK)
    assert retrying.ask(retrying.fresh("one"), method).status == 200
    assert [arrived.method for arrived in arrived_at(behind.one)] == [method, method]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(("failure", "status"), [(ILL, 503), (lost, 502)], ids=["503", "lost"])
def test_a_method_that_must_not_arrive_twice(
    retrying: Retrying, behind: Behind, method: str, failure: Script, status: int
) -> None:
    """Once a byte of it was sent it never leaves again, though another instance is there."""
    for up in (behind.one, behind.two):
        script(up, failure)
    answer = retrying.ask(retrying.fresh("two"), method, body=b"order")
    assert (answer.status, retrying.attempts(answer)) == (status, 1)
    assert len(arrived_at(behind.one) + arrived_at(behind.two)) == 1


def test_a_post_that_the_service_may_get_twice(retrying: Retrying, behind: Behind) -> None:
    """`non_idempotent: true`: it is sent again, its body with it."""
    script(behind.one, ILL, lost, OK)
    assert retrying.ask(retrying.fresh("opted"), "POST", body=b"order").status == 200
    assert [bytes(arrived.body) for arrived in arrived_at(behind.one)] == [b"order"] * 3


# Bodies


def put(retrying: Retrying, behind: Behind, body: bytes, framing: str) -> Answer:
    """Send a body in one of the two framings, when its head has arrived at the instance."""
    if framing == "length":
        headers, coded = [("Content-Length", str(len(body)))], body
    else:
        pieces = [body[start : start + 10_000] for start in range(0, len(body), 10_000)]
        headers, coded = [("Transfer-Encoding", "chunked")], chunked(*pieces)
    with RawClient(retrying.gateway.port) as client:
        client.send(request("PUT", f"/{retrying.fresh('one')}/x", headers))
        assert behind.one.wait(lambda: arrived_at(behind.one))
        return client.send(coded).read("PUT")


def made_up(size: int) -> bytes:
    """So many bytes, no piece like another."""
    numbers = b"".join(number.to_bytes(4) for number in range(size // 4 + 1))
    return numbers[:size]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [1, 20_000, KEPT])
def test_a_body_is_sent_again_byte_for_byte(
    retrying: Retrying, behind: Behind, size: int, framing: str
) -> None:
    """What fits in 64 KiB is replayed whole at every attempt, framed as the client framed it."""
    script(behind.one, ILL, lost, OK)
    body = made_up(size)
    assert put(retrying, behind, body, framing).status == 200
    found = arrived_at(behind.one)
    digest = hashlib.sha256(body).digest()
    assert [(one.length, one.hash.digest()) for one in found] == [(size, digest)] * 3
    length = str(size) if framing == "length" else None
    assert [one.get("content-length") for one in found] == [length] * 3
    coding = None if framing == "length" else "chunked"
    assert [one.get("transfer-encoding") for one in found] == [coding] * 3


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("size", "failure", "status"), [(KEPT + 1, ILL, 503), (1_000_000, lost, 502)]
)
def test_a_body_too_large_to_keep_is_sent_once(
    retrying: Retrying, behind: Behind, size: int, failure: Script, status: int, framing: str
) -> None:
    """What came of the only attempt is the answer."""
    script(behind.one, failure, OK)
    body = made_up(size)
    answer = put(retrying, behind, body, framing)
    assert (answer.status, retrying.attempts(answer)) == (status, 1)
    assert [one.hash.digest() for one in arrived_at(behind.one)] == [hashlib.sha256(body).digest()]


@pytest.mark.parametrize("sent", [5_000, 0], ids=["half", "told-to-wait"])
def test_an_upload_that_was_answered_before_its_end(
    retrying: Retrying, behind: Behind, sent: int
) -> None:
    """The next attempt has it from its first byte; whoever is told to go on is told once."""
    early = answers.raw(b"HTTP/1.1 503 Not Now\r\nContent-Length: 0\r\n\r\n", early=True)
    script(behind.one, early, OK)
    body, target = made_up(20_000), f"/{retrying.fresh('one')}/x"
    expectation = [] if sent else [("Expect", "100-continue")]
    head = request("PUT", target, [*expectation, ("Content-Length", str(len(body)))])
    with RawClient(retrying.gateway.port) as client:
        client.send(head + body[:sent])
        assert behind.one.wait(lambda: len(arrived_at(behind.one)) == 2)
        answer = client.send(body[sent:]).read("PUT")
    assert [interim.status for interim in answer.interim] == ([] if sent else [100])
    assert answer.status == 200
    assert arrived_at(behind.one)[1].hash.digest() == hashlib.sha256(body).digest()


# What each attempt says


def test_every_attempt_is_the_same_request(retrying: Retrying, behind: Behind) -> None:
    """Byte for byte: one request id, one trace, one chain of addresses, and nothing hop by hop."""
    script(behind.one, ILL, ILL, OK)
    trace = "0af7651916cd43dd8448eb211c80319c"
    hop = [("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "9"), ("X-User-Id", "root")]
    sent = [("X-Request-ID", "same-1"), ("traceparent", f"00-{trace}-b7ad6b7169203331-01"), *hop]
    answer = retrying.ask(retrying.fresh("one"), "PUT", sent, b"body")
    first, second, third = arrived_at(behind.one)
    assert first.head == second.head == third.head
    assert (answer.status, answer.get("x-request-id")) == (200, "same-1")
    assert first.get("x-request-id") == "same-1"
    assert (first.get("traceparent") or "").startswith(f"00-{trace}-")
    assert first.names & {"x-hop", "keep-alive", "x-user-id"} == set()


# Too late to try again


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"half"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",),
    ],
    ids=["length", "head-alone", "chunked"],
)
def test_nothing_is_tried_again_once_the_client_has_a_byte(
    retrying: Retrying, behind: Behind, method: str, pieces: tuple[bytes, ...]
) -> None:
    """An answer that breaks off in its body is cut for the client, too, and asked for once."""
    for up in (behind.one, behind.two):
        script(up, answers.raw(*pieces, pause=0.05, end=answers.close))
    answer = retrying.ask(retrying.fresh("two"), method, body=b"x" if method == "PUT" else b"")
    assert (answer.status, answer.complete) == (200, False)
    assert answer.ended in ("cut", "reset")
    assert len(arrived_at(behind.one) + arrived_at(behind.two)) == 1
    record = retrying.gateway.record(answer)
    assert (record["attempts"], "cut" in record["flags"]) == (1, True)


# Retry-After


def test_an_upstream_that_says_when(retrying: Retrying, behind: Behind) -> None:
    """If it asks for no more than is ever waited, it is asked again then, and no sooner."""
    script(behind.one, answers.plain("503 Later", ["Retry-After: 1"]), OK)
    answer = retrying.ask(retrying.fresh("one"))
    assert (answer.status, retrying.attempts(answer)) == (200, 2)
    assert answer.get("retry-after") is None
    assert gaps(behind.one)[0] >= 1.0 - EARLY


@pytest.mark.parametrize(
    ("kind", "asked"), [("one", "3"), ("bounded", "1")], ids=["too-long", "past-the-deadline"]
)
def test_an_upstream_that_asks_for_too_long_a_pause(
    retrying: Retrying, behind: Behind, kind: str, asked: str
) -> None:
    """Its answer is for the client, who may have more time."""
    script(behind.one, answers.plain("503 Later", [f"Retry-After: {asked}"], b"later"), OK)
    answer = retrying.ask(retrying.fresh(kind))
    assert (answer.status, answer.get("retry-after"), answer.body) == (503, asked, b"later")
    assert len(arrived_at(behind.one)) == 1


# The budget


def test_retries_never_become_the_load(retrying: Retrying, behind: Behind) -> None:
    """A service that always fails gets a fifth more requests, and ten; each client its answer."""
    script(behind.one, ILL)
    name, requests = retrying.fresh("usual"), 60
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: retrying.ask(name), range(requests)))
    spans = 1 + int((time.monotonic() - began) / 9)  # ten seconds' retries are forgotten after them
    assert {(answer.status, answer.body) for answer in found} == {(503, b"ill")}
    retries = len(arrived_at(behind.one)) - requests
    assert 10 <= retries <= requests // 5 + 10 * spans


# Deadlines


def test_an_answer_that_does_not_come(retrying: Retrying, behind: Behind) -> None:
    """Silence for `first_byte` is 504, and no reason to ask again; the upstream's work is cancelled."""
    script(behind.one, answers.hang)
    answer = retrying.ask(retrying.fresh("hasty"))
    check_error(answer, 504, "UPSTREAM_TIMEOUT")
    record = retrying.gateway.record(answer)
    assert (record["attempts"], record["upstream_status"]) == (1, None)
    assert record["duration_ms"] >= 750 * HASTE
    assert behind.one.wait(lambda: behind.one.last.cancelled)
    assert len(arrived_at(behind.one)) == 1


def test_an_answer_that_does_not_come_where_that_is_tried_again(
    retrying: Retrying, behind: Behind
) -> None:
    """With `on: [timeout]` it is, after the first attempt was given up; and nothing else is."""
    script(behind.one, answers.hang, OK)
    answer = retrying.ask(retrying.fresh("hasty-again"))
    assert (answer.status, retrying.attempts(answer)) == (200, 2)
    assert gaps(behind.one)[0] >= 0.75 * HASTE
    first, second = arrived_at(behind.one)
    assert first.connection != second.connection
    behind.one.reset()
    script(behind.one, ILL, OK)
    assert retrying.ask(retrying.fresh("hasty-again")).status == 503


@pytest.mark.parametrize(
    ("kind", "status", "code", "attempts"),
    [("refused", 502, "UPSTREAM_ERROR", 3), ("silent", 504, "UPSTREAM_TIMEOUT", 2)],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_connection_at_all(
    retrying: Retrying, method: str, kind: str, status: int, code: str, attempts: int
) -> None:
    """Refused is 502, not in time is 504, after as many attempts as may be: nothing ever left."""
    answer = retrying.ask(retrying.fresh(kind), method)
    check_error(answer, status, code)
    assert retrying.attempts(answer) == attempts


def test_the_total_covers_all_attempts(retrying: Retrying, behind: Behind) -> None:
    """A second attempt has only what the first one left: then it is 504, and cancelled."""
    script(behind.one, ILL, answers.hang)
    answer = retrying.ask(retrying.fresh("bounded"))
    check_error(answer, 504, "UPSTREAM_TIMEOUT")
    record = retrying.gateway.record(answer)
    assert (record["attempts"], record["upstream_status"]) == (2, None)
    assert record["duration_ms"] >= 750 * TOTAL
    assert behind.one.wait(lambda: behind.one.last.cancelled)


@pytest.mark.parametrize("body", [b"", b"data"], ids=["GET", "PUT"])
def test_no_attempt_that_could_not_end_in_time(
    retrying: Retrying, behind: Behind, body: bytes
) -> None:
    """A pause that would outlast `total` is not begun: the client gets what there is, at once."""
    script(behind.one, ILL, OK)
    method = "PUT" if body else "GET"
    answer = retrying.ask(retrying.fresh("leisurely"), method, body=body)
    assert (answer.status, answer.body) == (503, b"ill")
    assert len(arrived_at(behind.one)) == 1
    assert retrying.gateway.record(answer)["duration_ms"] < 3000  # the shortest pause has 5000


def test_attempts_end_with_the_total(retrying: Retrying, behind: Behind) -> None:
    """Each lasts a backoff, and between them are 1, 2 and 4: in ten of them there is room for three."""
    script(behind.one, answers.after(BACKOFF, ILL))
    assert retrying.ask(retrying.fresh("crowded")).status in (503, 504)
    assert len(arrived_at(behind.one)) <= 3


# Clients that leave


def leave(retrying: Retrying, behind: Behind, kind: str, attempts: int) -> dict[str, Any]:
    """Ask, leave when so many attempts have arrived, and return the record."""
    identity = f"left-{kind}-{retrying.gateway.edge}"
    target = f"/{retrying.fresh(kind)}/x"
    client = RawClient(retrying.gateway.port)
    client.send(request(target=target, headers=[("X-Request-ID", identity)]))
    assert behind.one.wait(lambda: len(arrived_at(behind.one)) == attempts)
    client.reset()
    records = retrying.gateway.records(identity, within=5)
    assert [record["status"] for record in records] == [499]
    return records[0]


def test_a_client_that_leaves_in_a_pause(retrying: Retrying, behind: Behind) -> None:
    """Nobody asks again on its behalf."""
    script(behind.one, ILL)
    record = leave(retrying, behind, "waiting", 1)
    assert (record["attempts"], "client_gone" in record["flags"]) == (1, True)
    assert len(arrived_at(behind.one)) == 1


def test_a_client_that_leaves_in_a_second_attempt(retrying: Retrying, behind: Behind) -> None:
    """That attempt is cancelled, and is the last one."""
    script(behind.one, ILL, answers.hang)
    record = leave(retrying, behind, "one", 2)
    assert record["attempts"] == 2
    assert behind.one.wait(lambda: behind.one.last.cancelled)
    assert len(arrived_at(behind.one)) == 2


# The breaker, which counts exchanges and not attempts


def test_what_goes_well_in_the_end_is_no_failure(retrying: Retrying, behind: Behind) -> None:
    """A breaker that opens at the first failure stays closed over 502, 502, 200."""
    name, bad = retrying.fresh("fragile"), answers.plain("502 Bad")
    script(behind.one, bad, bad, OK)
    assert [retrying.ask(name).status for _ in range(3)] == [200, 200, 200]
    assert len(arrived_at(behind.one)) == 5


def test_what_fails_at_every_attempt_is_one_failure(retrying: Retrying, behind: Behind) -> None:
    """Two of them open a breaker for two; then nobody is asked, but by a route without breaker."""
    name = retrying.fresh("brittle")
    script(behind.one, ILL)
    assert [retrying.ask(name).get("x-error-source") for _ in range(2)] == ["upstream"] * 2
    assert len(arrived_at(behind.one)) == 6
    refused = retrying.ask(name)
    check_error(refused, 503, "CIRCUIT_OPEN")
    assert retrying.attempts(refused) == 0
    assert int(refused.get("retry-after") or 0) > 0
    assert len(arrived_at(behind.one)) == 6
    assert retrying.ask(f"stubborn/{name}").get("x-error-source") == "upstream"
