"""application.yml of Spring Cloud Gateway: what is translated does what its documentation says; what is not is closed."""

from pathlib import Path

import pytest

from propylon.commands.imports.command import Imported, translate
from propylon.commands.imports.known import has_key
from propylon.commands.imports.source import Source, Unreadable
from tests.imports.driving import Case, gateway_of, hold, imported

APP = {"X-Channel": "app"}
ROUTED = [
    Case("GET /api/users/7", service="users", path="/users/7"),
    Case("GET /api/users", service="users", path="/users"),
    Case("DELETE /api/users/7", 405),
    Case(
        "GET /api/orders/7",
        service="orders",
        path="/orders/7",
        host="shop.example",
        headers={**APP, "Host": "shop.example"},
    ),
    Case("GET /api/orders", service="orders", path="/orders", headers=APP),
    # Without the header, and one level deeper, the route for everything takes it.
    Case("GET /api/orders", service="site", path="/api/orders"),
    Case("GET /api/orders/7/items", service="site", path="/api/orders/7/items", headers=APP),
    Case("GET /fallback/users", service="fallback", path="/fallback/users"),
    # The route /legacy/** stands behind /**, which takes all of its requests.
    Case("GET /legacy/x", service="site", path="/legacy/x"),
]


def test_routes_are_driven(tmp_path: Path) -> None:
    """StripPrefix, RewritePath, PreserveHostHeader, RequestSize, headers, the order of routes, and the fallback."""
    found = imported("spring", "application.yml")
    with gateway_of(found.text, tmp_path) as gateway:
        for case in ROUTED:
            hold(gateway, case)
        answer = gateway.get("/api/users", headers={"X-Internal-User": "root"})
        assert answer.headers["x-gateway"] == "spring"
        assert "x-internal-user" not in gateway.upstream("users").requests[-1].headers
        body = gateway.post("/api/orders", headers=APP, content=b"x" * (5 * 1024 * 1024 + 1))
        assert body.status_code == 413
        if has_key("route", "fallback"):
            gateway.upstream("users").fail(9)
            hold(gateway, Case("GET /api/users/7", service="fallback", path="/users/7"))


def test_the_report_names_what_java_says() -> None:
    """No file says what a SecurityWebFilterChain does, so the status is 1; a route that is never reached is left out."""
    report = imported("spring", "application.yml").report
    lost = [one for one in report.findings if one.verdict == "not translated"]
    assert "SecurityWebFilterChain" in lost[0].text
    assert report.status == 1
    assert any(one.text.startswith("left out: the route / ") for one in report.findings)


def gateway(route: str, more: str = "") -> Imported:
    """Translate a file with one route."""
    text = f"spring.cloud.gateway:\n  routes:\n  - {{id: r, uri: 'http://a.internal:8000', {route}}}\n{more}"
    return translate("spring", [Source("application.yml", text)])


@pytest.mark.parametrize(
    ("route", "written"),
    [
        ("predicates: ['Path=/a/b/**'], filters: [StripPrefix=2]", "strip_prefix: true"),
        ("predicates: ['Path=/a/b/**'], filters: [StripPrefix=1, PrefixPath=/c]", "rewrite: /c/b"),
        ("predicates: ['Path=/a/{id}'], filters: ['SetPath=/b/{id}']", 'rewrite: "/b/{id}"'),
        (
            "predicates: ['Path=/red/**'], filters: ['RewritePath=/red/?(?<s>.*), /$\\{s}']",
            "CLOSED",
        ),
        (
            "predicates: ['Path=/red/**'], filters: ['RewritePath=/red(?<s>/?.*), /blue$\\{s}']",
            "rewrite: /blue",
        ),
        ("predicates: ['Path=/a/**'], filters: ['RewritePath=/a, /b']", "rewrite: /b"),
        ("predicates: ['Path=/a', 'Query=green']", "match: {query: {green: true}}"),
        ("predicates: ['Path=/a', 'Cookie=c, one|two']", "match: {cookies: {c: [one, two]}}"),
        (
            "predicates: ['Path=/a', 'RemoteAddr=192.168.1.1/24']",
            'clients: {allow: ["192.168.1.0/24"]}',
        ),
        (
            "predicates: ['Path=/a'], filters: ['SetRequestHeader=X-A, b']",
            "headers: {request: {set: {X-A: b}}}",
        ),
        (
            "predicates: ['Path=/a'], filters: ['RedirectTo=302, https://b.example']",
            "to: https://b.example",
        ),
        (
            (
                "predicates: ['Path=/a'], filters: [{name: RequestRateLimiter, args: {redis-rate-limiter.replenishRate: 1,"
                " redis-rate-limiter.burstCapacity: 60, redis-rate-limiter.requestedTokens: 60}}]"
            ),
            "rate: 1/m, burst: 1, key: caller",
        ),
        (
            "predicates: ['Path=/a'], filters: [{name: Retry, args: {retries: 2, statuses: BAD_GATEWAY}}]",
            "attempts: 3",
        ),
    ],
)
def test_predicates_and_filters_are_translated(route: str, written: str) -> None:
    """One of each."""
    found = gateway(route)
    assert written in found.text, found.text
    assert ("CLOSED" in found.text) == (written == "CLOSED"), found.report


@pytest.mark.parametrize(
    ("route", "why"),
    [
        ("predicates: ['Path=/a', 'Between=x, y']", "the predicate Between"),
        ("predicates: ['Path=/a/*.js']", "within a segment"),
        ("predicates: ['Path=/a', 'Header=X-A, \\d+']", "regular expression"),
        ("predicates: ['Path=/a'], filters: [Ours=1]", "the filter Ours"),
        ("predicates: ['Path=/a'], filters: [TokenRelay=]", "logs users in"),
        ("predicates: ['Path=/a/**'], filters: ['SetPath=/b']", "every path below becomes /b"),
        ("predicates: ['Path=/a/**'], filters: ['StripPrefix=3']", "3 segments are taken off"),
        ("predicates: ['Path=/a'], filters: ['SetRequestHeader=X-A, {other}']", "has a variable"),
        ("predicates: ['Path=/a'], colour: red", "does not know this key"),
        (
            "predicates: ['Path=/a'], filters: [{name: RequestSize, args: {maxSize: 5, colour: red}}]",
            "this argument",
        ),
        (
            "predicates: [{name: Path, args: {a: /a}}, {name: Query, args: {param: x, colour: red}}]",
            "this argument",
        ),
    ],
)
def test_lost_protection_closes_the_route(route: str, why: str) -> None:
    """The route answers 503, and the status is 1."""
    found = gateway(route)
    assert (found.report.status, "status: 503" in found.text) == (1, True)
    assert any(why in one.text and one.closed for one in found.report.findings), found.report


def test_a_resource_server_asks_for_tokens_everywhere() -> None:
    """spring.security.oauth2.resourceserver.jwt: all routes ask for a token of the issuer; a login closes all."""
    issuer = (
        "spring.security.oauth2.resourceserver.jwt.issuer-uri: https://login.example/realms/shop\n"
    )
    found = gateway("predicates: ['Path=/a']", issuer)
    assert (
        "discovery_url: https://login.example/realms/shop/.well-known/openid-configuration"
        in found.text
    )
    assert "auth: required" in found.text
    found = gateway("predicates: ['Path=/a']", "spring.security.user.name: ann\n")
    assert "status: 503" in found.text


def test_later_documents_and_profiles() -> None:
    """A later document replaces the routes of an earlier one; those of a profile are not taken over."""
    route = "spring: {{cloud: {{gateway: {{routes: [{{id: r, uri: 'http://{name}:1', predicates: ['Path=/{name}']}}]}}}}}}\n"
    text = "---\n".join(route.format(name=name) for name in ("one", "two"))
    profile = "---\nspring.config.activate.on-profile: test\n" + route.format(name="three")
    found = translate("spring", [Source("application.yml", text + profile)])
    assert "http://two:1" in found.text
    assert "http://one:1" not in found.text
    assert "http://three:1" not in found.text
    assert any("the profile test" in one.text for one in found.report.findings)
    with pytest.raises(Unreadable, match="no application.yml of a gateway"):
        translate("spring", [Source("application.yml", "spring: {application: {name: x}}\n")])


def test_weights_of_a_group_become_shares() -> None:
    """Two routes that differ in service and weight are one with `split`; the shares stand in its place."""
    route = (
        "  - {{id: {name}, uri: 'http://{name}.internal:80', predicates: ['Path=/a', {weight}]}}\n"
    )
    text = "spring.cloud.gateway:\n  routes:\n"
    text += route.format(name="old", weight="'Weight=g, 8'")
    text += route.format(name="new", weight="{name: Weight, args: {group: g, weight: 2}}")
    found = translate("spring", [Source("application.yml", text)])
    assert "split: [{service: old, weight: 8}, {service: new, weight: 2}]" in found.text
    assert found.text.count("path: /a") == 1
