"""Idempotency-Key, end to end on both edges: what is asked once, who gets the answer again, and what is not kept."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import orjson
import pytest

from tests.gateway.test_cache import cached, numbered, together
from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, authorized
from tests.support.topology import Upstreams
from tests.support.upstream import Arrived, Peer, Upstream
from tests.support.waiting import wait

_fresh = count()
KEY = "Idempotency-Key"
PROBLEM = ("Accept", "application/problem+json")
NOT_PROCESSED = ["429 Too Many Requests", "502 Bad Gateway", "503 Service Unavailable"]


def configuration(port: int) -> Config:
    """Routes that obey keys, and one that does not."""
    return {
        "auth": {"jwt": {"secret": SECRET}},
        "services": {
            "main": {
                "url": f"http://127.0.0.1:{port}",
                "retry": {"attempts": 1},
                "circuit": {"min_throughput": 100_000},
            }
        },
        "routes": [
            cached("pay", None, idempotency={}, max_body="1MB"),
            cached("must", None, idempotency={"required": True, "methods": ["POST", "PUT"]}),
            cached("known", None, idempotency={}, auth="required"),
            cached("plain", None),
        ],
    }


@pytest.fixture(scope="module")
def gateways(
    guarded_upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """A gateway on each edge."""
    config = configuration(guarded_upstreams.main.port)
    running = Kept(EDGES, tmp_path_factory.mktemp("keys"), config)
    yield running
    running.close()


@pytest.fixture(scope="module")
def gateway(edge: str, gateways: Kept) -> Gateway:
    """The gateway on the edge in turn."""
    return gateways.at(edge)


@pytest.fixture
def up(gateway: Gateway, guarded_upstreams: Upstreams) -> Iterator[Upstream]:
    """What stands behind it, with an empty record."""
    guarded_upstreams.reset()
    yield guarded_upstreams.main
    assert guarded_upstreams.faults == []
    assert gateway.process.poll() is None, gateway.said()


@pytest.fixture
def path() -> Callable[[str], str]:
    """Paths that no other case has."""
    return lambda route: f"/{route}/{next(_fresh)}"


@pytest.fixture
def key() -> str:
    """A key that no other case has."""
    return f'"key-{next(_fresh)}"'


def post(
    gateway: Gateway, target: str, key: str | None, body: bytes = b"{}", **more: Any
) -> Answer:
    """The answer to a POST with a key."""
    headers = [*more.pop("headers", []), *([(KEY, key)] if key is not None else [])]
    return ask(gateway.port, more.pop("method", "POST"), target, headers=headers, body=body, **more)


@pytest.mark.parametrize("size", [0, 100_000])
def test_the_same_request_is_asked_once(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str, size: int
) -> None:
    """Sent again it gets the same answer, and hears that it was asked before; a cookie is not given again."""
    target = up.on(path("pay"), numbered("Location: /1", "Set-Cookie: s=1", "X-Kept: a", size=size))
    first, second = (post(gateway, target, key, b"x" * 70_000) for _ in range(2))
    assert first.body == second.body == b"answer 1".ljust(size, b".")
    assert (first.get("x-kept"), second.get("x-kept")) == ("a", "a")
    assert (first.get("set-cookie"), second.get("set-cookie")) == ("s=1", None)
    assert (first.get("idempotency-replayed"), second.get("idempotency-replayed")) == (None, "true")
    assert len(up.requests) == 1
    assert gateway.record(second)["flags"] == ["idempotent_replay"]
    assert post(gateway, target, key.strip('"'), b"x" * 70_000).body == first.body


def test_the_service_gets_the_whole_body_and_the_key(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str
) -> None:
    """A body of any length streams, while it is fingerprinted; in chunks, too."""
    target = up.on(path("pay"), answers.plain())
    body = bytes(range(256)) * 3000
    post(gateway, target, key, body)
    [arrived] = up.requests
    assert hashlib.sha256(arrived.body).digest() == hashlib.sha256(body).digest()
    assert arrived.get("idempotency-key") == key
    assert post(gateway, target, key, body).get("idempotency-replayed") == "true"
    assert post(gateway, target, key, body[:-1] + b"?").status == 422
    assert len(up.requests) == 1


@pytest.mark.parametrize("other", ["body", "path", "query", "method", "type", "none"])
def test_another_request_with_the_key_is_refused(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str, other: str
) -> None:
    """422, and the service is not asked."""
    base = path("pay")
    up.on(base, answers.plain())
    post(gateway, base, key, b"{}")
    changed: dict[str, Any] = {
        "body": {"body": b"{ }"},
        "path": {"target": base + "/other"},
        "query": {"target": base + "?q"},
        "method": {"method": "PATCH"},
        "type": {"headers": [("Content-Type", "text/plain")]},
        "none": {"body": b""},
    }[other]
    given = {"target": base, "body": b"{}", "headers": [], **changed}
    refused = post(gateway, key=key, **{**given, "headers": [*given["headers"], PROBLEM]})
    assert refused.status == 422
    assert orjson.loads(refused.body)["type"] == "urn:propylon:idempotency-key-reused"
    assert len(up.requests) == 1


@pytest.mark.parametrize("key_sent", [None, '""', '"a', "a b", '"a", "b"', '"' + "a" * 256 + '"'])
def test_a_key_that_is_missing_or_none(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key_sent: str | None
) -> None:
    """400 where it is required; a malformed one is refused on each route that obeys keys."""
    target = up.on(path("must"), numbered())
    refused = post(gateway, target, key_sent, headers=[PROBLEM])
    assert refused.status == 400
    told = orjson.loads(refused.body)
    assert told["type"] == "urn:propylon:idempotency-key-missing"
    assert told["title"] == "Idempotency-Key is missing"
    assert ask(gateway.port, target=target).status == 200
    optional = up.on(path("pay"), numbered())
    assert post(gateway, optional, key_sent).status == (200 if key_sent is None else 400)
    assert post(gateway, up.on(path("plain"), numbered()), key_sent).status == 200


def test_what_is_under_way_is_not_asked_again(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str
) -> None:
    """409 until it is settled; of many at once one is asked."""
    asked, go = threading.Event(), threading.Event()

    def script(peer: Peer, arrived: Arrived) -> None:
        asked.set()
        go.wait(20)
        answers.plain(body=b"done")(peer, arrived)

    target = up.on(path("pay"), script)
    client = RawClient(gateway.port)
    client.send(request("POST", target, headers=[(KEY, key)], body=b"{}"))
    assert asked.wait(20)
    second = post(gateway, target, key, headers=[PROBLEM])
    assert (second.status, second.get("retry-after")) == (409, "1")
    assert orjson.loads(second.body)["type"] == "urn:propylon:idempotency-key-in-flight"
    go.set()
    assert client.read().body == b"done"
    client.sock.close()
    assert post(gateway, target, key).body == b"done"
    assert len(up.requests) == 1


def test_a_client_that_has_left_finds_the_answer(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str
) -> None:
    """The request goes on without it: that is what the key is for."""
    asked, go = threading.Event(), threading.Event()

    def script(peer: Peer, arrived: Arrived) -> None:
        asked.set()
        go.wait(20)
        answers.plain(body=b"paid")(peer, arrived)

    target = up.on(path("pay"), script)
    client = RawClient(gateway.port)
    client.send(request("POST", target, headers=[(KEY, key)], body=b"{}"))
    assert asked.wait(20)
    client.reset()
    go.set()
    wait(lambda: post(gateway, target, key).status != 409)
    again = post(gateway, target, key)
    assert (again.body, again.get("idempotency-replayed")) == (b"paid", "true")
    assert len(up.requests) == 1


def test_a_client_that_leaves_with_half_a_body_frees_the_key(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str
) -> None:
    """Nobody knows what the request would have been."""
    target = up.on(path("pay"), numbered())
    client = RawClient(gateway.port)
    head = request("POST", target, headers=[(KEY, key), ("Content-Length", "100")])
    client.send(head + b"half")
    wait(lambda: post(gateway, target, key).status == 409)
    client.reset()
    wait(lambda: post(gateway, target, key).status == 200)


@pytest.mark.parametrize("status", NOT_PROCESSED)
def test_what_was_not_processed_is_asked_again(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str, status: str
) -> None:
    """Also after the gateway's own error: the key is free."""
    target = up.on(
        path("pay"),
        answers.in_turn(answers.plain(status), answers.raw(end=answers.close), numbered()),
    )
    assert post(gateway, target, key).status == int(status[:3])
    wait(lambda: post(gateway, target, key).status in (502, 200))
    wait(lambda: post(gateway, target, key).body == b"answer 1")
    assert post(gateway, target, key).get("idempotency-replayed") == "true"


@pytest.mark.parametrize("status", ["201 Created", "400 Bad Request", "500 Internal Server Error"])
def test_what_was_processed_is_kept(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str, status: str
) -> None:
    """A refusal of the service, and its failure, are answers, too."""
    target = up.on(path("pay"), answers.in_turn(answers.plain(status, body=b"once"), numbered()))
    for _ in range(2):
        got = post(gateway, target, key)
        assert (got.status, got.body) == (int(status[:3]), b"once")


def test_an_answer_that_is_too_long_is_not_given_again(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str
) -> None:
    """It reaches the first client whole; a later one hears that the request was processed."""
    target = up.on(path("pay"), numbered(size=300_000))
    assert len(post(gateway, target, key).body) == 300_000
    assert post(gateway, target, key).status == 409
    assert len(up.requests) == 1


def test_a_key_is_its_callers(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str
) -> None:
    """Two callers with one key are two requests; a renewed token is the same caller's; so is each session of a service's own."""
    target = up.on(path("known"), numbered())
    callers = [
        authorized("ann"),
        authorized("bob"),
        authorized("ann", scope="pay"),
        authorized("ann", lasts=400),
    ]
    bodies = [post(gateway, target, key, headers=one).body for one in callers]
    assert bodies == [b"answer 1", b"answer 2", b"answer 3", b"answer 1"]
    target = up.on(path("pay"), numbered())
    sent = [[("Cookie", "s=1")], [("Cookie", "s=2")], [("Authorization", "Basic eA==")], []]
    assert len({post(gateway, target, key, headers=one).body for one in sent}) == 4


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        ([("Api-Key", "a"), ("api-key", "b"), ("X-Tenant", "a")], 3),
        ([("DPoP", "a"), ("X-CSRF-Token", "b"), ("Signature", "c"), ("X-Retry", "2")], 1),
    ],
    ids=["of the caller", "of each sending"],
)
def test_a_key_is_of_who_only_the_service_knows(
    gateway: Gateway,
    up: Upstream,
    path: Callable[[str], str],
    key: str,
    sent: list[tuple[str, str]],
    asked: int,
) -> None:
    """By headers of the service's own; what a client draws anew for each sending makes it no other caller."""
    target = up.on(path("pay"), numbered())
    got = [post(gateway, target, key, headers=[one]) for one in sent]
    assert {one.status for one in got} == {200}
    assert len({one.body for one in got}) == len(up.requests) == asked


def test_a_key_is_its_hosts(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str
) -> None:
    """A service may tell its tenants apart by the host; by which port the gateway was asked means nothing."""
    target = up.on(path("pay"), numbered())
    hosts = ["one.test", "two.test", "ONE.test:8080"]
    bodies = [post(gateway, target, key, host=host).body for host in hosts]
    assert bodies == [b"answer 1", b"answer 2", b"answer 1"]


def test_many_at_once_are_one(
    gateway: Gateway, up: Upstream, path: Callable[[str], str], key: str
) -> None:
    """However many a broken client sends."""
    target = up.on(path("pay"), answers.after(0.2, numbered()))
    got = together(gateway, 20, target, [(KEY, key)], method="POST")
    assert {one.status for one in got} <= {200, 409}
    assert {one.body for one in got if one.status == 200} == {b"answer 1"}
    assert len(up.requests) == 1
