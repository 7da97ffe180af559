"""replay: the requests of a log, decided by two configurations; what differs is grouped, and held against what is expected."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from propylon.cli.main import app
from propylon.commands.replay.log import Logged, _combined, _entry, _json
from tests.support.examples import examples

SERVICES = """\
services:
  orders: {url: "http://orders:8000"}
  second: {url: "http://second:8000"}
  pages: {url: "http://pages:8000"}
"""
CURRENT = SERVICES + """\
defaults: {rate_limit: {rate: 10/s}}
routes:
  - {name: orders, path: /api/orders, service: orders, scopes: [read], strip_prefix: true}
  - {name: pages, path: /, service: pages, auth: none, cache: {ttl: 30s}}
"""
# What is put in place of a line of it, and what is told of `GET /api/orders/7?x=1` or of `GET /a`.
ORDERS = "service: orders, scopes: [read], strip_prefix: true"
PAGES = "service: pages, auth: none, cache: {ttl: 30s}"
CHANGES = {
    "nothing": ("", "", []),
    "limit": ("10/s", "20/s", ["limit: defaults/default: 10/s, 10 at once, by caller -> defaults/default: 20/s, 20 at once, by caller"]),
    "scope": ("scopes: [read]", "scopes: [write]", ["auth: token, scope read -> token, scope write"]),
    "open": (ORDERS, "service: orders, auth: none, strip_prefix: true", ["auth: token, scope read -> open"]),
    "asked": (PAGES, PAGES + ', forward_auth: {url: "http://u/verify?k=1"}', ["auth: open -> forward_auth at http://u/verify"]),
    "rewrite": ("strip_prefix: true", "rewrite: /v1", ["path: strip at /api/orders -> rewrite /v1 at /api/orders", "headers: drops x-forwarded-prefix"]),
    "service": (ORDERS, ORDERS.replace("orders", "second"), ["service: orders (http://orders:8000) -> second (http://second:8000)"]),
    "address": ("http://orders:8000", "http://orders:9000", ["service: orders (http://orders:8000) -> orders (http://orders:9000)"]),
    "split": (ORDERS, "split: [{service: orders, weight: 95}, {service: second, weight: 5}], scopes: [read], strip_prefix: true",
              ["service: orders (http://orders:8000) -> 95 x orders (http://orders:8000), 5 x second (http://second:8000)"]),
    "cache": (", cache: {ttl: 30s}", "", ['cache: {"ttl": 30.0} -> none']),
    "by": ("ttl: 30s}", "ttl: 30s, by: everyone}", ['cache: {"ttl": 30.0} -> {"ttl": 30.0, "by": "everyone"}']),
    "header": (PAGES, PAGES + ", headers: {request: {set: {X-A: b}, remove: [User-Agent]}}", ["headers: adds x-a; drops user-agent"]),
    "fixed": (PAGES, "respond: {status: 503}", ["answer: from the service -> 503 by the gateway", "service: pages (http://pages:8000) -> none",
                                              "auth: open -> token", 'cache: {"ttl": 30.0} -> none']),
    "redirect": (PAGES, 'auth: none, redirect: {to: "/b/{rest}"}', ["answer: from the service -> 307 to /b/{rest}", "service: pages (http://pages:8000) -> none",
                                                                  'cache: {"ttl": 30.0} -> none']),
    "maintenance": (PAGES, PAGES + ", maintenance: true", ["answer: from the service -> 503 MAINTENANCE"]),
    "clients": (PAGES, PAGES + ", clients: {deny: [192.0.2.0/24]}", ["answer: from the service -> 403 AUTH_ERROR"]),
    "timeouts": (PAGES, PAGES + ", timeouts: {total: 3s}", ['timeouts: default -> {"total": 3.0}']),
    "gone": ("path: /,", "path: /b,", ["route: pages -> none", "answer: from the service -> 404 NOT_FOUND"]),
    "methods": (ORDERS, ORDERS + ", methods: [PUT]", ["route: orders -> none", "answer: from the service -> 405 METHOD_NOT_ALLOWED"]),
    "new": ("routes:", "routes:\n  - {name: v2, path: '/api/orders/{id}', service: orders, scopes: [read], strip_prefix: true}",
            ["route: orders -> v2", "path: strip at /api/orders -> strip at /api/orders/{id}", "headers: changes x-forwarded-prefix"]),
}  # fmt: skip
LOG = """\
192.0.2.1 - - [10/Oct/2026:13:55:36 +0000] "GET /api/orders/7?x=1 HTTP/1.1" 200 2326
192.0.2.1 - - [10/Oct/2026:13:55:36 +0000] "GET /a HTTP/2.0" 200 - "-" "curl/8 \\"x\\" \\x22" 0.003
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current file in an empty working directory, without settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("PROPYLON"):
            monkeypatch.delenv(name)
    (tmp_path / "propylon.yaml").write_text(CURRENT)
    (tmp_path / "log").write_text(LOG)
    return tmp_path


def call(*arguments: str, text: str = "") -> Result:
    """Run replay in this process."""
    return CliRunner().invoke(app, ["replay", *arguments], input=text)


def replayed(*arguments: str, candidate: str, log: str = "log", text: str = "") -> dict[str, Any]:
    """What replay tells a program."""
    Path("next.yaml").write_text(candidate)
    done = call(log, "-c", "next.yaml", "--format", "json", *arguments, text=text)
    assert done.exit_code in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == (1 if found["unexpected"] else 0)
    return found


def changes(found: dict[str, Any]) -> list[str]:
    """The changes, one a line."""
    return [
        f"{one['kind']}: {one['before']}{' -> ' if one['before'] else ''}{one['after']}"
        for one in found["changes"]
    ]


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs(name: str) -> None:
    """Each kind of decision, and nothing else."""
    old, new, expected = CHANGES[name]
    assert old in CURRENT
    found = replayed(candidate=CURRENT.replace(old, new, 1))
    assert changes(found) == expected
    assert found["requests"] == 2


def test_changes_are_grouped_and_expected(directory: Path) -> None:
    """Requests with the same change are one group with an example; who expects all of them gets status 0."""
    paths = [*(f"/api/orders/{number}" for number in range(40)), "/a"]
    line = LOG.splitlines()[1]
    directory.joinpath("log").write_text("\n".join(line.replace("/a", path) for path in paths))
    candidate = CURRENT.replace("strip_prefix: true", "rewrite: /v1").replace("10/s", "20/s")
    found = replayed(candidate=candidate)
    assert [(one["kind"], one["count"]) for one in found["changes"]] == [
        ("path", 40),
        ("headers", 40),
        ("limit", 41),
    ]
    assert found["changes"][0]["example"] == {"place": "line 1", "request": "GET /api/orders/0"}
    assert (found["changed"], found["unexpected"]) == (41, 3)
    found = replayed("--expect", "path:rewrite /v1*", candidate=candidate)
    assert [one["expected"] for one in found["changes"]] == ["path:rewrite /v1*", None, None]
    directory.joinpath("meant").write_text(
        "# of today\nheaders\npath  # by rewrite\n\nlimit:defaults/*\nroute:v9\n"
    )
    found = replayed("--expect-file", "meant", candidate=candidate)
    assert found["unexpected"] == 0
    assert "Expected, and nothing changed so: route:v9" in found["notes"]
    text = call("log", "-c", "next.yaml").stdout
    assert (
        "path: strip at /api/orders -> rewrite /v1 at /api/orders\n  40 requests, UNEXPECTED"
        in text
    )
    assert "/0 -> /v1/0" in text
    assert "3 unexpected changes" in text


def record(**more: Any) -> str:
    """A line of the gateway's own log."""
    usual = {
        "event": "request",
        "method": "GET",
        "path": "/a",
        "host": "a.test",
        "client_ip": "192.0.2.9",
        "status": 200,
        "route": "pages",
    }
    return json.dumps({**usual, **more}) + "\n"  # fmt: skip


def test_our_own_log(directory: Path) -> None:
    """Records of requests are read, others passed over; what a record lacks is said, and another route then."""
    lines = [
        record(),
        json.dumps({"event": "audit"}) + "\n",
        "cut off {\n",
        record(path=None),
        record(route="orders"),
        record(host="api.test"),
        record(client_ip="10.0.0.1", path="/api/orders/1", route="orders"),
        record(status=101, path="/ws"),
    ]
    directory.joinpath("log").write_text("".join(lines))
    (directory / "propylon.yaml").write_text(
        CURRENT.replace(PAGES, PAGES + ", match: {query: {a: b}}")
    )
    hosts = ", hosts: [a.test]"
    candidate = CURRENT.replace(PAGES, PAGES + hosts).replace(ORDERS, ORDERS + hosts)
    (directory / "old.yaml").write_text(CURRENT)
    found = replayed("--against", "old.yaml", candidate=candidate)
    assert (found["format"], found["requests"], found["changed"]) == ("Propylon's access log", 5, 1)
    assert changes(found) == ["route: pages -> none", "answer: from the service -> 404 NOT_FOUND"]
    assert any("passed over: 2, the first at line 3" in note for note in found["notes"])
    assert any("line 5: orders then, pages now" in note for note in found["notes"])
    assert not any("has no query" in note for note in found["notes"])
    found = replayed(candidate=CURRENT)
    assert any("has no query" in note for note in found["notes"])


def test_a_har_file(directory: Path) -> None:
    """Methods, URLs and headers of a browser; of one host, if one is named; a header chooses a route."""
    entries = [
        {"request": {"method": "GET", "url": "https://a.test/a?x=1#top", "headers": [
            {"name": ":authority", "value": "a.test"}, {"name": "X-Beta", "value": "1"}]}},
        {"request": {"method": "GET", "url": "https://cdn.test/x.js", "headers": []}},
        {"request": {"method": "GET", "url": "wss://a.test/ws", "headers": [
            {"name": "Sec-WebSocket-Key", "value": "x"}, {"name": "Upgrade", "value": "websocket"}]}},
        {"request": {"method": "GET", "url": "data:text/plain,x", "headers": []}},
        {"nothing": 1},
    ]  # fmt: skip
    candidate = CURRENT.replace(
        "routes:",
        "routes:\n  - {name: beta, path: /, match: {headers: {X-Beta: true}}, service: pages, auth: none, cache: {ttl: 30s}}",
    )
    har = json.dumps({"log": {"entries": entries[:4]}}, indent=1)
    found = replayed("--host", "a.test", candidate=candidate, log="-", text=har)
    assert (found["format"], found["requests"]) == ("a HAR file", 2)
    assert changes(found) == ["route: pages -> beta"]
    assert {"1 requests to other hosts were left out."} <= set(found["notes"])
    assert not any("has no headers" in note for note in found["notes"])
    assert replayed(candidate=candidate, log="-", text=har)["requests"] == 3


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (["missing", "-c", "propylon.yaml"], "", "missing cannot be read: no such file or directory"),
        (["-", "-c", "propylon.yaml"], "\n\n", "- is empty"),
        (["-", "-c", "propylon.yaml"], '{"log": {}}', "neither an access log"),
        (["-", "-c", "propylon.yaml"], "{", "neither an access log"),
        (["log", "-c", "propylon.yaml", "--expect", "rout:x"], "", 'no kind of decision "rout"; did you mean "route"?'),
        (["log", "-c", "propylon.yaml", "--expect-file", "missing"], "", "missing cannot be read"),
        (["log", "-c", "missing.yaml"], "", "missing.yaml: cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_done(arguments: list[str], text: str, said: str) -> None:
    """Status 2, and the reason."""
    done = call(*arguments, text=text)
    assert done.exit_code == 2
    assert said in done.stderr


def test_what_the_log_lacks_is_said() -> None:
    """Never a word about tokens, limits and caches that were not looked at; of headers and Host where a route asks for them."""
    found = replayed(candidate=CURRENT)
    assert len(found["notes"]) == 2
    hosts = ", hosts: [a.test]"
    chosen = CURRENT.replace(PAGES, PAGES + ", match: {cookies: {a: b}}" + hosts)
    chosen = chosen.replace(ORDERS, ORDERS + hosts)
    found = replayed(candidate=chosen)
    assert any("no headers" in note for note in found["notes"])
    assert any("no Host" in note for note in found["notes"])
    found = replayed("--host", "a.test", candidate=chosen.replace(", match: {cookies: {a: b}}", ""))
    assert found["changes"] == []


@examples(200)
@given(
    st.one_of(
        st.text(),
        st.tuples(st.text(max_size=9), st.text(max_size=20), st.text(max_size=9)).map(
            lambda parts: f'192.0.2.1 - - [x] "{parts[0]} /{parts[1]} HTTP/1.1" 200 1 "{parts[2]}" "{parts[2]}"'
        ),
    )
)
def test_any_line_is_one_request_or_none(line: str) -> None:
    """What a client has put into a log ends no head, and begins no other request."""
    found = _combined(line, "line 1", None)
    if found is not None:
        head = found.sample.head("a.test")
        assert head.count(b"\r\n\r\n") == 1
        assert head.endswith(b"\r\n\r\n")
        assert head.count(b"\r\n") == 2 + 1 + len(found.sample.headers)


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)  # fmt: skip
_KEYS = st.sampled_from(
    ["event", "method", "path", "host", "client_ip", "status", "route", "url", "headers"]
)


@examples(200)
@given(st.dictionaries(_KEYS, _VALUES))
def test_any_record_is_one_request_or_none(found: dict[str, Any]) -> None:
    """Of our own lines, and of the entries of a HAR file."""
    assert not isinstance(_json(json.dumps({**found, "event": "request"}), "line 1", None), bool)
    for logged in (_json(json.dumps(found), "line 1", None), _entry("entry 1", found)):
        if isinstance(logged, Logged):
            assert logged.sample.head("a.test").count(b"\r\n\r\n") == 1


def test_a_line_of_each_server_becomes_the_request() -> None:
    """With a virtual host before it, a user with blanks, and quotes in the escapes of both."""
    line = 'shop.test:443 2001:db8::1 - Ann Bee [10/Oct/2026:13:55:36 +0000] "PUT /a%20b?c=\\x22 HTTP/1.1" 200 1 "-" "a\\"b"'
    found = _combined(line, "line 1", None)
    assert found is not None
    sample = found.sample
    assert (sample.method, sample.url, sample.client) == ("PUT", '/a%20b?c="', "2001:db8::1")
    assert list(sample.headers) == [("Host", "shop.test:443"), ("User-Agent", 'a"b')]
