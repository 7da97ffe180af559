"""What a client is told that is not let in (RFC 6750, section 3)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import AuthError, Forbidden
from propylon.proxy.challenge import insufficient, invalid, missing

# RFC 9110, 11.6.1: the scheme, then parameters of the form name="value", parted by commas.
_CHALLENGE = re.compile(rb'Bearer(?: [a-z_]+="[^"\\]*"(?:, [a-z_]+="[^"\\]*")*)?')
# RFC 6749, 3.3.
SCOPES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\,'))


def parameters(error: AuthError) -> dict[bytes, bytes]:
    """What the only header of a refusal says."""
    [(name, value)] = error.headers
    assert name == b"WWW-Authenticate"
    assert _CHALLENGE.fullmatch(value)
    return dict(re.findall(rb'([a-z_]+)="([^"]*)"', value))


def test_nothing_was_brought() -> None:
    """401 without an error code: whoever brought nothing made no mistake (3.1)."""
    error = missing("the log's")
    assert (error.status, error.code, error.message) == (
        401,
        "AUTH_ERROR",
        "A bearer token is required",
    )
    assert not parameters(error).keys() & {b"error", b"error_description", b"scope"}
    assert error.reason == "the log's"


def test_a_bad_token() -> None:
    """401 `invalid_token`; why stays between us and the log."""
    error = invalid("the signature is not the key's")
    assert (error.status, error.message) == (401, "The token is not valid")
    assert parameters(error) == {
        b"error": b"invalid_token",
        b"error_description": b"The token is not valid",
    }
    assert error.reason == "the signature is not the key's"
    assert b"signature" not in error.headers[0][1]
    assert error.details == {}


def test_an_expired_token() -> None:
    """The one thing that the client is told: it can get a new one."""
    error = invalid("expired", expired=True)
    assert (error.status, error.message) == (401, "Token has expired")
    assert parameters(error)[b"error"] == b"invalid_token"
    assert parameters(error)[b"error_description"] == b"Token has expired"


def test_not_enough() -> None:
    """403 `insufficient_scope`, with the scopes that would do, in one order."""
    error = insufficient("no", {"write", "read", "admin:all"})
    assert isinstance(error, Forbidden)
    assert (error.status, error.code, error.message) == (403, "AUTH_ERROR", "no")
    assert parameters(error) == {
        b"error": b"insufficient_scope",
        b"scope": b"admin:all read write",
    }
    assert parameters(insufficient("no")) == {b"error": b"insufficient_scope"}


@given(st.lists(SCOPES.filter(bool), max_size=5))
def test_scopes_stay_in_their_quotes(scopes: list[str]) -> None:
    """Whatever a scope may be called, the challenge remains one."""
    said = parameters(insufficient("no", scopes))
    assert said.get(b"scope", b"").decode().split() == sorted(scopes)


@pytest.mark.parametrize("error", [missing("x"), invalid("x"), insufficient("x")])
def test_the_connection_goes_on(error: AuthError) -> None:
    """The client may bring a better token over it."""
    assert not error.closes
    assert error.source == "client"
