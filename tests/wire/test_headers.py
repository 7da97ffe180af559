"""Raw header blocks: find, remove, render."""

import re

from hypothesis import given
from hypothesis import strategies as st

from propylon.wire.headers import fields, render, take, tokens, values, without

_name = st.text("abcXYZ-_!09", min_size=1, max_size=6).map(str.encode)
_value = (
    st.binary(max_size=12)
    .map(lambda raw: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", raw))
    .map(lambda raw: raw.strip(b" \t"))
)
_pairs = st.lists(st.tuples(_name, _value), max_size=8)
_AB = re.compile(rb"\r\n(a|b|c-d):[ \t]*([^\r]*)")


@given(_pairs)
def test_what_is_rendered_is_read(pairs: list[tuple[bytes, bytes]]) -> None:
    """`fields` and `render` are each other's inverse, order and repetition included."""
    assert fields(render(pairs)) == pairs


@given(_pairs, st.lists(_name.map(bytes.lower), max_size=4))
def test_without_takes_out_exactly_the_named_lines(
    pairs: list[tuple[bytes, bytes]], names: list[bytes]
) -> None:
    """Any case of a name is removed; what is left stands as it stood, byte for byte."""
    expected = render(pair for pair in pairs if pair[0].lower() not in names)
    assert without(render(pairs), names) == expected


def test_without_takes_names_literally() -> None:
    """A name is no pattern: a token may hold `.`, `*`, `+`, `^`, `|` and `$`."""
    block = b"\r\nabc: 1\r\na.c: 2\r\na|b: 3\r\na: 4\r\nb: 5"
    assert without(block, [b"a.c", b"a|b", b"^", b"$", b"*"]) == b"\r\nabc: 1\r\na: 4\r\nb: 5"
    assert without(block, []) == block


def test_a_value_cannot_pass_for_a_line() -> None:
    """A colon in a value, or a name inside another one, is not what is looked for."""
    block = b"\r\nx: host: a\r\nxhost: b\r\nhost-x: c\r\nhost : d"
    assert without(block, [b"host"]) == block


@given(st.lists(st.tuples(st.sampled_from([b"A", b"b", b"C-D", b"c_d", b"x", b"ab"]), _value)))
def test_take_parts_a_block(pairs: list[tuple[bytes, bytes]]) -> None:
    """Special lines are taken out and recorded under lower-case names, the others stay as sent."""
    rest, special = take(render(pairs), _AB)
    wanted = {b"a", b"b", b"c-d"}
    assert rest == render(pair for pair in pairs if pair[0].lower() not in wanted)
    expected: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        if name.lower() in wanted:
            expected.setdefault(name.lower(), []).append(value)
    assert special == expected


@given(st.lists(st.tuples(st.sampled_from([b"A", b"b", b"x"]), _value)))
def test_take_leaves_what_is_kept(pairs: list[tuple[bytes, bytes]]) -> None:
    """The kept name is recorded and stays in its place."""
    rest, special = take(render(pairs), _AB, kept=frozenset({b"a"}))
    assert rest == render(pair for pair in pairs if pair[0] != b"b")
    assert special.get(b"a", []) == [value for name, value in pairs if name == b"A"]


def test_take_trims_values_only_at_their_ends() -> None:
    """Blanks around a value are no part of it, those within are."""
    assert take(b"\r\nA: \t x  Y \t \r\nz: \t1 ", _AB) == (b"\r\nz: \t1 ", {b"a": [b"x  Y"]})


def test_values_are_found_in_any_case() -> None:
    """Every line of the name counts, in order."""
    assert values(b"\r\nAccept: a\r\nx: b\r\naCCept:c", b"accept") == [b"a", b"c"]


def test_tokens_of_lists() -> None:
    """Lists are joined, folded to lower case, and empty elements dropped."""
    assert tokens([b"Close, , x-Y\t", b"", b",", b"keep-alive"]) == [
        b"close",
        b"x-y",
        b"keep-alive",
    ]


@given(st.lists(st.lists(st.text("abXY-", min_size=1).map(str.encode))))
def test_tokens_do_not_mind_how_a_list_is_spread(lists: list[list[bytes]]) -> None:
    """One line or many: RFC 9110, 5.3 makes them the same list."""
    flat = [token.lower() for part in lists for token in part]
    assert tokens([b", ".join(part) for part in lists]) == flat
    assert tokens([b" ,\t".join(b", ".join(part) for part in lists)]) == flat
