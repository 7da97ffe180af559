"""What may be stored, and for how long it is fresh: a table by the sections of RFC 9111, 5861 and 9213."""

from typing import Any

import pytest

from propylon.proxy.cache.judgement import judge
from propylon.proxy.cache.rules import CacheRules
from tests.proxy.cache.world import EPOCH, head

NOW = "Date: Mon, 30 Nov 2026 20:00:00 GMT"
HOUR_AGO = "Date: Mon, 30 Nov 2026 19:00:00 GMT"
DAY_AGO = "Last-Modified: Sun, 29 Nov 2026 20:00:00 GMT"
IN_AN_HOUR = "Expires: Mon, 30 Nov 2026 21:00:00 GMT"


def rules(**more: Any) -> CacheRules:
    """The rules of a route."""
    return CacheRules(b"place", "route", **more)


@pytest.mark.parametrize(
    ("lines", "lifetime"),
    [
        (["Cache-Control: max-age=60"], 60),
        (["Cache-Control: MaX-aGe=60"], 60),
        (['Cache-Control: max-age="60"'], 60),
        (["Cache-Control: max-age=0060"], 60),
        (["Cache-Control: max-age=99999999999999999999"], 2**31),
        (["Cache-Control: s-maxage=10, max-age=60"], 10),
        (["Cache-Control: max-age=60, s-maxage=10"], 10),
        (["Cache-Control: max-age=60", "Cache-Control: max-age=10"], 10),
        (["Cache-Control: max-age=60, max-age=10"], 10),
        (['Cache-Control: extension="max-age=60", max-age=1'], 1),
        (['Cache-Control: extension="a\\", max-age=60", max-age=1'], 1),
        (["Cache-Control: unknown, max-age=60"], 60),
        (["Cache-Control: max-age=-60"], 0),
        (["Cache-Control: max-age='60'"], 0),
        (["Cache-Control: max-age=60.5"], 0),
        (["Cache-Control: max-age=a60"], 0),
        (["Cache-Control: max-age = 60"], 0),
        (["Cache-Control: max-age"], 0),
        ([NOW, IN_AN_HOUR], 3600),
        ([HOUR_AGO, IN_AN_HOUR], 7200),
        ([IN_AN_HOUR], 3600),
        ([NOW, IN_AN_HOUR, "Cache-Control: max-age=5"], 5),
        ([NOW, "Expires: 0"], 0),
        ([NOW, "Expires: Mon, 30 Nov 2026 21:00:00 UTC"], 0),
        ([NOW, "Expires: Monday, 30-Nov-26 21:00:00 GMT"], 3600),
        ([NOW, "Expires: Mon Nov 30 21:00:00 2026"], 3600),
        ([NOW, "Expires: Mon, 30 Feb 2026 21:00:00 GMT"], 0),
        ([NOW, IN_AN_HOUR, "Expires: 0"], 0),
        # RFC 9213: the field for gateways stands alone, unless it is malformed.
        (["CDN-Cache-Control: max-age=5", "Cache-Control: max-age=60"], 5),
        (["CDN-Cache-Control: max-age=5", NOW, IN_AN_HOUR], 5),
        (["CDN-Cache-Control: max-age=5, &&&", "Cache-Control: max-age=60"], 60),
        (["CDN-Cache-Control: MaX-aGe=5", "Cache-Control: max-age=60"], 60),
        (['CDN-Cache-Control: max-age="5"', "Cache-Control: max-age=60"], 0),
        (["CDN-Cache-Control: max-age=5", "Cache-Control: no-store"], 5),
        (["CDN-Cache-Control: ", "Cache-Control: max-age=60"], 60),
        (["Surrogate-Control: max-age=5", "Cache-Control: max-age=60"], 5),
        (["Surrogate-Control: max-age=5;other", "Cache-Control: max-age=60"], 60),
        # RFC 9111, 4.2.2.
        ([NOW, DAY_AGO], 8640),
        ([NOW, "Last-Modified: Mon, 30 Nov 2020 20:00:00 GMT"], 86_400),
        ([NOW, "Last-Modified: Mon, 30 Nov 2026 21:00:00 GMT"], 0),
        ([], 0),
    ],
)
def test_lifetime(lines: list[str], lifetime: float) -> None:
    """How long an answer is fresh (4.2.1), and how what is malformed is read: as less."""
    assert judge(head(*lines), rules(), EPOCH, unverified=False).lifetime == lifetime


@pytest.mark.parametrize(
    ("lines", "age"),
    [
        ([], 0),
        (["Age: 30"], 30),
        (["Age: 30, 40"], 30),
        (["Age: 30", "Age: 40"], 30),
        (["Age: none"], 0),
        (["Age: -5"], 0),
        (["Age: 9999999999999"], 2**31),
        ([HOUR_AGO], 3600),
        ([HOUR_AGO, "Age: 4000"], 4000),
        (["Date: Mon, 30 Nov 2026 21:00:00 GMT", "Age: 3"], 3),
    ],
)
def test_age(lines: list[str], age: float) -> None:
    """How old it is when it comes (4.2.3)."""
    heads = head("Cache-Control: max-age=60", *lines)
    assert judge(heads, rules(), EPOCH, unverified=False).age == age


def test_age_counts_the_way() -> None:
    """The time that the answer took belongs to its age; a ttl counts from the arrival, whatever the upstream's clock says."""
    spoken = judge(
        head("Cache-Control: max-age=60", "Age: 5"), rules(), EPOCH, unverified=False, delay=2.0
    )
    silent = judge(head(HOUR_AGO), rules(ttl=60.0), EPOCH, unverified=False)
    assert (spoken.age, silent.age, silent.lifetime) == (7, 0, 60)


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        (["Cache-Control: no-store, max-age=60"], "no-store"),
        (["Cache-Control: No-StOrE"], "no-store"),
        (['Cache-Control: max-age=60, x="a, no-store'], "no-store"),  # a quote that nothing closes
        (["Cache-Control: private, max-age=60"], "private"),
        (["Cache-Control: max-age=60", "Set-Cookie: a=b"], "set-cookie"),
        (["Cache-Control: max-age=60", "Vary: Accept, *"], "vary"),
        (["Cache-Control: max-age=60", "Vary: X-Request-ID"], "vary"),
        (["Cache-Control: max-age=60", "Content-Type: text/event-stream"], "stream"),
        (["CDN-Cache-Control: no-store", "Cache-Control: max-age=60"], "no-store"),
        (["CDN-Cache-Control: private", "Cache-Control: max-age=60"], "private"),
        (["Surrogate-Control: no-store", "Cache-Control: max-age=60"], "no-store"),
        (["Cache-Control: max-age=60"], ""),
        (["Cache-Control: max-age=60", "Vary: Accept"], ""),
        (["Cache-Control: no-cache", 'ETag: "a"'], ""),
        (['ETag: "a"'], ""),
        ([], "freshness"),
        (["Cache-Control: max-age=60", "Content-Length: 1000001"], "size"),
    ],
)
def test_what_is_stored(lines: list[str], refusal: str) -> None:
    """What an answer forbids (3), and what says nothing that would make it worth storing."""
    lines = lines if "Content-Length" in str(lines) else [*lines, "Content-Length: 3"]
    assert judge(head(*lines), rules(), EPOCH, unverified=False).refusal == refusal


def test_an_end_that_is_a_close_is_no_whole_answer() -> None:
    """Nothing tells whether all of it has come."""
    lines = head("Cache-Control: max-age=60")
    assert judge(lines, rules(), EPOCH, unverified=False).refusal == "length"


@pytest.mark.parametrize(
    ("status", "more", "stored"),
    [
        ("206 Partial Content", "", False),
        ("304 Not Modified", "", False),
        ("404 Not Found", "", True),
        ("599 Whatever", "", True),
        ("599 Whatever", ", must-understand", False),
        ("404 Not Found", ", must-understand", True),
    ],
)
def test_statuses(status: str, more: str, stored: bool) -> None:
    """Any final answer that says how long it is fresh (3), but for parts, and what has to be understood and is not."""
    lines = head(f"Cache-Control: max-age=60{more}", "Content-Length: 3", status=status)
    assert (not judge(lines, rules(), EPOCH, unverified=False).refusal) is stored


@pytest.mark.parametrize(
    ("status", "said", "lifetime"),
    [
        ("200 OK", {}, 30),
        ("301 Moved Permanently", {}, 30),
        ("404 Not Found", {}, 0),
        ("404 Not Found", {"statuses": frozenset({404})}, 30),
        ("302 Found", {}, 0),
    ],
)
def test_ttl(status: str, said: dict[str, Any], lifetime: float) -> None:
    """The operator's ttl is for a few statuses, and for others where that is said."""
    judged = judge(head(DAY_AGO, status=status), rules(ttl=30.0, **said), EPOCH, unverified=False)
    assert judged.lifetime == lifetime


@pytest.mark.parametrize(
    ("line", "lifetime", "refusal"),
    [
        ("Cache-Control: max-age=5", 30, ""),
        ("Expires: 0", 30, ""),
        ("Cache-Control: no-store", 0, "no-store"),
        ("Cache-Control: private", 0, "private"),
        ("Set-Cookie: a=b", 0, "set-cookie"),
        ("Vary: *", 0, "vary"),
    ],
)
def test_respect(line: str, lifetime: float, refusal: str) -> None:
    """`respect: false` sets ttl over what the upstream says of time, and over nothing else."""
    lines = head(line, "Content-Length: 3")
    judged = judge(lines, rules(ttl=30.0, respect=False), EPOCH, unverified=False)
    assert (judged.lifetime, judged.refusal) == (lifetime, refusal)


@pytest.mark.parametrize(
    ("value", "refusal"),
    [
        ("max-age=60", "authorization"),
        ("max-age=60, public", ""),
        ("max-age=60, must-revalidate", ""),
        ("s-maxage=60", ""),
    ],
)
def test_credentials_that_nobody_verified(value: str, refusal: str) -> None:
    """Section 3.5."""
    lines = head(f"Cache-Control: {value}", "Content-Length: 3")
    assert judge(lines, rules(), EPOCH, unverified=True).refusal == refusal


@pytest.mark.parametrize(
    ("value", "revalidate", "error"),
    [
        ("max-age=60", 7, 9),
        ("max-age=60, stale-while-revalidate=5, stale-if-error=6", 5, 6),
        ("max-age=60, must-revalidate, stale-while-revalidate=5", 0, 0),
        ("max-age=60, proxy-revalidate", 0, 0),
        ("s-maxage=60", 0, 0),
        ("no-cache", 0, 0),
    ],
)
def test_stale(value: str, revalidate: float, error: float) -> None:
    """How long it may be used after that (RFC 5861): the upstream's word, else the operator's; never over must-revalidate."""
    said = rules(stale_while_revalidate=7.0, stale_if_error=9.0)
    judged = judge(head(f"Cache-Control: {value}"), said, EPOCH, unverified=False)
    assert (judged.stale_while_revalidate, judged.stale_if_error) == (revalidate, error)


def test_fields_that_are_not_stored() -> None:
    """Those that no-cache or private names (5.2.2.4, 5.2.2.7); the rest is stored."""
    lines = head('Cache-Control: no-cache="A, b", max-age=60', "Content-Length: 3")
    judged = judge(lines, rules(), EPOCH, unverified=False)
    assert (judged.unlisted, judged.validates, judged.refusal) == ((b"a", b"b"), False, "")


@pytest.mark.parametrize(
    "line", ["Cache-Control: no-cache", "Cache-Control: max-age=0", "Pragma: no-cache"]
)
def test_what_is_stale_at_once_is_for_one_client(line: str) -> None:
    """Who waits does not get what would have to be validated for them."""
    assert judge(head(line, 'ETag: "a"'), rules(), EPOCH, unverified=False).unshared == "no-cache"
