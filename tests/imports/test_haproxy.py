"""haproxy.cfg: what is translated does what HAProxy's documentation says; what is not is closed, or said."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from propylon.commands.imports.command import Imported, translate
from propylon.commands.imports.source import Source, Unreadable
from tests.imports.driving import FOLDER

BACK = "backend b\n server s u:1\nbackend c\n server s v:1\n"


def cfg(front: str, back: str = "") -> Imported:
    """Translate a frontend with these lines, before the backends b and c."""
    lines = "\n".join(f" {line}" for line in front.split("; "))
    more = f"backend d\n {back.replace('; ', chr(10))}\n" if back else ""
    return translate("haproxy", [Source("haproxy.cfg", f"frontend f\n{lines}\n{BACK}{more}")])


def test_discovery_checks_and_cookies_are_translated() -> None:
    """server-template, httpchk with expect, cookie insert; what resolvers say has no counterpart."""
    source = Source("haproxy.cfg", (FOLDER / "haproxy/haproxy.cfg").read_text())
    found = translate("haproxy", [source])
    for written in (
        "url: http://api.internal:8000",
        "path: /healthz",
        "status: [200]",
        'sticky: {cookie: SRV, secret: "${STICKY_SECRET}", http_only: true}',
        "{url: http://shop-c.internal:8000, priority: -1}",
        "max_in_flight: 50",
        'clients: {allow: ["10.0.0.0/8", "192.0.2.0/24"]}',
        "strip_prefix: true",
    ):
        assert written in found.text, found.text
    assert found.report.status == 0, found.report
    assert any("resolvers" in one.text for one in found.report.findings)


@pytest.mark.parametrize(
    ("front", "written"),
    [
        ("use_backend b if { path /a }", "path: /a\n    exact: true"),
        ("acl x path_beg /a; acl x path_beg /z; use_backend b if x", "path: /z"),
        ("use_backend b if { hdr(host) -i a.example }", "hosts: [a.example]"),
        ("use_backend b if { hdr(host) -m end .a.example }", 'hosts: ["*.a.example"]'),
        ("use_backend b if METH_POST { path_beg /a/ }", "methods: [POST]"),
        ("use_backend b if { req.hdr(X-A) -m found }", "match: {headers: {X-A: true}}"),
        ("use_backend b if { urlp(m) 1 }", 'match: {query: {m: ["1"]}}'),
        ("default_backend b; http-request deny if { src 192.0.2.7 }", 'deny: ["192.0.2.7/32"]'),
        ("default_backend b; http-request deny if { path_beg /a/ }", "respond: {status: 403}"),
        ("default_backend b; http-request set-header X-A %[req.hdr(X-B)]", 'X-A: "{header.X-B}"'),
        ("default_backend b; http-request redirect location https://a.example/ code 301 if { path /a }",
         "redirect: {to: https://a.example/, status: 301}"),
    ],
)  # fmt: skip
def test_rules_are_translated(front: str, written: str) -> None:
    """One of each, with nothing closed."""
    found = cfg(front)
    assert written in found.text, found.text
    assert found.report.status == 0, found.report


@pytest.mark.parametrize(
    ("front", "why"),
    [
        ("use_backend b if !{ path_beg /a }", "cannot be negated"),
        ("use_backend b if { path_end .jpg }", "no key says this test"),
        ("use_backend b if { src 10.0.0.0/8 }", "for some addresses"),
        ("use_backend b if { path_beg -i /a }", "alike"),
        ("use_backend b if { path -f /etc/paths }", "in a file"),
        ("use_backend b if none", "which is not here"),
        ("use_backend none", "is not in these files"),
        ("default_backend b; http-request auth realm x unless { http_auth(u) }", "http-request auth"),
        ("default_backend b; http-request deny if { sc_http_req_rate(0) gt 9 }", "no key says"),
        ("default_backend b; http-request deny if { req.hdr(X-A) -m found }", "under a condition"),
        ("default_backend b; http-request set-header X-A %[var(txn.x)]", "the header X-A"),
        ("default_backend b; http-request set-path /x", "set-path /x"),
        ("default_backend b; tcp-request connection reject if { src 10.0.0.1 }", "tcp-request"),
        ("default_backend b; http-request lua.guard", "lua.guard"),
        ("default_backend b; bind *:443 ssl crt /c ca-file /a verify required", "certificates of clients"),
    ],
)  # fmt: skip
def test_what_is_lost_closes_the_route(front: str, why: str) -> None:
    """The route answers 503, and the status is 1."""
    found = cfg(front)
    assert (found.report.status, "status: 503" in found.text) == (1, True), found.text
    assert any(why in one.text and one.closed for one in found.report.findings), found.report


def test_the_first_rule_decides() -> None:
    """A host comes before any host here: the report says where that decides otherwise."""
    found = cfg("use_backend b if { path_beg /a/ }; use_backend c if { hdr(host) x.example }")
    assert any("some of its requests" in one.text for one in found.report.findings)


def test_a_refusal_counts_for_each_host() -> None:
    """A path that is refused on all hosts is refused on those with routes of their own, too."""
    front = "http-request deny if { path_beg /a/ } !{ src 10.0.0.0/8 }"
    found = cfg(f"{front}; use_backend c if {{ hdr(host) x.example }}; default_backend b")
    assert found.text.count('clients: {allow: ["10.0.0.0/8"]}') == 2, found.text
    assert found.text.count("path: /a\n") == 2


def test_https_and_own_listeners() -> None:
    """A redirect to HTTPS is for the listeners; what only this machine could reach is closed."""
    found = cfg("bind *:80; redirect scheme https if !{ ssl_fc }; default_backend b")
    assert (found.report.status, "CLOSED" in found.text) == (1, False)
    both = "frontend a\n bind *:80\n default_backend b\nfrontend i\n bind 127.0.0.1:81\n use_backend c if { path_beg /i/ }\n"
    local = translate("haproxy", [Source("haproxy.cfg", both + BACK)])
    assert [one.closed for one in local.report.findings if one.closed] == ["/i"]


@pytest.mark.parametrize(
    "text", ["", "bind *:80", "global\n log x", 'frontend f\n acl a path "/x', "backend b"]
)
def test_what_is_no_configuration_ends_with_a_message(text: str) -> None:
    """Never with a traceback."""
    with pytest.raises(Unreadable, match="haproxy.cfg"):
        translate("haproxy", [Source("haproxy.cfg", text)])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["acl a ", "use_backend ", "http-request ", "http-response ", "redirect ", "bind ", "mode ", "timeout ",
         "cookie ", "balance ", "server ", "default_backend ", "monitor-uri ", "compression ", "stats "]
    ),
    st.text(alphabet="{}!\"'\\ #|ab/%[]():1", max_size=30),
)  # fmt: skip
def test_no_text_breaks_the_reader(begin: str, inside: str) -> None:
    """It is translated, or refused with a place."""
    text = f"listen f\n server s u:1\n {begin}{inside}\n"
    try:
        translate("haproxy", [Source("haproxy.cfg", text)])
    except Unreadable as error:
        assert str(error).startswith("haproxy.cfg:")
