"""What stands in a stage's place where there is nothing to verify with, or nothing to verify."""

import pytest

from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate import always, anonymous, unverifiable, unverifiable_if_asked
from propylon.proxy.principal import ANONYMOUS, Principal
from tests.proxy.doubles import request, run

TOKENS = [
    (),
    (b"Authorization: Bearer x",),
    (b"authorization: Basic eDp5",),
    (b"Authorization: ",),
    (b"Authorization: Bearer x", b"Authorization: Bearer y"),
]


@pytest.mark.parametrize("lines", TOKENS)
def test_nobody_is_asked(lines: tuple[bytes, ...]) -> None:
    """`auth: none`: whatever a client brings, it is nobody."""
    assert run(anonymous(request(b"/", *lines))) is ANONYMOUS
    assert (ANONYMOUS.known, str(ANONYMOUS), ANONYMOUS.block) == (False, "anonymous", b"")


@pytest.mark.parametrize("lines", TOKENS)
def test_nothing_can_be_verified(lines: tuple[bytes, ...]) -> None:
    """`auth: required` without a key: 503 for everybody, and the log says what to do."""
    with pytest.raises(ServiceUnavailable) as caught:
        run(unverifiable(request(b"/", *lines)))
    assert "auth: none" in caught.value.reason
    assert caught.value.reason not in caught.value.message


@pytest.mark.parametrize("lines", TOKENS)
def test_nothing_can_be_verified_where_it_need_not_be(lines: tuple[bytes, ...]) -> None:
    """`auth: optional` without a key: 503 for who claims something, and others pass."""
    if not lines:
        assert run(unverifiable_if_asked(request(b"/"))) is ANONYMOUS
        return
    with pytest.raises(ServiceUnavailable):
        run(unverifiable_if_asked(request(b"/", *lines)))


@pytest.mark.parametrize("lines", TOKENS)
def test_a_test_says_who_asks(lines: tuple[bytes, ...]) -> None:
    """The principal that a test has put there, whatever the request says."""
    alice = Principal("alice")
    assert run(always(alice)(request(b"/", *lines))) is alice
