"""nginx.conf: what is translated does what nginx's documentation says; what is not is closed, or said."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from propylon.commands.imports.command import Imported, translate
from propylon.commands.imports.source import Source, Unreadable
from tests.imports.driving import Case, gateway_of, hold, imported

API = {"Host": "api.example.com"}
CASES = [
    Case("GET /old/x", 301, headers=API),
    Case("GET /robots.txt", 200, headers=API),
    Case("GET /reports/a/b", service="reports", path="/a/b", host="reports", headers=API),
    Case("GET /reports/a/b", 403, headers=API, client="198.51.100.1"),
    Case("GET /metrics-of-app/x", 403, headers=API),
    Case("GET /anything", 404, headers={"Host": "other.example.com"}),
]


def conf(location: str, server: str = "", http: str = "") -> Imported:
    """Translate one server with these directives."""
    text = f"http {{ {http}\nserver {{ {server}\n{location} }} }}\n"
    return translate("nginx", [Source("nginx.conf", text)])


def test_the_setup_in_front_of_uvicorn_is_driven(tmp_path: Path) -> None:
    """A unix socket, hosts, gzip, 301, addresses, a limit."""
    found = imported("nginx", "uvicorn.conf")
    assert "url: unix:/run/app/uvicorn.sock" in found.text
    text = found.text.replace("unix:/run/app/uvicorn.sock", "http://app.internal")
    with gateway_of(text, tmp_path) as gateway:
        for case in CASES:
            hold(gateway, case)
        app = gateway.upstream("app")
        assert gateway.get("/a/b/?x=1", headers=API).status_code == 200
        got = app.requests[-1]
        assert (got.path, got.headers["host"]) == ("/a/b/", "api.example.com")
        assert got.headers["x-edge"] == "nginx"
        statuses = [gateway.get("/login", headers=API).status_code for _ in range(5)]
        assert statuses == [200] * 4 + [429]


def test_the_setup_is_reported() -> None:
    """HTTPS is for the listeners; a prefix that ends within a segment protected more: both make the status 1."""
    found = imported("nginx", "uvicorn.conf")
    lost = {one.at.what: one for one in found.report.findings if one.verdict == "not translated"}
    assert set(lost) == {
        "return", "ssl_certificate", "location ^~ /internal", "location /metrics-of-app",
    }  # fmt: skip
    assert "redirect: https" in lost["return"].todo
    assert found.report.status == 1


@pytest.mark.parametrize(
    ("location", "written"),
    [
        ("location /a/ { proxy_pass http://u:1/; }", "strip_prefix: true"),
        ("location /a/ { proxy_pass http://u:1/b/; }", "rewrite: /b"),
        ("location /a { proxy_pass http://u:1/b; }", "rewrite: /b"),
        ("location /a { proxy_pass http://u:1; }", "path: /a\n    service: u"),
        ("location / { proxy_pass http://u:1/b/; }", "rewrite: /b"),
        ("location = /a { proxy_pass http://u:1/b; }", "exact: true"),
        ("location ~ ^/a/[^/]+/b$ { proxy_pass http://u:1; }", 'path: "/a/{p1}/b"'),
        ("location /a/ { rewrite ^/a/(.*)$ /$1 break; proxy_pass http://u:1; }", "strip_prefix"),
        ("location /a { set $b http://u:1; proxy_pass $b; }", "url: http://u:1"),
        ("location /a { proxy_pass http://unix:/run/a.sock:/b; }", "url: unix:/run/a.sock"),
        (
            "location /a { auth_basic Staff; auth_basic_user_file /p; proxy_pass http://u:1; }",
            "basic_auth: {file: /p, forward: true, realm: Staff}",
        ),
        ("location /a { return 204; }", "respond: {status: 204}"),
        ("location /a { return 301 https://b.example$request_uri; }",
         'redirect: {to: "https://b.example/a/{rest}{query}", status: 301}'),
        ("location /a { client_max_body_size 2k; proxy_pass http://u:1; }", "max_body: 2KiB"),
        ("location /a { add_header X-A b always; proxy_pass http://u:1; }", "set: {X-A: b}"),
        ('location /a { proxy_set_header X-A ""; proxy_pass http://u:1; }', "remove: [X-A]"),
        ("location /a { proxy_set_header X-A $arg_b/$host; proxy_pass http://u:1; }",
         'X-A: "{query.b}/{host}"'),
        ("location /a { proxy_next_upstream off; proxy_pass http://u:1; }", "attempts: 1"),
        ("location /a { deny 192.0.2.7; allow 192.0.2.0/24; deny all; proxy_pass http://u:1; }",
         "clients: {allow: [192.0.2.0/24], deny: [192.0.2.7/32]}"),
        (("location /a { mirror /m; proxy_pass http://u:1; }"
         " location = /m { internal; proxy_pass http://v:1$request_uri; }"), "mirror: {service: v}"),
        (("location /a { auth_request /q; proxy_pass http://u:1; auth_request_set $w $upstream_http_x_user;"
         " proxy_set_header X-User $w; } location = /q { internal; proxy_pass http://v:1/check; }"),
         "url: http://v:1/check, headers: [X-User]"),
    ],
)  # fmt: skip
def test_locations_are_translated(location: str, written: str) -> None:
    """One of each, with nothing closed."""
    found = conf(location)
    assert written.replace('"', "") in found.text.replace('"', ""), found.text
    assert "CLOSED" not in found.text, found.report


@pytest.mark.parametrize(
    ("upstream", "written"),
    [
        ("server a:1 weight=3; server b:1 backup;",
         "[{url: http://a:1, weight: 3}, {url: http://b:1, priority: -1}]"),
        ("server a:1; server b:1 down;", "url: http://a:1"),
        ("ip_hash; server a:1; server b:1;", "balance: {hash: ip}"),
        ("hash $cookie_c consistent; server a:1; server b:1;", "balance: {hash: cookie:c}"),
        ("server a:1 max_conns=4;", "max_in_flight: 4"),
        ("server a:1 max_fails=3 fail_timeout=20s;", "ejection: {failures: 3, time: 20s}"),
    ],
)  # fmt: skip
def test_upstreams_are_translated(upstream: str, written: str) -> None:
    """Servers with what stands beside them."""
    found = conf("location / { proxy_pass http://u; }", http=f"upstream u {{ {upstream} }}")
    assert (written in found.text, "host: u" in found.text) == (True, True), found.text
    assert found.report.status == 0, found.report


def test_split_clients_are_a_split() -> None:
    """Shares of requests, and who draws them is told."""
    clients = "split_clients $remote_addr $v { 5% next; * now; }"
    servers = "upstream next { server a:1; } upstream now { server b:1; }"
    found = conf("location / { proxy_pass http://$v; }", http=f"{clients} {servers}")
    assert "{service: next, weight: 5}, {service: now, weight: 95}" in found.text
    assert any("drawn anew" in one.text for one in found.report.findings)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("location /a { if ($http_x) { return 403; } proxy_pass http://u:1; }", "a condition"),
        ("location /a { limit_except GET { deny all; } proxy_pass http://u:1; }", "limit_except"),
        (
            "location /a { satisfy any; allow 10.0.0.0/8; deny all; proxy_pass http://u:1; }",
            "enough",
        ),
        ("location /a { auth_basic x; proxy_pass http://u:1; }", "its file is not named"),
        ("location /a { auth_request /none; proxy_pass http://u:1; }", "is not plain"),
        ("location /a { limit_req zone=none; proxy_pass http://u:1; }", "counts by something else"),
        (
            "location /a { proxy_set_header X-A $ours; proxy_pass http://u:1; }",
            "a variable of nginx",
        ),
        ("location /a { proxy_pass http://$ours; }", "has variables"),
        ("location /a/ { proxy_pass http://u:1/b; }", "without a slash"),
        ("location /a { alias /srv/; }", "it answers with alias"),
        ("location /a { fastcgi_pass u:1; }", "it answers with fastcgi_pass"),
        ("location /a { modsecurity on; proxy_pass http://u:1; }", "modsecurity is not translated"),
        ("location /a { proxy_pass http://u:1; } location ~ \\.bak$ { deny all; }", "no path says"),
        ("location /a { include /etc/nginx/guard.conf; proxy_pass http://u:1; }", "include is not"),
    ],
)
def test_what_is_lost_closes_the_route(location: str, why: str) -> None:
    """The route answers 503, and the status is 1."""
    found = conf(location)
    assert (found.report.status, "status: 503" in found.text) == (1, True), found.text
    assert any(why in one.text and one.closed for one in found.report.findings), found.report


@pytest.mark.parametrize(
    "server",
    [
        "if ($bad) { return 403; }",
        "ssl_verify_client on;",
        "server_name ~^(www|api)\\.example\\.com$;",
        "lua_thing x;",
        "rewrite ^/(.*)$ /x/$1 last;",
    ],
)
def test_what_a_server_loses_closes_its_routes(server: str) -> None:
    """Conditions, certificates, names that are expressions, unknown directives."""
    found = conf("location /a { proxy_pass http://u:1; }", server=server)
    assert (found.report.status, "status: 503" in found.text) == (1, True), found.text


def test_an_expression_comes_before_a_longer_prefix() -> None:
    """Here the longer path wins, so it is closed where the expression was protected."""
    guarded = "location ~ ^/a/ { deny all; proxy_pass http://u:1; }"
    found = conf(f"{guarded} location /a/b {{ proxy_pass http://v:1; }}")
    assert any(
        "stands before it" in one.text and one.closed == "/a/b" for one in found.report.findings
    )
    firm = conf(f"{guarded} location ^~ /a/b {{ proxy_pass http://v:1; }}")
    assert "CLOSED" not in firm.text


def test_guards_of_the_server_count_below() -> None:
    """A level that has none of its own inherits them; one that has some does not."""
    found = conf(
        "location /a { proxy_pass http://u:1; } location /b { allow 10.0.0.0/8; deny all; proxy_pass http://u:1; }",
        server="allow 192.0.2.0/24; deny all;",
    )
    assert found.text.count('clients: {allow: ["192.0.2.0/24"]}') == 1, found.text
    assert found.text.count('clients: {allow: ["10.0.0.0/8"]}') == 1


def test_a_listener_of_its_own_is_closed() -> None:
    """What only this machine could reach must not be open to all."""
    servers = (
        "server { listen 80; server_name a.example; location / { proxy_pass http://u:1; } }"
        "server { listen 127.0.0.1:81; server_name b.example; location / { proxy_pass http://v:1; } }"
    )
    found = translate("nginx", [Source("nginx.conf", servers)])
    assert any("listener of its own" in one.text and one.closed for one in found.report.findings)
    assert found.text.count("CLOSED") == 1


def test_named_files_are_included() -> None:
    """A file that another one includes stands in its place, if it is named, too."""
    root = Source("nginx.conf", "http { include conf.d/*.conf; }")
    site = Source(
        "conf.d/a.conf", "server {\n location / {\n include guard;\n proxy_pass http://u:1; } }"
    )
    guard = Source("guard", "deny all;")
    found = translate("nginx", [root, site, guard])
    assert "clients: {deny: [0.0.0.0/0, ::/0]}" in found.text.replace('"', ""), found.text
    assert {str(one.at.place) for one in found.report.findings} >= {"conf.d/a.conf:4", "guard:1"}


@pytest.mark.parametrize(
    "text",
    ["", "server {", "server { listen 80; } }", "server { listen 80", "events { }", 'server { a "b; }',
     "server {" * 100 + "}" * 100, "include nginx.conf;"],
)  # fmt: skip
def test_what_is_no_configuration_ends_with_a_message(text: str) -> None:
    """Never with a traceback."""
    with pytest.raises(Unreadable, match=r"nginx.conf"):
        translate("nginx", [Source("nginx.conf", text)])


def test_files_that_include_each_other_end() -> None:
    """A circle is no endless one."""
    files = [Source("a.conf", "include b.conf;"), Source("b.conf", "include a.conf; server { }")]
    with pytest.raises(Unreadable, match="include each other"):
        translate("nginx", files)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="{};\"'\\ \n#$~=^/a", max_size=60))
def test_no_text_breaks_the_reader(inside: str) -> None:
    """It is translated, or refused with a place."""
    try:
        conf(inside)
    except Unreadable as error:
        assert str(error).startswith("nginx.conf:")
