"""Fair shares, end to end on both edges: who is counted, what they are told, what is never spent."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, authorized
from tests.support.topology import Upstreams
from tests.support.upstream import Arrived, Peer, Upstream

TEAM = '''
"""A team's gateway, which says what requests and answers cost."""

from propylon import Answer, Gateway, Principal, Request

gateway = Gateway.from_file("propylon.yaml")
app = gateway.asgi


@gateway.cost("priced")
async def price(request: Request, principal: Principal) -> int:
    return int(request.header("X-Units") or 1)


@gateway.charge("paid")
async def paid(request: Request, principal: Principal, answer: Answer) -> int:
    return answer.bytes_out if answer.complete else 1000
'''
ADMIN = authorized("operator", scope="admin")
LIMITS = "/api/v1/rate-limits"
# So slow that nothing comes back while a case runs.
SLOW = {"rate": "3/h"}
_fresh = count()


def limited(name: str, limit: Any, **more: Any) -> dict[str, Any]:
    """A route with a limit."""
    base = {"name": name, "path": f"/{name}", "service": "main", "auth": "optional"}
    return {**base, "rate_limit": limit, **more}


def configuration(port: int) -> Config:
    """One route for each kind of limit."""
    url = f"http://127.0.0.1:{port}"
    several = [{"name": "per-second", "rate": "50/h"}, {"name": "per-day", "rate": "2/d"}]
    return {
        "server": {"trusted_proxies": ["127.0.0.2/32"]},
        "auth": {"jwt": {"secret": SECRET}},
        "defaults": {"rate_limit": {"rate": "4/h", "key": "header:X-Case"}},
        "services": {
            "main": {"url": url},
            "served": {"url": url, "rate_limit": {"rate": "5/h", "key": "header:X-Case"}},
        },
        "routes": [
            limited("slow", SLOW),
            limited("several", several),
            limited("by-address", {**SLOW, "key": "ip"}, auth="none"),
            limited("by-header", {**SLOW, "key": "header:X-Key"}, auth="none"),
            limited("by-claim", {**SLOW, "key": "claim:plan.name"}),
            limited("all", {**SLOW, "key": "route"}),
            limited("shadow", {**SLOW, "mode": "shadow"}),
            limited("sliding", {"rate": "3/h", "window": "sliding"}),
            limited("costly", {"rate": "10/h", "cost": 4}),
            limited("priced", {"rate": "10/h"}),
            limited("charged", {"rate": "100/h", "cost": 0, "charge": "header:X-Cost"}),
            limited("paid", {"rate": "100/h", "cost": 0}),
            limited("flying", {"in_flight": 2}),
            limited("free", "none"),
            {"name": "one", "path": "/one", "service": "main", "auth": "none"},
            {"name": "other", "path": "/other", "service": "main", "auth": "none"},
            limited("first", "none", service="served"),
            limited("second", "none", service="served"),
        ],
    }


@pytest.fixture(scope="module")
def gateways(
    guarded_upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """A gateway with limits on each edge, run as a team's module."""
    config = configuration(guarded_upstreams.main.port)
    running = Kept(EDGES, tmp_path_factory.mktemp("limits"), config, app="team", source=TEAM)
    yield running
    running.close()


@pytest.fixture(scope="module")
def limiting(edge: str, gateways: Kept) -> Gateway:
    """The gateway on the edge in turn."""
    return gateways.at(edge)


@pytest.fixture
def up(limiting: Gateway, guarded_upstreams: Upstreams) -> Iterator[Upstream]:
    """What stands behind it, with an empty record."""
    guarded_upstreams.reset()
    yield guarded_upstreams.main
    assert guarded_upstreams.faults == []


@pytest.fixture
def ann() -> list[tuple[str, str]]:
    """A caller that no other case has."""
    return authorized(f"ann-{next(_fresh)}")


def statuses(gateway: Gateway, target: str, times: int, headers: Any = ()) -> list[int]:
    """The answers' statuses, one request after the other."""
    return [ask(gateway.port, target=target, headers=headers).status for _ in range(times)]


def fields(answer: Answer) -> dict[str, str | None]:
    """The headers about limits."""
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "ratelimit", "ratelimit-policy")
    return {name: answer.get(name) for name in names}


# What the client is told


def test_number_passes_and_the_next_is_refused(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """N pass, then 429 in the envelope with an integer Retry-After; the upstream hears nothing of it."""
    assert statuses(limiting, "/slow", 3, ann) == [200] * 3
    answer = ask(limiting.port, target="/slow", headers=ann)
    assert (answer.status, answer.json()["error"]["code"]) == (429, "RATE_LIMIT")
    assert re.fullmatch("[0-9]+", answer.get("retry-after") or "")
    assert answer.get("x-error-source") == "gateway"
    assert answer.json()["error"]["details"]["limits"] == ["default"]
    assert len(up.requests) == 3


def test_headers_on_every_limited_answer(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """Both families of headers are on each answer, refused or not."""
    first, *_, last = (ask(limiting.port, target="/slow", headers=ann) for _ in range(4))
    assert fields(first) == {
        "x-ratelimit-limit": "3",
        "x-ratelimit-remaining": "2",
        "ratelimit": f'"default";r=2;t={first.get("x-ratelimit-reset")}',
        "ratelimit-policy": '"default";q=3;w=3600',
    }
    assert 1190 <= int(first.get("x-ratelimit-reset") or 0) <= 1200
    assert (last.status, last.get("x-ratelimit-remaining")) == (429, "0")
    assert last.get("ratelimit-policy") == '"default";q=3;w=3600'


def test_several_limits_are_all_told(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """RateLimit lists both; the X- headers are those of the one with the fewest left, and nothing is spent of the other."""
    first = ask(limiting.port, target="/several", headers=ann)
    assert first.get("ratelimit-policy") == '"per-second";q=50;w=3600, "per-day";q=2;w=86400'
    assert re.fullmatch(
        '"per-second";r=49;t=[0-9]+, "per-day";r=1;t=[0-9]+', first.get("ratelimit") or ""
    )
    assert first.get("x-ratelimit-limit") == "2"
    last = [ask(limiting.port, target="/several", headers=ann) for _ in range(5)][-1]
    assert (last.status, last.json()["error"]["details"]["limits"]) == (429, ["per-day"])
    assert (last.get("ratelimit") or "").startswith('"per-second";r=48;')


def test_problem_details(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """With Accept: application/problem+json a 429 is the registered type, with the names of the limits."""
    headers = [*ann, ("Accept", "application/problem+json")]
    answer = [ask(limiting.port, target="/several", headers=headers) for _ in range(3)][-1]
    problem = answer.json()
    assert answer.get("content-type") == "application/problem+json"
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert (problem["status"], problem["violated-policies"]) == (429, ["per-day"])


def test_upstreams_own_headers_are_replaced(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """What a service says of its own limits is replaced where the gateway limits, and passes where it does not."""
    said = answers.plain("200 OK", ["X-RateLimit-Limit: 9", 'RATELIMIT: "up";r=1', "A: b"])
    up.on("/slow/said", said)
    up.on("/free/said", said)
    answer = ask(limiting.port, target="/slow/said", headers=ann)
    assert answer.all("x-ratelimit-limit") == [b"3"]
    assert len(answer.all("ratelimit")) == 1
    assert answer.get("a") == "b"
    assert ask(limiting.port, target="/free/said", headers=ann).all("x-ratelimit-limit") == [b"9"]


def test_no_limit_no_header(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """`rate_limit: none` takes the default off: no request is counted, and no header says so."""
    assert statuses(limiting, "/free", 9, ann) == [200] * 9
    assert set(fields(ask(limiting.port, target="/free", headers=ann)).values()) == {None}


# Who is counted


def test_two_users_on_one_address(limiting: Gateway, up: Upstream) -> None:
    """Each user has a budget of their own, whatever the address; it does not depend on the token."""
    one, other = f"bob-{next(_fresh)}", f"carl-{next(_fresh)}"
    assert statuses(limiting, "/slow", 2, authorized(one)) == [200] * 2
    assert statuses(limiting, "/slow", 2, authorized(one, jti="another")) == [200, 429]
    assert statuses(limiting, "/slow", 3, authorized(other)) == [200] * 3


def test_forwarded_for_buys_nothing(limiting: Gateway, up: Upstream) -> None:
    """A client that is no trusted proxy has one address, whatever it writes."""
    spelled = [
        ask(limiting.port, target="/by-address", headers=[("X-Forwarded-For", f"203.0.113.{n}")])
        for n in range(5)
    ]
    assert [answer.status for answer in spelled] == [200] * 3 + [429] * 2
    assert statuses(limiting, "/by-address/", 1) == [429]
    assert statuses(limiting, "/by-address/deeper", 1) == [429]


def test_header_as_key(limiting: Gateway, up: Upstream) -> None:
    """Each value of the header has its own budget; requests without it share the address's."""
    key = f"k{next(_fresh)}"
    assert statuses(limiting, "/by-header", 4, [("X-Key", key)]) == [200] * 3 + [429]
    assert statuses(limiting, "/by-header", 1, [("x-KEY", key)]) == [429]
    assert statuses(limiting, "/by-header", 1, [("X-Key", key + "'")]) == [200]
    assert statuses(limiting, "/by-header", 4) == [200] * 3 + [429]


def test_claim_as_key(limiting: Gateway, up: Upstream) -> None:
    """All users with the same claim share a budget."""
    plan = {"plan": {"name": f"gold-{next(_fresh)}"}}
    seen = [
        ask(limiting.port, target="/by-claim", headers=authorized(f"u{n}", **plan)).status
        for n in range(4)
    ]
    assert seen == [200] * 3 + [429]


def test_one_budget_for_all(limiting: Gateway, up: Upstream) -> None:
    """With `key: route` all clients share one budget."""
    seen = [ask(limiting.port, target="/all", headers=authorized(f"u{n}")).status for n in range(4)]
    assert seen == [200] * 3 + [429]


def test_default_counts_for_all_routes_together(limiting: Gateway, up: Upstream) -> None:
    """A limit in `defaults` is one limit, which the requests of all its routes share."""
    case = [("X-Case", f"c{next(_fresh)}")]
    seen = [statuses(limiting, target, 1, case)[0] for target in ("/one", "/other") * 3]
    assert seen == [200] * 4 + [429] * 2


def test_service_counts_for_all_its_routes(limiting: Gateway, up: Upstream) -> None:
    """A service's limit counts all its routes together, also those with `rate_limit: none`."""
    case = [("X-Case", f"c{next(_fresh)}")]
    seen = [statuses(limiting, target, 1, case)[0] for target in ("/first", "/second") * 3]
    assert seen == [200] * 5 + [429]


def test_sliding_window(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """A sliding window lets its number pass."""
    assert statuses(limiting, "/sliding", 5, ann) == [200] * 3 + [429] * 2


def test_all_at_once(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """Of forty requests that come at the same time exactly the budget passes."""
    clients = [RawClient(limiting.port) for _ in range(40)]
    for client in clients:
        client.send(request(target="/slow/at-once", headers=ann))
    seen = []
    for client in clients:
        with client:
            seen.append(client.read().status)
    assert (seen.count(200), seen.count(429)) == (3, 37)


# Shadow


def test_shadow_refuses_nothing(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """A shadow limit refuses nothing, stands in no header, and is logged."""
    seen = [ask(limiting.port, target="/shadow", headers=ann) for _ in range(5)]
    assert [answer.status for answer in seen] == [200] * 5
    assert set(fields(seen[-1]).values()) == {None}
    record = limiting.record(seen[-1])
    assert (record["rate_limit"], record["flags"]) == (["route:shadow/default"], ["shadow_limit"])
    assert "rate_limit" not in limiting.record(seen[0])


def test_refusal_is_logged(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """The record of a 429 names the limit."""
    answer = [ask(limiting.port, target="/slow", headers=ann) for _ in range(4)][-1]
    record = limiting.record(answer)
    assert (record["status"], record["rate_limit"]) == (429, ["route:slow/default"])
    assert record["level"] == "warning"


# Costs


def test_cost(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """A request of a route with a cost spends that many units."""
    assert statuses(limiting, "/costly", 3, ann) == [200, 200, 429]


def test_price(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """What the team's function says is spent; a request that is refused costs nothing."""
    units = [("X-Units", "6")]
    assert statuses(limiting, "/priced", 2, [*ann, *units]) == [200, 429]
    answer = ask(limiting.port, target="/priced", headers=ann)
    assert (answer.status, answer.get("x-ratelimit-remaining")) == (200, "3")


def test_price_that_fails(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """A price that is no number of units lets nobody pass, and no internals out."""
    for units in ("-1", "many"):
        answer = ask(limiting.port, target="/priced", headers=[*ann, ("X-Units", units)])
        assert (answer.status, answer.json()["error"]["code"]) == (500, "INTERNAL_ERROR")
        assert b"many" not in answer.body
    assert up.requests == []


def test_charge_by_header(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """What the service says an answer has cost is spent once it was sent."""
    up.on("/charged/sixty", answers.plain("200 OK", ["X-Cost: 60"], b"body"))
    seen = [ask(limiting.port, target="/charged/sixty", headers=ann) for _ in range(3)]
    assert [answer.get("x-ratelimit-remaining") for answer in seen] == ["100", "40", "0"]
    assert [answer.status for answer in seen] == [200, 200, 429]


def test_charge_when_the_stream_breaks(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """An answer that breaks off is charged exactly once, too."""

    def broken(peer: Peer, arrived: Arrived) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nX-Cost: 30\r\nContent-Length: 100\r\n\r\nhalf")
        peer.close()

    up.on("/charged/broken", broken)
    with RawClient(limiting.port) as client:
        client.send(request(target="/charged/broken", headers=ann))
        assert not client.read().complete
    assert remaining(limiting, "/charged", ann, 70)


def test_charge_by_function(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """The team's function is asked once for each answer, with what was sent."""
    up.on("/paid/forty", answers.plain(body=b"x" * 40))
    assert ask(limiting.port, target="/paid/forty", headers=ann).status == 200
    assert remaining(limiting, "/paid", ann, 60)


def remaining(limiting: Gateway, target: str, headers: Any, units: int) -> bool:
    """Whether so many units remain, as soon as the gateway has charged them."""
    for _ in range(100):
        answer = ask(limiting.port, target=f"{target}/ask", headers=headers)
        if answer.get("x-ratelimit-remaining") == str(units):
            return True
    return False


# In flight


def test_requests_in_flight(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """No more than two requests of a caller are under way at the same time; one that ends makes room."""
    go = threading.Event()

    def held(peer: Peer, arrived: Arrived) -> None:
        go.wait(20)
        answers.plain()(peer, arrived)

    up.on("/flying/held", held)
    with RawClient(limiting.port) as one, RawClient(limiting.port) as two:
        for client in (one, two):
            client.send(request(target="/flying/held", headers=ann))
        assert up.wait(lambda: len(up.requests) == 2)
        answer = ask(limiting.port, target="/flying/x", headers=ann)
        assert (answer.status, answer.get("retry-after")) == (429, "1")
        assert ask(limiting.port, target="/flying/x", headers=authorized("else")).status == 200
        go.set()
        assert [client.read().status for client in (one, two)] == [200, 200]
    assert statuses(limiting, "/flying/x", 5, ann) == [200] * 5


def test_client_that_leaves_is_in_flight_no_more(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """A client that goes away gives its place back."""
    gone = threading.Event()

    def held(peer: Peer, arrived: Arrived) -> None:
        peer.wait_gone(arrived)
        gone.set()

    up.on("/flying/left", held)
    clients = [RawClient(limiting.port) for _ in range(2)]
    for client in clients:
        client.send(request(target="/flying/left", headers=ann))
    assert up.wait(lambda: len(up.requests) == 2)
    for client in clients:
        client.reset()
    assert up.wait(lambda: ask(limiting.port, target="/flying/x", headers=ann).status == 200)


# What operators see


def test_rate_limits_are_shown(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """`GET {prefix}/rate-limits` shows each limit to admins, with what was decided by it."""
    statuses(limiting, "/slow", 4, ann)
    assert ask(limiting.port, target=LIMITS).status == 401
    assert ask(limiting.port, target=LIMITS, headers=ann).status == 403
    shown = ask(limiting.port, target=LIMITS, headers=ADMIN).json()
    slow = shown["route:slow/default"]
    assert {
        "rate": "3/h",
        "burst": 3,
        "key": ["caller"],
        "routes": ["slow"],
    }.items() <= slow.items()
    assert slow["allowed"] >= 3
    assert slow["refused"] >= 1
    assert shown["defaults/default"]["routes"] == ["one", "other"]
    assert shown["service:served/default"]["routes"] == ["first", "second"]
    assert shown["route:flying/default"]["in_flight"] == 2
    assert "tokens/default" in shown


def test_decisions_are_metrics(limiting: Gateway, up: Upstream, ann: Any) -> None:
    """/metrics counts decisions by limit."""
    statuses(limiting, "/slow", 4, ann)
    text = ask(limiting.port, target="/metrics", headers=ADMIN).body.decode()
    for decision in ("allowed", "refused", "shadow"):
        sample = (
            f'propylon_limit_decisions_total{{decision="{decision}",limit="route:slow/default"}}'
        )
        assert sample in text
