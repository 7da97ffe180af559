"""A cookie is removed by its name, and by nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.wire.cookies import without_cookies, without_set_cookies
from tests.support.examples import examples

_names = st.sampled_from(["a", "b", "A", "ab", "__Host-a"])
_pairs = st.lists(st.tuples(_names, st.text("xyz=", max_size=4)), min_size=1, max_size=6)


@given(pairs=_pairs, name=_names)
@examples(200)
def test_the_others_stay(pairs: list[tuple[str, str]], name: str) -> None:
    """What is left is the line without the cookie, in order; without another cookie the line is gone."""
    kept = [pair for pair in pairs if pair[0] != name]
    line = "; ".join("=".join(pair) for pair in pairs)
    rest = "; ".join("=".join(pair) for pair in kept)
    expected = f"\r\nCookie: {rest}" if kept else ""
    block = f"\r\nX: 1\r\nCookie: {line}\r\nY: 2".encode()
    assert without_cookies(block, {name.encode()}) == f"\r\nX: 1{expected}\r\nY: 2".encode()


@pytest.mark.parametrize("sent", [b"a=1", b"  a = 1 ", b"a", b"\ta=1;", b";a=1;;", b"a=1;a=2"])
def test_every_spelling_of_the_pair_is_found(sent: bytes) -> None:
    """White space, empty pairs and repetitions hide no cookie."""
    assert without_cookies(b"\r\ncOOkie:" + sent, {b"a"}) == b""


def test_set_cookie_lines() -> None:
    """The name stands before the first equals sign; attributes are no names."""
    block = b"\r\nSet-Cookie: a=1; Path=/\r\nset-cookie: b=a; a=2\r\nSet-Cookie:a =2\r\nA: a=1"
    assert without_set_cookies(block, {b"a"}) == b"\r\nset-cookie: b=a; a=2\r\nA: a=1"
