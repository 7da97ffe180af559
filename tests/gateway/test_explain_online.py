"""X-Propylon-Explain: who may ask, what is told, and that it is what the data plane did; on both edges."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.examples import examples
from tests.support.gateway import EDGES, Config, Gateway, free_port
from tests.support.guarded import Kept
from tests.support.sockets import agree, handshake
from tests.support.tokens import SECRET, authorized, bearer
from tests.support.upstream import Upstream

ASKING = [("X-Propylon-Explain", "1")]
HEADER = "x-propylon-explain"
LARGEST = 4096
HIDDEN = "operators-own-value"


def configuration(first: Upstream, second: Upstream) -> Config:
    """Routes of all kinds, before two instances, a port where nobody listens, and nothing at all."""
    pair = [f"http://127.0.0.1:{up.port}" for up in (first, second)]
    return {
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "admin": {"scopes": {"explain": "explain"}},
        "services": {
            "pair": {"instances": pair, "retry": {"backoff": "1ms", "budget": "100%"}},
            "closed": {"url": f"http://127.0.0.1:{free_port()}", "retry": {"attempts": 1}},
            "nowhere": {},
        },
        "defaults": {"circuit": False, "scopes": []},
        "routes": [
            {"name": "all", "path": "/", "service": "pair", "auth": "none", "exact": True},
            {"name": "pair", "path": "/pair", "service": "pair", "strip_prefix": True},
            {"name": "open", "path": "/open", "service": "pair", "auth": "none",
             "headers": {"request": {"set": {"X-Deployment": HIDDEN}}}},
            {"name": "scoped", "path": "/pair/scoped", "service": "pair", "scopes": ["special"]},
            {"name": "hosted", "path": "/pair", "service": "nowhere", "hosts": ["other.example"]},
            {"name": "cached", "path": "/cached", "service": "pair", "cache": {"ttl": "60s", "by": "everyone"}},
            {"name": "get", "path": "/get", "service": "pair", "methods": ["GET"]},
            {"name": "limited", "path": "/limited", "service": "pair",
             "rate_limit": {"rate": "1/h", "burst": 1, "key": "claim:jti"}},
            {"name": "closed", "path": "/closed", "service": "closed"},
            {"name": "nowhere", "path": "/nowhere", "service": "nowhere"},
            *({"name": f"long-{at}-{'x' * 100}", "path": f"/{{any}}/long-{at}", "service": "nowhere",
               "hosts": [f"{'x' * 60}{at}.example"]} for at in range(3)),
            *({"name": f"many-{at}-{'é' * 60}", "path": "/many", "service": "pair",
               "hosts": [f"{'y' * 60}{at}.example"]} for at in range(30)),
            {"name": "many", "path": "/many", "service": "pair"},
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Upstream, Upstream]]:
    """The two instances; one of them fails for some paths."""
    with (
        Upstream(identified=True, upgrades=True) as first,
        Upstream(identified=True, upgrades=True) as second,
    ):
        yield first, second


@pytest.fixture(scope="module")
def kept(
    pair: tuple[Upstream, Upstream], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """The gateways of both edges."""
    running = Kept(EDGES, tmp_path_factory.mktemp("explain"), configuration(*pair))
    yield running
    running.close()


@pytest.fixture(scope="module")
def gateway(edge: str, kept: Kept) -> Gateway:
    """The gateway on the edge in turn."""
    return kept.at(edge)


@pytest.fixture(autouse=True)
def clean(pair: tuple[Upstream, Upstream]) -> Iterator[None]:
    """Upstreams with an empty record, on which one instance fails now and then."""
    for up in pair:
        up.reset()
    pair[1].on("/flaky", answers.plain("503 Service Unavailable"))
    for up in pair:
        up.on("/dead", answers.plain("503 Service Unavailable"))
    yield
    assert [fault for up in pair for fault in up.faults] == []


def trace(answer: Answer) -> dict[str, Any]:
    """What the header tells; it fits, and it is ASCII."""
    value = answer.get(HEADER)
    assert value is not None, answer
    assert len(value) <= LARGEST
    assert value.isascii()
    assert value.isprintable()
    found: dict[str, Any] = json.loads(value)
    return found


def explained(gateway: Gateway, target: str, **token: Any) -> dict[str, Any]:
    """Ask as an operator, and return what the header tells."""
    headers = authorized("root", **{"scope": "admin", **token})
    return trace(ask(gateway.port, target=target, headers=[*headers, *ASKING]))


def stage(found: dict[str, Any], name: str) -> dict[str, Any]:
    """One of the stages."""
    (one,) = [stage for stage in found["stages"] if stage["stage"] == name]
    return dict(one)


@pytest.mark.parametrize("scope", ["admin", "explain"])
def test_either_scope_opens_it(gateway: Gateway, scope: str) -> None:
    """The scope of all admins, and the narrow one."""
    found = explained(gateway, "/pair/x", scope=scope)
    assert found["route"]["name"] == "pair"
    assert found["route"]["place"].startswith("propylon.yaml:")
    assert found["status"] == 200


def test_others_get_what_they_get_anyway(gateway: Gateway) -> None:
    """Without the scope the header changes nothing: status, names of headers, body."""
    others = {
        "none": [],
        "scope": authorized("ann", scope="read", edge="a"),
        "near": authorized("ann", scope="adminx explain-not"),
        "garbage": bearer("no.token.atall"),
        "basic": [("Authorization", "Basic YTpi")],
        "forged": authorized("root", scope="admin", secret="another-" * 8),
        "expired": authorized("root", scope="admin", lasts=-3600),
    }
    with RawClient(gateway.port) as client:
        for (who, headers), target in product(
            others.items(), ["/open/x", "/pair/x", "/none", "/pair/scoped"]
        ):
            asked, plain = (
                client.send(request("GET", target, [*headers, *asking])).read()
                for asking in (ASKING, [])
            )
            case = (who, target)
            assert asked.get(HEADER) is None, case
            assert asked.status == plain.status, case
            assert [name.lower() for name, _ in asked.headers] == [
                name.lower() for name, _ in plain.headers
            ], case
            assert b"explain" not in asked.body.lower(), case
            assert len(asked.body) == len(plain.body), case


@pytest.mark.parametrize("value", ["0", "true", "", "1, 1", "2"])
def test_only_one_value_asks(gateway: Gateway, value: str) -> None:
    """Any value but 1 is ignored, and so are two."""
    token = authorized("root", scope="admin")
    answer = ask(gateway.port, target="/open", headers=[*token, ("X-Propylon-Explain", value)])
    assert answer.get(HEADER) is None
    assert ask(gateway.port, target="/open", headers=[*token, *ASKING, *ASKING]).get(HEADER) is None


@pytest.mark.parametrize("name", ["X-Propylon-Explain", "x_propylon_explain", "X.PROPYLON-EXPLAIN"])
def test_the_header_never_goes_upstream(
    gateway: Gateway, pair: tuple[Upstream, Upstream], name: str
) -> None:
    """From whomever it comes, and however it is spelled."""
    for headers in ([], authorized("root", scope="admin")):
        answer = ask(gateway.port, target="/open/up", headers=[*headers, (name, "1")])
        assert answer.status == 200
    names = [one.names for up in pair for one in up.requests]
    assert len(names) == 2
    assert not any("explain" in name for found in names for name in found)


def test_an_upstreams_copy_does_not_reach_who_asks(
    gateway: Gateway, pair: tuple[Upstream, Upstream]
) -> None:
    """There is one explanation, and it is the gateway's."""
    for up in pair:
        up.on("/liar", answers.plain(headers=['X-Propylon-Explain: {"route":"lie"}']))
    assert explained(gateway, "/pair/liar")["route"]["name"] == "pair"


def test_it_is_neither_taken_from_the_cache_nor_stored(
    gateway: Gateway, pair: tuple[Upstream, Upstream], edge: str
) -> None:
    """Every explained request goes to the service, and leaves what is stored as it is."""
    for up in pair:
        up.on(
            f"/cached/{edge}",
            answers.plain(headers=["Cache-Control: public, max-age=600", "Age: 1"]),
        )
    token = authorized("root", scope="admin")
    target = f"/cached/{edge}"

    def again(asking: list[tuple[str, str]]) -> Answer:
        return ask(gateway.port, target=target, headers=[*token, *asking])

    for _ in range(2):
        answer = again(ASKING)
        assert answer.all("Cache-Control") == [b"no-store"]
        assert "explain" in str(answer.get("Cache-Status"))
    again([])
    stored = again([])
    assert "hit" in str(stored.get("Cache-Status"))
    assert stored.get(HEADER) is None
    assert trace(again(ASKING))["upstream"] is not None
    assert sum(len(up.requests) for up in pair) == 4


def test_refused_ones_have_it_in_their_body_too(gateway: Gateway) -> None:
    """In `details`, as it is in the header; also with a route that refuses the operator's token."""
    token = authorized("root", scope="admin")
    for kind in (None, "application/problem+json"):
        accept = [] if kind is None else [("Accept", kind)]
        answer = ask(gateway.port, target="/pair/scoped", headers=[*token, *ASKING, *accept])
        assert answer.status == 403
        body = answer.json()
        details = body["details"] if kind else body["error"]["details"]
        assert details["explain"] == trace(answer)
        assert stage(trace(answer), "authorize")["passed"] is False
        assert stage(trace(answer), "forward")["passed"] is None


def test_a_request_that_no_route_gets_is_explained(gateway: Gateway) -> None:
    """A 404 and a 405 say which routes were near."""
    token = authorized("root", scope="admin")
    found = explained(gateway, "/x/long-1")
    assert (found["route"], found["status"]) == (None, 404)
    assert [one["why"] for one in found["lost"]] == ["host"]
    answer = ask(gateway.port, "DELETE", "/get/x", [*token, *ASKING])
    assert trace(answer)["status"] == answer.status == 405
    assert [one["why"] for one in trace(answer)["lost"]] == ["method"]


def test_values_have_their_source(gateway: Gateway) -> None:
    """A value of the route has its line, one of `defaults` that line, and any other is a default."""
    lines = gateway.file.read_text().splitlines()
    found = explained(gateway, "/pair/scoped", scope="admin special")
    scopes = stage(found, "authorize")["values"]["scopes"]
    assert scopes["value"] == ["special"]
    assert "special" in "".join(lines[int(scopes["from"].rpartition(":")[2]) - 1 :][:2])
    values = stage(found, "forward")["values"]
    circuit = values["circuit"]
    assert circuit["value"] is False
    assert "circuit" in lines[int(circuit["from"].rpartition(":")[2]) - 1]
    assert values["timeouts.total"] == {"value": 60.0, "from": "default"}


def test_a_limit_is_told_and_counts(gateway: Gateway, edge: str) -> None:
    """To ask is no way round a limit: the second request is refused, and says by which one."""
    token = authorized("root", scope="admin", edge=edge)
    first, second = (ask(gateway.port, target="/limited", headers=[*token, *ASKING]) for _ in "12")
    assert (first.status, second.status) == (200, 429)
    assert stage(trace(first), "limit")["passed"] is True
    assert stage(trace(second), "limit")["passed"] is False
    assert "1/h" in stage(trace(second), "limit")["values"]["rate_limit"]["value"]


def test_no_secret_is_told(gateway: Gateway) -> None:
    """Neither the asker's credentials, nor what the operator sets."""
    token = authorized("root", scope="explain")
    secret = "asked-with-4711"
    more = [("Cookie", f"a={secret}"), ("X-Api-Key", secret)]
    answer = ask(
        gateway.port, target=f"/open/x?api_key={secret}&q=1", headers=[*token, *more, *ASKING]
    )
    value = str(answer.get(HEADER))
    assert secret not in value
    assert HIDDEN not in value
    assert token[0][1].partition(" ")[2] not in value
    assert "q=1" in value
    assert "X-Deployment: (not shown)" in value


def test_what_does_not_fit_is_cut(gateway: Gateway) -> None:
    """A trace that is longer than a header may be stays JSON, and says so."""
    token = authorized("root", scope="admin")
    long = [(f"X-Long-{at}", "\xe9" * 400) for at in range(8)]
    answer = ask(gateway.port, target="/many/x", headers=[*token, *ASKING, *long])
    found = trace(answer)
    assert found["truncated"] is True
    assert found["route"]["name"] == "many"
    assert found["status"] == 200


def test_handshakes_are_explained(gateway: Gateway, pair: tuple[Upstream, Upstream]) -> None:
    """A WebSocket that was opened, and one that was refused."""
    token = authorized("root", scope="admin")
    for up in pair:
        up.on("/ws", agree)
    with RawClient(gateway.port) as client:
        client.send(handshake("/pair/ws", [*token, *ASKING]))
        opened = client.read()
    assert opened.status == trace(opened)["status"] == 101
    assert stage(trace(opened), "authenticate")["text"] == "root"
    with RawClient(gateway.port) as client:
        client.send(handshake("/pair/scoped", [*token, *ASKING]))
        refused = client.read()
    assert refused.status == trace(refused)["status"] == 403
    with RawClient(gateway.port) as client:
        client.send(handshake("/pair/ws", [*authorized("ann", scope="x"), *ASKING]))
        assert client.read().get(HEADER) is None


def test_the_gateways_own_endpoints_are_explained(gateway: Gateway) -> None:
    """They have no place in the file."""
    found = explained(gateway, "/livez")
    assert found["route"]["place"] == "the gateway's own"
    assert "in this process" in stage(found, "forward")["text"]


TARGETS = (
    "/", "/pair", "/pair/x", "/pair/a%20b?q=1", "/pair/flaky", "/pair/dead", "/pair/scoped", "/open/x",
    "/open/flaky", "/cached/flaky", "/get/x", "/closed/x", "/nowhere/x", "/none", "/livez", "/many/flaky",
)  # fmt: skip


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE"]),
    target=st.sampled_from(TARGETS),
    scope=st.sampled_from(["admin", "explain", "admin special", "read"]),
    host=st.sampled_from(["shop.example", "other.example"]),
    more=st.lists(
        st.sampled_from(
            [("Accept", "text/plain"), ("X-A", "1"), ("traceparent", "nothing"), ("DNT", "1"), ("DNT", "2")]
        ),
        max_size=2,
        unique=True,
    ),
)  # fmt: skip
@examples(120)
def test_the_trace_is_what_the_data_plane_did(
    gateway: Gateway,
    pair: tuple[Upstream, Upstream],
    method: str,
    target: str,
    scope: str,
    host: str,
    more: list[tuple[str, str]],
) -> None:
    """Status, route, instances and attempts, and what went upstream: as the client and the upstreams saw them."""
    headers = [*authorized("root", scope=scope), *ASKING, *more]
    body = b"abc" if method in {"POST", "PUT"} else b""
    with RawClient(gateway.port) as client:
        client.send(request(method, target, headers, body=body, host=host))
        answer = client.read(method)
    if scope == "read":
        assert answer.get(HEADER) is None
        return
    found = trace(answer)
    assert found["status"] == answer.status
    assert (found["refused"] is not None) == (answer.get("x-error-source") == "gateway")
    record = gateway.record(answer)
    assert (found["route"] or {}).get("name") == record["route"]
    came = [
        (up, one)
        for up in pair
        for one in up.requests
        if one.get("x-request-id") == answer.get("x-request-id")
    ]
    attempts = [] if found["upstream"] is None else found["upstream"]["attempts"]
    assert len(attempts) == record["attempts"]
    if record["service"] == "pair":
        assert Counter(one["instance"] for one in attempts) == Counter(
            f"127.0.0.1:{up.port}" for up, _ in came
        )
    if found["upstream"] is not None:
        assert found["upstream"]["instance"] == record["instance"]
    if came:
        last = max((one for _, one in came), key=lambda one: one.started)
        sent = found["upstream"]["request"].split("\r\n")
        head = last.head.decode("latin-1").split("\r\n")
        assert sent[0] == head[0]
        names = [line.partition(":")[0] for line in head[1:] if line]
        assert [line.partition(":")[0] for line in sent[1:] if line] == names
