"""Lines E01 to E18 and E29 to E32: services, breakers, limits and sockets of ISaaS's gateway, at `examples/isaas`."""

import json
import re
import select
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import count
from typing import Any

import pytest
from pydantic import ValidationError

from propylon import CircuitConfig, RegistrationRequest
from tests.gateway.circuits import held
from tests.support import answers
from tests.support.allowance import timed, within
from tests.support.client import Answer, RawClient, request
from tests.support.redis import RedisServer, binary
from tests.support.sockets import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    Socket,
    close,
    echo,
    frame,
)
from tests.support.systems import System, Systems, is_envelope
from tests.support.tokens import BAD_TOKENS, authorized, bearer, mint
from tests.support.upstream import Upstream
from tests.support.waiting import wait

V1 = "/api/v1"
SERVICES, REALTIME = f"{V1}/services", f"{V1}/realtime"
ADMIN = {"scopes": ["admin"]}
BROKEN = answers.plain("500 Broken")
LONG = "10m"  # what is open for so long, no case sees close
# Breakers of which each case has one of its own.
CIRCUITS: dict[str, dict[str, Any]] = {
    "e09": {"failure_threshold": 3, "min_throughput": 1, "recovery_timeout": LONG},
    "e10": {"failure_threshold": 2, "min_throughput": 10, "recovery_timeout": LONG},
    "e11": {"failure_threshold": 2, "min_throughput": 1, "failure_window": 1},
    "e12": {"failure_threshold": 1, "min_throughput": 1, "recovery_timeout": LONG},
    "e13": {"failure_threshold": 1, "min_throughput": 1, "recovery_timeout": 1, "probes": 2},
    "e14": {"failure_threshold": 2, "min_throughput": 1, "recovery_timeout": 1},
    "e15": {
        "failure_threshold": 1,
        "min_throughput": 1,
        "recovery_timeout": 1,
        "half_open_timeout": 1,
    },
}
DYNAMIC = ("e02", "e04", "e05", "e06", "e07")


@pytest.fixture
def rich(systems: Systems) -> System:
    """ISaaS with services that nobody has registered for yet, and services whose breakers open soon."""
    services: dict[str, Any] = {name: {} for name in DYNAMIC}
    for name, keys in CIRCUITS.items():
        services[name] = {
            "url": "${CONTEXT_SERVICE_URL}",
            "circuit": keys,
            "retry": {"attempts": 1},
        }
    routes = [{"path": f"{V1}/{name}", "service": name, "strip_prefix": False} for name in services]
    return systems.keep("rich", "isaas", more={"services": services, "routes": routes})


@pytest.fixture
def instances() -> Iterator[Callable[[], Upstream]]:
    """Make an upstream that can be registered."""
    made: list[Upstream] = []

    def make() -> Upstream:
        made.append(Upstream(identified=True))
        return made[-1]

    yield make
    for one in made:
        one.close()


def register(system: System, service: str, up: Upstream, **more: Any) -> Answer:
    """Register an upstream as an instance of a service."""
    body = {
        "service_name": service,
        "host": "127.0.0.1",
        "port": up.port,
        "check_interval": 1,
        **more,
    }
    headers = [("Content-Type", "application/json")]
    return system.ask_as("operator", "POST", SERVICES, headers, json.dumps(body).encode(), **ADMIN)


def listed(system: System, service: str) -> dict[str, str]:
    """The instances of a service, and their states."""
    said = system.ask_as("operator", "GET", SERVICES, **ADMIN).json()
    [found] = [one for one in said["services"] if one["name"] == service]
    return {one["instance_id"]: one["status"] for one in found["instances"]}


def test_e01_registration_is_a_model() -> None:
    """E01: a registration is built as in the document, and most of it has defaults."""
    whole = RegistrationRequest(
        service_name="context_service",
        host="context-service",
        port=8001,
        check_endpoint="/health",
        check_interval=30,
    )
    short = RegistrationRequest(service_name="context_service", host="context-service", port=8001)
    assert short == whole
    assert (short.check_endpoint, short.check_interval, short.metadata) == ("/health", 30, {})


def test_e02_instance_registers_itself(rich: System, instances: Callable[[], Upstream]) -> None:
    """E02: a registration is 201 with the instance's id; the same again is 200, and still one."""
    up = instances()
    answer = register(rich, "e02", up)
    assert (answer.status, answer.json()) == (
        201,
        {"instance_id": f"127.0.0.1:{up.port}", "status": "starting"},
    )
    assert register(rich, "e02", up).status == 200
    assert list(listed(rich, "e02")) == [f"127.0.0.1:{up.port}"]


def test_e03_registry_is_for_admins(rich: System, instances: Callable[[], Upstream]) -> None:
    """E03: without the scope admin nothing is registered, and never a host that must not be reached."""
    body = json.dumps(
        {"service_name": "e02", "host": "127.0.0.1", "port": instances().port}
    ).encode()
    json_type = [("Content-Type", "application/json")]
    assert rich.ask("POST", SERVICES, json_type, body).status == 401
    assert rich.ask_as("e03", "POST", SERVICES, json_type, body, scopes=["write"]).status == 403
    for host in ("169.254.169.254", "169.254.1.1", "fe80::1"):
        answer = register(rich, "e02", instances(), host=host)
        assert (answer.status, is_envelope(answer, "INVALID_REQUEST")) == (400, True), host


def test_e04_state_follows_the_checks(rich: System, instances: Callable[[], Upstream]) -> None:
    """E04: an instance is what its checks say, at the next one."""
    up = instances()
    assert register(rich, "e04", up).status == 201
    name = f"127.0.0.1:{up.port}"
    wait(lambda: listed(rich, "e04")[name] == "healthy")
    up.on("/health", answers.plain("503 Ill"))
    wait(lambda: listed(rich, "e04")[name] == "unhealthy")
    up.close()
    wait(lambda: listed(rich, "e04")[name] in {"failed", "unhealthy"})


def test_e05_no_healthy_instance_is_503(rich: System, instances: Callable[[], Upstream]) -> None:
    """E05: a new instance is tried at once; without a healthy one the answer is 503, with the last check."""
    up = instances()
    up.on("/health", answers.hang)
    assert register(rich, "e05", up, check_interval=30).status == 201
    assert rich.ask_as("e05", "GET", f"{V1}/e05").status == 200
    up.on("/health", answers.plain("503 Ill"))
    for peer in set(up._peers):
        peer.sock.shutdown(sockets.SHUT_RDWR)
    register(rich, "e05", up, check_interval=1)
    wait(lambda: set(listed(rich, "e05").values()) == {"unhealthy"})
    answer = rich.ask_as("e05", "GET", f"{V1}/e05")
    assert (answer.status, is_envelope(answer, "SERVICE_UNAVAILABLE")) == (503, True)
    details = answer.json()["error"]["details"]
    assert details["service"] == "e05"
    assert datetime.fromisoformat(details["last_check"])


def asked(up: Upstream) -> int:
    """How many requests an instance got that were no checks."""
    return sum(not one.target.startswith(b"/health") for one in up.requests)


def test_e06_healthy_instances_take_turns(rich: System, instances: Callable[[], Upstream]) -> None:
    """E06: two healthy instances get the same share; when one is ill, the other gets all."""
    one, other = instances(), instances()
    for up in (one, other):
        assert register(rich, "e06", up).status == 201
    wait(lambda: set(listed(rich, "e06").values()) == {"healthy"})
    for _ in range(10):
        assert rich.ask_as("e06", "GET", f"{V1}/e06").status == 200
    assert (asked(one), asked(other)) == (5, 5)
    one.on("/health", answers.plain("503 Ill"))
    wait(lambda: "unhealthy" in listed(rich, "e06").values())
    for _ in range(4):
        assert rich.ask_as("e06", "GET", f"{V1}/e06").status == 200
    assert (asked(one), asked(other)) == (5, 9)


def test_e07_instance_is_taken_out(rich: System, instances: Callable[[], Upstream]) -> None:
    """E07: an instance that is taken out gets no more requests, and no more checks."""
    one, other = instances(), instances()
    for up in (one, other):
        assert register(rich, "e07", up).status == 201
    wait(lambda: set(listed(rich, "e07").values()) == {"healthy"})
    target = f"{SERVICES}/e07/127.0.0.1:{one.port}"
    assert rich.ask_as("operator", "DELETE", target, **ADMIN).status == 204
    assert rich.ask_as("operator", "DELETE", target, **ADMIN).status == 404
    before, checked = len(one.requests), len(other.requests)
    for _ in range(4):
        assert rich.ask_as("e07", "GET", f"{V1}/e07").status == 200
    # The other one is checked in the meantime.
    wait(lambda: len(other.requests) - checked > 4)
    assert len(one.requests) == before


def test_e08_breaker_has_the_documents_defaults() -> None:
    """E08: the breaker's defaults are the document's; less than 1 is refused."""
    names = (
        "failure_threshold",
        "recovery_timeout",
        "half_open_timeout",
        "failure_window",
        "min_throughput",
    )
    config = CircuitConfig()
    assert [getattr(config, name) for name in names] == [5, 60, 30, 120, 5]
    for name in names:
        with pytest.raises(ValidationError):
            CircuitConfig.model_validate({name: 0})


def fail(system: System, name: str, times: int) -> list[str]:
    """Let a service fail so often, and say who answered."""
    system.on("context", f"{V1}/{name}", BROKEN)
    got = [system.ask_as(name, "POST", f"{V1}/{name}") for _ in range(times)]
    return [str(one.get("x-error-source")) for one in got]


def state(system: System, name: str) -> str:
    """The state of a breaker."""
    said = system.ask_as("operator", "GET", f"{V1}/circuits", **ADMIN).json()
    return str(said[name]["state"])


def test_e09_threshold_opens(rich: System) -> None:
    """E09: two failures leave it closed, the third one opens it."""
    assert fail(rich, "e09", 2) == ["upstream"] * 2
    assert state(rich, "e09") == "CLOSED"
    assert fail(rich, "e09", 1) == ["upstream"]
    assert state(rich, "e09") == "OPEN"


def test_e10_few_requests_do_not_open(rich: System) -> None:
    """E10: below min_throughput it stays closed, whatever share of the requests failed."""
    assert fail(rich, "e10", 9) == ["upstream"] * 9
    assert state(rich, "e10") == "CLOSED"


def failures(system: System, name: str) -> int:
    """How many failures a breaker has in mind."""
    said = system.ask_as("operator", "GET", f"{V1}/circuits", **ADMIN).json()
    return int(said[name]["failures"])


def test_e11_old_failures_do_not_count(rich: System) -> None:
    """E11: failures that lie further apart than the window never open it."""
    assert fail(rich, "e11", 1) == ["upstream"]
    wait(lambda: failures(rich, "e11") == 0)
    assert fail(rich, "e11", 1) == ["upstream"]
    assert state(rich, "e11") == "CLOSED"


@timed
def test_e12_open_breaker_refuses_at_once(rich: System, allowance: int) -> None:
    """E12: while it is open the answer is 503 without the service, and says when to come back."""
    fail(rich, "e12", 1)
    before = len(rich.ups["context"].requests)
    headers = authorized(f"e12-{allowance}")
    with within(0.02 if allowance == 1 else 5):
        answer = rich.ask("GET", f"{V1}/e12", headers)
    assert (answer.status, is_envelope(answer, "CIRCUIT_OPEN")) == (503, True)
    assert len(rich.ups["context"].requests) == before
    details = answer.json()["error"]["details"]
    assert details["service"] == "e12"
    left = datetime.fromisoformat(details["retry_after"]).timestamp() - time.time()
    assert 0 < left <= 601  # whole seconds, rounded up
    assert 0 < int(answer.get("retry-after") or "0") <= 600


def crowd(system: System, name: str, size: int) -> list[Answer]:
    """Many requests at the same time, of as many users."""
    with ThreadPoolExecutor(size) as pool:
        users = [f"{name}-{number}" for number in range(size)]
        return list(pool.map(lambda user: system.ask_as(user, "GET", f"{V1}/{name}"), users))


def test_e13_few_probes_pass(rich: System) -> None:
    """E13: after its time it lets a few probes through, also when a hundred requests come at once."""
    fail(rich, "e13", 1)
    wait(lambda: state(rich, "e13") != "OPEN")
    go, before = threading.Event(), len(rich.ups["context"].requests)
    rich.on("context", f"{V1}/e13", held(go, answers.plain()))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(crowd, rich, "e13", 100)
        # All but the probes are refused while these are held.
        wait(lambda: len(rich.lines('"status":503')) >= 98)
        go.set()
        got = [answer.status for answer in asking.result()]
    assert (got.count(200), got.count(503)) == (2, 98)
    assert len(rich.ups["context"].requests) - before == 2


def test_e14_good_probes_close_it_clean(rich: System) -> None:
    """E14: good probes close it, and it begins anew; a bad one opens it again."""
    path = f"{V1}/e14"
    fail(rich, "e14", 2)
    wait(lambda: state(rich, "e14") != "OPEN")
    assert fail(rich, "e14", 1) == ["upstream"]
    assert state(rich, "e14") == "OPEN"
    rich.on("context", path, answers.plain())
    wait(lambda: rich.ask_as("e14-later", "GET", path).status == 200)
    assert state(rich, "e14") == "CLOSED"
    assert fail(rich, "e14", 1) == ["upstream"]
    assert state(rich, "e14") == "CLOSED"


def probe(system: System, path: str) -> RawClient:
    """Ask until a request comes through to the service, and keep its connection."""
    up = system.ups["context"]
    for number in count():
        before = len(up.requests)
        client = RawClient(system.port)
        client.send(request("GET", path, authorized(f"{path}-{number}")))
        # Refused, or passed on: then nothing is to be read.
        while not select.select([client.sock], [], [], 0.02)[0]:
            if len(up.requests) > before:
                return client
        client.sock.close()
    raise AssertionError


def test_e15_probe_that_hangs_is_a_failure(rich: System) -> None:
    """E15: a probe that does not end in its time, or whose client goes, does not block the next one."""
    path = f"{V1}/e15"
    fail(rich, "e15", 1)
    rich.on("context", path, answers.hang)
    probe(rich, path).sock.close()
    with probe(rich, path), probe(rich, path):  # the second one while the first one hangs
        rich.on("context", path, answers.plain())
        numbers = count()
        wait(lambda: rich.ask_as(f"e15-{next(numbers)}", "GET", path).status == 200)


def burst(system: System, subject: str, size: int) -> tuple[list[Answer], float]:
    """So many requests of a user, one behind the other on one connection, and the seconds that they took."""
    asked = request("GET", f"{V1}/context/x", authorized(subject))
    start = time.monotonic()
    with RawClient(system.port) as client:
        client.send(asked * size)
        got = [client.read() for _ in range(size)]
    return got, time.monotonic() - start


@timed
def test_e16_twenty_at_once_then_ten_a_second(isaas: System, allowance: int) -> None:
    """E16: 20 at once pass, then as many as the rate gives; a second later ten more."""
    subject = f"e16-{allowance}"
    got, took = burst(isaas, subject, 60)
    passed = [answer.status for answer in got].count(200)
    assert 20 <= passed <= 20 + 10 * took + 1
    refused = next(answer for answer in got if answer.status == 429)
    assert is_envelope(refused, "RATE_LIMIT")
    if allowance == 1:
        time.sleep(1)
        later, took = burst(isaas, subject, 30)
        assert 9 <= [answer.status for answer in later].count(200) <= 11 + 10 * took
    else:
        wait(lambda: isaas.ask_as(subject, "GET", f"{V1}/context/x").status == 200)


def test_e17_limit_is_told(isaas: System) -> None:
    """E17: each limited answer tells the limit, what is left and when there is more; 429 when to come back."""
    got, _ = burst(isaas, "e17", 60)
    for answer in got:
        told = [
            int(answer.get(f"x-ratelimit-{name}") or "-1")
            for name in ("limit", "remaining", "reset")
        ]
        assert min(told) >= 0
    refused = next(answer for answer in got if answer.status == 429)
    assert refused.get("x-ratelimit-remaining") == "0"
    assert int(refused.get("retry-after") or "0") >= 1


@timed
def test_e18_requests_do_not_wait_for_redis(systems: Systems, allowance: int) -> None:
    """E18: without Redis requests are served all the same, and when it is back, it counts again."""
    server = RedisServer(binary())
    try:
        # Down at the start.
        variables = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port)}
        system = systems.keep(f"shared-{allowance}", "isaas", variables)
        numbers = count()

        def ask() -> None:
            subject = f"e18-{next(numbers)}"
            with within(0.1 if allowance == 1 else 5):
                assert system.ask_as(subject, "GET", f"{V1}/context/x").status == 200

        def counted() -> bool:
            ask()
            return bool(server.stored())

        def said() -> list[str]:
            lines = [str(one["event"]) for one in system.lines("redis: ")]
            return [found[1] for line in lines if (found := re.search(" is (away|back)", line))]

        wait(lambda: said() == ["away"])
        server.start()
        wait(counted)
        server.stop_reading()  # hung in mid-run
        wait(lambda: ask() or said()[-1] == "away")
        for _ in range(5):
            ask()
        server.go_on()
        wait(lambda: said()[-1] == "back")
        server.ask("FLUSHALL")
        wait(counted)
        # Each time that it was away is one warning, however many requests came meanwhile.
        assert said() == ["away", "back"] * (len(said()) // 2)
    finally:
        server.close()


def test_e29_messages_pass_both_ways(isaas: System) -> None:
    """E29: an upgrade on the realtime route opens a socket, on which texts, bytes and pings pass, and 1 MB."""
    isaas.ups["realtime"].fallback = echo
    with RawClient(isaas.port) as client:
        socket = Socket(client).open(REALTIME, authorized("e29"))
        assert socket.ask("héllo") == "héllo"
        for payload in (b"\0\1\2", bytes(range(256)) * 4096):
            client.send(frame(BINARY, payload))
            got = socket.hear(data=True)
            assert (got.opcode, got.payload) == (BINARY, payload)
        client.send(frame(PING, b"are you there"))
        while (got := socket.hear()).opcode != PONG:
            pass
        assert got.payload == b"are you there"
        client.send(close(1000))
        assert socket.hear(data=True).opcode == CLOSE


def test_e30_socket_needs_a_token(isaas: System) -> None:
    """E30: a token opens a socket from each of three places, and is not passed on; without a good one nothing opens."""
    up = isaas.ups["realtime"]
    up.fallback = echo
    token = mint("e30")
    ways = {
        f"{REALTIME}?token={token}": [],
        REALTIME: bearer(token),
        f"{REALTIME}/x": [("Sec-WebSocket-Protocol", f"chat, bearer.{token}")],
    }
    for target, headers in ways.items():
        with RawClient(isaas.port) as client:
            assert Socket(client).open(target, headers).ask("hi") == "hi"
    targets = [one.target.decode() for one in up.requests]
    assert not any(token in target for target in targets)
    assert up.arrived("/x").get("sec-websocket-protocol") == "chat"
    up.requests.clear()
    for headers in (
        [],
        bearer(BAD_TOKENS["expired"]()),
        [("Sec-WebSocket-Protocol", "bearer.x.y.z")],
    ):
        with RawClient(isaas.port) as client:
            assert Socket(client).shake(REALTIME, headers).status in {401, 403}
    assert up.requests == []


def test_e31_how_sockets_end(isaas: System) -> None:
    """E31: close codes and reasons pass both ways; what the service does to the socket, the client sees."""
    up = isaas.ups["realtime"]
    up.fallback = echo
    headers = [*authorized("e31"), ("Sec-WebSocket-Protocol", "first, second")]
    with RawClient(isaas.port) as client:
        socket = Socket(client).open(REALTIME, headers)
        assert socket.answer is not None
        assert socket.answer.get("sec-websocket-protocol") == "first"
        client.send(close(4321, "done here"))
        assert socket.hear(data=True).opcode == CLOSE
    wait(lambda: (4321, "done here") in up.closes)
    with RawClient(isaas.port) as client:
        told = Socket(client).open(REALTIME, authorized("e31")).say("close 4002 see you").farewell()
        assert (told.code, told.reason) == (4002, "see you")
    with RawClient(isaas.port) as client, within(15):
        assert Socket(client).open(REALTIME, authorized("e31")).say("die").farewell().code == 1011
    up.fallback = answers.plain("403 No")
    with RawClient(isaas.port) as client:
        assert Socket(client).shake(REALTIME, authorized("e31")).status == 403


def test_e32_realtime_has_a_limit_and_no_breaker(isaas: System) -> None:
    """E32: however often the realtime service fails, it is tried again; each handshake counts for the limit."""
    up = isaas.ups["realtime"]
    up.fallback = answers.raw(end=answers.reset)
    for _ in range(11):
        before = up.connections
        with RawClient(isaas.port) as client:
            assert Socket(client).shake(REALTIME, authorized("e32")).status == 502
        assert up.connections > before
    up.fallback = echo
    statuses = []
    for _ in range(60):
        with RawClient(isaas.port) as client:
            statuses.append(Socket(client).shake(REALTIME, authorized("e32-often")).status)
        if statuses[-1] == 429:
            break
    assert set(statuses[:20]) == {101}
    assert statuses[-1] == 429
