"""Paths that could be read in two ways: route and upstream see one and the same, or it is 400."""

import pytest

from tests.support.client import Ended, RawClient, ask, request
from tests.support.excused import excused
from tests.support.gateway import Gateway
from tests.support.topology import Upstreams
from tests.support.upstream import Upstream

DOT_SEGMENTS = [
    "/up/../admin",
    "/up/..",
    "/up/.",
    "/up/./x",
    "/./admin",
    "/../admin",
    "/up/%2e%2e/admin",
    "/up/%2E%2e/admin",
    "/up/.%2e/admin",
    "/up/%2e/x",
    "/user/../auth/x",
    "/up/..;/admin",
    "/up/.;x/admin",
    "/up/..%2fadmin",
    "/up/..%2Fadmin",
    "/up/x%2f..%2fadmin",
    "/up/..\\admin",
    "/up/..%5cadmin",
    "/up/x/%2e%2e%2f%2e%2e%2fadmin",
]

BROKEN = [
    "/up/%00",
    "/up/a%00b",
    "/up/%0a",
    "/up/%0d%0aX:y",
    "/up/%1f",
    "/up/%7f",
    "/up/%",
    "/up/%z",
    "/up/%zz",
    "/up/%2",
    "/up/a%2gb",
    "/up/%u0041",
    "/up/%c0%af",
    "/up/%c0%ae%c0%ae/",
    "/up/%ff",
    "/up/%e0%80%af",
    "/up/%ed%a0%80",
    "/up/%f5%80%80%80",
    "/admin%00",
]

# Sent as one route, read by somebody careless as another one.
CONFUSED = [
    "/orders/%61dmin",
    "/orders/ADMIN",
    "/orders/Admin",
    "/orders/admin;x",
    "/orders/;x/admin",
    "/orders//admin",
    "/orders/%5cadmin",
    "/orders/admin%2f",
    "/orders/admin%2fx",
    "/orders/%2fadmin",
    "/orders/7%2fitems",
    "/orders/7/ITEMS",
    "/orders/7/items;v=1",
    "/orders/7;/items;v=1",
    "/few/BELOW",
    "/few/%62elow",
]

# As sent they are nobody's, and that is the answer: 404, or 400 where another reading has a route.
NOBODYS = [
    "/ADMIN",
    "/Admin/x",
    "/%61dmin",
    "//admin",
    "///admin",
    "/admin;x",
    "/;/admin",
    "/admin%2f",
    "/\\admin",
    "/%2fadmin",
    "/%252fadmin",
    "/UP/x",
    "/orders\\admin",
    "/orders%2fadmin",
    "/orders%5cadmin",
]


@pytest.mark.parametrize("path", DOT_SEGMENTS)
def test_dot_segment_is_400(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, path: str
) -> None:
    """A dot segment, plain, encoded or made by a careless reader, is 400 and reaches nobody."""
    answer = ask(gateway.port, "GET", path)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize("path", BROKEN)
def test_control_byte_or_bad_escape_is_400(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, path: str
) -> None:
    """NUL, control bytes, invalid escapes and invalid UTF-8 in a path are 400."""
    answer = ask(gateway.port, "GET", path)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize("path", CONFUSED)
def test_path_of_two_routes_is_400(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, path: str
) -> None:
    """A path that a careless upstream would read as one of another route is 400."""
    assert ask(gateway.port, "GET", path).status == 400
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize("path", NOBODYS)
def test_path_of_no_route_as_sent_is_refused(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, path: str
) -> None:
    """A path that matches nothing as sent reaches nobody, whatever else it could mean."""
    assert ask(gateway.port, "GET", path).status in (400, 404)
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize(
    "path",
    [
        "/orders/%41",
        "/orders/ABC",
        "/orders/a;b",
        "/orders/a%2fb",
        "/orders/a%5cb",
        "/orders/%2561dmin",
        "/orders/%252e%252e/x",
        "/orders/x//y",
        "/orders/a\\b",
        "/admin/%61",
        "/orders/%e2%82%ac",
        "/orders/...",
        "/orders/..x",
        "/orders/%252e",
    ],
)
def test_path_of_one_route_however_read_passes_unchanged(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, path: str
) -> None:
    """Escapes, capitals and double encodings that change no route are forwarded as they are."""
    assert ask(gateway.port, "GET", path).status == 200
    (arrived,) = up.requests + upstreams.second.requests
    assert arrived.target == path.encode()


@pytest.mark.parametrize(
    "target",
    [
        b"/up/\x7f",
        b"/up/\x01",
        b"/up/\t",
        b"/up/\x0b",
        b"/up/a\x00b",
        b"/up/\xff",
        b"/up/\xc3\xa9",
        b"/up/x?\x80",
        b"/up/x?\x01",
        b"/up/a b",
        b"/up/x?a b",
        b"up/x",
        b"",
        b"?x",
    ],
)
def test_raw_byte_in_the_target_is_400(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, client: RawClient, target: bytes
) -> None:
    """A control byte, a space or anything above ASCII in the target is 400, then the end."""
    client.send(b"GET " + target + b" HTTP/1.1\r\nHost: gw.test\r\n\r\n")
    assert client.read().status == 400
    if not excused(gateway.edge, "parse-errors"):
        assert client.is_closed()
    assert upstreams.nothing_arrived()


@pytest.mark.parametrize("target", ["/up/x#f", "/up/x?q#f", "/up/#"])
def test_fragment_never_reaches_the_upstream(
    gateway: Gateway, up: Upstream, client: RawClient, target: str
) -> None:
    """A fragment in the target is 400, or dropped."""
    status = client.send(request(target=target)).read().status
    assert status in (200, 400)
    assert b"#" not in up.raw


@pytest.mark.parametrize(
    "header", ["X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Original-Uri"]
)
def test_header_does_not_change_the_route(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, header: str
) -> None:
    """Headers that some frameworks read as the real target or method have no effect on routing."""
    value = "DELETE" if "Method" in header else "/admin"
    assert ask(gateway.port, "GET", "/few", [(header, value)]).status == 200
    assert [r.method for r in up.requests] == ["GET"]
    assert not upstreams.second.raw
    if header != "X-Original-Uri":
        assert header.lower() not in up.last.names


@pytest.mark.parametrize(
    "query", ["?a=..%2f", "?x=%00", "?%zz", "?a;b", "?x=//y", "??", "?&&=", "?/../admin"]
)
def test_query_is_never_judged(gateway: Gateway, up: Upstream, query: str) -> None:
    """What would be an attack in a path is only data in a query, and passes byte for byte."""
    assert ask(gateway.port, "GET", "/up/x" + query).status == 200
    assert up.last.target == b"/x" + query.encode()


def test_absolute_form_with_the_same_host_is_routed(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """The absolute form is an ordinary request: the upstream gets the origin form."""
    answer = client.send(request(target="http://gw.test/up/x?y")).read()
    assert (answer.status, up.last.target) == (200, b"/x?y")
    assert up.last.get("x-forwarded-host") == "gw.test"


@pytest.mark.parametrize(
    "target", ["http://api.example.com/hosted", "http://other/up/x", "https://evil.net:81/up/x"]
)
def test_absolute_form_with_another_host(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, client: RawClient, target: str
) -> None:
    """A target that names another host than Host does is 400, or its own host is what counts."""
    status = client.send(request(target=target)).read().status
    assert status in (200, 400)
    if status == 200:
        (arrived,) = up.requests + upstreams.second.requests
        authority = "gw.test" if excused(gateway.edge, "absolute-form") else target.split("/")[2]
        assert arrived.get("x-forwarded-host") == authority


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        ("GET * HTTP/1.1", (400, 404, 405)),
        ("OPTIONS * HTTP/1.1", (200, 204, 400, 404, 405, 501)),
        ("CONNECT gw.test:443 HTTP/1.1", (400, 405, 501)),
        ("get /up/x HTTP/1.1", (400, 405, 501)),
        ("BREW /up/x HTTP/1.1", (400, 405, 501)),
        ("GET /up/x HTTP/1.2", (400, 505)),
        ("GET /up/x HTTP/2.0", (400, 505)),
        ("GET /up/x HTTP/0.9", (400, 505)),
        ("GET /up/x HTTP/11", (400, 505)),
        ("GET /up/x http/1.1", (400, 505)),
        ("GET  /up/x HTTP/1.1", (400,)),
        ("GET /up/x  HTTP/1.1", (400,)),
        (" GET /up/x HTTP/1.1", (400,)),
        ("GET\t/up/x HTTP/1.1", (400,)),
        ("GET /up/x HTTP/1.1 ", (400,)),
        ("GET /up/x HTTP/1.1 x", (400,)),
        ("GET /up/x", (400, 505)),
        ("ftp://gw.test/up/x", (400,)),
        ("GET ftp://gw.test/up/x HTTP/1.1", (400, 404)),
        ("GET http:/up/x HTTP/1.1", (400, 404)),
        ("GET gw.test:80 HTTP/1.1", (400, 404)),
    ],
)
def test_odd_request_line_is_no_tunnel(
    gateway: Gateway,
    up: Upstream,
    upstreams: Upstreams,
    client: RawClient,
    line: str,
    statuses: tuple[int, ...],
) -> None:
    """Unknown methods, versions and targets are refused, never forwarded and never a tunnel."""
    client.send(line.encode() + b"\r\nHost: gw.test\r\n\r\n")
    if gateway.edge == "fast":
        assert client.read().status in statuses
    elif excused(gateway.edge, "parse-errors"):
        try:
            status = client.read().status
        except (Ended, AssertionError):
            status = 400
        # Its parser swallows a few blanks; what arrives has been written anew, by us.
        assert status in (*statuses, 200)
        if status == 200:
            assert [r.target for r in up.requests] in ([b"/x"], [])
        return
    assert upstreams.nothing_arrived()
