"""Which credentials a request may bring, and which are looked at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import AuthError, ServiceUnavailable
from propylon.proxy.authenticate.bearer import Bearer
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.headers import values
from propylon.wire.message import Request
from tests.proxy.authenticate.stand_in import NOW, Keys, Taken, Wall, signed, verifier
from tests.proxy.doubles import request, run

GOOD = signed()


def asking(*sent: bytes) -> Request:
    """A request with these credentials."""
    return request(b"/", *(b"Authorization: " + value for value in sent))


def admitted(*sent: bytes, required: bool = True) -> Principal:
    """Who is let in with these credentials."""
    return run(Bearer(verifier(), required=required)(asking(*sent)))


def refused(*sent: bytes, required: bool = True) -> AuthError:
    """The 401 for these credentials."""
    with pytest.raises(AuthError) as caught:
        admitted(*sent, required=required)
    assert caught.value.status == 401
    return caught.value


def challenge(error: AuthError) -> bytes:
    """What the client is told to bring."""
    [(name, value)] = error.headers
    assert name == b"WWW-Authenticate"
    return value


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    "scheme", [b"Bearer ", b"bearer ", b"BEARER ", b"bEaReR ", b"Bearer  ", b"bearer     "]
)
def test_a_good_token(scheme: bytes, required: bool) -> None:
    """The scheme is read in any case, with any number of spaces behind it (RFC 9110, 11.1 and 11.4)."""
    assert admitted(scheme + GOOD, required=required).subject == "42"


def test_no_token() -> None:
    """Where one is required: 401 that asks for it and names no error (RFC 6750, 3.1); else anonymous."""
    error = refused()
    assert challenge(error).startswith(b"Bearer")
    assert b"error" not in challenge(error)
    assert error.message == "A bearer token is required"
    assert admitted(required=False) is ANONYMOUS


CREDENTIALS = [
    b"",
    b"Bearer",
    GOOD,
    b"Bearer" + GOOD,
    b"Bearer:" + GOOD,
    b"Bearer\t" + GOOD,
    b"Bearer " + GOOD + b" x",
    b"Bearer " + GOOD + b",Bearer " + GOOD,
    b'Bearer "' + GOOD + b'"',
    b"Bearer " + GOOD + b"\xc3\xa9",
    b"Bearer " + GOOD + b"%00",
    b"Bearer " + GOOD + b"=",
    b"Bearer token=" + GOOD,
    b"Basic eDp5",
    b"Basic " + GOOD,
    b"Bearerx " + GOOD,
    b"Token " + GOOD,
    b"Bearer ==",
]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("sent", CREDENTIALS)
def test_what_is_no_bearer_token(sent: bytes, required: bool) -> None:
    """Whoever brings something else is refused, where a token is optional, too."""
    refused(sent, required=required)


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("second", [b"Bearer " + GOOD, b"Basic eDp5", b"", b"Bearer x"])
def test_two_tokens_are_none(second: bytes, required: bool) -> None:
    """Whoever reads the other one would see somebody else, be the first ever so good."""
    for sent in ((b"Bearer " + GOOD, second), (second, b"Bearer " + GOOD)):
        error = refused(*sent, required=required)
        assert error.reason == "more than one Authorization header"


def test_a_remembered_token_makes_nothing_else_good() -> None:
    """Once a token was verified, what merely looks like it is refused as before."""
    stage = Bearer(verifier(), required=False)
    assert run(stage(asking(b"Bearer " + GOOD))).subject == "42"
    for sent in CREDENTIALS:
        with pytest.raises(AuthError):
            run(stage(asking(sent)))
    with pytest.raises(AuthError):
        run(stage(asking(b"Bearer " + GOOD, b"Bearer " + GOOD)))


@given(st.binary(max_size=60))
def test_nothing_made_up_lets_anybody_in(sent: bytes) -> None:
    """Whatever stands there, it is a 401 and never a bug."""
    made = request(b"/")
    made.special[b"authorization"] = [sent]
    with pytest.raises(AuthError):
        run(Bearer(verifier(), required=False)(made))


@pytest.mark.parametrize("required", [True, False])
def test_an_expired_token(required: bool) -> None:
    """The client learns that its token has expired, remembered or not, and nothing else."""
    wall = Wall()
    stage = Bearer(verifier(clock=wall), required=required)
    asked = asking(b"Bearer " + GOOD)
    assert run(stage(asked)).subject == "42"
    wall.now = NOW + 60
    for _ in range(2):
        with pytest.raises(AuthError) as caught:
            run(stage(asked))
        assert caught.value.message == "Token has expired"
        assert b'error="invalid_token"' in challenge(caught.value)


def test_a_remembered_token_that_was_taken_back() -> None:
    """It is refused with the next request."""
    taken = Taken(active=False)
    stage = Bearer(verifier(taken=taken), required=True)
    assert run(stage(asking(b"Bearer " + GOOD))).subject == "42"
    taken.active = True
    taken.subjects.add("42")
    with pytest.raises(AuthError) as caught:
        run(stage(asking(b"Bearer " + GOOD)))
    assert caught.value.reason == "revoked"


def test_nobody_can_tell() -> None:
    """Without the keys it is 503 for a token, good or bad; who brings none is told to, or passes."""
    missing = verifier(Keys(None))
    with pytest.raises(ServiceUnavailable):
        run(Bearer(missing, required=False)(asking(b"Bearer " + GOOD)))
    assert run(Bearer(missing, required=False)(asking())) is ANONYMOUS
    with pytest.raises(AuthError):
        run(Bearer(missing, required=True)(asking()))


def test_the_upstream_is_told_who_asks() -> None:
    """The identity headers are rendered once, with the token's verification."""
    stage = Bearer(verifier(), required=True)
    asked = asking(b"Bearer " + signed(scope="read write", roles=["clerk"], email="a@b.example"))
    found = run(stage(asked))
    assert values(found.block, b"x-user-id") == [b"42"]
    assert values(found.block, b"x-user-scopes") == [b"read,write"]
    assert values(found.block, b"x-user-roles") == [b"clerk"]
    assert values(found.block, b"x-user-email") == [b"a@b.example"]
    assert run(stage(asked)) is found


@pytest.mark.parametrize("sent", [*CREDENTIALS, b"Bearer " + signed("7", exp=NOW - 1)])
def test_a_refusal_says_nothing_of_the_token(sent: bytes) -> None:
    """Neither the client nor the log gets back what was sent."""
    error = refused(sent)
    said = f"{error.message} {error.reason} {error.headers} {error.details}"
    for part in sent.split(b"."):
        if len(part) > 8:
            assert part.decode("latin-1") not in said
