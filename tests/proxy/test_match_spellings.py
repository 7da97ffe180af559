"""No spelling of a protected path that some server merges with it reaches an open route; equal rules refuse nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import GatewayError, InvalidRequest, NotFound
from propylon.proxy.match import Table
from propylon.proxy.route import Route
from tests.proxy.doubles import request, route, service
from tests.support.examples import examples
from tests.support.readers import READERS, Reader, spellings

_SERVICE = service()
# One protected exact path, one below another name, one with a name in it; everything else is open.
OPEN = [
    route("/", _SERVICE),
    route("/teams", _SERVICE),
    route("/teams/{}", _SERVICE),
    route("/vault/door", _SERVICE),
]
PROTECTED = [
    route("/admin", _SERVICE, exact=True),
    route("/shop/admin", _SERVICE, exact=True),
    route("/teams/{}/keys", _SERVICE, exact=True),
]
TABLE = Table([*OPEN, *PROTECTED])
REACHED = re.compile(rb"/admin|/shop/admin|/teams/[^/]+/keys")

PIECES = ["/", "//", "admin", "ADMIN", "%61dmin", "shop", "teams", "a", "keys", "Keys", ".", "..", "...", "%2e", ";", ";x",
          "\\", "%5c", "%2f", "%2F", "%252f", "%3b", "%3f", "%23", "%20", ".json", ".a.b", "index.php", ".php", "vault",
          "door", "/admin", "/teams/a/keys", "/"]  # fmt: skip
_paths = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map(
    lambda pieces: ("/" + "".join(pieces)).encode()
)


def passed(table: Table, path: bytes) -> Route | None:
    """The route that the path gets, None where it is refused."""
    try:
        return table.match(request(path))
    except GatewayError:
        return None


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@given(path=_paths)
@examples(100)
def test_no_spelling_reaches_an_open_route(reader: Reader, path: bytes) -> None:
    """What a server reads as a protected path is refused, or meets the rules of a protected route."""
    if REACHED.fullmatch(reader(path)):
        assert passed(TABLE, path) in [None, *PROTECTED]


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("path", ["/admin", "/shop/admin", "/teams/a/keys"])
def test_no_listed_spelling_reaches_an_open_route(reader: Reader, path: str) -> None:
    """The same for each spelling of the list, so that none is left to chance."""
    for spelling in map(str.encode, spellings(path)):
        if REACHED.fullmatch(reader(spelling)):
            assert passed(TABLE, spelling) in [None, *PROTECTED], spelling


@pytest.mark.parametrize(
    "path",
    [
        b"/admin/",
        b"/admin%2f",
        b"/admin.",
        b"/admin%20",
        b"/admin%23",
        b"/admin%3fx",
        b"/admin;%2fx",
        b"/admin;x%2fy",
        b"/admin;\\x",
        b"/admin.json",
        b"/index.php/admin",
        b"/teams/a%2Fb/KEYS",
        b"/teams/;a/KEYS",
    ],
)
def test_a_spelling_of_a_protected_path_is_refused(path: bytes) -> None:
    """The spellings of the reports, each of which some server reads as a protected path."""
    with pytest.raises(InvalidRequest):
        TABLE.match(request(path))


EQUAL, OTHER = object(), object()
ALIKE = Table(
    [
        route("/projects/{}", _SERVICE, rules=EQUAL),
        route("/projects/{}/items", _SERVICE, rules=EQUAL, name="sibling"),
        route("/projects/new", _SERVICE, rules=OTHER),
        route("/users/{}", _SERVICE, rules=EQUAL),
        route("/users/me", _SERVICE, rules=EQUAL, name="me"),
    ]
)


@pytest.mark.parametrize(
    "path",
    [
        b"/projects/a%2Fitems",
        b"/projects/a/ITEMS",
        b"/projects/x.json",
        b"/users/Me",
        b"/users/me.json",
        b"/users/me/",
    ],
)
def test_routes_with_equal_rules_may_be_taken_for_one_another(path: bytes) -> None:
    """Where both readings meet the same rules, the path passes as it was sent."""
    assert passed(ALIKE, path) is not None


@pytest.mark.parametrize("path", [b"/projects/New", b"/projects/new.json", b"/projects/%6Eew"])
def test_routes_with_other_rules_may_not(path: bytes) -> None:
    """The sibling with other rules is protected as before."""
    with pytest.raises(InvalidRequest):
        ALIKE.match(request(path))


def test_methods_are_rules() -> None:
    """A route for other methods has other rules, though each method's rules are equal."""
    table = Table(
        [
            route("/a/{}", _SERVICE, rules=EQUAL),
            route("/a/b", _SERVICE, rules=EQUAL, methods=frozenset({"GET"})),
        ]
    )
    with pytest.raises(InvalidRequest):
        table.match(request(b"/a/B"))


@pytest.mark.parametrize("path", [b"/report.json", b"/Report", b"/index.php/x"])
def test_what_stands_in_the_file_is_what_the_operator_means(path: bytes) -> None:
    """A path that is written in the file letter by letter, and a script that is, pass beside a sibling."""
    table = Table(
        [
            route("/", _SERVICE),
            route("/report", _SERVICE),
            route("/report.json", _SERVICE, exact=True),
            route("/Report", _SERVICE),
            route("/index.php", _SERVICE),
        ]
    )
    assert passed(table, path) is not None


def test_a_route_written_with_escapes_is_found_by_them() -> None:
    """A route whose own path holds escapes, capitals and parameters serves what is below it."""
    table = Table([route("/", _SERVICE), route("/caf%C3%A9/V;1", _SERVICE)])
    for path in (b"/caf%C3%A9/V;1", b"/caf%C3%A9/V;1/x", b"/caf%C3%A9/V;1/x/y.png"):
        found = passed(table, path)
        assert found is not None
        assert found.pattern.segments
    assert passed(table, b"/caf%c3%a9/v;1") is None  # read without case, that is the other route


def test_a_reading_that_no_route_has_is_refused() -> None:
    """Where an upstream may read a path that the operator did not expose, it is not asked."""
    table = Table([route("/projects/{}", _SERVICE, exact=True)])
    with pytest.raises(InvalidRequest):
        table.match(request(b"/projects/a%2Fsecret"))
    with pytest.raises(NotFound):
        table.match(request(b"/projects/a/secret"))


def test_an_encoded_mark_of_a_query_may_begin_a_name() -> None:
    """A hashtag passes where no route stands above it, and is refused where one with other rules does."""
    named = route("/tags/{}", _SERVICE)
    assert passed(Table([named]), b"/tags/%23python") is named
    assert passed(Table([named, route("/tags", _SERVICE)]), b"/tags/%23python") is None


def test_a_verdict_is_remembered_with_and_without_hosts() -> None:
    """A path is judged once, per host where hosts matter."""
    for table in (TABLE, Table([*OPEN, route("/x", _SERVICE, host=b"a.test")])):
        asked = request(b"/Some/File.json")
        first = table.place(asked)
        assert table.place(asked) is first
        asked.authority = b"b.test"
        assert table.place(asked).place == first.place
