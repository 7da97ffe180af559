"""What is written about an exchange, and what never is."""

import logging
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import GatewayError, InternalError, NotFound, UpstreamReset
from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import Principal
from propylon.proxy.route import PrivacyPreference
from propylon.telemetry.access_log import AccessLog, Stamp, as_json, as_text
from propylon.telemetry.lines import usual_line
from propylon.telemetry.logs import WriterHandler
from propylon.telemetry.record import level_of, record
from propylon.telemetry.selection import edit_of
from propylon.wire.message import Request
from tests.proxy.doubles import (
    ENTROPY,
    REQUEST_ID,
    Client,
    Upload,
    instance,
    request,
    route,
    service,
)

FIELDS = {
    "time",
    "level",
    "event",
    "request_id",
    "trace_id",
    "client_ip",
    "method",
    "host",
    "path",
    "route",
    "service",
    "instance",
    "principal",
    "status",
    "upstream_status",
    "bytes_in",
    "bytes_out",
    "duration_ms",
    "upstream_ms",
    "attempts",
    "error",
    "flags",
}
TIME = "2026-01-01T12:34:56.789Z"
SECRETS = (
    b"Authorization: Bearer s3cret",
    b"Cookie: session=s3cret",
    b"X-Api-Key: s3cret",
    b"Proxy-Authorization: s3cret",
)


def exchange(
    asked: Request | None = None, *, status: int = 200, error: GatewayError | None = None
) -> Exchange:
    """An exchange that has ended."""
    made = Exchange(asked, Client(), b"%080x" % ENTROPY, 10.0)
    made.ended = 10.0123456
    made.status = status
    made.error = error
    return made


class Lines:
    """A writer that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        """Keep it."""
        self.lines.append(line)


def everything() -> Exchange:
    """An exchange of which everything is known."""
    made = exchange(request(b"/a/b?token=s3cret", *SECRETS, method=b"POST"), status=201)
    made.route = route("/a", service(name="orders"))
    made.instance = instance(None, "one")
    made.principal = Principal("alice", claims={"jti": "s3cret"})
    made.trace_id = b"f" * 32
    made.attempts, made.upstream_status, made.upstream_began = 2, 201, 10.002
    made.flags = ("next_instance",)
    made.downstream.body = Upload(b"s3cret")  # type: ignore[misc]
    made.downstream.bytes_out = 5
    return made


def test_a_full_record() -> None:
    """Every field, as DESIGN names it."""
    assert record(everything(), "info", TIME) == {
        "time": TIME,
        "level": "info",
        "event": "request",
        "request_id": REQUEST_ID.decode(),
        "trace_id": "f" * 32,
        "client_ip": "192.0.2.1",
        "method": "POST",
        "host": "a.test",
        "path": "/a/b",
        "route": "/a",
        "service": "orders",
        "instance": "one:80",
        "principal": "alice",
        "status": 201,
        "upstream_status": 201,
        "bytes_in": 6,
        "bytes_out": 5,
        "duration_ms": 12.345,
        "upstream_ms": 10.345,
        "attempts": 2,
        "error": None,
        "flags": ("next_instance",),
    }


@pytest.mark.parametrize(
    "made",
    [
        everything(),
        exchange(),
        exchange(request()),
        exchange(request(), status=404, error=NotFound("no")),
        exchange(status=500, error=InternalError("bug")),
    ],
)
def test_the_fields_are_always_there(made: Exchange) -> None:
    """Whatever is known, and as one line of JSON."""
    found = record(made, level_of(made), TIME)
    assert set(found) == FIELDS
    line = as_json(found)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert set(orjson.loads(line)) == FIELDS


def test_nothing_secret_is_written() -> None:
    """No query, no header, no body, no claim; in neither form."""
    found = record(everything(), "info", TIME)
    assert b"s3cret" not in as_json(found) + as_text(found) + as_text(found, coloured=True)


def test_an_error_is_described() -> None:
    """Code, class, message, and the reason that only the operator may know."""
    error = UpstreamReset("cut short", reason="errno 104")
    found = record(exchange(request(), status=502, error=error), "error", TIME)
    assert found["error"] == "UPSTREAM_ERROR UpstreamReset: cut short (errno 104)"
    assert "traceback" not in found


def test_a_bug_has_its_traceback() -> None:
    """In the record, since it is not in the answer."""
    error = InternalError("failed")
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as bug:
        error.__cause__ = bug
    found = record(exchange(request(), status=500, error=error), "error", TIME)
    assert "ZeroDivisionError: by zero" in found["traceback"]
    text = as_text(found).decode()
    assert "ZeroDivisionError: by zero\n" in text
    assert orjson.loads(as_json(found))["traceback"] == found["traceback"]


@pytest.mark.parametrize(
    ("status", "error", "flags", "level"),
    [
        (200, None, (), "info"),
        (404, None, (), "info"),
        (404, NotFound("no"), (), "warning"),
        (502, None, (), "error"),
        (502, UpstreamReset("x"), (), "error"),
        (200, UpstreamReset("x"), ("cut",), "error"),
    ],
)
def test_level(status: int, error: GatewayError | None, flags: tuple[str, ...], level: str) -> None:
    """error: somebody has to look; warning: the gateway refused; info: the rest."""
    made = exchange(request(), status=status, error=error)
    made.flags = flags
    assert level_of(made) == level


@pytest.mark.parametrize(("least", "count"), [("debug", 3), ("info", 3), ("warning", 2)])
def test_the_log_has_a_least_level(least: str, count: int) -> None:
    """Records below it are not written."""
    lines: Any = Lines()
    log = AccessLog(lines, level=least, render=as_json)
    for status in (200, 404, 502):
        log(exchange(request(), status=status, error=NotFound("x") if status == 404 else None))
    assert len(lines.lines) == count
    assert all(orjson.loads(line)["event"] == "request" for line in lines.lines)


def test_a_stamp_is_rfc_3339() -> None:
    """In UTC, to the millisecond, across seconds."""
    now = [1767225599.9996]
    stamp = Stamp(lambda: now[0])
    assert stamp() == "2025-12-31T23:59:59.999Z"
    now[0] = 1767225600.0015
    assert stamp() == "2026-01-01T00:00:00.001Z"
    assert stamp.written() == b"2026-01-01T00:00:00.001Z"
    now[0] = 1767225600.0
    assert stamp.written() == b"2026-01-01T00:00:00.000Z"  # somebody has set the clock back


def test_text_for_people() -> None:
    """One line with the time, the level and what happened."""
    assert as_text(record(everything(), "info", TIME)).decode() == (
        "12:34:56.789 info    201 POST /a/b → orders 12.345 ms"
        f" client=192.0.2.1 id={REQUEST_ID.decode()}\n"
    )
    unread = exchange(status=400, error=NotFound("what?"))
    text = as_text(record(unread, "warning", TIME), coloured=True).decode()
    assert text.startswith("12:34:56.789 \x1b[33mwarning\x1b[0m 400 - - → - ")
    assert text.endswith(" NOT_FOUND NotFound: what?\n")
    plain = {"time": TIME, "level": "info", "event": "listening"}
    assert as_text(plain) == b"12:34:56.789 info    listening\n"


@given(st.text(max_size=20), st.sampled_from(["path", "method", "client_ip", "error", "event"]))
def test_text_is_one_printable_line(text: str, field: str) -> None:
    """No client and no upstream can move the cursor, colour the screen or add a line."""
    found = record(everything(), "info", TIME)
    found[field] = text.encode("utf-8", "replace").decode()
    line = as_text(found).decode()
    assert line.endswith("\n")
    assert line[:-1].isprintable()


@pytest.mark.parametrize("control", ["\x1b[2J", "\r", "\x07", "\x9b31m", "\u202e", "\x00"])
def test_a_traceback_cannot_steer_the_terminal(control: str) -> None:
    """What a client sent may stand in an exception; only line ends are let through."""
    error = InternalError("failed")
    error.__cause__ = ValueError(f"bad {control} value")
    found = record(exchange(request(), status=500, error=error), "error", TIME)
    assert control not in as_text(found).decode()


def test_other_logging_goes_the_same_way() -> None:
    """In the same form, with its traceback."""
    lines: Any = Lines()
    log = logging.Logger("propylon.test")
    log.addHandler(WriterHandler(lines, as_json))
    log.warning("say %s", "this")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        log.exception("broke")
    first, second = map(orjson.loads, lines.lines)
    assert (first["level"], first["event"], first["logger"]) == (
        "warning",
        "say this",
        "propylon.test",
    )
    assert "ZeroDivisionError" in second["traceback"]


@pytest.mark.parametrize("level", [5, 25, 60])
def test_a_level_of_somebody_elses(level: int) -> None:
    """Python lets libraries have levels of their own; they come out, coloured or not."""
    lines: Any = Lines()
    log = logging.Logger("x", level=1)
    log.addHandler(WriterHandler(lines, lambda fields: as_text(fields, coloured=True)))
    log.log(level, "something")
    assert b"something" in lines.lines[0]


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        (b"/livez", 200, 0),
        (b"/livez", 399, 0),
        (b"/livez", 400, 1),
        (b"/livez", 503, 1),
        (b"/livez/", 200, 1),
        (b"/a", 200, 1),
    ],
)
def test_paths_that_are_left_out(path: bytes, status: int, expected: int) -> None:
    """These very paths, and only while they are answered well."""
    lines: Any = Lines()
    log = AccessLog(lines, level="info", render=as_json)
    log.apply("info", ["/livez"])
    log(exchange(request(path), status=status))
    log(exchange(status=status))  # of a head that could not be read
    assert len(lines.lines) == expected + 1


def test_fields_that_are_added() -> None:
    """Of the first such header; null without one. No other header is in the record."""
    lines: Any = Lines()
    log = AccessLog(lines, level="info", render=as_json)
    log.apply("info", fields={"user_agent": "header:User-Agent", "referer": "header:Referer"})
    sent = (b"User-Agent: curl/8 (x)", b"User-Agent: other", b"Cookie: a=b")
    log(exchange(request(b"/a", *sent), status=200))
    log(exchange(status=400))
    log.apply("info")
    log(exchange(request(b"/a", *sent), status=200))
    first, unread, plain = map(orjson.loads, lines.lines)
    assert (first["user_agent"], first["referer"]) == ("curl/8 (x)", None)
    assert "a=b" not in str(first)
    assert (unread["user_agent"], unread["referer"]) == (None, None)
    assert set(plain) == FIELDS


NAMES = st.text(st.characters(codec="utf-8"), max_size=12)
SECONDS = st.floats(0, 1e6)


@given(st.data())
def test_a_usual_line_is_the_record_as_json(data: st.DataObject) -> None:
    """Byte by byte, whatever names and numbers there are: quotes, line ends, any script."""
    path = data.draw(st.binary(max_size=12).map(lambda rest: b"/" + rest))
    asked = request(b"/a")
    asked.path, asked.host = path, data.draw(st.binary(max_size=9))
    made = exchange(asked)
    if data.draw(st.booleans()):
        made.route = route(data.draw(NAMES), service(name=data.draw(NAMES)))
        made.instance = instance(None, data.draw(NAMES)) if data.draw(st.booleans()) else None
    made.principal = Principal(data.draw(st.none() | NAMES))
    made.privacy = PrivacyPreference(data.draw(st.sampled_from((None, "strict"))), b"")
    made.attempts = data.draw(st.integers(0, 3))
    made.status, made.upstream_status = data.draw(st.integers(100, 499)), data.draw(st.integers(0, 499))  # fmt: skip
    made.upstream_began = made.began + data.draw(SECONDS)
    made.ended = made.upstream_began + data.draw(SECONDS)
    made.downstream.bytes_out = data.draw(st.integers(0, 1 << 50))
    if data.draw(st.booleans()):
        made.downstream.body = Upload(b"x" * data.draw(st.integers(0, 9)))  # type: ignore[misc]
    assert usual_line(made, TIME.encode()) == as_json(record(made, "info", TIME))


def test_what_is_told_besides_is_not_left_out() -> None:
    """A limit that was reached, faults of the request, the end of a socket: such records have more fields."""
    lines: Any = Lines()
    log = AccessLog(lines, level="info", render=as_json)
    for name, value in (("limited", ("burst",)), ("faults", ("body.a",)), ("close_code", 1000)):
        made = exchange(request())
        setattr(made, name, value)
        log(made)
    told = [set(orjson.loads(line)) - FIELDS for line in lines.lines]
    assert told == [{"rate_limit"}, {"faults"}, {"close_code"}]


def test_a_changed_record_is_written_as_changed() -> None:
    """Fields that are added, and those that are left out, are in the line of a usual exchange as well."""
    lines: Any = Lines()
    log = AccessLog(lines, level="info", render=as_json)
    log.apply("info", edit=edit_of(None, ("host",), ()))
    log(exchange(request()))
    log.apply("info")
    log(exchange(request()))
    told = [set(orjson.loads(line)) for line in lines.lines]
    assert told == [FIELDS - {"host"}, FIELDS]
