"""Traefik's dynamic files and labels: what is translated does what Traefik's documentation says; what is not is closed."""

from pathlib import Path

import pytest

from propylon.commands.imports.command import Imported, translate
from propylon.commands.imports.known import has_key
from propylon.commands.imports.source import Source, Unreadable
from propylon.commands.imports.traefik.rules import BadRule, alternatives
from tests.imports.driving import Case, gateway_of, hold, imported

API, SHOP = {"Host": "api.example.com"}, {"Host": "shop.example.com"}
LABELLED = [
    Case("GET /v1/orders/7", service="api", path="/orders/7", host="api.example.com", headers=API),
    Case("GET /v1", service="api", path="/", headers=API),
    Case("GET /v1/orders", 404, headers={"Host": "other.example.com"}),
    Case("GET /admin/users", 503, headers=API),
]
FILED = [
    Case("PUT /api/orders", 405, headers=SHOP),
    Case("GET /api/orders/internal/x", 403, headers=SHOP),
    Case(
        "GET /api/orders/internal/x", service="orders", path="/api/orders/internal/x",
        host="shop.example.com", headers=SHOP, client="10.200.0.1",
    ),
    Case("GET /ping", 503),
]  # fmt: skip


def test_labels_are_driven(tmp_path: Path) -> None:
    """Host and prefix, strip, a limit; basic auth with users in the labels is closed."""
    found = imported("traefik", "compose.yml")
    with gateway_of(found.text, tmp_path) as gateway:
        for case in LABELLED:
            hold(gateway, case)
        statuses = [gateway.get("/v1/x", headers=API).status_code for _ in range(60)]
        assert 429 in statuses
    assert "$2y$" not in found.text + str(found.report)


def test_labels_are_reported() -> None:
    """HTTPS is for the listeners, which no label says, so the status is 1; a container that is not enabled is not read."""
    found = imported("traefik", "compose.yml")
    lost = {
        one.at.what: one.todo for one in found.report.findings if one.verdict == "not translated"
    }
    assert "redirect: https" in lost["http.routers.api-http"]
    assert "redirect: https" in lost["http.routers.api.tls"]
    assert "htpasswd -B" in lost["http.middlewares.admin-auth.basicauth.users"]
    assert "registry.example.com/internal" not in found.text
    assert found.report.status == 1


def test_a_dynamic_file_is_driven(tmp_path: Path) -> None:
    """TOML: weights, chains, the order of routers, addresses, an entry point of its own."""
    found = imported("traefik", "dynamic.toml")
    with gateway_of(found.text, tmp_path) as gateway:
        for case in FILED:
            hold(gateway, case)
        for _ in range(5):
            answer = gateway.get(
                "/api/orders/7",
                headers={**SHOP, "X-Debug": "1", "Origin": "https://app.example.com"},
            )
            assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        both = [*gateway.upstream("orders").requests, *gateway.upstream("orders-next").requests]
        got = [one for one in both if one.path == "/orders/7"]
        assert len(got) == 5
        assert {(one.headers["x-edge"], one.headers.get("x-debug")) for one in got} == {
            ("traefik", None)
        }
    lines = {one.at.what: one.at.place.line for one in found.report.findings}
    text = (Path(__file__).parent / "traefik/dynamic.toml").read_text().splitlines()
    assert text[lines["http.routers.shop-internal.rule"] - 1].startswith(
        '  rule = "Host(`shop.example.com`) && PathPrefix(`/api/orders/internal`)"'
    )


def test_forward_auth_asks_or_closes() -> None:
    """Where this version asks another service, the route is open to whom that lets in; else it is closed."""
    found = imported("traefik", "dynamic.toml")
    closed = {one.closed for one in found.report.findings if one.closed}
    if has_key("route", "forward_auth"):
        assert (
            "forward_auth: {url: http://auth.internal:9000/verify, headers: [X-User]}" in found.text
        )
        assert "/account" not in closed
    else:
        assert "/account" in closed


def dynamic(rule: str, middleware: str = "") -> Imported:
    """Translate a file of one router, with one middleware perhaps."""
    text = f"""\
http:
  routers:
    r: {{rule: "{rule}", service: a{', middlewares: [m]' if middleware else ''}}}
  services:
    a: {{loadBalancer: {{servers: [{{url: "http://a.internal:8000"}}]}}}}
  middlewares: {{{f'm: {{{middleware}}}' if middleware else ''}}}
"""
    return translate("traefik", [Source("dynamic.yml", text)])


@pytest.mark.parametrize(
    ("rule", "written"),
    [
        ("Path(`/a`)", "exact: true"),
        ("PathPrefix(`/a/`)", "path: /a"),
        ("Host(`x.example`) || Host(`y.example`)", "hosts: [x.example, y.example]"),
        ("PathPrefix(`/a`) && (Method(`GET`) || Method(`PUT`))", "methods: [GET, PUT, WEBSOCKET]"),
        ("PathPrefix(`/a`) && Header(`X-A`, `b`)", "match: {headers: {X-A: [b]}}"),
        ("PathPrefix(`/a`) && HeaderRegexp(`X-A`, `^(b|c)$`)", "match: {headers: {X-A: [b, c]}}"),
        ("PathPrefix(`/a`) && Query(`m`, `1`)", 'match: {query: {m: ["1"]}}'),
        ("PathPrefix(`/a`) && ClientIP(`10.1.2.3/8`)", 'clients: {allow: ["10.0.0.0/8"]}'),
        ("PathRegexp(`^/a/[^/]+/b$`)", 'path: "/a/{p1}/b"'),
        ("Path(`/a/{id:[0-9]+}`)", 'path: "/a/{id}"'),
    ],
)
def test_rules_are_translated(rule: str, written: str) -> None:
    """One matcher each, with nothing lost."""
    found = dynamic(rule)
    assert written in found.text, found.text
    assert found.report.status == 0, found.report


@pytest.mark.parametrize(
    ("middleware", "written"),
    [
        ("replacePath: {path: /b}", "CLOSED"),
        ("addPrefix: {prefix: /b}", "rewrite: /b/a"),
        ("replacePathRegex: {regex: '^/a/(.*)', replacement: '/b/$1'}", "rewrite: /b"),
        (
            "rateLimit: {average: 30, period: 1m, burst: 5}",
            "{name: m, rate: 30/m, burst: 5, key: ip}",
        ),
        ("inFlightReq: {amount: 4}", "{name: m, in_flight: 4, key: route}"),
        ("buffering: {maxRequestBodyBytes: 2000}", "max_body: 2000"),
        ("headers: {frameDeny: true, stsSeconds: 60}", "X-Frame-Options: DENY"),
        ("retry: {attempts: 3}", "attempts: 3"),
        ("basicAuth: {usersFile: /etc/passwd}", "basic_auth: {file: /etc/passwd, forward: true}"),
        ("compress: {minResponseBodyBytes: 9}", "compress: {encodings: [gzip"),
    ],
)
def test_middlewares_are_translated(middleware: str, written: str) -> None:
    """One of each."""
    found = dynamic("PathPrefix(`/a`)", middleware)
    assert written in found.text
    assert ("CLOSED" in found.text) == (written == "CLOSED"), found.report


@pytest.mark.parametrize(
    ("rule", "middleware", "why"),
    [
        ("!Path(`/a`)", "", "cannot be negated"),
        ("PathPrefix(`/a`) && HeaderRegexp(`X-A`, `[0-9]+`)", "", "the regular expression"),
        ("HostRegexp(`^[ab].example$`)", "", "for hosts"),
        ("PathRegexp(`(png|jpg)$`)", "", "for paths"),
        ("Ours(`/a`)", "", "the matcher Ours"),
        ("PathPrefix(`/a`", "", "the rule lacks )"),
        ("PathPrefix(`/a`)", "digestAuth: {users: ['a:b:c']}", "the middleware digestAuth"),
        ("PathPrefix(`/a`)", "ipAllowList: {sourceRange: []}", "it names no addresses"),
        ("PathPrefix(`/a`)", "plugin: {ours: {a: b}}", "the middleware plugin"),
        (
            "PathPrefix(`/a`)",
            "ipAllowList: {sourceRange: ['10.0.0.0/8'], colour: red}",
            "does not know this key",
        ),
        ("PathPrefix(`/`)", "stripPrefix: {prefixes: ['/a']}", "only some paths"),
        ("PathPrefix(`/a`)", "chain: {middlewares: [m]}", "is not in these files"),
    ],
)
def test_lost_protection_closes_the_route(rule: str, middleware: str, why: str) -> None:
    """The route answers 503, and the status is 1."""
    found = dynamic(rule, middleware)
    assert (found.report.status, "status: 503" in found.text) == (1, True)
    assert any(why in one.text and one.closed for one in found.report.findings), found.report


def test_a_redirect_takes_the_whole_url() -> None:
    """RedirectRegex with the route's own host: path and query go along."""
    middleware = "redirectRegex: {regex: '^https?://old.example/(.*)', replacement: 'https://new.example/$${1}'}"
    found = dynamic("Host(`old.example`)", middleware.replace("$$", "$"))
    assert 'redirect: {to: "https://new.example/{rest}{query}", status: 307}' in found.text
    assert found.report.status == 0


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("A(`1`) && B(`2`) || C(`3`)", [["A", "B"], ["C"]]),
        ("A(`1`) && (B(`2`) || C(`3`))", [["A", "B"], ["A", "C"]]),
        ("!(A(`1`) || B(`2`))", [["!A", "!B"]]),
        ("!(A(`1`) && !B(`2`))", [["!A"], ["B"]]),
    ],
)
def test_rules_are_taken_apart(rule: str, names: list[list[str]]) -> None:
    """Alternatives, by the usual precedence and De Morgan."""
    found = [["!" * one.negated + one.name for one in matchers] for matchers in alternatives(rule)]
    assert found == names


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "A(`1`) &&",
        "A(`1`) B(`2`)",
        "(" * 100 + "A(`1`)" + ")" * 100,
        "!" * 500 + "A(`1`)",
        " && ".join(["(A(`1`) || B(`2`))"] * 20),
        "A(`" + "x" * 20_000 + "`)",
        "A(1)",
    ],
)
def test_hostile_rules_end(rule: str) -> None:
    """Depth, length and the number of alternatives are bounded."""
    with pytest.raises(BadRule):
        alternatives(rule)


def test_what_is_no_configuration_is_refused() -> None:
    """A static file, and a compose file without labels."""
    for text in ("entryPoints: {web: {address: ':80'}}\n", "services: {a: {image: b}}\n"):
        with pytest.raises(Unreadable, match="no dynamic configuration"):
            translate("traefik", [Source("x.yml", text)])


def test_middlewares_of_an_entry_point_count_for_all_routers() -> None:
    """They stand on Traefik's command line; one that is in no file closes every route. Labels of Swarm count, too."""
    compose = """\
services:
  traefik:
    image: traefik
    command: ["--entryPoints.web.http.middlewares=office@docker,elsewhere@file"]
  a:
    image: a
    deploy:
      labels:
        - traefik.http.routers.a.rule=PathPrefix(`/a`)
        - traefik.http.services.a.loadbalancer.server.port=80
        - traefik.http.middlewares.office.ipallowlist.sourcerange=10.0.0.0/8
"""
    found = translate("traefik", [Source("compose.yml", compose)])
    assert 'clients: {allow: ["10.0.0.0/8"]}' in found.text
    assert "CLOSED: the middleware elsewhere@file is not in these files" in found.text
    alone = translate("traefik", [Source("compose.yml", compose.replace(",elsewhere@file", ""))])
    assert "CLOSED" not in alone.text
    assert alone.report.status == 0
