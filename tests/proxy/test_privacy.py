"""What a client wishes to be kept of its request, and in which form it is passed on."""

from itertools import product
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import InvalidRequest
from propylon.proxy.privacy import Privacy
from propylon.proxy.route import NO_PREFERENCE, Level, PrivacyPreference
from propylon.wire.headers import fields, values
from tests.proxy.doubles import request

Mode = Literal["ignored", "optional", "required"]
MODES: tuple[Mode, ...] = ("ignored", "optional", "required")
DEFAULTS: tuple[Level | None, ...] = (None, "strict")


def wish(*lines: bytes, mode: Mode = "optional", default: Level | None = None) -> PrivacyPreference:
    """What is understood of these header lines."""
    return Privacy(mode, default)(request(b"/", *lines))


def refused(*lines: bytes, mode: Mode = "optional", default: Level | None = None) -> str:
    """Which header a 400 is about."""
    with pytest.raises(InvalidRequest) as caught:
        wish(*lines, mode=mode, default=default)
    error = caught.value
    assert (error.status, error.code, set(error.details)) == (400, "INVALID_REQUEST", {"header"})
    assert str(error.details["header"]) in error.message
    return str(error.details["header"])


@pytest.mark.parametrize(
    ("sent", "level"),
    [
        (b"strict", "strict"),
        (b"STRICT", "strict"),
        (b" \tStrict \t", "strict"),
        (b"standard", "standard"),
        (b"Permissive", "permissive"),
    ],
)
@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize("name", [b"X-Privacy-Level", b"x-privacy-level", b"X-PRIVACY-LEVEL"])
def test_a_level(name: bytes, sent: bytes, level: Level, mode: Mode) -> None:
    """Read in any case, and passed on in one form."""
    found = wish(name + b":" + sent, mode=mode)
    assert found.level == level
    assert found.strict is (level == "strict")
    assert found.block == b"\r\nX-Privacy-Level: " + level.encode()


@pytest.mark.parametrize(("name", "shown"), [(b"dnt", "DNT"), (b"SEC-gpc", "Sec-GPC")])
@pytest.mark.parametrize("value", [b"0", b"1"])
def test_a_signal(name: bytes, shown: str, value: bytes) -> None:
    """What browsers send passes in one form; it is no level."""
    found = wish(name + b": " + value)
    assert (found.level, found.strict) == (None, False)
    assert fields(found.block) == [(shown.encode(), value)]


def test_all_together() -> None:
    """One of each, in one order."""
    found = wish(b"Sec-GPC: 1", b"x-privacy-level: Strict", b"dnt: 0")
    assert fields(found.block) == [
        (b"X-Privacy-Level", b"strict"),
        (b"DNT", b"0"),
        (b"Sec-GPC", b"1"),
    ]


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize(
    ("lines", "header"),
    [
        ((b"X-Privacy-Level: ",), "X-Privacy-Level"),
        ((b"X-Privacy-Level: paranoid",), "X-Privacy-Level"),
        ((b"X-Privacy-Level: strict, standard",), "X-Privacy-Level"),
        ((b"X-Privacy-Level: strict;q=1",), "X-Privacy-Level"),
        ((b'X-Privacy-Level: "strict"',), "X-Privacy-Level"),
        ((b"X-Privacy-Level: str\xc4\xb1ct",), "X-Privacy-Level"),
        ((b"X-Privacy-Level: strict", b"X-Privacy-Level: strict"), "X-Privacy-Level"),
        ((b"X-Privacy-Level: strict", b"x-privacy-level: permissive"), "X-Privacy-Level"),
        ((b"X-Privacy-Level: strict", b"DNT: 2"), "DNT"),
        ((b"X-Privacy-Level: strict", b"DNT: "), "DNT"),
        ((b"X-Privacy-Level: strict", b"DNT: true"), "DNT"),
        ((b"X-Privacy-Level: strict", b"DNT: 1", b"dnt: 1"), "DNT"),
        ((b"X-Privacy-Level: strict", b"Sec-GPC: 1, 1"), "Sec-GPC"),
        ((b"X-Privacy-Level: strict", b"Sec-GPC: 0", b"Sec-GPC: 1"), "Sec-GPC"),
    ],
)
def test_what_cannot_be_understood(lines: tuple[bytes, ...], header: str, mode: Mode) -> None:
    """Unknown or repeated: 400 that names the header; nobody's wish is guessed at."""
    assert refused(*lines, mode=mode) == header
    assert refused(*lines, mode=mode, default="strict") == header


def test_required_and_absent() -> None:
    """400 that says what to send; a browser's signals are no level."""
    for lines in ((), (b"DNT: 1",), (b"Sec-GPC: 1", b"DNT: 0"), (b"X_Privacy_Level: strict",)):
        assert refused(*lines, mode="required") == "X-Privacy-Level"
    with pytest.raises(InvalidRequest, match="strict, standard or permissive"):
        wish(mode="required")


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_a_default_where_none_is_sent(mode: Mode) -> None:
    """It holds, and the upstream is told; a level that is sent stands above it, be it laxer."""
    found = wish(mode=mode, default="strict")
    assert (found.strict, found.block) == (True, b"\r\nX-Privacy-Level: strict")
    found = wish(b"DNT: 1", mode=mode, default="strict")
    assert (found.strict, found.block) == (True, b"\r\nX-Privacy-Level: strict\r\nDNT: 1")
    found = wish(b"X-Privacy-Level: permissive", mode=mode, default="strict")
    assert (found.level, found.block) == ("permissive", b"\r\nX-Privacy-Level: permissive")


def test_nothing_is_wished_for() -> None:
    """The usual request costs nothing: what it gets is shared."""
    assert wish() is NO_PREFERENCE
    assert wish(mode="ignored") is NO_PREFERENCE
    assert (NO_PREFERENCE.level, NO_PREFERENCE.block, NO_PREFERENCE.strict) == (None, b"", False)
    stage = Privacy("optional", "standard")
    assert stage(request()) is stage(request())


@pytest.mark.parametrize("default", [None, "strict"])
def test_ignored(default: Level | None) -> None:
    """Everything passes as it was sent, however odd, and nothing is read from it."""
    lines = (
        b"X-Privacy-Level: paranoid",
        b"DNT: maybe",
        b"X-Privacy-Level: STRICT",
        b"Sec-GPC: ",
        b"DNT: 1",
    )
    found = wish(*lines, mode="ignored", default=default)
    assert (found.level, found.strict) == (None, False)
    assert values(found.block, b"x-privacy-level") == [b"paranoid", b"STRICT"]
    assert values(found.block, b"dnt") == [b"maybe", b"1"]
    assert values(found.block, b"sec-gpc") == [b""]
    assert wish(mode="ignored", default=default) is NO_PREFERENCE


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"X-Privacy-Level", b"x-PRIVACY-level", b"DNT", b"Sec-GPC"]),
            st.sampled_from([b"strict", b"Standard", b"0", b"1", b"", b"2", b"x", b"strict, x"]),
        ),
        max_size=4,
    )
)
def test_understood_or_refused(pairs: list[tuple[bytes, bytes]]) -> None:
    """Either each header stands once and in its one form, or the request is refused."""
    lines = [b"%b: %b" % pair for pair in pairs]
    for mode, default in product(MODES, DEFAULTS):
        try:
            found = wish(*lines, mode=mode, default=default)
        except InvalidRequest:
            assert mode != "ignored"
            continue
        if mode == "ignored":
            assert len(fields(found.block)) == len(pairs)
            continue
        names = [name for name, _ in fields(found.block)]
        assert len(set(names)) == len(names)
        for name, value in fields(found.block):
            known = (b"strict", b"standard") if name == b"X-Privacy-Level" else (b"0", b"1")
            assert value in known
        sent = {name.lower() for name, _ in pairs}
        assert sent <= {name.lower() for name in names}
