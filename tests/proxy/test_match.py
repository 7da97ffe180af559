"""Which route a request is for, against a matcher that looks at all of them."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from propylon.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound
from propylon.proxy.leaf import Leaf
from propylon.proxy.match import Table
from propylon.proxy.rewrite import Rewrite
from propylon.proxy.route import Pattern, Route
from tests.proxy.doubles import request, route, service
from tests.support.examples import examples

_SERVICE = service()
_METHODS = ("GET", "POST", "DELETE", "TRACE")


# The naive matcher: DESIGN's words, one by one, over all routes


def applies(pattern: Pattern, segments: list[bytes]) -> bool:
    """Whether the path itself, or something above it, is the pattern."""
    wanted = pattern.segments
    if len(segments) < len(wanted) or (pattern.exact and len(segments) != len(wanted)):
        return False
    pairs = zip(wanted, segments, strict=False)
    return all(part == sent if part is not None else bool(sent) for part, sent in pairs)


def host_rank(pattern: Pattern, authority: bytes) -> int:
    """0: not this host; 1: any; more: the longer the name, the more; the host itself most."""
    if pattern.host is None:
        return 1
    if pattern.host == authority:
        return 1000
    if pattern.host.startswith(b"*.") and authority.endswith(pattern.host[1:]):
        return 1 + len(pattern.host)
    return 0


def rank(pattern: Pattern, authority: bytes) -> tuple[object, ...]:
    """How specific: host; segment by segment, literal over `{}` over nothing; exact."""
    parts = tuple(1 if part is None else 2 for part in pattern.segments)
    return host_rank(pattern, authority), parts, pattern.exact


def naive(routes: list[Route], method: str, authority: bytes, path: bytes) -> Route | str:
    """The winner, or the name of the refusal."""
    segments = path.split(b"/")[1:]
    places = [
        found
        for found in routes
        if host_rank(found.pattern, authority) and applies(found.pattern, segments)
    ]
    if not places:
        return "NotFound"
    best = max(rank(found.pattern, authority) for found in places)
    here = [found for found in places if rank(found.pattern, authority) == best]
    allowed = [
        found for found in here if found.pattern.methods is None or method in found.pattern.methods
    ]
    if not allowed or method == "TRACE":
        return "MethodNotAllowed"
    return max(allowed, key=lambda found: found.pattern.priority)


def outcome(table: Table, method: str, authority: bytes, path: bytes) -> Route | str:
    """What the table says."""
    asked = request(path, method=method.encode())
    asked.authority = authority
    try:
        return table.match(asked)
    except GatewayError as error:
        return type(error).__name__


_segment = st.sampled_from(["a", "b", "cc", "{}"])
_paths = st.lists(_segment, max_size=4).map(lambda parts: "/" + "/".join(parts))
_routes = st.lists(
    st.builds(
        lambda path, exact, host, methods, priority: route(
            path, _SERVICE, exact=exact, host=host, methods=methods, priority=priority
        ),
        _paths,
        st.booleans(),
        st.sampled_from([None, None, b"a.test", b"*.test", b"*.b.test", b"x.b.test"]),
        st.none() | st.frozensets(st.sampled_from(_METHODS), min_size=1),
        st.integers(0, 3),
    ),
    max_size=8,
    # The configuration refuses two that stand on one place with one priority and a method in common.
    unique_by=lambda found: (
        found.pattern.segments,
        found.pattern.exact,
        found.pattern.host,
        found.pattern.priority,
    ),
)
_sent = st.lists(st.sampled_from(["a", "b", "cc", "d"]), max_size=5).map(
    lambda parts: ("/" + "/".join(parts)).encode()
)
_hosts = st.sampled_from([b"", b"a.test", b"x.b.test", b"b.test", b"test", b"y.x.b.test", b"other"])


@given(_routes, st.sampled_from(_METHODS), _hosts, _sent)
@examples(120)
@example([route("/a/{}", _SERVICE), route("/{}/b", _SERVICE)], "GET", b"", b"/a/b")
@example([route("/a", _SERVICE), route("/{}/b/cc", _SERVICE)], "GET", b"", b"/a/b/cc")
def test_the_table_finds_what_looking_at_all_finds(
    routes: list[Route], method: str, authority: bytes, path: bytes
) -> None:
    """The same winner, the same refusal, whatever the routes, their order and the request."""
    assert outcome(Table(routes), method, authority, path) == naive(routes, method, authority, path)


@given(_routes, _sent, st.booleans())
@examples(80)
def test_walking_is_finding(routes: list[Route], path: bytes, slash: bool) -> None:
    """The quick way through the tree ends where the thorough one does."""
    segments = (path + b"/" * slash).split(b"/")
    tree = Table(routes)._anywhere.sent
    assert tree.walk(segments) == tree.find(segments, 1)


@given(_routes, st.sampled_from(_METHODS), _hosts, _sent, st.randoms())
@examples(100)
def test_order_does_not_count(
    routes: list[Route], method: str, authority: bytes, path: bytes, chance: random.Random
) -> None:
    """The most specific route wins, wherever it stands in the file."""
    shuffled = routes.copy()
    chance.shuffle(shuffled)
    expected = outcome(Table(routes), method, authority, path)
    assert outcome(Table(shuffled), method, authority, path) == expected


# Cases with a name


@pytest.mark.parametrize(
    ("path", "winner"),
    [
        (b"/orders", "/orders"),
        (b"/orders/", "/orders"),
        (b"/orders/7", "/orders/{}"),
        (b"/orders/7/lines", "/orders/{}"),
        (b"/orders/admin", "/orders/admin"),
        (b"/orders/admin/x", "/orders/{}"),
        (b"/ordersx", "/"),
        (b"/", "/"),
        (b"/x", "/"),
        (b"/a/b", "/a/{}"),
    ],
)
def test_specificity(path: bytes, winner: str) -> None:
    """Whole segments; literal over `{}` from the left; exact over prefix; the longer."""
    table = Table(
        [
            route("/"),
            route("/orders"),
            route("/orders/{}"),
            route("/orders/admin", exact=True),
            route("/a/{}"),
            route("/{}/b"),
        ]
    )
    assert table.match(request(path)).name == winner


def test_nothing_matches() -> None:
    """404, and a `{}` takes no empty segment."""
    table = Table([route("/a/{}", exact=True)])
    for path in (b"/", b"/a", b"/a/", b"/a//", b"/a/b/c", b"/b/c"):
        with pytest.raises(NotFound):
            table.match(request(path))


def test_a_method_never_falls_through() -> None:
    """405 with `Allow`, though a less specific route would take the method."""
    table = Table(
        [
            route("/a", methods=None),
            route("/a/b", methods=frozenset({"GET"})),
            route("/a/b", name="writers", methods=frozenset({"PUT", "POST"})),
        ]
    )
    with pytest.raises(MethodNotAllowed) as caught:
        table.match(request(b"/a/b", method=b"DELETE"))
    assert caught.value.headers == ((b"Allow", b"GET, POST, PUT"),)
    assert caught.value.details == {"allow": ["GET", "POST", "PUT"]}
    assert table.match(request(b"/a/b", method=b"PUT")).name == "writers"


@pytest.mark.parametrize("methods", [None, frozenset({"TRACE", "GET"})])
def test_trace_never(methods: frozenset[str] | None) -> None:
    """TRACE shows what others put into a request: 405 whatever is configured, and not in `Allow`."""
    with pytest.raises(MethodNotAllowed) as caught:
        Table([route("/a", methods=methods)]).match(request(b"/a", method=b"TRACE"))
    assert b"TRACE" not in caught.value.headers[0][1]


def test_priority_settles_what_is_equal() -> None:
    """On one place, the higher priority wins the methods that both have."""
    first = route("/a", name="first", priority=1, methods=frozenset({"GET"}))
    table = Table([route("/a", name="rest"), first])
    assert table.match(request(b"/a")).name == "first"
    assert table.match(request(b"/a", method=b"POST")).name == "rest"


def test_allow_of_a_leaf() -> None:
    """A route for all methods allows the ordinary ones; WEBSOCKET is no method to a client."""
    assert Leaf([route()]).allow == b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
    assert Leaf([route(methods=frozenset({"WEBSOCKET", "GET"}))]).allow == b"GET"


_GUARDED = [
    route("/orders"),
    route("/orders/admin"),
    route("/orders/{}/secret"),
    route("/x", host=b"h.test"),
]


@pytest.mark.parametrize(
    "path",
    [
        b"/orders/%61dmin",
        b"/orders/%2561dmin/../admin",
        b"/orders/ADMIN",
        b"/orders//admin",
        b"//orders/admin/..;/x",
        b"/orders%2fadmin/%2e%2e",
        b"/orders/x%2fsecret",
        b"/orders\\admin/..\\",
        b"/orders/admin;x=1",
        b"/orders/;/admin",
        b"/orders/%5cadmin",
        b"/orders/..;/admin",
        b"/orders/./admin",
        b"/orders/../admin",
        b"/orders/%2e%2e/admin",
        b"/orders/a%00",
        b"/orders/%c0%ae%c0%ae",
        b"/orders/%zz",
        b"/orders/7/SECRET",
        b"/orders/7/%73ecret",
        b"/orders//7/secret",
        b"/orders/adm%C4%B1n",
        b"/orders/adm%c4%b0n",
        b"/orders/7/%C5%BFecret",
    ],
)
def test_a_path_that_can_be_read_as_another_routes_is_refused(path: bytes) -> None:
    """What an upstream might read as `/orders/admin` must not pass under the rules of `/orders`."""
    with pytest.raises(InvalidRequest):
        Table(_GUARDED).match(request(path))


_OF_HOSTS = [
    route("/"),
    route("/hadm", host=b"a.test"),
    route("/below", host=b"*.test"),
    route("/orders", host=b"a.test"),
]


@pytest.mark.parametrize(
    "path",
    [b"/%68adm", b"//hadm", b"/HADM", b"/hadm;x", b"/x%2f..%2fhadm", b"/%62elow", b"/h%61dm/x"],
)
def test_a_path_that_can_be_read_as_one_of_the_hosts_is_refused(path: bytes) -> None:
    """What the host's own rules would be for does not pass under those of everybody."""
    with pytest.raises(InvalidRequest):
        Table(_OF_HOSTS).match(request(path))


def test_a_path_of_another_host_is_none_of_its_rules() -> None:
    """There nobody reads it as anything else; and on the host itself, what is harmless passes."""
    table = Table(_OF_HOSTS)
    for path in (b"/%68adm", b"//hadm", b"/HADM"):
        asked = request(path)
        asked.authority = b"b.example"
        assert table.match(asked).name == "/"
    assert table.match(request(b"/%78/Y")).name == "/"
    assert table.match(request(b"/orders/%78")).name == "/orders"


@pytest.mark.parametrize(
    "path",
    [
        b"/orders/a%2Fb",
        b"/orders/caf%C3%A9",
        b"/orders/x;v=1",
        b"/orders/Foo",
        b"/orders//x",
        b"/orders/a%20b",
        b"/orders/...",
        b"/orders/a%2525",
    ],
)
def test_a_path_that_leads_to_the_same_route_passes(path: bytes) -> None:
    """The second reading is no reason to refuse what is harmless."""
    assert Table(_GUARDED).match(request(path)).name == "/orders"


def test_a_route_in_capitals_is_reached_in_capitals() -> None:
    """Folding is for the second reading alone."""
    table = Table([route("/Orders"), route("/orders", name="small")])
    assert table.match(request(b"/Orders")).name == "/Orders"
    assert table.match(request(b"/orders")).name == "small"
    with pytest.raises(NotFound):
        table.match(request(b"/ORDERS"))


@given(st.text("/abAB.;%2eEfF61\\", max_size=16))
@examples(400)
def test_any_path_has_an_outcome(text: str) -> None:
    """A route, 400 or 404: nothing else comes out."""
    assert outcome(Table(_GUARDED), "GET", b"", b"/" + text.encode()) != "KeyError"


def test_ten_thousand_routes() -> None:
    """Each of ten thousand routes is found, over several hosts, with wildcards among them."""
    names = [f"/s{i % 100}/{{}}/r{i}" if i % 3 else f"/s{i % 100}/r{i}" for i in range(10_000)]
    table = Table([route(name, _SERVICE) for name in names])
    for name in itertools.islice(names, 0, None, 7):
        assert table.match(request(name.replace("{}", "x").encode())).name == name


def test_a_deep_path_is_no_deep_recursion() -> None:
    """A path of thirty thousand segments costs steps, not stack."""
    table = Table([route("/a/{}"), route("/{}/{}/b"), route("/")])
    assert table.match(request(b"/x" * 30_000)).name == "/"


@pytest.mark.parametrize(
    ("options", "target", "line"),
    [
        ({}, b"/a/b?c", b"GET /a/b?c HTTP/1.1"),
        ({"rewrite": Rewrite(1)}, b"/a/b?c", b"GET /b?c HTTP/1.1"),
        ({"rewrite": Rewrite(1)}, b"/a?c", b"GET /?c HTTP/1.1"),
        ({"rewrite": Rewrite(1)}, b"/a/", b"GET / HTTP/1.1"),
        ({"rewrite": Rewrite(1)}, b"/a", b"GET / HTTP/1.1"),
        ({"rewrite": Rewrite(1, (b"/v2",))}, b"/a/b%2F//c", b"GET /v2/b%2F//c HTTP/1.1"),
        ({"rewrite": Rewrite(2, (b"/v2",))}, b"/a/b", b"GET /v2 HTTP/1.1"),
    ],
)
def test_line(options: dict[str, Any], target: bytes, line: bytes) -> None:
    """A replaced prefix is whole segments; what follows goes out byte for byte."""
    assert route("/a", **options).line(request(target), b"") == line


def test_line_with_a_base_and_from_http_1_0() -> None:
    """The instance's base path stands in front; the upstream is asked in HTTP/1.1."""
    assert route("/a").line(request(b"/a"), b"/base") == b"GET /base/a HTTP/1.1"
    old = request(b"/a")
    old.version, old.line = 0, b"GET /a HTTP/1.0"
    assert route("/a").line(old, b"") == b"GET /a HTTP/1.1"
