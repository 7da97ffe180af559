"""Services that register while the gateway runs: asked, probed, listed, let go; and who may not."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, Protocol

import pytest
import yaml

from tests.support.answers import plain
from tests.support.beside import side_by_side
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway, free_port
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Arrived, Peer, Upstream, ok
from tests.support.waiting import soon

PATH = "/api/v1/services"
ADMIN = authorized("operator", scope="admin")
LEASE = 1.0  # seconds
SERVICES = ("plain", "pair", "ill", "gone", "flight", "quiet", "again")


def configuration(**registry: Any) -> Config:
    """A gateway with services that nobody is in, each with a route."""
    return {
        "auth": {"jwt": {"secret": SECRET}},
        "defaults": {"auth": "none"},
        "services": {name: {} for name in SERVICES},
        "routes": [{"path": f"/{name}", "service": name} for name in SERVICES],
        "registry": {"allow": ["127.0.0.0/8", "localhost"], **registry},
    }


# The endpoints are the same behind either edge: but for the first case, one of them is enough.


@pytest.fixture(scope="module")
def registering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for all who only come and go."""
    running = Gateway("fast", configuration(), tmp_path_factory.mktemp("registry"))
    running.wait_ready()
    yield running
    running.stop()


class Lasting(NamedTuple):
    """A gateway with leases, and an instance that stands in its file twice."""

    gateway: Gateway
    up: Upstream


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    """One gateway for all who need another configuration."""
    with Upstream() as up:
        config = configuration(ttl=LEASE)
        config["services"]["plain"] = {"url": f"http://127.0.0.1:{up.port}"}
        config["services"]["pair"] = {"url": f"http://localhost:{up.port}"}
        running = Gateway("fast", config, tmp_path_factory.mktemp("lasting"))
        running.wait_ready()
        yield Lasting(running, up)
        running.stop()


class Begin(Protocol):
    """Start a gateway."""

    def __call__(self, config: Config, edge: str = "fast") -> Gateway:
        """Return it as soon as it answers."""


@pytest.fixture
def begin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begin]:
    """Start gateways of one's own; they are ended with the case."""
    started: list[Gateway] = []

    def run(config: Config, edge: str = "fast") -> Gateway:
        started.append(Gateway(edge, config, tmp_path_factory.mktemp(edge)))
        started[-1].wait_ready()
        return started[-1]

    yield run
    for one in started:
        one.kill()


@pytest.fixture
def instances() -> Iterator[Callable[[], Upstream]]:
    """Start instances; they are ended with the case."""
    started: list[Upstream] = []

    def start() -> Upstream:
        started.append(Upstream())
        started[-1].on("/health", ok)
        return started[-1]

    yield start
    for one in started:
        one.close()
        assert one.faults == []


def reload(gateway: Gateway, config: Config) -> None:
    """Put another configuration into force."""
    server = {"host": "127.0.0.1", "port": gateway.port}
    gateway.file.write_text(yaml.safe_dump({**config, "server": server}))
    gateway.process.send_signal(signal.SIGHUP)


def register(gateway: Gateway, service: str, port: int, **said: Any) -> Answer:
    """Register an instance of this host, as an operator."""
    body = {"service_name": service, "host": "127.0.0.1", "port": port, **said}
    return post(gateway, json.dumps(body).encode())


def post(gateway: Gateway, body: bytes, headers: list[tuple[str, str]] = ADMIN) -> Answer:
    """Send a registration."""
    sent = [("Content-Type", "application/json"), *headers]
    return ask(gateway.port, "POST", PATH, sent, body)


def said(answer: Answer) -> Any:
    """What an answer holds."""
    return json.loads(answer.body)


def error(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The error of an answer in the gateway's envelope."""
    assert answer.status == status, answer.body
    found: dict[str, Any] = said(answer)["error"]
    assert found["code"] == code
    assert said(answer)["request_id"] == answer.get("x-request-id")
    return found


def listed(gateway: Gateway, service: str) -> list[dict[str, Any]]:
    """The instances of a service, as the operator sees them."""
    answer = ask(gateway.port, "GET", PATH, ADMIN)
    assert answer.status == 200, answer.body
    found = {one["name"]: one["instances"] for one in said(answer)["services"]}
    instances: list[dict[str, Any]] = found.get(service, [])
    return instances


def statuses(gateway: Gateway, service: str) -> list[str]:
    """How the instances are."""
    return [one["status"] for one in listed(gateway, service)]


def asked(upstream: Upstream, path: str) -> int:
    """How often a path was asked for."""
    return sum(arrived.target == path.encode() for arrived in upstream.requests)


# Coming


@pytest.mark.parametrize("edge", EDGES)
def test_coming_staying_and_going(
    registering: Gateway, begin: Begin, edge: str, instances: Callable[[], Upstream]
) -> None:
    """On either edge: 201, 200, requests, a heartbeat, 204, 404, 503."""
    gateway = registering if edge == registering.edge else begin(configuration(), edge)
    up = instances()
    name = f"{PATH}/plain/127.0.0.1:{up.port}"
    assert [register(gateway, "plain", up.port).status for _ in range(2)] == [201, 200]
    assert ask(gateway.port, target="/plain").status == 200
    assert ask(gateway.port, "PUT", name + "/heartbeat", ADMIN).status == 200
    assert ask(gateway.port, "PUT", name + "/heartbeat", ADMIN, b"{}").status == 200
    assert ask(gateway.port, "DELETE", name, ADMIN).status == 204
    assert ask(gateway.port, "DELETE", name, ADMIN).status == 404
    assert ask(gateway.port, target="/plain").status == 503
    assert up.wait(lambda: not up.idle)


def test_an_instance_registers(registering: Gateway, instances: Callable[[], Upstream]) -> None:
    """From then on it is asked; registering again is no second instance."""
    refusal = error(ask(registering.port, target="/plain"), 503, "SERVICE_UNAVAILABLE")
    assert refusal["details"]["service"] == "plain"
    up = instances()
    first = register(registering, "plain", up.port, metadata={"zone": "a"})
    assert (first.status, said(first)) == (
        201,
        {"instance_id": f"127.0.0.1:{up.port}", "status": "starting"},
    )
    assert ask(registering.port, target="/plain/x?y=%20").status == 200
    assert asked(up, "/plain/x?y=%20") == 1
    assert register(registering, "plain", up.port, metadata={"zone": "b"}).status == 200
    (entry,) = listed(registering, "plain")
    assert (entry["source"], entry["metadata"], entry["lease"]) == (
        "registered",
        {"zone": "b"},
        None,
    )
    assert up.requests[-1].get("host") == f"127.0.0.1:{up.port}"


def test_many_register_at_once(registering: Gateway, instances: Callable[[], Upstream]) -> None:
    """The same instance from many connections: one 201, and one instance."""
    up = instances()
    found: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(register(registering, "again", up.port).status)
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == [200] * 7 + [201]
    assert len(listed(registering, "again")) == 1


def test_a_service_that_nobody_wrote_down(
    registering: Gateway, instances: Callable[[], Upstream]
) -> None:
    """It is in /health and in the list, has no route, and ends with its instances."""
    up = instances()
    assert register(registering, "newcomer", up.port).status == 201
    health = said(ask(registering.port, target="/health"))["services"]
    assert health["newcomer"]["status"] == "healthy"
    assert f":{up.port}" not in json.dumps(health)
    assert ask(registering.port, target="/newcomer").status == 404
    path = f"{PATH}/newcomer/127.0.0.1:{up.port}"
    assert ask(registering.port, "DELETE", path, ADMIN).status == 204
    services = said(ask(registering.port, "GET", PATH, ADMIN))["services"]
    assert "newcomer" not in [service["name"] for service in services]


@pytest.mark.parametrize(
    ("headers", "status"),
    [([], 401), (authorized("ann", scope="read write", roles=["admin"]), 403)],
)
def test_not_for_everybody(
    registering: Gateway, headers: list[tuple[str, str]], status: int
) -> None:
    """Without the scope nobody registers, lists, renews or takes away."""
    body = json.dumps({"service_name": "sneaky", "host": "127.0.0.1", "port": 80}).encode()
    path = f"{PATH}/sneaky/127.0.0.1:80"
    answers = [
        post(registering, body, headers),
        ask(registering.port, "GET", PATH, headers),
        ask(registering.port, "DELETE", path, headers),
        ask(registering.port, "PUT", path + "/heartbeat", headers),
    ]
    for answer in answers:
        error(answer, status, "AUTH_ERROR")
        assert (answer.get("www-authenticate") or "").startswith("Bearer")
    assert listed(registering, "sneaky") == []


HOSTS = """169.254.169.254 ::ffff:169.254.169.254 fe80::1 0.0.0.0 :: ::1 10.0.0.1 192.0.0.192
    100.100.100.200 fd00:ec2::254 64:ff9b::a9fe:a9fe 2852039166 0xa9fea9fe 127.1 0177.0.0.1
    metadata.google.internal metadata nosuch.invalid"""


@pytest.mark.parametrize("host", HOSTS.split())
def test_hosts_that_may_not(registering: Gateway, host: str) -> None:
    """400 with the reason; nobody is asked."""
    refusal = error(register(registering, "plain", 80, host=host), 400, "INVALID_REQUEST")
    assert list(refusal["details"]["fields"]) == ["host"]
    assert not [one for one in listed(registering, "plain") if one["instance_id"].endswith(":80")]


def test_the_gateway_itself(registering: Gateway) -> None:
    """It would ask itself for ever."""
    for host in ("127.0.0.1", "127.0.0.5", "localhost"):
        answer = register(registering, "plain", registering.port, host=host)
        refusal = error(answer, 400, "INVALID_REQUEST")
        assert "the gateway itself" in refusal["details"]["fields"]["host"]


WRONG: dict[str, list[Any]] = {
    "port": [0, 70000, None],
    "host": ["", "http://a/", "a b", "u@a"],
    "check_interval": [0],
    "check_endpoint": ["http://a/health", "/a\r\nb"],
    "service_name": ["", "../x"],
    "metadata": ["x", {"a": "x" * 5000}],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_fields_that_do_not_fit(registering: Gateway, field: str, value: Any) -> None:
    """422 that names the field."""
    body = {"service_name": "plain", "host": "127.0.0.1", "port": 80, field: value}
    refusal = error(post(registering, json.dumps(body).encode()), 422, "INVALID_REQUEST")
    assert list(refusal["details"]["fields"]) == [field]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 50_000])
def test_bodies_that_do_not_fit(registering: Gateway, body: bytes) -> None:
    """4xx in the envelope."""
    answer = post(registering, body)
    assert answer.status in (400, 422)
    error(answer, answer.status, "INVALID_REQUEST")


def test_bodies_that_are_too_large(registering: Gateway) -> None:
    """413: what an instance says of itself is small."""
    assert post(registering, b" " * 100_000).status == 413


def test_a_reload(begin: Begin, instances: Callable[[], Upstream]) -> None:
    """Who registered stays, as long as the new rules let them in; without rules nobody may."""
    gateway, up = begin(configuration()), instances()
    for name in ("plain", "newcomer"):
        assert register(gateway, name, up.port).status == 201
    config = configuration()
    config["routes"].append({"path": "/newcomer", "service": "newcomer"})
    config["services"]["newcomer"] = {}
    reload(gateway, config)
    assert soon(lambda: ask(gateway.port, target="/newcomer").status == 200)
    assert ask(gateway.port, target="/plain").status == 200
    assert len(listed(gateway, "plain")) == len(listed(gateway, "newcomer")) == 1
    reload(gateway, {**config, "registry": {}})
    assert soon(lambda: ask(gateway.port, target="/plain").status == 503)
    assert listed(gateway, "newcomer") == []
    refusal = error(register(gateway, "plain", up.port), 400, "INVALID_REQUEST")
    assert refusal["details"]["fields"]["host"].startswith("registry.allow")


def test_every_worker_knows(begin: Begin, instances: Callable[[], Upstream]) -> None:
    """What one of them was told, all of them do: who comes, and who goes."""
    config = configuration()
    gateway, up = begin({**config, "server": {"workers": 2}}), instances()
    assert register(gateway, "plain", up.port).status == 201

    def answers() -> set[int]:
        return {ask(gateway.port, target="/plain").status for _ in range(12)}

    assert soon(lambda: answers() == {200})
    path = f"{PATH}/plain/127.0.0.1:{up.port}"
    assert ask(gateway.port, "DELETE", path, ADMIN).status == 204
    assert soon(lambda: answers() == {503})


def test_no_registry(begin: Begin) -> None:
    """Switched off, there are no such endpoints."""
    gateway = begin(configuration(enabled=False))
    assert register(gateway, "plain", 80).status == 404
    assert ask(gateway.port, "GET", PATH, ADMIN).status == 404


# Probes


def test_two_instances_share(registering: Gateway, instances: Callable[[], Upstream]) -> None:
    """Five and five of ten; and all to the other when one is unhealthy, until it is well again."""
    well, ill = instances(), instances()
    for up in (well, ill):
        assert register(registering, "pair", up.port, check_interval=1).status == 201
    assert [ask(registering.port, target="/pair").status for _ in range(10)] == [200] * 10
    assert (asked(well, "/pair"), asked(ill, "/pair")) == (5, 5)

    ill.on("/health", plain("503 Service Unavailable"))
    assert soon(lambda: sorted(statuses(registering, "pair")) == ["healthy", "unhealthy"])
    before = asked(ill, "/pair")
    assert [ask(registering.port, target="/pair").status for _ in range(6)] == [200] * 6
    assert asked(ill, "/pair") == before
    ill.on("/health", ok)
    assert soon(lambda: statuses(registering, "pair") == ["healthy", "healthy"])
    ask(registering.port, target="/pair")
    ask(registering.port, target="/pair")
    assert asked(ill, "/pair") == before + 1


def test_nobody_is_well(registering: Gateway, instances: Callable[[], Upstream]) -> None:
    """503 with the time of the last probe; before the first one it was tried."""
    port = free_port()
    assert register(registering, "ill", port, check_interval=1).status == 201
    assert soon(lambda: statuses(registering, "ill") == ["failed"])
    refusal = error(ask(registering.port, target="/ill"), 503, "SERVICE_UNAVAILABLE")
    assert refusal["details"]["service"] == "ill"
    assert refusal["details"]["last_check"] is not None


def test_the_endpoint_that_it_names(
    registering: Gateway, instances: Callable[[], Upstream]
) -> None:
    """Is probed, and no other."""
    up = instances()
    register(registering, "quiet", up.port, check_endpoint="/up/and%20running", check_interval=1)
    assert soon(lambda: asked(up, "/up/and%20running"))
    assert asked(up, "/health") == 0


# Going


def test_an_instance_leaves(registering: Gateway, instances: Callable[[], Upstream]) -> None:
    """204, no more traffic or probes, its idle connections closed; unknown from then on."""
    up = instances()
    register(registering, "gone", up.port, check_interval=1)
    assert ask(registering.port, target="/gone").status == 200
    assert soon(lambda: asked(up, "/health") >= 1)
    path = f"{PATH}/gone/127.0.0.1:{up.port}"
    answer = ask(registering.port, "DELETE", path, ADMIN)
    assert (answer.status, answer.body) == (204, b"")
    assert up.wait(lambda: not up.idle)
    error(ask(registering.port, target="/gone"), 503, "SERVICE_UNAVAILABLE")
    before = len(up.requests)
    time.sleep(1.3)
    assert len(up.requests) == before
    error(ask(registering.port, "DELETE", path, ADMIN), 404, "NOT_FOUND")
    error(ask(registering.port, "PUT", path + "/heartbeat", ADMIN), 404, "NOT_FOUND")


@pytest.mark.parametrize("name", ["[::1]:80", "%5B::1%5D%3A80", "127.0.0.1:1", "x"])
def test_unknown(registering: Gateway, name: str) -> None:
    """404, however an address is written."""
    for method, path in (("DELETE", name), ("PUT", f"{name}/heartbeat")):
        found = error(
            ask(registering.port, method, f"{PATH}/plain/{path}", ADMIN), 404, "NOT_FOUND"
        )
        assert found["details"]["service"] == "plain"


def test_leaving_with_a_request_in_hand(
    registering: Gateway, instances: Callable[[], Upstream]
) -> None:
    """What it has begun, it finishes."""
    up = instances()
    register(registering, "flight", up.port)
    arrived, finish = threading.Event(), threading.Event()

    def slowly(peer: Peer, request: Arrived) -> None:
        arrived.set()
        finish.wait(20)
        ok(peer, request)

    up.on("/flight", slowly)
    with RawClient(registering.port) as client:
        client.send(request(target="/flight"))
        assert arrived.wait(20)
        path = f"{PATH}/flight/127.0.0.1:{up.port}"
        assert ask(registering.port, "DELETE", path, ADMIN).status == 204
        error(ask(registering.port, target="/flight"), 503, "SERVICE_UNAVAILABLE")
        finish.set()
        assert client.read().status == 200
    assert up.wait(lambda: not up.idle)


def test_an_instance_of_the_configuration(lasting: Lasting) -> None:
    """Is listed with the others, and cannot be taken away."""
    gateway, up = lasting
    path = f"{PATH}/plain/127.0.0.1:{up.port}"
    refusal = error(ask(gateway.port, "DELETE", path, ADMIN), 409, "INVALID_REQUEST")
    assert "did not register" in refusal["message"]
    assert register(gateway, "plain", up.port).status == 200
    (entry,) = listed(gateway, "plain")
    assert (entry["source"], entry["lease"]) == ("configured", None)
    assert ask(gateway.port, target="/plain").status == 200


# Leases


@pytest.fixture(scope="module", autouse=True)
def lease(lasting: Lasting) -> Iterator[Future[None]]:
    """It waits for three seconds, mostly: it begins with the first case, and a later one looks at it."""
    with side_by_side({"lease": partial(keep_and_lose, lasting.gateway)}) as running:
        yield running["lease"]


def keep_and_lose(gateway: Gateway) -> None:
    """Send heartbeats for longer than a lease; then send none."""
    with Upstream() as up:
        up.on("/health", ok)
        path = f"{PATH}/quiet/127.0.0.1:{up.port}/heartbeat"

        def kept() -> bool:
            """Whether it is there after more than a lease; False if the machine was too busy to tell."""
            assert register(gateway, "quiet", up.port, check_interval=1).status in (200, 201)
            for _ in range(6):
                last = time.monotonic()
                time.sleep(0.2 * LEASE)
                answer = ask(gateway.port, "PUT", path, ADMIN)
                if time.monotonic() - last >= LEASE:
                    return False
                assert (answer.status, said(answer)["lease"]) == (200, LEASE)
            return ask(gateway.port, target="/quiet").status == 200

        assert any(kept() for _ in range(5))
        assert soon(lambda: listed(gateway, "quiet") == [])
        error(ask(gateway.port, target="/quiet"), 503, "SERVICE_UNAVAILABLE")
        error(ask(gateway.port, "PUT", path, ADMIN), 404, "NOT_FOUND")
        assert soon(lambda: "sent no heartbeat" in gateway.said())
        assert up.faults == []


def test_a_lease(lease: Future[None]) -> None:
    """Heartbeats keep an instance; without them it leaves, though it would pass every probe."""
    lease.result(60)


# Names


def test_a_name_for_this_host(lasting: Lasting) -> None:
    """One instance, however many addresses it has; in the file and in the registry."""
    gateway, up = lasting
    assert register(gateway, "again", up.port, host="LOCALHOST").status == 201
    for name in ("again", "pair"):  # at once: it sends no heartbeats
        assert ask(gateway.port, target=f"/{name}").status == 200
        assert up.last.get("host") == f"localhost:{up.port}"
        assert [one["instance_id"] for one in listed(gateway, name)] == [f"localhost:{up.port}"]


def test_the_document(registering: Gateway) -> None:
    """The operations are described, with what they need."""
    document = said(ask(registering.port, target="/openapi.json"))
    operations = document["paths"][PATH]
    assert sorted(operations) == ["get", "post"]
    assert {"bearer": ["admin"]} in operations["post"]["security"]
