"""Kong's declarative files: what is translated does what Kong's documentation says; what is not is closed."""

from pathlib import Path

import pytest

from propylon.commands.imports.command import Imported, translate
from propylon.commands.imports.source import Source
from tests.imports.driving import Case, gateway_of, hold, imported

ROUTED = [
    # strip_path: false, and the service's path is put in front; preserve_host: true.
    Case(
        "GET /orders/7",
        service="orders",
        path="/v2/orders/7",
        host="shop.example",
        headers={"Host": "shop.example"},
    ),
    # strip_path is true when it is not written; the Host is the target's.
    Case("GET /raw/orders/7", service="orders-own-host", path="/v2/7"),
    Case("GET /raw/orders", service="orders-own-host", path="/v2"),
    Case("GET /orders/admin", 403),
    Case("GET /orders/admin", service="orders", path="/v2/orders/admin", client="10.1.2.3"),
    Case(
        "GET /users/ann",
        service="users",
        path="/ann",
        host="users.internal:9000",
        headers={"Host": "api.example.com"},
    ),
    Case("GET /users", service="users", path="/", headers={"Host": "eu.shop.example.com"}),
    Case("GET /users", service="users", path="/", headers={"Host": "a.eu.shop.example.com"}),
    Case("GET /users", 404, headers={"Host": "shop.example.com"}),
    Case(
        "GET /users/7/avatar",
        service="users",
        path="/users/7/avatar",
        headers={"Host": "api.example.com"},
    ),
    Case("GET /users", 404, headers={"Host": "other.example.com"}),
    Case("GET /nowhere", 404),
]


def test_upstreams_are_driven(tmp_path: Path) -> None:
    """Weights, preserve_host, checks, strip_path and regular expressions."""
    found = imported("kong", "upstreams.yml")
    with gateway_of(found.text, tmp_path) as gateway:
        for case in ROUTED:
            hold(gateway, case)
        headers = {"Host": "api.example.com", "X-Internal-User": "root", "X-Gateway": "mine"}
        gateway.get("/users/ann", headers=headers)
        got = gateway.upstream("users").requests[-1].headers
        assert (got.get("x-internal-user"), got["x-gateway"]) == (None, "kong")
        body = gateway.post("/orders", content=b"x" * (8 * 1024 * 1024 + 1))
        assert body.status_code == 413


def test_upstreams_are_reported() -> None:
    """Each line of the file is in the report; the only thing that is weaker says so, and makes the status 1."""
    found = imported("kong", "upstreams.yml")
    said = {finding.at.what: finding for finding in found.report.findings}
    assert (
        said["upstreams[0].targets[2]"].text
        == "left out: its weight is 0, so Kong sends it nothing"
    )
    assert said["services[0].retries"].at.place.line == 26
    lost = [
        finding.text for finding in found.report.findings if finding.verdict == "not translated"
    ]
    (only,) = lost
    assert "/orders/admin-x" in only
    assert found.report.status == 1
    assert "weight: 3}" in found.text
    assert "weight: 1}" in found.text


def test_supabase_is_closed(tmp_path: Path) -> None:
    """API keys and groups are not built: the routes that asked for them answer 503, the open one is open."""
    found = imported("kong", "supabase.yml")
    assert found.report.status == 1
    closed = {finding.closed for finding in found.report.findings if finding.closed}
    assert closed == {"/auth/v1", "/rest/v1"}
    with gateway_of(found.text, tmp_path) as gateway:
        hold(gateway, Case("GET /auth/v1/verify/x", service="auth-v1-open", path="/verify/x"))
        for asked in ("GET /auth/v1/token", "GET /rest/v1/todos", "GET /rest/v1/todos?apikey=anon"):
            hold(gateway, Case(asked, 503))
        preflight = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET"}
        answer = gateway.options("/auth/v1/verify/x", headers=preflight)
        assert answer.headers["access-control-allow-origin"] == "*"
    # The keys are secrets, and stand nowhere in what is written.
    assert "SUPABASE" not in found.text + str(found.report)


def kong(body: str) -> Imported:
    """Translate a file of one service, `a`, with what stands below it."""
    head = '_format_version: "3.0"\nservices:\n- name: a\n  url: http://a.internal:8000\n'
    return translate("kong", [Source("kong.yml", head + body)])


def test_tokens_of_consumers_become_issuers() -> None:
    """The plugin jwt: an issuer for each credential, the secret in a variable, and no token anywhere in the file."""
    found = kong("""\
  plugins: [{name: jwt}]
  routes: [{name: r, paths: [/a]}]
consumers:
- username: shop
  jwt_secrets: [{key: shop-issuer, secret: hush-hush-hush-hush-hush-hush-hush, algorithm: HS256}]
""")
    assert "auth: required" in found.text
    assert "issuer: shop-issuer" in found.text
    assert '"${KONG_JWT_SECRET_1}"' in found.text
    assert "hush" not in found.text + str(found.report)
    assert found.report.status == 0
    assert kong("  plugins: [{name: jwt}]\n  routes: [{name: r, paths: [/a]}]\n").report.status == 1


def test_what_the_importer_does_not_know_closes_the_route() -> None:
    """A plugin of one's own, a key that no Kong had, a pattern that no path says."""
    for body, why in (
        ("  routes: [{name: r, paths: [/a], plugins: [{name: our-own}]}]\n", "the plugin our-own"),
        (
            "  routes: [{name: r, paths: [/a], colour: red}]\n",
            "the importer does not know this key",
        ),
        ('  routes: [{name: r, paths: ["~/a(b|c)/d"]}]\n', "regular expressions in paths"),
        (
            "  routes: [{name: r, paths: [/a], plugins: [{name: ip-restriction, _config: shared}]}]\n",
            "names no addresses",
        ),
        (
            "  routes: [{name: r, paths: [/a], plugins: [{name: cors, _config: shared}]}]\n",
            "does not know this key",
        ),
        (
            "  routes: [{name: r, paths: [/a], plugins: [{name: rate-limiting}]}]\n",
            "no number of requests",
        ),
        ("  routes: [{name: r, paths: [/a], protocols: [grpc]}]\n", "not grpc"),
        ("  routes: [{name: r, paths: [/a], snis: [x.example]}]\n", "by snis"),
        (
            "  routes: [{name: r, paths: [/a]}]\n  plugins: [{name: rate-limiting, config: {month: 9}}]\n",
            "the longest unit is a day",
        ),
    ):
        found = kong(body)
        assert (found.report.status, "status: 503" in found.text) == (1, True), body
        assert any(
            why in finding.text and finding.closed for finding in found.report.findings
        ), body


def test_kongs_order_is_kept() -> None:
    """A route with more fields is tried first there. What it protected is not given to a longer path here."""
    found = kong("""\
  routes:
  - {name: narrow, paths: [/a/b]}
  - {name: methods, paths: [/a], methods: [GET], plugins: [{name: ip-restriction, config: {allow: [10.0.0.0/8]}}]}
""")
    (finding,) = [one for one in found.report.findings if one.closed == "/a/b"]
    assert "stands before it and protects some of its requests" in finding.text


def test_regular_expressions_that_take_less_are_not_opened_to_more() -> None:
    r"""~/users/\d+ is {p1} here, which takes /users/me, too: closed where another route protected that."""
    open_ = '  - {name: number, paths: ["~/users/\\\\d+$"]}\n'
    assert kong(f"  routes:\n{open_}").report.status == 0
    other = "  - {name: all, paths: [/users], plugins: [{name: ip-restriction, config: {allow: [10.0.0.0/8]}}]}\n"
    found = kong(f"  routes:\n{open_}{other}")
    assert [one.closed for one in found.report.findings if one.closed] == ["/users/{p1}"]


TRANSFORMED = """\
  routes: [{name: r, paths: ["~/x/(?<id>[^/]+)$"], plugins: [{name: request-transformer, config: CONFIG}]}]
"""


@pytest.mark.parametrize(
    ("config", "written"),
    [
        ('{add: {headers: ["X-Id:id-$(uri_captures.id)"]}}', 'set: {X-Id: "id-{path.id}"}'),
        ('{add: {headers: ["X-Brace:{a}"]}}', 'set: {X-Brace: "{{a}}"}'),
        ('{append: {headers: ["X-More:$(headers.x-a)"]}}', 'add: {X-More: "{header.x-a}"}'),
        ("{remove: {querystring: [debug]}}", "query: {remove: [debug]}"),
        ('{replace: {uri: "/y/$(uri_captures.id)"}}', 'rewrite: "/y/{id}"'),
        ("{add: {headers: [\"X-Lua:$(os.getenv('x'))\"]}}", "CLOSED: a template of Lua"),
        (
            '{add: {headers: ["X-Lua:$(uri_captures.id .. 1)"]}}',
            "CLOSED: the template $(uri_captures.id .. 1) is Lua",
        ),
        ('{add: {body: ["a:b"]}}', "CLOSED: propylon changes no bodies"),
        ('{rename: {headers: ["a:b"]}}', "CLOSED: a header gets another name"),
    ],
)
def test_transformers(config: str, written: str) -> None:
    """Templates become ours, braces stay braces, and code of Lua closes the route."""
    text = kong(TRANSFORMED.replace("CONFIG", config)).text
    assert written in text
    assert ("CLOSED" in text) == written.startswith("CLOSED")


def test_a_path_that_replaces_the_services_own_closes_the_route() -> None:
    """Kong replaces the whole path; propylon puts the service's path in front."""
    body = TRANSFORMED.replace("CONFIG", '{replace: {uri: "/y"}}')
    text = '_format_version: "3.0"\nservices:\n- name: a\n  url: http://a.internal:8000/base\n'
    found = translate("kong", [Source("kong.yml", text + body)])
    assert "CLOSED: the path replaces /base of the service, too" in found.text
