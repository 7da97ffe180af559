"""Which tokens of an issuer are no access tokens (RFC 8725, 3.11)."""

import logging

import pytest

from propylon.errors import AuthError
from propylon.proxy.authenticate.claims import Rules, judge
from propylon.proxy.authenticate.jws import BadToken, check_type, parse
from propylon.proxy.authenticate.keys import from_secret
from propylon.proxy.authenticate.verify import FixedKeys, digest
from tests.proxy.authenticate.stand_in import NOW, SECRET, signed, verifier
from tests.support.jose import hs, token
from tests.support.virtual import run

AUDIENCE = Rules(audiences=frozenset({"api"}))


def verdict(rules: Rules = Rules(), **claims: object) -> str:  # noqa: B008 — frozen
    """Why these claims are refused; empty if they are not."""
    try:
        judge({"sub": "42", "exp": NOW + 60, **claims}, rules, NOW)
    except BadToken as error:
        return error.reason
    return ""


def passes(sent: bytes, rules: Rules | None = None) -> bool:
    """Whether a token passes."""

    async def main() -> bool:
        try:
            await verifier(FixedKeys(from_secret(SECRET, ["HS256"])), rules=rules).verify(sent)
        except AuthError:
            return False
        return True

    return run(main())


@pytest.mark.parametrize("name", ["token_type", "typ", "token_use", "use"])
@pytest.mark.parametrize(
    "value",
    [
        "refresh",
        "refresh_token",
        "id",
        "id_token",
        "offline",
        "logout",
        "Refresh",
        "ID",
        "Refresh-Token",
    ],
)
def test_tokens_of_another_kind(name: str, value: str) -> None:
    """A token that says in any of the usual words that it is no access token is refused."""
    assert verdict(**{name: value}) == f"no access token, as its {name} says"
    assert verdict(AUDIENCE, aud="api", **{name: value}) == f"no access token, as its {name} says"


@pytest.mark.parametrize("name", ["token_type", "typ", "token_use", "use"])
@pytest.mark.parametrize("value", ["Bearer", "access", "bearer", "sig", "", None, 1, ["refresh"]])
def test_other_words(name: str, value: object) -> None:
    """Other values pass: Keycloak writes `typ: Bearer`, Cognito `token_use: access`."""
    assert verdict(**{name: value}) == ""


@pytest.mark.parametrize("value", ["refresh", "Bearer", "Access", "", None])
def test_the_claim_type_is_strict(value: object) -> None:
    """`type` is access, or the token is refused."""
    assert verdict(type=value) == "its type is not access"
    assert verdict(type="access") == ""


@pytest.mark.parametrize("name", ["at_hash", "c_hash"])
def test_id_tokens(name: str) -> None:
    """The hashes of an ID token are a reason to refuse it, unless a configured audience tells it apart."""
    assert "ID token" in verdict(**{name: "x"})
    assert verdict(AUDIENCE, aud="api", **{name: "x"}) == ""
    assert "aud" in verdict(AUDIENCE, aud="client", **{name: "x"})


def test_a_nonce_is_a_doubt(caplog: pytest.LogCaptureFixture) -> None:
    """A nonce alone refuses nothing: the log says once that it may be an ID token's."""

    async def main() -> None:
        judge_of = verifier()
        for number in range(3):
            await judge_of.verify(signed(str(number), nonce="n"))
        await verifier(rules=AUDIENCE).verify(signed(aud="api", nonce="n"))

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "a token has a nonce, as ID tokens have; set auth.jwt.audience, so that those are refused"
    ]


def typed(*kind: object) -> bytes:
    """A good token, with this `typ`; without one if there is none."""
    header: dict[str, object] = {"alg": "HS256"}
    if kind:
        header["typ"] = kind[0]
    return token(header, {"sub": "42", "exp": NOW + 60}, hs(SECRET))


@pytest.mark.parametrize("kind", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_a_required_type(kind: str) -> None:
    """With `require_typ`, that type passes, in any case and with or without "application/"."""
    assert passes(typed(kind), Rules(required_type="at+jwt"))
    assert passes(typed(kind))


@pytest.mark.parametrize("kind", [("JWT",), (), ("",), ("id+jwt",), ("logout+jwt",)])
def test_another_type_than_the_required_one(kind: tuple[object, ...]) -> None:
    """With `require_typ`, every other type is refused, and a token without one."""
    assert not passes(typed(*kind), Rules(required_type="at+jwt"))


def test_a_type_of_the_operators_own() -> None:
    """`require_typ` may name a type that would be refused without it."""
    assert passes(typed("example+jwt"), Rules(required_type="example+jwt"))
    assert not passes(typed("example+jwt"))


@pytest.mark.parametrize("kind", [("JWT",), (), ("JOSE",), ("Bearer",), ("access_token",)])
def test_any_type(kind: tuple[object, ...]) -> None:
    """Without `require_typ`, a type that names no other kind of token passes."""
    assert passes(typed(*kind))


@pytest.mark.parametrize(
    "kind", ["refresh", "ID", "id_token", "Refresh-Token", "logout+jwt", "JWE"]
)
def test_types_of_other_kinds(kind: str) -> None:
    """Without `require_typ`, a type that names another kind of token is refused."""
    assert not passes(typed(kind))
    with pytest.raises(BadToken):
        parse(typed(kind))
    with pytest.raises(BadToken):
        check_type(kind.lower(), "")


def test_a_twin_of_a_typed_token() -> None:
    """A token with a type of its own is revoked with its twin, which has another signature."""
    sent = typed("example+jwt")
    twin = sent[: sent.rindex(b".")] + b".AAAA"
    assert digest(sent) == digest(twin)
