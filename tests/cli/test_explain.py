"""explain: the verdicts, the losers, and what the upstream would get, which is what it gets."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from propylon.cli.main import app
from tests.support.client import RawClient
from tests.support.gateway import Gateway
from tests.support.upstream import Upstream

FILE = """\
server: {trusted_proxies: [10.0.0.0/8]}
services:
  orders: {instances: ["http://127.0.0.1:9001/base", "http://127.0.0.1:9002/base"], forward_token: false}
  users: {url: http://127.0.0.1:9003}
  nowhere: {}
defaults: {auth: none}
routes:
  - {name: all, path: /api, service: users}
  - {name: orders, path: /api/orders, service: orders, methods: [GET, POST], strip_prefix: true, max_body: 1kB}
  - {name: admin, path: /api/orders/admin, service: orders, auth: required}
  - {name: first, path: /twice, service: users, priority: 1, methods: [GET, PUT]}
  - {name: second, path: /twice, service: users, methods: [GET, POST]}
  - {name: hosted, path: /api/orders, service: users, hosts: [api.example.com]}
  - {name: empty, path: /empty, service: nowhere}
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration in an empty working directory, without settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("PROPYLON"):
            monkeypatch.delenv(name)
    written = tmp_path / "propylon.yaml"
    written.write_text(FILE)
    return written


def call(*arguments: str) -> Result:
    """Run explain in this process."""
    return CliRunner().invoke(app, ["explain", *arguments])


def explained(*arguments: str) -> dict[str, Any]:
    """What explain tells a program."""
    done = call(*arguments, "--format", "json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def passed(found: dict[str, Any]) -> dict[str, bool | None]:
    """Which stages let the request pass; None is one that it did not reach."""
    return {stage["stage"]: stage["passed"] for stage in found["stages"]}


def lost(found: dict[str, Any]) -> dict[str, str]:
    """Why each of the configured routes lost."""
    return {one["name"]: one["why"] for one in found["lost"] if one["service"] != "propylon"}


STAGES = ("read", "match", "privacy", "authenticate", "authorize", "forward")
ALL_PASS = dict.fromkeys(STAGES, True)


def test_route_stages_and_instance_are_named() -> None:
    """The route with its place in the file, every stage, the service and its instance."""
    found = explained("GET", "/api/orders/7")
    assert found["route"]["name"] == "orders"
    assert found["route"]["place"] == "propylon.yaml:9"
    assert passed(found) == ALL_PASS
    assert found["upstream"]["service"] == "orders"
    assert found["upstream"]["instance"] == "127.0.0.1:9001"
    assert found["refused"] is None


def test_losers_say_why() -> None:
    """Another path, another host, a less specific one."""
    assert lost(explained("GET", "/api/orders/7")) == {
        "all": "less specific",
        "admin": "path",
        "first": "path",
        "second": "path",
        "hosted": "host",
        "empty": "path",
    }


def test_priority_settles_what_is_alike() -> None:
    """On one place the higher priority wins where methods overlap, and says so."""
    found = explained("GET", "/twice")
    assert found["route"]["name"] == "first"
    assert lost(found)["second"] == "priority"
    assert lost(explained("POST", "/twice"))["first"] == "method"


def test_a_method_does_not_fall_through() -> None:
    """DELETE is refused by the most specific place, though a shorter route takes it."""
    found = explained("DELETE", "/api/orders/7")
    assert found["route"] is None
    assert found["refused"]["status"] == 405
    assert lost(found)["orders"] == "method"
    assert lost(found)["all"] == "less specific"
    assert passed(found) == {**dict.fromkeys(ALL_PASS), "read": True, "match": False}


def test_a_host_is_told_by_url_or_header() -> None:
    """A whole URL and a Host header both name the host, and the more specific route wins."""
    for arguments in (
        ["GET", "https://api.example.com/api/orders"],
        ["GET", "/api/orders", "--header", "Host: API.example.com:8000"],
    ):
        found = explained(*arguments)
        assert found["route"]["name"] == "hosted"
        assert lost(found)["orders"] == "less specific"
    assert "X-Forwarded-Proto: https" in explained("GET", "https://x/api")["upstream"]["request"]


@pytest.mark.parametrize(
    ("arguments", "stage", "status"),
    [
        (["GET", "orders"], "read", 400),
        (["TRACE", "/api"], "match", 405),
        (
            ["GET", "/api", "-H", "Content-Length: 1", "-H", "Transfer-Encoding: chunked"],
            "read",
            400,
        ),
        (["GET", "/nothing"], "match", 404),
        (["GET", "/api/../x"], "match", 400),
        (["GET", "/api/orders/%61dmin"], "match", 400),
        (["GET", "/api", "-H", "DNT: maybe"], "privacy", 400),
        (["GET", "/api/orders/admin"], "authenticate", 503),
        (["GET", "/metrics"], "authorize", 401),
        (["GET", "/empty"], "forward", 503),
        (["POST", "/api/orders", "-H", "Content-Length: 1001"], "forward", 413),
    ],
)
def test_a_refusal_names_its_stage(arguments: list[str], stage: str, status: int) -> None:
    """The stage that refuses says the status, and the later ones were not reached."""
    found = explained(*arguments)
    verdicts = passed(found)
    assert verdicts[stage] is False
    later = list(ALL_PASS)[list(ALL_PASS).index(stage) + 1 :]
    assert [verdicts[name] for name in later] == [None] * len(later)
    assert found["refused"]["status"] == status
    assert found["upstream"] is None


def test_an_ambiguous_path_is_read_aloud() -> None:
    """What a careless upstream would make of the path stands beside the refusal."""
    found = explained("GET", "/api/orders/%61dmin")
    assert (
        found["note"]
        == 'an upstream may read the path as /api/orders/admin: the path of route "admin"'
    )
    assert lost(found)["orders"] == "refused"


def test_the_gateways_own_endpoint_is_a_route_too() -> None:
    """From the loopback address, /metrics passes every stage."""
    found = explained("GET", "/metrics", "--client", "127.0.0.1")
    assert passed(found) == ALL_PASS
    assert found["route"]["service"] == "propylon"


def test_a_trusted_proxy_is_believed() -> None:
    """From a trusted peer X-Forwarded-For is appended to, from anybody else replaced."""
    header = ["--header", "X-Forwarded-For: 198.51.100.7"]
    request = explained("GET", "/api", *header, "--client", "10.1.1.1")["upstream"]["request"]
    assert "\r\nX-Forwarded-For: 198.51.100.7, 10.1.1.1\r\n" in request
    request = explained("GET", "/api", *header)["upstream"]["request"]
    assert "\r\nX-Forwarded-For: 203.0.113.1\r\n" in request


def test_a_wish_for_privacy_is_shown() -> None:
    """Which level was read, and the one form in which the upstream is told."""
    found = explained("GET", "/api", "-H", "x-privacy-level: STRICT", "-H", "DNT: 1")
    assert {one["stage"]: one["text"] for one in found["stages"]}["privacy"] == "strict"
    request = found["upstream"]["request"]
    assert request.count("rivacy") == 1
    assert "\r\nX-Privacy-Level: strict\r\nDNT: 1\r\n" in request


def test_people_get_a_page() -> None:
    """The text names the route, its place, the losers, and shows the request's lines."""
    said = call("GET", "/api/orders/7?q=%2F", "-H", "Authorization: Bearer t").stdout
    assert 'route "orders" /api/orders (propylon.yaml:9)' in said
    assert "\n  GET /base/7?q=%2F HTTP/1.1\n  Host: 127.0.0.1:9001\n" in said
    assert "all " in said
    assert "less specific" in said
    assert "Bearer" not in said  # forward_token: false
    assert "/metrics" not in said


def test_it_says_the_same_every_time() -> None:
    """Two calls give the same bytes, ids included: a difference is a difference."""
    assert call("GET", "/api").stdout == call("GET", "/api").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["GET", "/api", "--header", "nonsense"],
        ["GET", "/api", "--header", "X-A: 1\r\nX-B: 2"],
        ["GET", "/api HTTP/1.1\r\nHost: x\r\n\r\n"],
        ["GET", "/api", "--client", "somebody"],
    ],
)
def test_nonsense_is_one_sentence(arguments: list[str]) -> None:
    """What cannot be asked at all: status 2 and one sentence."""
    done = call(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("propylon: ")
    assert len(done.stderr.splitlines()) == 1


IDS = re.compile(rb"(?<=X-Request-ID: )[0-9a-f]{32}|(?<=traceparent: 00-)[0-9a-f]{32}-[0-9a-f]{16}")
SHOWN = re.compile(rb"(?im)^((?:authorization|cookie):)[^\r\n]*")
HEADERS = [
    ("Host", "shop.test:81"),
    ("Accept", "text/html,*/*;q=0.8"),
    ("Cookie", "a=1"),
    ("cookie", "b=2"),
    ("X-User-Id", "root"),
    ("x_forwarded_for", "6.6.6.6"),
    ("Connection", "x-gone, keep-alive"),
    ("X-Gone", "1"),
    ("Authorization", "Bearer abc"),
    ("X-Empty", ""),
    ("TE", "trailers"),
]


@pytest.mark.parametrize("target", ["/api/orders/a%2Fb?x=%20&y", "/plain/x", "/plain"])
def test_the_upstream_gets_what_was_explained(tmp_path: Path, target: str) -> None:
    """A running gateway sends byte for byte what explain shows, but for ids that are chance."""
    with Upstream() as upstream:
        routes = [
            {"path": "/api/orders", "service": "up", "rewrite": "/v2", "auth": "none"},
            {
                "path": "/plain",
                "service": "up",
                "auth": "none",
                "headers": {"request": {"set": {"X-Set": "1"}, "remove": ["accept"]}},
            },
        ]
        services = {"up": {"url": f"http://127.0.0.1:{upstream.port}/base"}}
        gateway = Gateway("fast", {"services": services, "routes": routes}, tmp_path)
        try:
            gateway.wait_ready()
            lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
            with RawClient(gateway.port) as client:
                client.send(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
                assert client.read().status == 200
        finally:
            gateway.kill()
        got = upstream.last.head
    headers = [part for name, value in HEADERS for part in ("-H", f"{name}: {value}")]
    found = explained(
        "GET", target, *headers, "--client", "127.0.0.1", "--config", str(gateway.file)
    )
    shown = found["upstream"]["request"].encode("latin-1")
    # Nobody's credentials stay behind in a terminal; that they pass is shown.
    assert SHOWN.sub(rb"\1 (not shown)", IDS.sub(b"*", got)) == IDS.sub(b"*", shown)
    assert b"Bearer" in got


def test_a_body_on_get_shows_that_its_connection_closes() -> None:
    """What the upstream would get includes `Connection: close`, for a GET with a body alone."""
    closing = "\r\nConnection: close"
    said = [
        call(method, "/api/x", "--header", f"Content-Length: {size}").stdout.replace("\n", "\r\n")
        for method, size in (("GET", 5), ("GET", 0), ("POST", 5))
    ]
    assert [closing.strip() in one for one in said] == [True, False, False]


def test_the_breaker_is_described() -> None:
    """When the service's breaker opens, and where the running gateway says whether it is open and why."""
    said = explained("GET", "/api/orders/7")["circuit"]
    assert said == (
        'The breaker of "orders" opens at 5 failures within 120 s, if they are at least 50% of at least 5 requests.'
        " GET /api/v1/circuits tells whether it is open, and why."
    )
    assert said in call("GET", "/api/orders/7").stdout
    assert explained("GET", "/livez")["circuit"] is None
    assert explained("GET", "/no/such/route")["circuit"] is None


def test_a_route_without_a_breaker_has_none_to_describe(file: Path) -> None:
    """`circuit: false` switches it off."""
    file.write_text(FILE.replace("{auth: none}", "{auth: none, circuit: false}"))
    assert explained("GET", "/api/orders/7")["circuit"] is None


def test_limits_are_named(file: Path) -> None:
    """The limits that count the request are a stage of their own; nothing is counted."""
    limited = "service: users, rate_limit: {rate: 10/s, burst: 20, key: [ip, 'header:X-Key']}"
    file.write_text(
        FILE.replace(
            "{name: all, path: /api, service: users}", f"{{name: all, path: /api, {limited}}}"
        )
    )
    found = {stage["stage"]: stage for stage in explained("GET", "/api/x")["stages"]}
    assert found["limit"] == {
        "stage": "limit",
        "passed": True,
        "text": "route:all/default: 10/s, 20 at once, by ip and header:X-Key",
    }


CORS = """\
cors: {origins: ["https://app.example"]}
services: {a: {url: "http://127.0.0.1:9"}}
defaults: {auth: none}
routes:
  - {path: /usual, service: a}
  - {path: /own, service: a, cors: {origins: ["https://own.example"]}}
  - {path: /off, service: a, cors: none}
"""


@pytest.mark.parametrize(
    ("path", "origin", "said"),
    [
        ("/usual", "https://app.example", "may read the answer, by cors."),
        ("/usual", "https://own.example", "may not read the answer, by cors."),
        ("/own", "https://own.example", "may read the answer, by the route's cors."),
        ("/own", "https://app.example", "may not read the answer, by the route's cors."),
        ("/off", "https://app.example", "may not read the answer, by the route's cors."),
        ("/nowhere", "https://app.example", "may read the answer, by cors."),
    ],
)
def test_which_pages_may_read_the_answer(file: Path, path: str, origin: str, said: str) -> None:
    """A request with an Origin is a page's: explain says by which rules its answer may be read."""
    file.write_text(CORS)
    found = explained("GET", path, "-H", f"Origin: {origin}")
    assert found["cors"] == f"Pages of {origin} {said}"
    assert found["cors"] in call("GET", path, "-H", f"Origin: {origin}").stdout
    assert explained("GET", path)["cors"] is None


@pytest.mark.parametrize(("wanted", "got"), [("br;q=0.1, gzip", "in gzip"), ("br", "plain")])
def test_in_which_coding_a_client_gets_answers(file: Path, wanted: str, got: str) -> None:
    """By what the request says that it accepts; nothing is said of a route that compresses nothing."""
    file.write_text(CORS + "  - {path: /packed, service: a, compress: [gzip]}\n")
    found = explained("GET", "/packed", "-H", f"Accept-Encoding: {wanted}")["compression"]
    assert found == f"The route compresses answers (gzip): this client would get them {got}."
    assert explained("GET", "/usual", "-H", f"Accept-Encoding: {wanted}")["compression"] is None


def test_a_preflight_is_explained_by_its_route(file: Path) -> None:
    """The gateway answers it itself; where the route has no CORS, the service gets it."""
    file.write_text(CORS)
    asks = ["-H", "Origin: https://own.example", "-H", "Access-Control-Request-Method: GET"]
    found = explained("OPTIONS", "/own", *asks)
    assert found["stages"][-1]["text"] == "answered by the gateway itself: 204"
    assert explained("OPTIONS", "/off", *asks)["upstream"]["service"] == "a"


def test_without_any_cors(file: Path) -> None:
    """Then the service alone decides."""
    file.write_text(FILE)
    found = explained("GET", "/api", "-H", "Origin: https://app.example")
    assert found["cors"].startswith("CORS is off, so pages of https://app.example may read")


CACHED = """\
services: {shop: {url: "http://127.0.0.1:9003"}}
defaults: {auth: none}
routes:
  - {path: /kept, service: shop, cache: {ttl: 5s, vary: [X-Tier]}}
  - {path: /together, service: shop, coalesce: true}
  - {path: /plain, service: shop}
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["GET", "/kept/a?b=1"],
            "looked up by http://localhost:8000/kept/a?b=1, anonymous, without a cookie, x-tier",
        ),
        (["GET", "/kept", "--header", "Cookie: a=b"], "its Cookie and Authorization"),
        (
            ["GET", "/kept", "--header", "X-Host: evil"],
            "headers of this request that no Vary names",
        ),
        (["POST", "/kept"], "passes by the cache: method"),
        (["GET", "/kept", "--header", "Cache-Control: no-store"], "passes by the cache: no-store"),
        (["GET", "/together"], "only shared with who asks meanwhile"),
    ],
)
def test_the_cache_says_by_what_it_looks_up(file: Path, arguments: list[str], said: str) -> None:
    """The key, or why there is none."""
    file.write_text(CACHED)
    stages = {stage["stage"]: stage["text"] for stage in explained(*arguments)["stages"]}
    assert said in stages["cache"]


CHECKED = """\
services: {shop: {url: "http://127.0.0.1:9003", openapi: true}}
defaults: {auth: none}
routes:
  - {path: /checked, service: shop, requests: validate, undocumented: refuse}
  - {path: /shadow, service: shop, requests: shadow, cache: {ttl: 5s}}
  - {path: /plain, service: shop}
"""


def test_what_is_checked_is_said(file: Path) -> None:
    """Before the cache, and nothing on a route without checks."""
    file.write_text(CHECKED)
    said = {
        path: {stage["stage"]: stage["text"] for stage in explained("GET", path)["stages"]}
        for path in ("/checked", "/shadow", "/plain")
    }
    checked = said["/checked"]["requests"]
    assert checked.startswith('validate: against the document of "shop"')
    assert checked.endswith("what the document does not have is refused, too")
    assert said["/shadow"]["requests"].endswith("what the document does not have passes")
    assert list(said["/shadow"]) == [*list(said["/plain"])[:-1], "requests", "cache", "forward"]
    assert "requests" not in said["/plain"]


def test_a_route_without_a_cache_says_nothing_of_one(file: Path) -> None:
    """As with limits."""
    file.write_text(CACHED)
    assert "cache" not in [stage["stage"] for stage in explained("GET", "/plain")["stages"]]


def test_the_scopes_of_a_document_are_not_known(file: Path) -> None:
    """Nobody has read the document: explain says what the file decides, and that the gateway asks for more."""
    file.write_text(
        "services: {orders: {url: http://127.0.0.1:9001, openapi: true}}\n"
        "routes: [{name: orders, path: /orders, service: orders, auth: optional, security: from-document}]\n"
    )
    said = call("GET", "/orders").stdout
    assert (
        'allowed by the file; the gateway also asks for the scopes in the document of "orders"'
        in said
    )
    assert "forward       ok" in said


def test_guards_are_explained_offline(file: Path) -> None:
    """A password is looked up in the file; a service that decides is named, and not asked."""
    hashed = "$2y$04$mZ0ut5Ur1MlbUZnpd7m9Iun8uT5kOUPgAhSeJqcWq9CLer8ydss5K"  # of "correct horse"
    (file.parent / "users").write_text(f"ann:{hashed}\n")
    file.write_text(
        FILE
        + "  - {name: inner, path: /inner, service: users, basic_auth: {file: users, realm: Inner}}\n"
        + '  - {name: asked, path: /asked, service: users, forward_auth: {url: "http://auth.test/verify?k=s"}}\n'
    )
    assert passed(explained("GET", "/inner"))["authenticate"] is False
    found = explained("GET", "/inner", "-H", "Authorization: Basic YW5uOmNvcnJlY3QgaG9yc2U=")
    assert "authorization" not in found["upstream"]["request"].lower()
    assert "ann of basic_auth:Inner" in json.dumps(found["stages"])
    found = explained("GET", "/asked")
    assert "http://auth.test/verify decides, and is not asked here" in json.dumps(found["stages"])
