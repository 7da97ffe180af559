"""Templates: what names stand for, and that no value gets out of the place where it is put."""

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import Forbidden, InvalidRequest
from propylon.proxy.changes import Changes, QueryChanges, filled
from propylon.proxy.rewrite import Rewrite
from propylon.proxy.template import Name, Template, parse
from propylon.wire.headers import fields
from tests.support.examples import examples

TENANT = Name("claim", "tenant")
GIVEN = Name("header", "x")


class Given:
    """Values that are what a test says, escaped or not."""

    def __init__(self, values: Mapping[Name, bytes]) -> None:
        self.values = values

    def sent(self, name: Name) -> bytes:
        """The value."""
        return self.values.get(name, b"")

    plain = sent


NOTHING = Given({})


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ()),
        ("plain", (b"plain",)),
        ("{request_id}", (Name("request_id"),)),
        ("a {claim.tenant.id} b", (b"a ", Name("claim", "tenant.id"), b" b")),
        ('{{"a": "{user}"}}', (b'{"a": "', Name("user"), b'"}')),
        ("{{{{}}}}", (b"{{}}",)),
        ("{{user}}", (b"{user}",)),
        ("{path}{path.id}", (Name("path"), Name("path", "id"))),
    ],
)
def test_a_template_is_read(text: str, pieces: tuple[bytes | Name, ...]) -> None:
    """Names stand in braces, and two braces are one."""
    assert parse(text) == Template(pieces)


@pytest.mark.parametrize(
    "text",
    ["{", "}", "a{b", "{}", "{ user }", "{claim}", "{claim.}", "{users}", "{a{user}}", "{{user}"],
)
def test_what_stands_for_nothing_is_refused(text: str) -> None:
    """An unknown name, and a brace without its other half."""
    with pytest.raises(ValueError, match="without its other half|stands for nothing"):
        parse(text)


@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\nX-User-Id: root", b"\0", b" "]))
    ),
    st.binary(max_size=60),
)
@examples(200)
def test_a_value_stays_in_its_line(given_to: list[bytes], other: bytes) -> None:
    """Whatever the values are, a block has as many lines as templates with values, and nothing else in them."""
    names = [Name("header", f"x{at}") for at in range(len(given_to))]
    lines = tuple((b"X-A", Template((b"v=", name))) for name in names)
    values = Given(dict(zip(names, given_to, strict=True)))
    block = filled(lines, values)
    assert len(fields(block)) <= len(lines)
    assert b"\0" not in block
    for name, value in fields(block):
        assert name == b"X-A"
        assert value.removeprefix(b"v=") in [one.rstrip(b" \t") for one in given_to]
    assert filled(((b"X-A", Template((b"v=", GIVEN))),), Given({GIVEN: other})).count(b"\r") <= 1


def test_a_text_without_one_of_its_values_is_not_sent() -> None:
    """Half a value would mean something else, and a long one uses up the head of the next server."""
    template = parse("Bearer {claim.tenant}")
    assert template.line(NOTHING) == b""
    assert template.parameter(NOTHING) is None
    assert template.line(Given({TENANT: b"t"})) == b"Bearer t"
    assert template.line(Given({TENANT: b"t" * 5000})) == b""
    assert template.parameter(Given({TENANT: b"t" * 5000})) is None


QUERY = QueryChanges(
    frozenset({b"tenant", b"debug"}),
    ((b"tenant", Template((TENANT,))), (b"v", Template((b"a b",)))),
)


@pytest.mark.parametrize(
    ("sent", "gets"),
    [
        (b"", b"?tenant=t%26x&v=a%20b"),
        (b"?a=1&b=%2F", b"?a=1&b=%2F&tenant=t%26x&v=a%20b"),
        (b"?tenant=evil&a=1", b"?a=1&tenant=t%26x&v=a%20b"),
        (b"?a=1&%74enant=evil&debug", b"?a=1&tenant=t%26x&v=a%20b"),
        (b"?a=1;tenant=evil;b=2", b"?a=1;b=2&tenant=t%26x&v=a%20b"),
        (b"?debug=1&tenant=2", b"?tenant=t%26x&v=a%20b"),
        (b"?&a=1&&b=2", b"?&a=1&&b=2&tenant=t%26x&v=a%20b"),
    ],
)
def test_a_query_is_changed(sent: bytes, gets: bytes) -> None:
    """What is set is no longer the client's, in whatever spelling; the rest stays as it was sent."""
    assert QUERY.apply(sent, Given({TENANT: b"t&x"})) == gets


def test_a_query_may_become_empty() -> None:
    """Then there is no question mark either, and a parameter without a value is only removed."""
    gone = QueryChanges(frozenset({b"a"}), ((b"a", Template((TENANT,))),))
    assert gone.apply(b"?a=1", NOTHING) == b""
    assert gone.apply(b"", NOTHING) == b""


@given(st.text(alphabet="tenat=&;%37+a?", max_size=30), st.binary(min_size=1, max_size=20))
@examples(300)
def test_no_client_sets_what_the_operator_sets(query: str, value: bytes) -> None:
    """The parameter has the operator's value alone, for readers that part at `;` and for those that do not."""
    changes = QueryChanges(frozenset({b"tenant"}), ((b"tenant", Template((TENANT,))),))
    changed = changes.apply(b"?" + query.encode(), Given({TENANT: value}))
    for separated in (changed, changed.replace(b";", b"&")):
        pairs = [
            [unquote_to_bytes(part.replace(b"+", b" ")) for part in pair.partition(b"=")[::2]]
            for pair in separated[1:].split(b"&")
        ]
        assert [one for name, one in pairs if name == b"tenant"] == [value]


def rewriting(*pieces: bytes | int | Name) -> Rewrite:
    """What replaces the first segment."""
    return Rewrite(1, pieces, text="…")


@pytest.mark.parametrize(
    ("value", "gets"),
    [(b"acme", b"/t/acme/x"), (b"a b", b"/t/a%20b/x"), (b"\xc3\xa9", b"/t/%C3%A9/x")],
)
def test_a_value_is_one_segment_of_a_path(value: bytes, gets: bytes) -> None:
    """It is escaped, and what follows the route's path stands behind it."""
    rewrite = rewriting(b"/t/", TENANT).filled(b"/a/x", Given({TENANT: value}))
    assert rewrite.apply(b"/a/x", b"") == gets
    assert rewrite.replacement(b"/a/x") == gets.removesuffix(b"/x")


@given(st.binary(max_size=12))
@examples(300)
def test_no_value_leaves_its_segment(value: bytes) -> None:
    """A path has as many segments as the operator wrote, none of dots, also for readers that decode twice."""
    try:
        filled_in = rewriting(b"/t/", GIVEN).filled(b"/a/x", Given({GIVEN: value}))
    except InvalidRequest:
        return
    path = filled_in.apply(b"/a/x", b"")
    for _ in range(3):
        assert path.count(b"/") == 3
        assert b".." not in path.split(b"/")
        assert b"\\" not in path
        path = unquote_to_bytes(path)


def test_a_path_needs_its_values() -> None:
    """403 where the token has none, 400 where the request has none; two harmless pieces may make a dot segment."""
    with pytest.raises(Forbidden):
        rewriting(b"/t/", TENANT).filled(b"/a", NOTHING)
    with pytest.raises(InvalidRequest):
        rewriting(b"/t/", GIVEN).filled(b"/a", NOTHING)
    with pytest.raises(InvalidRequest):
        rewriting(b"/t/.", GIVEN).filled(b"/a", Given({GIVEN: b"."}))
    with pytest.raises(InvalidRequest):
        rewriting(b"/t/", GIVEN, GIVEN).filled(b"/a", Given({GIVEN: b"."}))


def test_what_is_set_replaces_every_spelling() -> None:
    """The client's copy and the gateway's own go, also where the value is missing; what is added stands beside others."""
    changes = Changes(
        frozenset({b"xtenant"}),
        ((b"X-Tenant", Template((TENANT,))), (b"Via", Template((b"1.1 ", GIVEN)))),
    )
    block = b"\r\nX-Tenant: evil\r\nx_tenant: evil\r\nVia: 1.0 a"
    assert changes.block(block, NOTHING) == b"\r\nVia: 1.0 a"
    values = Given({TENANT: b"t", GIVEN: b"b"})
    assert changes.block(block, values) == b"\r\nVia: 1.0 a\r\nX-Tenant: t\r\nVia: 1.1 b"
