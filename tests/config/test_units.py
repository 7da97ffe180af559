"""Durations, sizes and whole numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.config.models.units import (
    Rate,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
    parse_timeout,
    parse_whole,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("7", 7.0),
        (0, 0.0),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    """Numbers are seconds; units are said."""
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [("10MB", 10**7), ("1MiB", 2**20), ("64KiB", 65536), (5, 5), ("5", 5), ("1.5kB", 1500)],
)
def test_sizes(written: object, size: int) -> None:
    """Numbers are bytes; MB is a million, MiB is 2**20."""
    assert parse_size(written) == size


WRONG = ["", " 1s", "1s\n", "-1s", "1 s", "nan", "inf", "1e9", "0x1", "٣s", "1_0s", "9" * 5000,
         -1, -0.5, math.nan, math.inf, 10**400, True, False, None, [], {}]  # fmt: skip


@pytest.mark.parametrize("written", WRONG)
def test_what_is_no_duration_and_no_size(written: object) -> None:
    """Signs, exponents, other scripts, NaN, booleans are refused by one plain error."""
    for parse in (parse_duration, parse_timeout, parse_size):
        with pytest.raises(ValueError, match=r"^must be a (duration|size)"):
            parse(written)


@pytest.mark.parametrize("written", [True, 1.0, "01", "+1", "1.0", "", "1" * 30, None, "٣"])
def test_what_is_no_whole_number(written: object) -> None:
    """Booleans, fractions and odd spellings are refused."""
    with pytest.raises(ValueError, match=r"^must be a whole number"):
        parse_whole(written)


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m"]))
def test_every_whole_duration_is_read(count: int, unit: str) -> None:
    """What is written is what is meant."""
    factor = {"ms": 0.001, "s": 1.0, "m": 60.0}[unit]
    assert parse_duration(f"{count}{unit}") == pytest.approx(count * factor)


@given(st.one_of(st.text(), st.floats(), st.integers(), st.booleans(), st.none(), st.binary()))
def test_nothing_else_comes_out(written: object) -> None:
    """Whatever goes in, a finite number of zero or more comes out, or a ValueError."""
    for parse in (parse_duration, parse_size):
        try:
            value = parse(written)
        except ValueError:
            continue
        assert 0 <= value < math.inf


@pytest.mark.parametrize(
    ("written", "rate"),
    [("10/s", Rate(10, 1.0)), ("600/m", Rate(600, 60.0)), ("5/h", Rate(5, 3600.0))],
)
def test_rates(written: str, rate: Rate) -> None:
    """So many a second, a minute, an hour; and a rate says what it is as it was written."""
    assert parse_rate(written) == rate
    assert str(rate) == written
    assert parse_rate(rate) is rate


@pytest.mark.parametrize("written", [10, "10", "0/s", "-1/s", "1/x", "1/", "/s", "1 / s", "1.5/s"])
def test_what_is_no_rate(written: object) -> None:
    """Anything else is one sentence."""
    with pytest.raises(ValueError, match=r"must be a rate of at least one: text such as"):
        parse_rate(written)


@pytest.mark.parametrize(
    ("written", "share"),
    [("20%", 0.2), (0.2, 0.2), ("0.2", 0.2), ("12.5%", 0.125), (0, 0.0), (1, 1.0), ("100%", 1.0)],
)
def test_shares(written: object, share: float) -> None:
    """In percent, or as a number from 0 to 1."""
    assert parse_share(written) == share


@pytest.mark.parametrize("written", [20, "20", "101%", -0.1, "-1%", "%", True, None, float("nan")])
def test_what_is_no_share(written: object) -> None:
    """Twenty is no share: who forgot the percent sign would get everything."""
    with pytest.raises(ValueError, match=r"must be a share: text such as"):
        parse_share(written)
