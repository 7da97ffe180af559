"""`match`: which route a request gets by what it has, against DESIGN's words; and what can be read in two ways."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.config.models.match import MatchConfig
from propylon.errors import GatewayError
from tests.compile.compiled import World
from tests.proxy.doubles import request
from tests.support.examples import examples

VALUES = ("one", "two", "one*", "o*", "")


def chosen(world: World, target: str, *lines: bytes, method: str = "GET") -> str:
    """The name of the route, or of the refusal."""
    try:
        return world.table.match(request(target.encode(), *lines, method=method.encode())).name
    except GatewayError as error:
        return type(error).__name__


def world(*routes: dict[str, Any]) -> World:
    """The routes, all to one service."""
    return World({"routes": [{"service": "orders", "auth": "none", **one} for one in routes]})


BETA = {"name": "beta", "path": "/a", "match": {"headers": {"X-Channel": ["beta", "can*"]}}}
REST = {"name": "rest", "path": "/a"}


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ((), "rest"),
        ((b"X-Channel: beta",), "beta"),
        ((b"x-channel:  canary-7 ",), "beta"),
        ((b"X-Channel: Beta",), "rest"),
        ((b"X-Channel: beta2",), "rest"),
        ((b"X-Channel: ",), "rest"),
        ((b"X-Channel-2: beta",), "rest"),
        # What comes twice, or under a name that some server takes for this one.
        ((b"X-Channel: beta", b"X-Channel: stable"), "InvalidRequest"),
        ((b"X-Channel: beta", b"X_Channel: stable"), "InvalidRequest"),
        ((b"X_Channel: beta",), "InvalidRequest"),
        ((b"X.CHANNEL: stable",), "InvalidRequest"),
        # Connection takes it away: neither the gateway nor the service sees it.
        ((b"X-Channel: beta", b"Connection: X-Channel"), "rest"),
    ],
)
def test_a_header_chooses(lines: tuple[bytes, ...], name: str) -> None:
    """One value, which every server reads alike; what does not match goes to the next route."""
    for routes in ((BETA, REST), (REST, BETA)):
        assert chosen(world(*routes), "/a/7", *lines) == name


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("", "rest"),
        ("?v=2", "two"),
        ("?x=1&v=2&y", "two"),
        ("?%76=%32", "two"),
        ("?v", "rest"),
        ("?v=2&v=3", "InvalidRequest"),
        ("?V=3&v=2", "InvalidRequest"),
        ("?x=1;v=2", "InvalidRequest"),
        ("?v=2;x=1", "InvalidRequest"),
        ("?v[]=2", "InvalidRequest"),
        ("?w=v=2", "rest"),
    ],
)
def test_a_parameter_chooses(query: str, name: str) -> None:
    """Decoded; several of one name, and what `;` may part, is refused."""
    two = {"name": "two", "path": "/a", "match": {"query": {"v": 2}}}
    assert chosen(world(two, REST), f"/a{query}") == name


@pytest.mark.parametrize(
    ("cookies", "name"),
    [
        ((), "rest"),
        ((b"a=1; id=7",), "known"),
        ((b"id=",), "known"),
        ((b"ident=7",), "rest"),
        ((b"id=7", b"a=1"), "known"),
        ((b"id=7", b"id=8"), "InvalidRequest"),
        ((b"id=7; ID=8",), "InvalidRequest"),
        ((b"id=7, id=8",), "InvalidRequest"),
        ((b'id="7"',), "InvalidRequest"),
        ((b"%69d=7; id=8",), "InvalidRequest"),
    ],
)
def test_a_cookie_chooses(cookies: tuple[bytes, ...], name: str) -> None:
    """In any of the lines; twice, quoted or under a lookalike it is refused."""
    known = {"name": "known", "path": "/a", "match": {"cookies": {"id": True}}}
    lines = [b"Cookie: " + one for one in cookies]
    assert chosen(world(known, REST), "/a", *lines) == name


def test_only_names_that_choose_are_looked_at() -> None:
    """Elsewhere, and on routes without conditions, a header may come twice."""
    asked = world(BETA, {"name": "other", "path": "/b"})
    assert chosen(asked, "/b", b"X-Channel: a", b"X-Channel: b") == "other"
    assert chosen(asked, "/a", b"X-Channel: beta", b"X-Y: a", b"X-Y: b") == "beta"


def test_what_is_not_met_goes_on_to_less_specific_places() -> None:
    """As if the route were not there; but a method never falls through where one is met."""
    asked = world(
        {**BETA, "methods": ["GET"]},
        {"name": "deep", "path": "/a/b", "exact": True, "match": {"query": {"deep": True}}},
        {"name": "root", "path": "/"},
    )
    assert chosen(asked, "/a/b?deep", b"X-Channel: beta") == "deep"
    assert chosen(asked, "/a/b", b"X-Channel: beta") == "beta"
    assert chosen(asked, "/a/b") == "root"
    assert chosen(asked, "/a", method="POST") == "root"
    assert chosen(asked, "/a", b"X-Channel: beta", method="POST") == "MethodNotAllowed"
    assert chosen(world(BETA), "/a") == "NotFound"


def test_hosts_are_more_specific_than_conditions() -> None:
    """A route of the host goes first, and its conditions send the request on to routes of any host."""
    asked = world({**BETA, "hosts": ["a.test"]}, REST)
    assert chosen(asked, "/a", b"X-Channel: beta") == "beta"
    assert chosen(asked, "/a") == "rest"


def test_a_spelling_does_not_pass_by_conditions() -> None:
    """A path that a service may read as that of other rules is refused, whatever the request has besides."""
    admin = {"name": "admin", "path": "/admin", "auth": "required"}
    asked = world(admin, {"name": "open", "path": "/{any}", "match": {"headers": {"X-A": True}}})
    assert chosen(asked, "/%61dmin", b"X-A: 1") == "InvalidRequest"
    # The same place by another spelling has the same rules.
    asked = world(BETA, {"name": "root", "path": "/"})
    assert chosen(asked, "/a/x%2Fy") == "root"
    assert chosen(asked, "/a/x%2Fy", b"X-Channel: beta") == "beta"
    # A literal place that the request may leave is no longer all that counts.
    asked = world({**BETA, "path": "/A"}, {"name": "a", "path": "/a", "auth": "required"},
                  {"name": "root", "path": "/"})  # fmt: skip
    assert chosen(asked, "/A") == "InvalidRequest"


def test_a_preflight_meets_the_stricter_rules() -> None:
    """It has none of the headers of the request that it is for."""
    page, other = {"origins": ["https://a.example"]}, {"origins": ["https://b.example"]}
    asked = world({**BETA, "cors": page}, {**REST, "cors": other})
    lines = (b"Origin: https://b.example", b"Access-Control-Request-Method: PUT")
    _, block = asked.handle("/a", *lines, method="OPTIONS")
    assert b"Allow-Origin: https://b.example" not in block
    asked = world({**BETA, "cors": other}, {**REST, "cors": other})
    _, block = asked.handle("/a", *lines, method="OPTIONS")
    assert b"Allow-Origin: https://b.example" in block


# Against the words of the documentation

_wanted = st.one_of(st.just(True), st.lists(st.sampled_from(VALUES), min_size=1, max_size=2))
_match = st.fixed_dictionaries({}, optional={"X-A": _wanted, "X-B": _wanted, "X-C": st.just(True)})
_routes = st.lists(
    st.tuples(st.sampled_from(["/", "/a", "/a/b"]), st.integers(0, 1), _match),
    max_size=6,
)


def accepts(wanted: bool | list[str], sent: str | None) -> bool:
    """The rule for one header."""
    if sent is None or wanted is True or isinstance(wanted, bool):
        return sent is not None
    return any(sent.startswith(one[:-1]) if one.endswith("*") else sent == one for one in wanted)


@given(_routes, st.fixed_dictionaries({}, optional=dict.fromkeys(
    ("X-A", "X-B", "X-C"), st.sampled_from(["one", "one-more", "two", "other", ""]))))  # fmt: skip
@examples(150)
def test_the_most_specific_route_that_matches_wins(
    routes: list[tuple[str, int, dict[str, Any]]], sent: dict[str, str]
) -> None:
    """The deepest place first, in it priority, then conditions; ties are refused by `check`, and so not asked here."""
    written = [
        {"name": str(at), "path": path, "priority": priority, "match": {"headers": match}}
        for at, (path, priority, match) in enumerate(routes)
    ]
    found = [
        (len(path), priority, MatchConfig.model_validate({"headers": match}).rank, str(at))
        for at, (path, priority, match) in enumerate(routes)
        if all(accepts(wanted, sent.get(name)) for name, wanted in match.items())
    ]
    best = max((one[:3] for one in found), default=None)
    winners = {one[3] for one in found if one[:3] == best} or {"NotFound"}
    lines = [f"{name}: {value}".encode() for name, value in sent.items()]
    assert chosen(world(*written), "/a/b", *lines) in winners


@given(_match, _match)
@examples(200)
def test_comparing_conditions_is_trying_all_requests(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """`includes` and `meets`, which `check` goes by, say what every request would show."""
    mine, theirs = (MatchConfig.model_validate({"headers": match}) for match in (one, other))
    tried = [None, "", "o", "one", "one1", "two", "two1", "x"]
    both, only = False, True
    for values in product(tried, tried, [None, "x"]):
        sent = dict(zip(("X-A", "X-B", "X-C"), values, strict=True))
        first, second = (
            all(accepts(wanted, sent[name]) for name, wanted in match.items())
            for match in (one, other)
        )
        both, only = both or (first and second), only and (first or not second)
    assert mine.meets(theirs) is both
    # It may miss that a list of beginnings covers everything that another one accepts; it never claims too much.
    assert only or not mine.includes(theirs)


def test_rank_counts_conditions_first() -> None:
    """More conditions, whole values, beginnings, `true`; the longer beginning; fewer values."""
    ordered = [
        {"X-A": True, "X-B": True},
        {"X-A": "one"},
        {"X-A": ["one", "two"]},
        {"X-A": "one*"},
        {"X-A": "o*"},
        {"X-A": True},
        {},
    ]
    ranks = [MatchConfig.model_validate({"headers": match}).rank for match in ordered]
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) == len(ranks)
