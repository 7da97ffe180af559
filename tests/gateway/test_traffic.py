"""`split`, `balance: {hash: …}`, `sticky`, `priority` and `queue`: over real sockets, on both edges."""

import re
import select
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from propylon.services.hashing import Rendezvous
from propylon.services.service import Instance
from tests.support import answers
from tests.support.client import Headers, RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.sockets import Socket, echo
from tests.support.tokens import SECRET, bearer, mint
from tests.support.upstream import Arrived, Peer, Upstream
from tests.support.waiting import wait

Services = dict[str, Upstream]


def configuration(services: Services) -> Config:
    """Two services behind one route."""
    urls = {name: {"url": f"http://127.0.0.1:{one.port}"} for name, one in services.items()}
    broken = {"failure_threshold": 1, "min_throughput": 1, "recovery_timeout": 600}
    evenly = [{"service": "one"}, {"service": "two"}]
    return {
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "admin": {"scopes": {"explain": "explain"}},
        "services": {
            **urls,
            "ill": {**urls["two"], "circuit": broken, "retry": {"attempts": 1}},
            "hashed": {"instances": [one["url"] for one in urls.values()], "balance": {"hash": "header:X-Tenant"}},
            "kept": {"instances": [one["url"] for one in urls.values()], "sticky": {"cookie": "at"}},
            "held": {
                "instances": [one["url"] for one in urls.values()],
                "sticky": {"cookie": "held", "on_failure": "refuse", "max_age": "1h"},
                "ejection": {"failures": 1, "time": "1h"},
                "retry": {"attempts": 1},
            },
            "backed": {
                "instances": [urls["one"], {**urls["two"], "priority": -1}],
                "ejection": {"failures": 1, "time": "1h"},
            },
            "narrow": {**urls["one"], "max_in_flight": 1, "queue": {"size": 1, "timeout": "60s"}},
            "strict": {**urls["two"], "rate_limit": {"rate": "1/h", "burst": 2, "key": "ip"}},
            "told": {**urls["two"], "rate_limit": {"rate": "1/h", "burst": 1, "key": "ip"}},
        },
        "defaults": {"auth": "none"},
        "routes": [
            {"name": "canary", "path": "/canary",
             "split": [{"service": "one", "weight": 9}, {"service": "two", "weight": 1}]},
            {"name": "even", "path": "/even", "split": evenly},
            {"name": "cached", "path": "/cached", "split": evenly, "cache": {"ttl": "1h"}},
            {"name": "ill", "path": "/ill", "split": [{"service": "one"}, {"service": "ill"}]},
            {"name": "strict", "path": "/strict", "split": [{"service": "one"}, {"service": "strict"}]},
            {"name": "backed", "path": "/backed", "service": "backed"},
            {"name": "narrow", "path": "/narrow", "service": "narrow"},
            {"name": "kept", "path": "/kept", "service": "kept"},
            {"name": "stored", "path": "/stored", "service": "kept", "cache": {"ttl": "1h"}},
            {"name": "held", "path": "/held", "service": "held"},
            {"name": "stays", "path": "/stays", "split": evenly, "sticky": {"cookie": "on"}},
            {"name": "hashed", "path": "/hashed", "service": "hashed"},
            {"name": "told", "path": "/told", "split": [{"service": "one"}, {"service": "told"}]},
            {"name": "none", "path": "/none", "split": [{"service": "one"}, {"service": "two", "weight": 0}]},
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    """Each answers with its name."""
    with (
        Upstream(fallback=answers.plain(body=b"one"), upgrades=True) as one,
        Upstream(fallback=answers.plain(body=b"two"), upgrades=True) as two,
    ):
        for each in (one, two):
            each.on("/even/ws", echo)
        two.on("/ill", answers.plain("500 Ill", body=b"two"))
        yield {"one": one, "two": two}


@pytest.fixture(scope="module")
def kept(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A gateway on each edge."""
    found = Kept(EDGES, tmp_path_factory.mktemp("traffic"), configuration(services))
    yield found
    found.close()


@pytest.fixture
def gateway(edge: str, kept: Kept) -> Gateway:
    """The gateway on that edge."""
    return kept.at(edge)


def bodies(gateway: Gateway, target: str, times: int, headers: Headers = ()) -> list[str]:
    """What a client gets that asks so many times."""
    return [ask(gateway.port, target=target, headers=headers).body.decode() for _ in range(times)]


def test_shares(gateway: Gateway) -> None:
    """Two of twenty, exactly; and none for a service without a weight."""
    assert Counter(bodies(gateway, "/canary", 20)) == {"one": 18, "two": 2}
    assert Counter(bodies(gateway, "/none", 4)) == {"one": 4}


def test_log_and_metrics_name_the_service(gateway: Gateway) -> None:
    """Each request is counted for the service that was asked."""
    asked = [ask(gateway.port, target="/even") for _ in range(2)]
    told = {one.body.decode(): gateway.record(one)["service"] for one in asked}
    assert told == {"one": "one", "two": "two"}
    text = ask(gateway.port, target="/metrics").body.decode()
    counted = re.findall(r'propylon_requests_total\{.*route="even".*service="(\w+)".*\}', text)
    assert set(counted) == {"one", "two"}


def test_a_cache_for_each_service(gateway: Gateway, services: Services) -> None:
    """An answer of one service is never given out for the other."""
    before = sum(len(one.requests) for one in services.values())
    assert Counter(bodies(gateway, "/cached", 6)) == {"one": 3, "two": 3}
    assert sum(len(one.requests) for one in services.values()) == before + 2


def test_a_breaker_for_each_service(gateway: Gateway) -> None:
    """That of one opens; the requests to the other go on."""
    statuses = Counter(ask(gateway.port, target="/ill").status for _ in range(6))
    assert statuses == {200: 3, 500: 1, 503: 2}


def test_the_limit_of_the_service(gateway: Gateway) -> None:
    """Only requests that it would get are counted by it."""
    statuses = Counter(ask(gateway.port, target="/strict").status for _ in range(8))
    assert statuses == {200: 6, 429: 2}
    admin = bearer(mint("op", scope="admin", edge=gateway.edge))
    told = ask(gateway.port, target="/api/v1/rate-limits", headers=admin).json()
    assert told["service:strict/default"]["routes"] == ["strict"]


def test_sockets_choose_too(gateway: Gateway, services: Services) -> None:
    """Two sockets, one to each service."""
    before = {name: len(one.requests) for name, one in services.items()}
    for _ in range(2):
        with RawClient(gateway.port) as client:
            assert Socket(client).open("/even/ws").ask("hello") == "hello"
    assert {name: len(one.requests) - before[name] for name, one in services.items()} == {
        "one": 1,
        "two": 1,
    }


def test_explain_names_the_choice(gateway: Gateway) -> None:
    """The service, its share, and no route that has lost to itself."""
    asking = [("X-Propylon-Explain", "1"), *bearer(mint("op", scope="explain", edge=gateway.edge))]
    asked = [ask(gateway.port, target="/told", headers=asking) for _ in range(4)]
    answer = next(one for one in asked if one.status == 429)
    explained = answer.json()["error"]["details"]["explain"]
    stages = {one["stage"]: one for one in explained["stages"]}
    said = 'route "told", whose split gives it to service "told" (1 of 2)'
    assert stages["match"]["text"] == said
    assert stages["limit"]["passed"] is False
    assert explained["route"]["service"] == "told"
    assert [one["name"] for one in explained["lost"]] == []


def test_one_instance_for_one_key(gateway: Gateway, services: Services) -> None:
    """As the hash says, on every edge and in every worker; a retry goes to the next instance of the key."""
    two: list[Any] = [Instance(f"127.0.0.1:{one.port}", b"", b"", None) for one in services.values()]  # type: ignore[arg-type]
    names = {f"127.0.0.1:{one.port}": name for name, one in services.items()}
    expected = {key: names[Rendezvous().choose(f"={key}", two).id] for key in "abcdefgh"}
    for key, name in expected.items():
        assert bodies(gateway, "/hashed", 2, [("X-Tenant", key)]) == [name, name]
    one = next((key for key, name in expected.items() if name == "one"), None)
    if one is not None:
        services["one"].on("/hashed/cut", answers.plain("503 Away"))
        assert bodies(gateway, "/hashed/cut", 1, [("X-Tenant", one)]) == ["two"]


@pytest.mark.parametrize(("target", "name"), [("/kept", "at"), ("/stays", "on")])
def test_a_caller_stays(gateway: Gateway, services: Services, target: str, name: str) -> None:
    """With the instance or the service that its first answer named; the cookie does not reach it."""
    first = ask(gateway.port, target=target)
    told = re.fullmatch(
        rf"({name}=[\w-]{{32}}); Path=/; HttpOnly; SameSite=Lax", first.get("Set-Cookie") or ""
    )
    assert told
    cookie = [("Cookie", f"a=1; {told[1]}")]
    asked = [ask(gateway.port, target=target, headers=cookie) for _ in range(3)]
    assert {one.body for one in asked} == {first.body}
    assert [one.get("Set-Cookie") for one in asked] == [None] * 3
    assert services[first.body.decode()].last.get("Cookie") == "a=1"
    assert {ask(gateway.port, target=target).body for _ in range(2)} == {b"one", b"two"}


def test_a_caller_whose_instance_has_failed(gateway: Gateway, services: Services) -> None:
    """A retry goes to the other one, and the answer to that request names it."""
    first = ask(gateway.port, target="/kept/cut")
    cookie = (first.get("Set-Cookie") or "").partition(";")[0]
    ill, well = first.body.decode(), {"one": "two", "two": "one"}[first.body.decode()]
    services[ill].on("/kept/cut", answers.plain("503 Away"))
    again = ask(gateway.port, target="/kept/cut", headers=[("Cookie", cookie)])
    services[ill].on("/kept/cut", answers.plain(body=ill.encode()))
    assert again.body.decode() == well
    named = (again.get("Set-Cookie") or "").partition(";")[0]
    assert bodies(gateway, "/kept/cut", 3, [("Cookie", named)]) == [well] * 3


def test_a_caller_that_no_other_instance_may_have(gateway: Gateway, services: Services) -> None:
    """Its instance is left out: 503, and the others are served."""
    first = ask(gateway.port, target="/held")
    cookie, _, attributes = (first.get("Set-Cookie") or "").partition(";")
    assert attributes.endswith("; Max-Age=3600")
    name = first.body.decode()
    services[name].on("/held/ill", answers.plain("500 Ill"))
    headers = [("Cookie", cookie)]
    assert ask(gateway.port, target="/held/ill", headers=headers).status == 500
    refused = ask(gateway.port, target="/held", headers=headers)
    assert (refused.status, refused.get("Set-Cookie")) == (503, None)
    assert refused.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert bodies(gateway, "/held", 2) == [{"one": "two", "two": "one"}[name]] * 2


def test_a_socket_names_its_instance(gateway: Gateway, services: Services) -> None:
    """In the answer to the handshake; the next one goes there."""
    for each in services.values():
        each.on("/kept/ws", echo)
    with RawClient(gateway.port) as client:
        opened = Socket(client).open("/kept/ws").answer
    assert opened is not None
    cookie = (opened.get("Set-Cookie") or "").partition(";")[0]
    before = {name: len(one.requests) for name, one in services.items()}
    for _ in range(2):
        with RawClient(gateway.port) as client:
            again = Socket(client).open("/kept/ws", [("Cookie", cookie)]).answer
            assert again is not None
            assert again.get("Set-Cookie") is None
    asked = {name: len(one.requests) - before[name] for name, one in services.items()}
    assert sorted(asked.values()) == [0, 2]


def test_an_instance_that_stands_by(gateway: Gateway, services: Services) -> None:
    """It gets a retry, and all requests while the other one is left out."""
    assert bodies(gateway, "/backed", 3) == ["one"] * 3
    services["one"].on("/backed/ill", answers.plain("503 Away"))
    assert bodies(gateway, "/backed/ill", 1) == ["two"]
    assert bodies(gateway, "/backed", 3) == ["two"] * 3
    admin = bearer(mint("op", scope="admin", edge=gateway.edge))
    told = ask(gateway.port, target="/api/v1/services", headers=admin).json()["services"]
    (backed,) = [one["instances"] for one in told if one["name"] == "backed"]
    assert [one["priority"] for one in backed] == [0, -1]
    assert [one["ejected_until"] is None for one in backed] == [False, True]


def metrics(gateway: Gateway) -> str:
    """What /metrics says."""
    return ask(gateway.port, target="/metrics").body.decode()


def waits(gateway: Gateway, outcome: str) -> int:
    """How many waits for a place have ended so."""
    text = metrics(gateway)
    line = rf'propylon_queue_seconds_count\{{(?=.*service="narrow").*outcome="{outcome}".*\}} (\d+)'
    return sum(int(float(count)) for count in re.findall(line, text))


def test_a_queue(gateway: Gateway, services: Services) -> None:
    """One in flight, one that waits, one that is refused; who leaves makes room, and the last one is served in its turn."""
    one, go_on, held = services["one"], threading.Event(), threading.Event()

    def hold(peer: Peer, arrived: Arrived) -> None:
        held.set()
        go_on.wait(60)
        answers.plain(body=b"held")(peer, arrived)

    one.on("/narrow/held", hold)
    before = {outcome: waits(gateway, outcome) for outcome in ("full", "gone", "served")}

    def more(outcome: str) -> int:
        return waits(gateway, outcome) - before[outcome]

    with RawClient(gateway.port) as first, RawClient(gateway.port) as last:
        first.send(request(target="/narrow/held"))
        assert held.wait(20)
        with RawClient(gateway.port) as leaving, RawClient(gateway.port) as other:
            for client in (leaving, other):
                client.send(request(target="/narrow"))
            readable, _, _ = select.select([leaving.sock, other.sock], [], [], 20)
            (refused,) = [client for client in (leaving, other) if client.sock in readable]
            answer = refused.read()
            assert (answer.status, answer.get("Retry-After") is not None) == (503, True)
            assert answer.json()["error"]["details"] == {"service": "narrow"}
            assert gateway.record(answer)["flags"] == ["queued"]
            assert more("full") == 1
            (leaving if refused is other else other).reset()
            wait(lambda: more("gone") == 1)
            wait(lambda: 'waiting_requests{service="narrow"} 0' in metrics(gateway))
        last.send(request(target="/narrow"))
        wait(lambda: 'waiting_requests{service="narrow"} 1' in metrics(gateway))
        go_on.set()
        assert first.read().body == b"held"
        served = last.read()
    assert (served.status, served.body) == (200, b"one")
    assert gateway.record(served)["flags"] == ["queued"]
    assert more("served") == 1
    assert ask(gateway.port, target="/narrow").body == b"one"


def test_another_gateway_reads_the_cookie(kept: Kept) -> None:
    """Nothing is stored: what one has signed, the other one understands, in whatever process."""
    told = {edge: ask(kept.at(edge).port, target="/kept") for edge in EDGES}
    for answer in told.values():
        cookie = (answer.get("Set-Cookie") or "").partition(";")[0]
        for edge in EDGES:
            there = ask(kept.at(edge).port, target="/kept", headers=[("Cookie", cookie)])
            assert (there.body, there.get("Set-Cookie")) == (answer.body, None)


def test_a_cookie_is_not_stored_with_an_answer(gateway: Gateway) -> None:
    """It is the caller's: who gets the stored answer has asked no instance, and gets no cookie of one."""
    asked = [ask(gateway.port, target="/stored") for _ in range(2)]
    assert [one.get("Set-Cookie") is None for one in asked] == [False, True]
    assert asked[0].body == asked[1].body
