"""`match`, `clients`, `respond` and `redirect`: over real sockets, on both edges."""

from collections.abc import Iterator

import pytest

from tests.support import answers
from tests.support.client import RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, bearer, mint
from tests.support.upstream import Upstream

PROXY, INNER = "127.0.0.1", "10.1.2.3"


def configuration(port: int) -> Config:
    """Two names for one upstream, told apart by the header that their routes set."""
    url = {"url": f"http://127.0.0.1:{port}"}
    told = {"request": {"set": {"X-Got": "beta"}}}
    return {
        "server": {"trusted_proxies": [PROXY]},
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "admin": {"scopes": {"explain": "explain"}},
        "cors": {"origins": ["https://app.example"]},
        "services": {"stable": url, "canary": url},
        "defaults": {"auth": "none"},
        "routes": [
            {"name": "beta", "path": "/shop", "service": "canary", "headers": told,
             "match": {"headers": {"X-Channel": ["beta", "can*"]}}},
            {"name": "cookie", "path": "/shop", "service": "canary", "headers": told, "priority": 1,
             "match": {"cookies": {"canary": True}}},
            {"name": "v2", "path": "/shop", "service": "canary", "headers": told, "priority": 2,
             "match": {"query": {"v": 2}}, "methods": ["GET", "WEBSOCKET"]},
            {"name": "shop", "path": "/", "service": "stable"},
            {"name": "inner", "path": "/shop/inner", "service": "stable",
             "clients": {"allow": ["10.0.0.0/8"], "deny": ["10.9.0.0/16"]}},
            {"name": "down", "path": "/down", "auth": "required", "rate_limit": {"rate": "1/h", "burst": 2},
             "respond": {"status": 503, "headers": {"Retry-After": 120}, "body": "Back soon\n"}},
            {"name": "empty", "path": "/empty", "respond": {"status": 204}},
            {"name": "moved", "path": "/old/{id}",
             "redirect": {"to": "https://new.example/v2/{id}/{rest}{query}", "status": 308}},
            {"name": "home", "path": "/home", "exact": True, "redirect": {"to": "/"}},
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def behind() -> Iterator[Upstream]:
    """The service behind all routes."""
    with Upstream(fallback=answers.plain(body=b"ok")) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def kept(behind: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A gateway on each edge."""
    found = Kept(EDGES, tmp_path_factory.mktemp("choosing"), configuration(behind.port))
    yield found
    found.close()


@pytest.fixture
def gateway(edge: str, kept: Kept) -> Gateway:
    """The gateway on that edge."""
    return kept.at(edge)


Lines = list[tuple[str, str]]


@pytest.mark.parametrize(
    ("target", "lines", "beta"),
    [
        ("/shop", [], False),
        ("/shop/7", [("X-Channel", "beta")], True),
        ("/shop/7", [("x-channel", "canary-9")], True),
        ("/shop", [("X-Channel", "stable")], False),
        ("/shop", [("Cookie", "a=1; canary=0")], True),
        ("/shop?v=2", [], True),
        ("/shop?v=3", [], False),
    ],
)
def test_what_a_request_has_chooses(
    gateway: Gateway, behind: Upstream, target: str, lines: Lines, beta: bool
) -> None:
    """What does not match goes to the next route; the service sees what the client sent."""
    assert ask(gateway.port, target=target, headers=lines).status == 200
    assert (behind.last.get("X-Got") == "beta") is beta
    for name, value in lines:
        assert behind.last.get(name) == value


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("/shop", [("X-Channel", "stable"), ("X-Channel", "beta")]),
        ("/shop", [("X-Channel", "stable"), ("X_Channel", "beta")]),
        ("/shop", [("X_Channel", "beta")]),
        ("/shop", [("Cookie", "canary=1; canary=2")]),
        ("/shop?v=2&v=3", []),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    gateway: Gateway, behind: Upstream, target: str, lines: Lines
) -> None:
    """The service would see a value by which the gateway has not chosen."""
    before = len(behind.requests)
    answer = ask(gateway.port, target=target, headers=lines)
    assert answer.status == 400
    assert "can be read in more than one way" in answer.json()["error"]["message"]
    assert len(behind.requests) == before


def test_a_method_of_a_route_that_is_met_does_not_fall_through(gateway: Gateway) -> None:
    """405 where the query matches, the next route where it does not."""
    asked = ask(gateway.port, "POST", "/shop?v=2", headers=[("X-Channel", "x")])
    assert (asked.status, asked.get("Allow")) == (405, "GET")
    assert ask(gateway.port, "POST", "/shop").status == 200


@pytest.mark.parametrize(
    ("client", "status"), [(INNER, 200), ("192.0.2.1", 403), ("10.9.0.1", 403), ("::1", 403)]
)
def test_clients_by_trusted_address(gateway: Gateway, client: str, status: int) -> None:
    """By what a trusted proxy says; the less specific route does not get the others."""
    answer = ask(gateway.port, target="/shop/inner/7", headers=[("X-Forwarded-For", client)])
    assert answer.status == status
    if status == 403:
        assert answer.json()["error"]["code"] == "AUTH_ERROR"
        assert gateway.record(answer)["route"] == "inner"


def test_a_fixed_answer_behind_all_stages(gateway: Gateway) -> None:
    """Token, limit and CORS hold; the body is the operator's, and a HEAD has none of it."""
    assert ask(gateway.port, target="/down").status == 401
    held = bearer(mint("ann", edge=gateway.edge))
    page = [*held, ("Origin", "https://app.example")]
    got = ask(gateway.port, target="/down/x", headers=page)
    assert (got.status, got.body, got.get("Retry-After")) == (503, b"Back soon\n", "120")
    assert got.get("Content-Type") == "text/plain; charset=utf-8"
    assert got.get("Access-Control-Allow-Origin") == "https://app.example"
    assert got.get("X-Error-Source") == "gateway"
    head = ask(gateway.port, "HEAD", "/down", headers=held)
    assert (head.status, head.body, head.get("Content-Length")) == (503, b"", "10")
    assert ask(gateway.port, target="/down", headers=held).status == 429
    record = gateway.record(got)
    assert (record["route"], record["status"]) == ("down", 503)


def test_the_connection_goes_on(gateway: Gateway) -> None:
    """After answers with and without a body, and redirects."""
    with RawClient(gateway.port) as client:
        for target, status in (("/empty", 204), ("/home", 307), ("/empty/x", 204), ("/shop", 200)):
            answer = client.send(request(target=target)).read()
            assert (answer.status, answer.complete) == (status, True)
        assert client.send(request("POST", "/empty", body=b"x" * 10)).read("POST").status == 204


def test_a_redirect(gateway: Gateway) -> None:
    """The client's part is behind the operator's host."""
    answer = ask(gateway.port, target="/old/7%2F8//evil.example?next=//x")
    assert answer.status == 308
    assert answer.get("Location") == "https://new.example/v2/7%2F8/evil.example?next=//x"
    assert (answer.body, answer.get("Content-Length")) == (b"", "0")


def test_explain_tells_why(gateway: Gateway) -> None:
    """What the route was chosen by, what another one lacked, and that an address was refused."""
    asking = [("X-Propylon-Explain", "1"), *bearer(mint("op", scope="explain", edge=gateway.edge))]
    told = ask(gateway.port, target="/down", headers=[*asking, ("X-Forwarded-For", "10.0.0.1")])
    assert told.all("X-Propylon-Explain")
    refused = ask(gateway.port, target="/shop/inner", headers=asking)
    explained = refused.json()["error"]["details"]["explain"]
    stages = {one["stage"]: one for one in explained["stages"]}
    assert stages["match"]["text"] == 'route "inner"'
    assert stages["clients"]["passed"] is False
    assert stages["authenticate"]["passed"] is None
    lost = {one["name"]: (one["why"], one["text"]) for one in explained["lost"]}
    assert lost["beta"] == ("match", 'the request has not the header x-channel "beta" or "can*"')
