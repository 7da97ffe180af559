"""Errors that the gateway makes itself: one envelope, the right code, the right status, in time."""

import re
import time

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import Gateway
from tests.support.topology import CONNECT, HASTE, LATE, PATIENT, SMALL_BODY, Upstreams
from tests.support.upstream import Upstream

Case = tuple[str, str, int, str]

# What the client sends, and the status and code that it gets.
CASES: dict[str, Case] = {
    "unknown-path": ("GET", "/nosuch/x", 404, "NOT_FOUND"),
    "dot-segment": ("GET", "/up/../x", 400, "INVALID_REQUEST"),
    "other-method": ("PUT", "/few", 405, "METHOD_NOT_ALLOWED"),
    "trace": ("TRACE", "/up/x", 405, "METHOD_NOT_ALLOWED"),
    "too-large": ("POST", "/small", 413, "PAYLOAD_TOO_LARGE"),
    "closed-port": ("GET", "/closed", 502, "UPSTREAM_ERROR"),
    "unknown-host": ("GET", "/nohost", 502, "UPSTREAM_ERROR"),
    "banner": ("GET", "/banner", 502, "UPSTREAM_ERROR"),
    "no-instance": ("GET", "/empty", 503, "SERVICE_UNAVAILABLE"),
    "connect-timeout": ("GET", "/silence", 504, "UPSTREAM_TIMEOUT"),
    "never-answered": ("GET", "/hasty", 504, "UPSTREAM_TIMEOUT"),
}


def provoke(gateway: Gateway, up: Upstream, name: str, *headers: tuple[str, str]) -> Answer:
    """Send what causes that error."""
    method, target, status, _ = CASES[name]
    up.on("/hasty", answers.hang)
    body = b"x" * (SMALL_BODY + 1) if status == 413 else b""
    return ask(gateway.port, method, target, headers, body)


def check_envelope(answer: Answer, status: int, code: str) -> None:
    """Assert that it is exactly the documented envelope, with its headers."""
    assert answer.status == status
    assert answer.complete
    body = answer.json()
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["code"] == code
    assert isinstance(body["error"]["message"], str)
    assert body["error"]["message"]
    assert isinstance(body["error"]["details"], dict)
    assert body["request_id"] == answer.get("x-request-id")
    assert (answer.get("content-type") or "").split(";")[0] == "application/json"
    assert answer.get("cache-control") == "no-store"
    assert answer.get("x-error-source") == "gateway"


@pytest.mark.parametrize("name", CASES)
def test_error_has_the_envelope(gateway: Gateway, up: Upstream, name: str) -> None:
    """Every error of the gateway has the same envelope, its own code and the right status."""
    check_envelope(provoke(gateway, up, name), *CASES[name][2:])


@pytest.mark.parametrize("name", CASES)
def test_error_echoes_the_request_id(gateway: Gateway, up: Upstream, name: str) -> None:
    """The envelope and the header bear the client's own request id."""
    answer = provoke(gateway, up, name, ("X-Request-ID", f"err-{name}"))
    assert (answer.get("x-request-id"), answer.json()["request_id"]) == (f"err-{name}",) * 2


@pytest.mark.parametrize("name", CASES)
def test_problem_json_for_those_who_ask(gateway: Gateway, up: Upstream, name: str) -> None:
    """With Accept: application/problem+json the same error comes as RFC 9457 has it."""
    answer = provoke(gateway, up, name, ("Accept", "application/problem+json"))
    assert answer.status == CASES[name][2]
    if name in ("dot-segment", "trace") and answer.get("content-type") == "application/json":
        return  # refused before its headers were looked at
    assert (answer.get("content-type") or "").split(";")[0] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == CASES[name][2:]
    assert {"type", "title", "detail"} <= set(body)
    assert body["request_id"] == answer.get("x-request-id")


@pytest.mark.parametrize(
    "target", ["/nosuch", "/closed", "/empty", "/hasty", "/banner", "/nohost", "/up/%00"]
)
def test_error_of_a_head_request_has_no_body(
    gateway: Gateway, up: Upstream, client: RawClient, target: str
) -> None:
    """HEAD gets status and headers of the error, not a byte of body, and a JSON content type."""
    up.on("/hasty", answers.hang)
    answer = client.send(request("HEAD", target)).read("HEAD")
    assert answer.status >= 400
    assert (answer.get("content-type") or "").startswith("application/json")
    assert answer.get("x-error-source") == "gateway"
    client.send(request("HEAD", "/livez", [("Connection", "close")]))
    rest = client.rest()
    assert not rest or rest.startswith(b"HTTP/1.1 ")
    assert rest.count(b"{") == 0


@pytest.mark.parametrize("target", ["/nosuch", "/closed", "/empty", "/banner", "/few"])
def test_connection_goes_on_after_an_error_that_is_nobodys_framing(
    gateway: Gateway, up: Upstream, client: RawClient, target: str
) -> None:
    """After a 404, a 405, a 502 or a 503 the client's connection is still good."""
    method = "PUT" if target == "/few" else "GET"
    assert client.send(request(method, target)).read().status >= 400
    assert client.send(request()).read().status == 200


def test_closed_port_is_502_at_once(gateway: Gateway, up: Upstream) -> None:
    """A refused connection is 502 without waiting for any timeout."""
    started = time.monotonic()
    assert ask(gateway.port, target="/closed").status == 502
    assert time.monotonic() - started < PATIENT["connect"] * 0.8


@pytest.mark.parametrize(
    ("target", "limit"), [("/hasty", HASTE), ("/late", LATE), ("/silence", CONNECT)]
)
def test_timeout_is_504_in_time(gateway: Gateway, up: Upstream, target: str, limit: float) -> None:
    """An upstream that says nothing is 504 after the route's timeout, not after any other."""
    up.on("/hasty", answers.hang)
    up.on("/late", answers.hang)
    started = time.monotonic()
    answer = ask(gateway.port, target=target)
    took = time.monotonic() - started
    check_envelope(answer, 504, "UPSTREAM_TIMEOUT")
    # The gateway counts from its last tick, which may have been a while ago on a busy machine.
    assert limit * 0.6 <= took <= PATIENT["first_byte"] * 0.8


def test_timeout_cancels_the_upstream(gateway: Gateway, up: Upstream) -> None:
    """After a 504 the upstream's connection is closed, not left to answer the next request."""
    up.on("/hasty", answers.hang)
    assert ask(gateway.port, target="/hasty").status == 504
    assert up.wait(lambda: up.last.cancelled)


def test_no_instance_says_which_service(gateway: Gateway, up: Upstream) -> None:
    """503 names the service, and says when to come again."""
    answer = ask(gateway.port, target="/empty")
    assert answer.json()["error"]["details"]["service"] == "empty"
    assert re.fullmatch("[1-9][0-9]*", answer.get("retry-after") or "")


@pytest.mark.parametrize("target", ["/closed", "/nohost", "/silence", "/banner"])
def test_error_body_tells_no_address(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, target: str
) -> None:
    """What a client reads of a failed upstream names neither its host nor its port."""
    answer = ask(gateway.port, target=target)
    ports = [upstreams.closed_port, upstreams.silence.port, upstreams.banner.port]
    secrets = [b"127.0.0.1", b"nosuch.invalid", b"Traceback", b"Errno", b"OpenSSH"]
    secrets += [str(port).encode() for port in ports]
    text = answer.head.split(b"\r\n", 1)[1] + answer.body
    identity = (answer.get("x-request-id") or "").encode()
    text = text.replace(identity, b"")
    assert [secret for secret in secrets if secret in text] == []


@pytest.mark.parametrize("name", ["closed-port", "never-answered", "banner", "no-instance"])
def test_failure_leaves_a_record_that_names_it(gateway: Gateway, up: Upstream, name: str) -> None:
    """A failed exchange leaves exactly one record: at error level, with service and error."""
    _, _, status, _ = CASES[name]
    service = {"closed-port": "closed", "never-answered": "main", "no-instance": "empty"}
    record = gateway.record(provoke(gateway, up, name))
    assert (record["status"], record["service"]) == (status, service.get(name, name))
    assert record["error"]
    assert str(record["level"]).lower() == "error"
