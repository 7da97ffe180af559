"""CORS per route: the conformance cases of the Kubernetes Gateway API, and routes that differ from the gateway's rules."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, mint
from tests.support.topology import Upstreams
from tests.support.upstream import Upstream

FOO, BAR, OTHER = "https://www.foo.com", "https://www.bar.com", "https://other.foo.com"
GLOBAL, EVIL = "https://app.example", "https://foobar.com"
PORT = f"{EVIL}:12345"
NAMES = "x-header-1, x-header-2"
ALLOW = "access-control-allow-"
HEADER_LIMIT = 4096


def configuration(port: int) -> Config:
    """The routes of the suite's manifests in the words of our file, and some more."""
    listed = {
        "origins": [FOO, "https://*.bar.com"],
        "methods": ["GET", "OPTIONS"],
        "headers": ["x-header-1", "x-header-2"],
        "expose": ["x-header-3", "x-header-4"],
        "credentials": True,
        "max_age": 3600,
    }
    # The suite has allowOrigins "*" beside allowCredentials, which the gateway refuses: a list takes its place.
    every = {"origins": ["https://*.foo.com"], "methods": ["*"], "headers": ["*"]}
    own = {"origins": [FOO], "credentials": True}
    routes: list[dict[str, Any]] = [
        {"path": "/cors-1", "cors": listed},
        {"path": "/cors-2", "cors": {"origins": [FOO], "methods": ["*"]}},
        {"path": "/cors-wildcard-origin", "cors": {"origins": ["*"], "methods": ["PUT"]}},
        {"path": "/cors-wildcard-methods-headers", "cors": {**every, "credentials": True}},
        {"path": "/cors-wildcard-methods-headers-unauth", "cors": every},
        {"path": "/creds-false", "cors": {"origins": [GLOBAL]}},
        {"path": "/creds-true", "cors": {"origins": [GLOBAL], "credentials": True}},
        {"path": "/usual"},
        {"path": "/off", "cors": "none"},
        {"path": "/passing", "cors": "off", "preflight": "pass", "auth": "required"},
        {"path": "/shared", "methods": ["GET"], "cors": own},
        {"path": "/shared", "methods": ["POST"], "name": "shared-post", "cors": "none"},
        {"path": "/few", "methods": ["GET"], "cors": own},
        {"path": "/cookie", "auth": "required", "cors": own},
        {"path": "/cookie-usual", "auth": "required"},
        {"path": "/cookie-off", "auth": "required", "cors": "none"},
        {"path": "/socket", "methods": ["WEBSOCKET"], "cors": own},
        {"path": "/socket-off", "methods": ["WEBSOCKET"], "cors": "none"},
    ]
    return {
        "server": {"max_header": HEADER_LIMIT},
        "auth": {"jwt": {"secret": SECRET}, "from": ["header", "cookie:sid"],
                 "tokens": {"enabled": False}},
        "cors": {"origins": [GLOBAL], "credentials": True},
        "defaults": {"auth": "none"},
        "services": {"main": {"url": f"http://127.0.0.1:{port}"}},
        "routes": [{"service": "main", **route} for route in routes],
    }  # fmt: skip


@pytest.fixture(scope="module")
def kept(upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A gateway on each edge."""
    folder = tmp_path_factory.mktemp("cors")
    found = Kept(EDGES, folder, configuration(upstreams.main.port))
    yield found
    found.close()


@pytest.fixture
def gateway(edge: str, kept: Kept) -> Gateway:
    """The gateway on that edge."""
    return kept.at(edge)


@pytest.fixture(autouse=True)
def up(upstreams: Upstreams) -> Upstream:
    """The service, with an empty record."""
    upstreams.reset()
    return upstreams.main


def said(answer: Answer) -> dict[str, str]:
    """What an answer says of CORS; no header twice."""
    found = [(name.decode().lower(), value.decode()) for name, value in answer.headers]
    found = [(name, value) for name, value in found if name.startswith("access-control-")]
    assert len(dict(found)) == len(found)
    return dict(found)


def send(
    gateway: Gateway, method: str, path: str, origin: str, asked: str = "", headers: str = ""
) -> Answer:
    """A request of a page, or a preflight."""
    lines = [("Origin", origin)]
    lines += [("Access-Control-Request-Method", asked)] if asked else []
    lines += [("Access-Control-Request-Headers", headers)] if headers else []
    return ask(gateway.port, method, path, lines)


@dataclass(frozen=True)
class Case:
    """A case of HTTPRouteCORS: what is sent, which values a header may have, and which headers may not be there."""

    title: str
    method: str
    path: str
    origin: str
    asked: str = ""
    headers: str = ""
    expected: dict[str, set[str]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


LISTED = {
    "access-control-allow-methods": {"GET,OPTIONS", "OPTIONS,GET"},
    "access-control-allow-headers": {"x-header-1,x-header-2", "x-header-2,x-header-1"},
    "access-control-expose-headers": {"x-header-3,x-header-4", "x-header-4,x-header-3"},
    "access-control-max-age": {"3600"},
    "access-control-allow-credentials": {"true"},
}
ORIGIN, METHODS, HEADERS = f"{ALLOW}origin", f"{ALLOW}methods", f"{ALLOW}headers"
CREDENTIALS = f"{ALLOW}credentials"
ANY, ECHO, ECHO_OPEN = (
    "/cors-wildcard-origin",
    "/cors-wildcard-methods-headers",
    "/cors-wildcard-methods-headers-unauth",
)

# https://github.com/kubernetes-sigs/gateway-api, conformance/tests/httproute-cors.go, in its order.
CONFORMANCE = [
    Case("preflight, exact origin", "OPTIONS", "/cors-1", FOO, "GET", NAMES,
         {**LISTED, ORIGIN: {FOO}}),
    Case("preflight, wildcard origin", "OPTIONS", "/cors-1", BAR, "GET", NAMES,
         {**LISTED, ORIGIN: {BAR}}),
    Case("preflight, several labels", "OPTIONS", "/cors-1", "https://xpto.www.bar.com", "GET", NAMES,
         {**LISTED, ORIGIN: {"https://xpto.www.bar.com"}}),
    Case("preflight, other origin", "OPTIONS", "/cors-1", EVIL, "GET", absent=(ORIGIN,)),
    Case("request, exact origin", "GET", "/cors-1", FOO, "GET", NAMES, {ORIGIN: {FOO}}),
    Case("request, wildcard origin", "GET", "/cors-1", BAR, "GET", NAMES, {ORIGIN: {BAR}}),
    Case("request, other origin", "GET", "/cors-1", EVIL, "GET", absent=(ORIGIN,)),
    Case("preflight, any method", "OPTIONS", "/cors-2", FOO, "POST", "",
         {METHODS: {"POST", "*"}, ORIGIN: {FOO}}, (CREDENTIALS,)),
    Case("preflight, no credentials", "OPTIONS", "/cors-2", FOO, "POST", absent=(CREDENTIALS,)),
    Case("preflight, any origin", "OPTIONS", ANY, EVIL, "PUT", "",
         {ORIGIN: {EVIL, "*"}, METHODS: {"PUT"}}, (CREDENTIALS,)),
    Case("preflight, any origin with a port", "OPTIONS", ANY, PORT, "PUT", "",
         {ORIGIN: {PORT, "*"}, METHODS: {"PUT"}}, (CREDENTIALS,)),
    Case("request, any origin with a port", "PUT", ANY, PORT, expected={ORIGIN: {PORT, "*"}}),
    Case("request, any origin", "PUT", ANY, EVIL, "", "", {ORIGIN: {EVIL, "*"}}, (CREDENTIALS,)),
    Case("preflight, credentials", "OPTIONS", ECHO, OTHER, "PUT", NAMES,
         {ORIGIN: {OTHER}, METHODS: {"PUT"}, HEADERS: LISTED[HEADERS], CREDENTIALS: {"true"}}),
    Case("preflight, without credentials", "OPTIONS", ECHO_OPEN, OTHER, "PUT", NAMES,
         {ORIGIN: {OTHER, "*"}, METHODS: {"PUT", "*"}, HEADERS: {*LISTED[HEADERS], "*"}},
         (CREDENTIALS,)),
    Case("request, credentials", "GET", ECHO, OTHER,
         expected={ORIGIN: {OTHER}, CREDENTIALS: {"true"}}),
    Case("request, without credentials", "GET", ECHO_OPEN, OTHER,
         expected={ORIGIN: {OTHER}}, absent=(CREDENTIALS,)),
    # httproute-cors-allow-credentials-behavior.go
    Case("credentials: false", "GET", "/creds-false", GLOBAL, absent=(CREDENTIALS,)),
    Case("credentials: true, other origin", "GET", "/creds-true", "http://not-app.example",
         absent=(CREDENTIALS,)),
    Case("credentials: true", "GET", "/creds-true", GLOBAL,
         expected={ORIGIN: {GLOBAL}, CREDENTIALS: {"true"}}),
]  # fmt: skip


@pytest.mark.parametrize("case", CONFORMANCE, ids=lambda case: case.title)
def test_conformance_of_the_gateway_api(gateway: Gateway, up: Upstream, case: Case) -> None:
    """Each case of the suite, with the values that it allows; a preflight is 204, which it allows beside 200."""
    answer = send(gateway, case.method, case.path, case.origin, case.asked, case.headers)
    assert answer.status == (204 if case.method == "OPTIONS" else 200)
    assert len(up.requests) == (case.method != "OPTIONS")
    found = said(answer)
    for name, values in case.expected.items():
        assert found.get(name, "").replace(" ", "") in values, found
    assert not found.keys() & set(case.absent)


def test_a_route_replaces_all_of_the_rules(gateway: Gateway) -> None:
    """A route with rules of its own knows nothing of the gateway's origins; one without has these."""
    assert said(send(gateway, "GET", "/usual", GLOBAL))[ORIGIN] == GLOBAL
    assert said(send(gateway, "GET", "/usual", FOO)) == {}
    assert said(send(gateway, "GET", "/cors-2", GLOBAL)) == {}
    assert said(send(gateway, "OPTIONS", "/cors-2", GLOBAL, "GET")) == {}


def test_a_route_without_cors(gateway: Gateway, up: Upstream) -> None:
    """The gateway says nothing there, answers no preflight, and the service's own words pass."""
    up.on("/off", answers.plain(headers=["Access-Control-Allow-Origin: https://its.own"]))
    answer = send(gateway, "GET", "/off", GLOBAL)
    assert said(answer) == {ORIGIN: "https://its.own"}
    assert answer.get("vary") is None
    send(gateway, "OPTIONS", "/off", GLOBAL, "GET")
    assert up.last.method == "OPTIONS"


def test_preflights_may_pass_on_a_route_without_cors(gateway: Gateway, up: Upstream) -> None:
    """Beside the gateway's CORS, a service may answer for itself."""
    assert send(gateway, "OPTIONS", "/passing", GLOBAL, "GET").status == 200
    assert up.last.method == "OPTIONS"
    assert send(gateway, "GET", "/passing", GLOBAL).status == 401


def test_routes_of_one_path_may_differ(gateway: Gateway, up: Upstream) -> None:
    """A preflight is answered by the rules of the method that it asks for, and allows no other route's methods."""
    answer = send(gateway, "OPTIONS", "/shared", FOO, "GET")
    assert (answer.status, said(answer)[METHODS]) == (204, "GET")
    # Of POST the gateway says nothing: neither in advance nor with the answer.
    refused = send(gateway, "OPTIONS", "/shared", FOO, "POST")
    assert (refused.status, ORIGIN in said(refused)) == (405, True)
    assert METHODS not in said(refused)
    assert said(send(gateway, "POST", "/shared", FOO)) == {}
    assert said(send(gateway, "GET", "/shared", FOO))[ORIGIN] == FOO


@pytest.mark.parametrize(("origin", "path", "allowed"), [
    (FOO, "/few", True), (GLOBAL, "/few", False), (GLOBAL, "/nowhere", True), (FOO, "/nowhere", False),
])  # fmt: skip
def test_errors_speak_for_their_path(
    gateway: Gateway, origin: str, path: str, *, allowed: bool
) -> None:
    """A 405 has the rules of the routes there, a 404 the gateway's, and so have the preflights before them."""
    answer = send(gateway, "PUT", path, origin)
    assert answer.status == (405 if path == "/few" else 404)
    assert (said(answer).get(ORIGIN) == origin) == allowed
    before = send(gateway, "OPTIONS", path, origin, "PUT")
    assert (said(before).get(ORIGIN) == origin) == allowed
    assert ("PUT" in said(before).get(METHODS, "")) == allowed


@pytest.mark.parametrize(
    ("path", "trusted"),
    [("/cookie", FOO), ("/cookie-usual", GLOBAL), ("/cookie-off", None)],
)
def test_pages_with_a_token_in_a_cookie(gateway: Gateway, path: str, trusted: str | None) -> None:
    """The rules that hold on the route say which pages may send what changes something with the visitor's cookie."""
    for origin in (FOO, GLOBAL, EVIL):
        lines = [("Origin", origin), ("Cookie", f"sid={mint()}"), ("Sec-Fetch-Site", "cross-site")]
        answer = ask(gateway.port, "POST", path, lines)
        assert answer.status == (200 if origin == trusted else 403)


@pytest.mark.parametrize(("path", "trusted"), [("/socket", FOO), ("/socket-off", None)])
def test_pages_that_open_sockets(gateway: Gateway, path: str, trusted: str | None) -> None:
    """Without `websocket.origins`, those of the route's own CORS may."""
    lines = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
             ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]  # fmt: skip
    for origin in (FOO, GLOBAL):
        # The service knows no WebSockets: where the page is trusted, the gateway says so.
        answer = ask(gateway.port, target=path, headers=[*lines, ("Origin", origin)])
        assert (answer.status == 403) == (origin != trusted)


@pytest.mark.parametrize(("path", "origin"), [("/usual", GLOBAL), ("/cors-2", FOO)])
@pytest.mark.parametrize("what", ["expectation", "large"])
def test_heads_that_are_refused_may_be_read(
    edge: str, gateway: Gateway, path: str, origin: str, what: str
) -> None:
    """417 and 431 have the lines, too, though the request was never read as a whole; not for other pages."""
    expects = what == "expectation"
    more = ("Expect", "the-unexpected") if expects else ("X-Large", "x" * HEADER_LIMIT)
    for page in (origin, EVIL):
        with RawClient(gateway.port) as client:
            answer = client.send(request(target=path, headers=[("Origin", page), more])).read()
        assert answer.status == (417 if expects else 431)
        assert (said(answer).get(ORIGIN) == page) == (page == origin)
