"""Which upstream a request reaches, and under which target."""

import json
from pathlib import Path

import pytest

from tests.support.client import ask
from tests.support.excused import excused
from tests.support.gateway import Gateway
from tests.support.topology import Upstreams
from tests.support.upstream import Upstream

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]


@pytest.mark.parametrize("method", METHODS)
def test_method_reaches_the_upstream_as_it_is(gateway: Gateway, up: Upstream, method: str) -> None:
    """Every method arrives as the same method."""
    answer = ask(gateway.port, method, "/up/thing")
    assert (answer.status, up.last.method, up.last.target) == (200, method, b"/thing")


@pytest.mark.parametrize("method", ["PROPFIND", "PURGE", "MKCOL", "REPORT"])
def test_registered_method_without_a_rule_is_forwarded(
    gateway: Gateway, up: Upstream, method: str
) -> None:
    """A route without `methods` takes all of them, also those of WebDAV."""
    answer = ask(gateway.port, method, "/up/thing")
    assert (answer.status, up.last.method) == (200, method)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("/up/profile?x=1&x=2&y=", b"/profile?x=1&x=2&y="),
        ("/up?x=1", b"/?x=1"),
        ("/up", b"/"),
        ("/up/", b"/"),
        ("/up/a/", b"/a/"),
        ("/up/a?", b"/a?"),
        ("/plain", b"/plain"),
        ("/plain/", b"/plain/"),
        ("/plain/a/b?c", b"/plain/a/b?c"),
        ("/old", b"/v2/new"),
        ("/old/7?x", b"/v2/new/7?x"),
        ("/old/", b"/v2/new/"),
        ("/based", b"/base/v1"),
        ("/based/a?b=%20", b"/base/v1/a?b=%20"),
        ("/exact", b"/exact"),
        ("/exact?below=/x", b"/exact?below=/x"),
    ],
)
def test_target_reaches_the_upstream(
    gateway: Gateway, up: Upstream, sent: str, received: bytes
) -> None:
    """A prefix is stripped or rewritten where the route says so; all else stays byte for byte."""
    answer = ask(gateway.port, "GET", sent)
    if excused(gateway.edge, "empty-query"):
        received = received.removesuffix(b"?")
    assert (answer.status, up.last.target) == (200, received)


@pytest.mark.parametrize(
    "rest",
    [
        "/a%2Fb%20c;v=1/%E6%B5%8B",
        "/a%2fb",
        "/%7euser/~user",
        "/a+b%2Bc",
        "/a=1,b=2&c",
        "/A/b/C",
        "/x;jsessionid=1/y",
        "/a%3Fb",
        "/a%23b",
        "/a%25b",
        "/:@!$&'()*,",
        '/"<>[]^`{|}',
        "/a?q=%2F%zz%00%ff",
        "/a?q=a b".replace(" ", "%20"),
        "/a?q=../../x",
        "/a?q=1?r=2",
        "/a?" + "&".join(f"k={n}" for n in range(50)),
        "/a?q=http://169.254.169.254/",
        "/a?x=\\y",
    ],
)
def test_path_and_query_are_forwarded_byte_for_byte(
    gateway: Gateway, up: Upstream, rest: str
) -> None:
    """What is forwarded is what was sent: nothing is decoded, encoded or sorted."""
    answer = ask(gateway.port, "GET", "/user" + rest)
    assert (answer.status, up.last.target) == (200, rest.encode())


@pytest.mark.parametrize(
    "path",
    [
        "/nosuch",
        "/nosuch/x",
        "/",
        "/users/x",
        "/upx",
        "/plainly",
        "/exact/",
        "/exact/below",
        "/u",
        "/usr",
    ],
)
def test_unknown_path_is_404_and_reaches_nobody(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, path: str
) -> None:
    """A path that no route matches by whole segments is 404, and no upstream is contacted."""
    answer = ask(gateway.port, "GET", path)
    assert (answer.status, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize(
    "path", ["/user//evil.com/", "/user/http://169.254.169.254/", "/user/@evil.com", "/user/:80/"]
)
def test_no_path_chooses_another_host(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, path: str
) -> None:
    """Whatever stands in the path, only the route's service is asked, under its own name, or nobody."""
    answer = ask(gateway.port, "GET", path)
    assert answer.status in (200, 400)
    assert not upstreams.second.raw
    if answer.status == 200:
        # `//evil.com/` is a URL of another host to whoever resolves it.
        assert up.last.target == b"/" + path.removeprefix("/user").lstrip("/").encode()
        assert up.last.get("host") == f"127.0.0.1:{up.port}"


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/orders", "main"),
        ("/orders/7", "main"),
        ("/orders/administrator", "main"),
        ("/orders/admin", "second"),
        ("/orders/admin/x", "second"),
        ("/orders/7/items", "second"),
        ("/orders/7/items/3", "second"),
        ("/orders/7/item", "main"),
        ("/orders/admin/items", "second"),
        ("/user/x", "main"),
        ("/auth/x", "second"),
    ],
)
def test_most_specific_route_wins(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, path: str, service: str
) -> None:
    """Segment by segment from the left, a literal over a name, the longer over the shorter."""
    assert ask(gateway.port, "GET", path).status == 200
    hits = {"main": len(up.requests), "second": len(upstreams.second.requests)}
    assert hits == {"main": int(service == "main"), "second": int(service == "second")}


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("api.example.com", "main"),
        ("API.Example.COM", "main"),
        ("api.example.com:8080", "main"),
        ("other.example.com", "second"),
        ("api.example.com.evil.net", "second"),
        ("xapi.example.com", "second"),
        ("127.0.0.1", "second"),
    ],
)
def test_host_chooses_the_route(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, host: str, service: str
) -> None:
    """A route with `hosts` wins for those, in any case and with any port, and only for those."""
    assert ask(gateway.port, "GET", "/hosted", host=host).status == 200
    reached = "main" if up.requests else "second"
    assert (reached, len(up.requests) + len(upstreams.second.requests)) == (service, 1)


def test_route_of_another_host_is_404(gateway: Gateway, up: Upstream, upstreams: Upstreams) -> None:
    """Where every route of a path has hosts, any other host finds nothing there."""
    assert ask(gateway.port, "GET", "/only", host="evil.net").status == 404
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize("method", ["PUT", "PATCH", "PROPFIND"])
def test_other_method_is_405_with_allow(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, method: str
) -> None:
    """A method that no route on the path takes is 405; Allow joins those that the routes take."""
    answer = ask(gateway.port, method, "/few")
    assert (answer.status, answer.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
    allowed = {word.strip() for word in (answer.get("allow") or "").split(",")}
    assert {"GET", "POST", "DELETE"} <= allowed
    assert method not in allowed
    assert upstreams.nothing_arrived()


def test_method_never_falls_through(gateway: Gateway, up: Upstream, upstreams: Upstreams) -> None:
    """A method that the most specific route does not take does not reach a less specific one."""
    answer = ask(gateway.port, "DELETE", "/few/below")
    assert answer.status == 405
    assert "GET" in (answer.get("allow") or "")
    assert upstreams.nothing_arrived()


def test_same_path_with_other_methods_is_another_route(
    gateway: Gateway, up: Upstream, upstreams: Upstreams
) -> None:
    """One path may stand twice, each time with methods of its own."""
    assert ask(gateway.port, "GET", "/few/x").status == 200
    assert ask(gateway.port, "DELETE", "/few/x").status == 200
    assert [request.method for request in up.requests] == ["GET"]
    assert [request.method for request in upstreams.second.requests] == ["DELETE"]


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_trace_and_connect_are_405(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, method: str
) -> None:
    """TRACE and a CONNECT of a path are never forwarded."""
    answer = ask(gateway.port, method, "/up/x")
    assert answer.status in ((405,) if method == "TRACE" else (400, 405))
    assert upstreams.nothing_arrived()


def test_max_forwards_zero_is_answered_here(
    gateway: Gateway, up: Upstream, upstreams: Upstreams
) -> None:
    """OPTIONS with Max-Forwards: 0 goes no further than the gateway."""
    answer = ask(gateway.port, "OPTIONS", "/few", [("Max-Forwards", "0")])
    assert answer.status in (200, 204, 405)
    assert upstreams.nothing_arrived()


def test_max_forwards_counts_down(gateway: Gateway, up: Upstream) -> None:
    """OPTIONS with Max-Forwards arrives with one hop less."""
    assert ask(gateway.port, "OPTIONS", "/up/x", [("Max-Forwards", "5")]).status == 200
    assert up.last.get("max-forwards") == "4"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
def test_own_endpoints_answer(gateway: Gateway, up: Upstream, path: str) -> None:
    """The gateway's own health endpoints are there without a route and without a token."""
    answer = ask(gateway.port, "GET", path)
    assert answer.status == 200
    assert answer.get("x-request-id")


def test_instance_that_refuses_is_followed_by_the_next(gateway: Gateway, up: Upstream) -> None:
    """With one instance down, a request that could not be sent goes to the other at once."""
    statuses = [ask(gateway.port, "POST", "/either", body=b"x").status for _ in range(4)]
    assert statuses == [200] * 4
    assert len(up.requests) == 4


def test_a_service_without_a_route_is_in_health(tmp_path: Path, edge: str) -> None:
    """What is configured is looked after, whether anything leads there or not."""
    gateway = Gateway(edge, {"services": {"lonely": {"url": "http://127.0.0.1:1"}}}, tmp_path)
    try:
        gateway.wait_ready()
        health = json.loads(ask(gateway.port, "GET", "/health").body)
        assert health["services"] == {"lonely": {"status": "unhealthy", "latency_ms": None}}
        assert health["status"] == "degraded"
    finally:
        gateway.kill()
