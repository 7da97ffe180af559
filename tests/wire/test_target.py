"""Request targets as a careless upstream would read them."""

from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from propylon.errors import InvalidRequest
from propylon.wire.grammar import ORIGIN_FORM
from propylon.wire.target import careless, is_plain
from tests.support.examples import examples

_path = st.text("/abAB.;%2eEfF0159\\~_", max_size=24).map(lambda text: b"/" + text.encode())
# Most of these are plain: a property of plain paths must not be left with what chance lets through.
_segments = st.lists(st.text("abef0159~_.-", min_size=1, max_size=5), max_size=6)
_mostly_plain = st.one_of(_segments.map(lambda parts: b"/" + "/".join(parts).encode()), _path)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        (b"/orders", b"/orders"),
        (b"/Orders/ADMIN", b"/orders/admin"),
        (b"/orders/%61dmin", b"/orders/admin"),
        (b"/orders%2fadmin", b"/orders/admin"),
        (b"/orders%5Cadmin", b"/orders/admin"),
        (b"/orders\\admin", b"/orders/admin"),
        (b"//orders///admin", b"/orders/admin"),
        (b"/orders;v=1/admin;x", b"/orders/admin"),
        (b"/orders%3bv=1/admin", b"/orders/admin"),
        (b"/orders/%2561", b"/orders/%61"),
        (b"/%E2%84%AA", b"/k"),  # KELVIN SIGN folds to k
        (b"/stra%C3%9Fe", b"/strasse"),
        (b"/adm%C4%B1n", b"/admin"),  # dotless i: I in upper case
        (b"/adm%C4%B0n", b"/admin"),  # dotted I: i in lower case
        (b"/%C5%BFecret", b"/secret"),  # long s
        (b"/%EF%AC%81les", b"/files"),  # the ligature fi
        (b"/a/", b"/a/"),
        (b"/...", b"/..."),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/a..b/..c/d..", b"/a..b/..c/d.."),
    ],
)
def test_reading(path: bytes, read: bytes) -> None:
    """Decoded once, backslashes turned, parameters dropped, slashes merged, case folded."""
    assert careless(path) == read


@pytest.mark.parametrize(
    "path",
    [
        b"/.",
        b"/..",
        b"/a/./b",
        b"/a/../b",
        b"/a/..",
        b"/%2e",
        b"/%2e%2e/a",
        b"/%2E./a",
        b"/.%2e/a",
        b"/a/..%2fb",
        b"/a/..%5cb",
        b"/a\\..\\b",
        b"/a/..;/b",
        b"/a/..;x=1/b",
        b"/a/%2e%2e%3b/b",
        b"/a/.;/b",
        b"//..//a",
        b"/%00",
        b"/a%0d%0ab",
        b"/a%1fb",
        b"/a%7fb",
        b"/%c0%ae%c0%ae/a",  # overlong "."
        b"/%c0%af",  # overlong "/"
        b"/%e0%80%af",
        b"/%f0%80%80%af",
        b"/%ff",
        b"/%c3",
        b"/%ed%a0%80",  # a surrogate
        b"/%",
        b"/%2",
        b"/%2g",
        b"/%u002e",
        b"/%%32e",
        b"/a%",
    ],
)
def test_refused(path: bytes) -> None:
    """Dot segments, control bytes, invalid escapes and invalid UTF-8 have no safe reading."""
    assert not is_plain(path)
    with pytest.raises(InvalidRequest):
        careless(path)


@given(_mostly_plain)
@examples(400)
def test_a_plain_path_reads_as_itself(path: bytes) -> None:
    """If a path is plain, a careless reader reads what was sent."""
    assume(is_plain(path))
    assert careless(path) == path


@given(_path)
@examples(400)
def test_a_reading_holds_nothing_to_be_careless_about(path: bytes) -> None:
    """No dot segment, backslash, parameter or double slash is left; reading it again is no news."""
    try:
        read = careless(path)
    except InvalidRequest:
        return
    assert not {b".", b".."} & set(read.split(b"/"))
    assert b"\\" not in read
    assert b";" not in read
    assert b"//" not in read
    assert read.startswith(b"/")
    if b"%" not in read:
        assert careless(read) == read


@given(st.text(min_size=1, max_size=8))
def test_encoding_a_path_does_not_change_its_reading(text: str) -> None:
    """However much of a path is escaped, the careless reading is one."""
    try:
        encoded = "/" + quote(text, safe="")
    except UnicodeEncodeError:  # a lone surrogate cannot be sent
        return
    every = "/" + "".join(f"%{byte:02x}" for byte in text.encode())
    assert outcome(encoded) == outcome(every)


def outcome(path: str) -> bytes:
    """The reading, or nothing."""
    try:
        return careless(path.encode())
    except InvalidRequest:
        return b""


def test_no_target_holds_a_byte_that_does_not_belong() -> None:
    """Controls, space, `#` and anything above ASCII are in no target."""
    strange = [*range(0x21), 0x23, *range(0x7F, 0x100)]
    passed = [byte for byte in strange if ORIGIN_FORM.fullmatch(b"/a%bb" % bytes([byte]))]
    assert passed == []
