"""apisix.yaml: what is translated does what APISIX' documentation says; what is not is closed."""

from pathlib import Path

import pytest

from propylon.commands.imports.command import Imported, translate
from propylon.commands.imports.source import Source
from tests.imports.driving import Case, gateway_of, hold, imported

WEB = {"X-Channel": "web"}
OFFICE = "10.9.8.7"
ROUTED = [
    Case("GET /old/orders/7", service="orders", path="/new/orders/7"),
    Case(
        "GET /orders/7/items", service="orders", path="/orders/7/items", headers=WEB, client=OFFICE
    ),
    Case("GET /orders/7/items", 403, headers=WEB),
    Case("DELETE /orders/7/items", 405, headers=WEB, client=OFFICE),
    # Without the header the route is as if it were not there, and a path below is another one.
    Case("GET /orders/7/items", 404, client=OFFICE),
    Case("GET /orders/7/items/1", 404, headers=WEB, client=OFFICE),
    Case(
        "GET /about",
        service="site",
        path="/about",
        host="www.example.com",
        headers={"Host": "www.example.com"},
    ),
    Case("GET /partners/x", 503),
]


def test_routes_are_driven(tmp_path: Path) -> None:
    """`/*`, a rewrite by a regular expression, checks, pass_host, vars, addresses, and a limit."""
    found = imported("apisix", "apisix.yaml")
    with gateway_of(found.text, tmp_path) as gateway:
        for case in ROUTED:
            hold(gateway, case)
        statuses = [gateway.get("/old/x").status_code for _ in range(100)]
        assert statuses.count(200) == 99
        assert gateway.get("/old/x", client="192.0.2.9").status_code == 200


def test_the_upstream_is_translated() -> None:
    """Timeouts, retries, checks with APISIX' defaults, and weights without their common divisor."""
    found = imported("apisix", "apisix.yaml")
    assert "weight: 1" in found.text
    assert "weight: 2" in found.text
    assert "timeouts: {connect: 2s, first_byte: 10s, idle: 10s, total: 84s}" in found.text
    # Five failures of HTTP would do there, but two of TCP: the lowest counts.
    assert "unhealthy_after: 2" in found.text
    assert found.report.status == 1


def route(plugins: str, *, uri: str = "/a/*", more: str = "") -> Imported:
    """Translate a file of one route with plugins."""
    text = f"""\
routes:
  - id: r
    uri: {uri}
    upstream: {{type: roundrobin, pass_host: node, nodes: {{"a.internal:8000": 1}}}}
    plugins:
      {plugins}
{more}
#END
"""
    return translate("apisix", [Source("apisix.yaml", text)])


@pytest.mark.parametrize(
    ("plugins", "uri", "written"),
    [
        ('proxy-rewrite: {regex_uri: ["^/a/(.*)", "/$1"]}', "/a/*", "strip_prefix: true"),
        ('proxy-rewrite: {regex_uri: ["^/a/(.*)", "/b/c/$1"]}', "/a/*", "rewrite: /b/c"),
        ('proxy-rewrite: {regex_uri: ["^/a/(.*)", "/b/$1"]}', "/a/v1/*", "rewrite: /b/v1"),
        (
            'proxy-rewrite: {regex_uri: ["^/a/([^/]+)/(.*)$", "/b/$1/$2"]}',
            "/a/:p1/*",
            'rewrite: "/b/{p1}"',
        ),
        ("proxy-rewrite: {uri: /b}", "/a", "rewrite: /b"),
        ("limit-req: {rate: 2, burst: 3, key: remote_addr}", "/a", "rate: 2/s, burst: 4, key: ip"),
        (
            "limit-count: {count: 6, time_window: 10, key: http_x_key}",
            "/a",
            "burst: 6, key: header:x-key",
        ),
        ("client-control: {max_body_size: 1000}", "/a", "max_body: 1000"),
        ("redirect: {uri: /b/c, ret_code: 301}", "/a", "redirect: {to: /b/c, status: 301}"),
        (
            "fault-injection: {abort: {http_status: 418, body: no}}",
            "/a",
            "respond: {status: 418, body:",
        ),
    ],
)
def test_plugins_are_translated(plugins: str, uri: str, written: str) -> None:
    """One plugin each, with nothing lost."""
    found = route(plugins, uri=uri)
    assert written in found.text
    assert found.report.status == 0, found.report


@pytest.mark.parametrize(
    ("plugins", "why"),
    [
        ("our-own: {}", "the plugin our-own"),
        ("jwt-auth: {}", "the plugin jwt-auth"),
        ('proxy-rewrite: {regex_uri: ["^/a/(b|c)/(.*)", "/$1/$2"]}', "no path says"),
        ('proxy-rewrite: {regex_uri: ["^/a/b/(.*)", "/$1"]}', "takes other paths than the route"),
        ("proxy-rewrite: {uri: /b}", "every path below becomes this one"),
        ("proxy-rewrite: {method: GET}", "another method"),
        ("limit-count: {count: 5, time_window: 60, key: arg_x}", "a limit by var arg_x"),
        ("ip-restriction: {whitelist: [10.0.0.0/8], colour: red}", "does not know this key"),
        (
            "openid-connect: {discovery: 'https://x/y', client_id: a, client_secret: b}",
            "logs users in",
        ),
        ("cors: {_meta: {filter: [[arg_a, '==', 'b']]}}", "for some requests only"),
    ],
)
def test_lost_protection_closes_the_route(plugins: str, why: str) -> None:
    """The route answers 503, and the status is 1."""
    found = route(plugins)
    assert (found.report.status, "status: 503" in found.text) == (1, True)
    assert any(why in one.text and one.closed for one in found.report.findings), found.report


def test_plugins_count_from_the_outside_in() -> None:
    """Those of a global rule, of a service and of a plugin_config count for a route; its own win."""
    text = """\
routes:
  - {id: r, uri: /a, service_id: 1, plugin_config_id: 2, plugins: {client-control: {max_body_size: 3}}}
services: [{id: 1, upstream: {type: roundrobin, nodes: {"a:1": 1}}, plugins: {client-control: {max_body_size: 1}}}]
plugin_configs: [{id: 2, plugins: {client-control: {max_body_size: 2}, ip-restriction: {blacklist: [192.0.2.1]}}}]
global_rules: [{id: 1, plugins: {prometheus: {}, key-auth: {}}}]
"""
    found = translate("apisix", [Source("apisix.yaml", text)])
    assert "max_body: 3" in found.text
    assert 'clients: {deny: ["192.0.2.1"]}' in found.text
    assert [one.closed for one in found.report.findings if one.closed] == ["/a"]
