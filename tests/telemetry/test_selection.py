"""Which records are written, and with which fields; and that no added value steers a terminal or ends a line."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.config.models.log import RECORD_FIELDS
from propylon.errors import ClientGone, ConnectFailed, NotFound, UpstreamReset
from propylon.proxy.exchange import Exchange, StandIn
from propylon.proxy.principal import Principal
from propylon.proxy.route import PrivacyPreference
from propylon.telemetry.access_log import AccessLog, as_json, as_text
from propylon.telemetry.record import record
from propylon.telemetry.selection import added, edit_of, passes_of, printable
from tests.support.examples import examples
from tests.telemetry.test_records import Lines, exchange, request

LATE, EARLY = b"f" * 80, b"0" * 80  # the own digits of an exchange: in no sample, and in each


def ended(status: int, *, took: float = 0.0, digits: bytes = LATE, error: Any = None) -> Exchange:
    """An exchange that ended so."""
    found = exchange(request(b"/a"), status=status)
    found.entropy, found.error = digits, error
    found.began, found.ended = 1.0, 1.0 + took
    return found


@pytest.mark.parametrize(
    ("filters", "written", "left_out"),
    [
        ((400, None, None), [ended(400), ended(404)], [ended(200), ended(399, took=99.0)]),
        ((None, 0.5, None), [ended(200, took=0.6)], [ended(404), ended(200, took=0.5)]),
        ((400, 0.5, None), [ended(404), ended(200, took=1.0)], [ended(200)]),
        ((None, None, 0.5), [ended(200, digits=EARLY)], [ended(200), ended(404, took=9.0)]),
        ((400, None, 0.5), [ended(404), ended(200, digits=EARLY)], [ended(200)]),
        ((None, None, 1.0), [ended(200), ended(200, digits=EARLY)], []),
    ],
)
def test_filters_add_up(
    filters: tuple[int | None, float | None, float | None],
    written: list[Exchange],
    left_out: list[Exchange],
) -> None:
    """A record is written if one of them asks for it."""
    passes = passes_of(*filters)
    assert passes is not None
    assert [passes(one) for one in written] == [True] * len(written)
    assert [passes(one) for one in left_out] == [False] * len(left_out)


@pytest.mark.parametrize(
    "filters", [(599, None, None), (None, 99.0, None), (None, None, 0.0), (599, 99.0, 0.0)]
)
def test_what_failed_is_always_written(
    filters: tuple[int | None, float | None, float | None],
) -> None:
    """Server errors, refusals, answers that were cut: no filter and no sample hides them."""
    passes = passes_of(*filters)
    assert passes is not None
    gone = ended(200, error=ClientGone("gone"))
    for one in (ended(500), ended(503), ended(404, error=NotFound("no")), gone):
        assert passes(one)
    assert passes(ended(200, error=ConnectFailed("cut")))
    assert not passes(ended(200))


def test_without_a_filter_nothing_is_asked() -> None:
    """What is not configured costs nothing."""
    assert passes_of(None, None, None) is None
    assert edit_of(None, (), ()) is None
    assert added({}) == ()


def test_the_client_does_not_choose_its_sample() -> None:
    """Neither its trace nor its request id says whether the record is written."""
    passes = passes_of(None, None, 0.5)
    assert passes is not None
    chosen = ended(200)
    chosen.trace_id, chosen.request_id = b"0" * 32, b"0" * 32
    assert not passes(chosen)


def test_a_sample_is_a_share() -> None:
    """Of a thousand different digits a quarter are below a quarter."""
    passes = passes_of(None, None, 0.25)
    assert passes is not None
    spread = [b"%08x" % (at * 2**32 // 1000) + b"0" * 72 for at in range(1000)]
    assert sum(passes(ended(200, digits=digits)) for digits in spread) == 250


def test_fields_of_a_record_are_those_that_may_be_named() -> None:
    """What `log.keep`, `drop` and `redact` may name is what a record has."""
    one = ended(500, error=ConnectFailed("x"))
    one.limited, one.faults, one.close_code = ("a",), ("b",), 1000
    one.stand_in = StandIn("service", "reset", "orders", UpstreamReset("y"))
    assert set(record(one, "error", "now")) | {"traceback"} == {
        "time", "level", "event", *RECORD_FIELDS
    }  # fmt: skip


def test_a_fallback_in_a_line_for_people() -> None:
    """What answered, and why; it can be hidden like any other field."""
    one = ended(200)
    one.stand_in = StandIn("stored", "503", "orders", None)
    fields = record(one, "warning", "2026-01-01T00:00:00.000Z")
    assert b" fallback=stored (status 503)" in as_text(fields)
    redact = edit_of(None, (), ["fallback"])
    assert redact is not None
    assert b"fallback" not in as_text(redact(fields))


def test_fields_are_kept_dropped_and_hidden() -> None:
    """In each format; what is left out of the record is in no line."""
    fields = {"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "request", "path": "/secret",
              "client_ip": "10.1.2.3", "status": 200, "error": None}  # fmt: skip
    keep = edit_of(["status"], (), ())
    drop = edit_of(None, ["path", "client_ip"], ())
    redact = edit_of(None, (), ["path", "client_ip", "error"])
    assert keep is not None
    assert drop is not None
    assert redact is not None
    assert set(keep(fields)) == {"time", "level", "event", "status"}
    assert set(drop(fields)) == set(fields) - {"path", "client_ip"}
    assert redact(fields) == {**fields, "path": "redacted", "client_ip": "redacted"}
    for edit in (keep, drop, redact):
        for line in (as_json(edit(fields)), as_text(edit(fields))):
            assert b"secret" not in line
            assert b"10.1.2.3" not in line


def logged(found: Exchange, **fields: str) -> dict[str, Any]:
    """The record with these fields, read again from its line."""
    lines: Any = Lines()
    log = AccessLog(lines, level="info", render=as_json)
    log.apply("info", fields=fields)
    log(found)
    (line,) = lines.lines
    assert line.count(b"\n") == 1
    written: dict[str, Any] = orjson.loads(line)
    return written


def test_values_come_from_headers_claims_and_policies() -> None:
    """A nested claim, a list, a number; null where there is none, or where it is an object."""
    found = ended(200)
    claims = {"tenant": {"id": 7, "o": {}}, "groups": ["a", "b", {}], "a.b": "dotted"}
    found.principal = Principal("ann", claims=claims)
    assert found.request is not None
    found.request.note("plan", "gold")
    record = logged(
        found,
        id="claim:tenant.id",
        groups="claim:groups",
        dotted="claim:a.b",
        object="claim:tenant",
        plan="policy:plan",
        none="policy:other",
        shop="header:X-Shop",
    )
    told = {
        name: record[name] for name in ("id", "groups", "dotted", "object", "plan", "none", "shop")
    }
    assert told == {"id": "7", "groups": "a,b", "dotted": "dotted", "object": None, "plan": "gold",
                    "none": None, "shop": None}  # fmt: skip


def test_who_asks_for_privacy_is_not_described() -> None:
    """With `X-Privacy-Level: strict` an added field says nothing."""
    found = exchange(request(b"/a", b"X-Shop: 1", b"User-Agent: curl"), status=200)
    found.privacy = PrivacyPreference("strict", b"")
    record = logged(found, shop="header:X-Shop", user_agent="header:User-Agent")
    assert (record["shop"], record["user_agent"]) == (None, "curl")


def test_a_request_has_few_notes() -> None:
    """A policy in a loop does not fill the memory."""
    found = request(b"/a")
    for at in range(32):
        found.note(f"n{at}", "x")
    found.note("n1", "again")
    with pytest.raises(ValueError, match="32 notes"):
        found.note("another", "x")


HOSTILE = "\x1b[31m\r\n\x00\x07\x7f\x85\x9b\u2028\u2029\u202e\u2066\ufeff\ud800"


@given(st.one_of(st.text(), st.text(alphabet=HOSTILE + "ab")))
@examples(200)
def test_no_value_steers_a_terminal_or_ends_a_line(value: str) -> None:
    """Whatever stands in a claim, each format has it in one line of printable characters (CWE-117)."""
    found = ended(200)
    found.principal = Principal("ann", claims={"c": value})
    record = logged(found, c="claim:c")
    assert record["c"].isprintable()
    text = as_text({**record, "error": value}).decode()
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()


def test_what_is_escaped_can_still_be_read() -> None:
    """An escape says which character it was."""
    assert printable("a\x1b[31m\u2028é") == "a\\x1b[31m\\u2028é"
    assert printable(HOSTILE).isascii()
