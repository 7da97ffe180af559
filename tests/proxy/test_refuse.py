"""Errors as clients see them: one envelope for all of them, or RFC 9457."""

from http import HTTPStatus

import orjson
import pytest

from propylon import errors
from propylon.errors import GatewayError
from propylon.proxy.refuse import refusal
from propylon.wire.headers import fields, values
from tests.proxy.doubles import REQUEST_ID, request


def classes(base: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    """The whole tree."""
    return [base, *(found for child in base.__subclasses__() for found in classes(child))]


# ClientGone is never sent, and what a policy refuses with is of its own making.
SENT = [found for found in classes() if found not in (errors.ClientGone, errors.Refused)]
CODES = {
    "INVALID_REQUEST": {400, 409, 412, 415, 417, 422},
    "AUTH_ERROR": {401, 403},
    "NOT_FOUND": {404},
    "METHOD_NOT_ALLOWED": {405},
    "UPGRADE_REQUIRED": {426},
    "REQUEST_TIMEOUT": {408},
    "PAYLOAD_TOO_LARGE": {413},
    "HEADERS_TOO_LARGE": {431},
    "RATE_LIMIT": {429},
    "INTERNAL_ERROR": {500},
    "UPSTREAM_ERROR": {502},
    "SERVICE_UNAVAILABLE": {503},
    "CIRCUIT_OPEN": {503},
    "MAINTENANCE": {503},
    "OVERLOADED": {503},
    "UPSTREAM_TIMEOUT": {504},
}


def made(kind: type[GatewayError]) -> GatewayError:
    """An error with everything in it."""
    headers = ((b"Allow", b"GET"),)
    return kind("Told ä", details={"a": [1, "b"]}, headers=headers, reason="s3cret")


@pytest.mark.parametrize("kind", SENT)
def test_envelope(kind: type[GatewayError]) -> None:
    """Every error has one shape, its class's status and code, and none of the reason."""
    head, body = refusal(made(kind), request(), REQUEST_ID)
    assert orjson.loads(body) == {
        "error": {"code": kind.code, "message": "Told ä", "details": {"a": [1, "b"]}},
        "request_id": REQUEST_ID.decode(),
    }
    assert kind.status in CODES[kind.code]
    assert values(head.block, b"content-type") == [b"application/json"]
    check_head(kind, head.status, head.reason, head.block, body)
    assert head.keep_alive is not kind.closes


@pytest.mark.parametrize("kind", SENT)
def test_problem(kind: type[GatewayError]) -> None:
    """RFC 9457 for those who ask for it: the same facts."""
    asked = request(b"/", b"Accept: text/html, application/Problem+JSON; q=0.9")
    head, body = refusal(made(kind), asked, REQUEST_ID)
    assert orjson.loads(body) == {
        "type": "about:blank",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "detail": "Told ä",
        "code": kind.code,
        "details": {"a": [1, "b"]},
        "request_id": REQUEST_ID.decode(),
    }
    assert values(head.block, b"content-type") == [b"application/problem+json"]
    check_head(kind, head.status, head.reason, head.block, body)


def check_head(
    kind: type[GatewayError], status: int, reason: bytes, block: bytes, body: bytes
) -> None:
    """What both forms have in common."""
    assert status == kind.status
    assert reason == f" {status} {HTTPStatus(status).phrase}".encode()
    assert values(block, b"content-length") == [b"%d" % len(body)]
    assert values(block, b"cache-control") == [b"no-store"]
    assert values(block, b"x-request-id") == [REQUEST_ID]
    assert values(block, b"x-error-source") == [b"gateway"]
    assert values(block, b"allow") == [b"GET"]
    assert values(block, b"retry-after") == ([b"5"] if status == 503 else [])
    names = [name.lower() for name, _ in fields(block)]
    assert len(names) == len(set(names))
    assert b"s3cret" not in block + body


@pytest.mark.parametrize(
    ("status", "phrase"), [(402, b"Payment Required"), (418, b"I'm a Teapot"), (499, b"Refused")]
)
def test_what_a_policy_refuses_with(status: int, phrase: bytes) -> None:
    """A status, code and headers of its choice, in the same form; one that nobody knows has a phrase."""
    error = errors.Refused(status, "QUOTA", "not today", headers=((b"X-Quota", b"0"),))
    head, body = refusal(error, request(), REQUEST_ID)
    assert (head.status, head.reason) == (status, b" %d %b" % (status, phrase))
    assert orjson.loads(body)["error"] == {"code": "QUOTA", "message": "not today", "details": {}}
    assert values(head.block, b"x-quota") == [b"0"]
    assert head.keep_alive
    asked = request(b"/", b"Accept: application/problem+json")
    head, body = refusal(error, asked, REQUEST_ID)
    assert orjson.loads(body)["title"] == phrase.decode()
    assert orjson.loads(body)["status"] == status


def test_an_error_knows_better_when_to_come_back() -> None:
    """Its own Retry-After is the only one."""
    error = errors.CircuitOpen("open", headers=((b"Retry-After", b"42"),))
    head, _ = refusal(error, request(), REQUEST_ID)
    assert values(head.block, b"retry-after") == [b"42"]


@pytest.mark.parametrize("name", [b"Retry-After", b"retry-after", b"RETRY-AFTER"])
def test_when_to_come_back_is_said_once(name: bytes) -> None:
    """However who raised it wrote the name."""
    error = errors.Refused(503, "BUSY", "later", headers=((name, b"9"),))
    assert values(refusal(error, request(), REQUEST_ID)[0].block, b"retry-after") == [b"9"]
    bare = errors.Refused(503, "BUSY", "later")
    assert values(refusal(bare, request(), REQUEST_ID)[0].block, b"retry-after") == [b"5"]


@pytest.mark.parametrize(
    "error",
    [
        errors.AuthError("who?"),
        errors.Forbidden("not you"),
        errors.Refused(401, "AUTH_ERROR", "who?"),
        errors.Refused(403, "AUTH_ERROR", "not you"),
    ],
    ids=lambda error: f"{type(error).__name__} {error.status}",
)
def test_who_is_asked_to_say_who_they_are(error: GatewayError) -> None:
    """A challenge with every 401 and 403, whatever class it is of; its own is the only one."""
    head, _ = refusal(error, request(), REQUEST_ID)
    assert values(head.block, b"www-authenticate") == [b"Bearer"]
    error.headers = ((b"www-authenticate", b"Basic"),)
    head, _ = refusal(error, request(), REQUEST_ID)
    assert values(head.block, b"www-authenticate") == [b"Basic"]


@pytest.mark.parametrize("status", [400, 402, 404, 407, 429, 500])
def test_nobody_else_is(status: int) -> None:
    """There is nothing to say who one is for."""
    head, _ = refusal(errors.Refused(status, "X", "no"), request(), REQUEST_ID)
    assert values(head.block, b"www-authenticate") == []


@pytest.mark.parametrize(
    "accept",
    [b"", b"*/*", b"application/json", b"application/problem+jsonx", b"application/problem+xml"],
)
def test_nobody_else_gets_a_problem(accept: bytes) -> None:
    """Only those who name the type."""
    head, _ = refusal(made(errors.NotFound), request(b"/", b"Accept: " + accept), REQUEST_ID)
    assert values(head.block, b"content-type") == [b"application/json"]


def test_a_request_that_could_not_be_read() -> None:
    """Without a request there is nobody to ask for a form: the envelope."""
    head, body = refusal(made(errors.InvalidRequest), None, REQUEST_ID)
    assert orjson.loads(body)["error"]["code"] == "INVALID_REQUEST"
    assert head.status == 400


def test_only_what_sent_nothing_says_so() -> None:
    """`unsent` lets any method be sent elsewhere: only where there was no connection for it."""
    unsent = {found for found in classes() if found.unsent}
    nothing = {errors.NoInstance, errors.Overloaded, errors.UpstreamBusy}
    assert unsent == {errors.ConnectFailed, errors.ConnectTimeout, *nothing}


def test_every_class_is_exported() -> None:
    """The tree in the module's docstring is the tree."""
    assert {found.__name__ for found in classes()} <= set(errors.__all__)
    assert errors.__doc__ is not None
    assert [found.__name__ for found in classes() if found.__name__ not in errors.__doc__] == []
