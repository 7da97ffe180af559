"""One record for each request, whatever happened to it, and no secret in any of them."""

import json
import re

import pytest

from tests.support import answers
from tests.support.client import RawClient, ask, request
from tests.support.gateway import Gateway
from tests.support.upstream import Upstream

FIELDS = {
    "request_id", "trace_id", "client_ip", "method", "host", "path", "route", "service", "instance",
    "principal", "status", "upstream_status", "bytes_in", "bytes_out", "duration_ms", "upstream_ms",
    "attempts", "error", "flags",
}  # fmt: skip


def test_record_says_what_happened(gateway: Gateway, up: Upstream) -> None:
    """A record has every documented field, and they are right."""
    up.on("/rec", answers.after(0.05, answers.plain("201 Created", body=b"12345")))
    answer = ask(gateway.port, "POST", "/up/rec", body=b"abc", host="shop.example")
    record = gateway.record(answer)
    assert FIELDS - set(record) == set()
    assert (record["method"], record["path"], record["host"]) == ("POST", "/up/rec", "shop.example")
    assert (record["route"], record["service"]) == ("up", "main")
    assert (record["status"], record["upstream_status"]) == (201, 201)
    assert (record["client_ip"], record["attempts"]) == ("127.0.0.1", 1)
    assert str(up.port) in record["instance"]
    assert 50 <= record["upstream_ms"] <= record["duration_ms"] < 20_000  # milliseconds
    assert record["bytes_in"] >= 3
    assert record["bytes_out"] >= 5
    assert record["trace_id"] == (up.last.get("traceparent") or "")[3:35]
    assert not record["error"]


def test_record_has_its_time(gateway: Gateway, up: Upstream) -> None:
    """The time of a record is there, in UTC."""
    record = gateway.record(ask(gateway.port))
    moment = str(record.get("time") or record.get("timestamp"))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", moment)


def test_record_is_out_within_200_ms(gateway: Gateway, up: Upstream) -> None:
    """A record can be read soon after its request: a busy machine may be late, but not every time."""

    def late() -> bool:
        identity = ask(gateway.port).get("x-request-id") or ""
        return not gateway.records(identity, within=0.2)

    assert not all(late() for _ in range(20))


@pytest.mark.parametrize(
    ("target", "status", "level"),
    [
        ("/up/x", 200, {"info"}),
        ("/up/missing", 404, {"info", "warning"}),
        ("/up/broken", 500, {"warning", "error"}),
        ("/nosuch", 404, {"info", "warning"}),
        ("/closed", 502, {"error"}),
        ("/docs", 200, {"info", "debug"}),
    ],
)
def test_record_has_the_level_that_its_outcome_deserves(
    gateway: Gateway, up: Upstream, target: str, status: int, level: set[str]
) -> None:
    """What went well is info, what failed is an error."""
    up.on("/missing", answers.plain("404 Not Found"))
    up.on("/broken", answers.plain("500 Oops"))
    record = gateway.record(ask(gateway.port, target=target))
    assert record["status"] == status
    assert str(record["level"]).lower() in level


def test_thousand_requests_have_a_thousand_records(gateway: Gateway, up: Upstream) -> None:
    """1,000 requests: 1,000 records with 1,000 distinct request ids."""
    ids = []
    with RawClient(gateway.port) as client:
        for _ in range(10):
            client.send(request(target="/up/many") * 100)
            ids += [client.read().get("x-request-id") for _ in range(100)]
    assert len(set(ids)) == 1000
    wanted = set(ids)

    def logged() -> list[object]:
        return [line["request_id"] for line in gateway.lines() if line.get("request_id") in wanted]

    assert up.wait(lambda: len(logged()) >= 1000)
    assert sorted(map(str, logged())) == sorted(map(str, ids))


def test_no_secret_is_ever_logged(gateway: Gateway, up: Upstream) -> None:
    """Tokens, cookies and secrets of the query appear in no line, for a good answer or a bad one."""
    secret = "s3cr3t-" + "x" * 20
    headers = [
        ("Authorization", f"Bearer {secret}"),
        ("Cookie", f"session={secret}"),
        ("Proxy-Authorization", f"Basic {secret}"),
        ("X-Api-Key", secret),
    ]
    up.on("/set", answers.plain(headers=[f"Set-Cookie: a={secret}"]))
    for target in ("/up/set", "/closed", "/nosuch", "/banner", "/up/../x"):
        last = ask(
            gateway.port, target=f"{target}?token={secret}&access_token={secret}", headers=headers
        )
    gateway.record(last)
    assert secret not in gateway.said()


def test_query_reaches_the_upstream_with_its_token(gateway: Gateway, up: Upstream) -> None:
    """What is redacted in the log is not touched in the request of a route without authentication."""
    ask(gateway.port, target="/up/x?token=abc")
    assert up.last.target == b"/x?token=abc"


@pytest.mark.parametrize(
    "text",
    ["\x1b[31mred", '"}\n{"level":"error"', "a\tb", "caf\xe9", "\u2028".encode().decode("latin-1")],
)
def test_log_line_cannot_be_broken_by_a_header(gateway: Gateway, up: Upstream, text: str) -> None:
    """Whatever a client puts into its headers, every line of the log is one JSON object."""
    with RawClient(gateway.port) as client:
        head = (
            f"GET /up/x HTTP/1.1\r\nHost: gw.test\r\nUser-Agent: {text}\r\nReferer: {text}\r\n\r\n"
        )
        client.send(head.encode("latin-1"))
        client.read()
    gateway.record(ask(gateway.port))
    said = gateway.said()
    assert "\x1b" not in said
    lines = [line for line in said.splitlines(keepends=True) if line.startswith("{")]
    # The last one may still be in the writing.
    assert all(isinstance(json.loads(line), dict) for line in lines if line.endswith("\n"))


def test_refused_request_has_a_record(gateway: Gateway, up: Upstream) -> None:
    """A request that the gateway could read but not accept is in the log."""
    record = gateway.record(ask(gateway.port, target="/up/../x"))
    assert (record["status"], record["method"], record["path"]) == (400, "GET", "/up/../x")


def test_client_that_left_is_no_success(gateway: Gateway, up: Upstream) -> None:
    """An exchange whose client has gone is recorded once, and as no success."""
    up.on("/big/left", answers.hang)
    client = RawClient(gateway.port).send(
        request(target="/big/left", headers=[("X-Request-ID", "left-1")])
    )
    up.arrived("/big/left")
    client.reset()
    records = gateway.records("left-1", within=20)
    assert len(records) == 1
    assert records[0]["status"] not in range(200, 400)
    assert records[0]["error"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
def test_good_answers_to_balancers_are_not_recorded(gateway: Gateway, path: str) -> None:
    """They ask all the time. A record of something else that follows shows that theirs is not late."""
    answer = ask(gateway.port, target=path)
    assert answer.status == 200
    gateway.record(ask(gateway.port, target="/up/x"))
    assert answer.get("x-request-id") not in gateway.said()
    assert gateway.record(ask(gateway.port, "POST", path))["status"] == 405
