"""Several issuers: each signs for its own subjects, and none for those of another."""

import pytest

from propylon.errors import AuthError, ServiceUnavailable
from propylon.proxy.authenticate.claims import Rules
from propylon.proxy.authenticate.jws import BadToken
from propylon.proxy.authenticate.keys import KeySet, from_secret
from propylon.proxy.authenticate.trust import Trust, chosen
from propylon.proxy.authenticate.verify import Verifier
from tests.proxy.authenticate.stand_in import NOW, Keys, Taken, Wall
from tests.support.jose import hs, token
from tests.support.virtual import run

A, B = "https://a.test", "https://b.test"
SECRETS = {A: b"the secret of A has 32 bytes, so.", B: b"the secret of B has 32 bytes, so."}
OWN = b"the gateway's own secret, 32 bytes"


def keys(secret: bytes) -> KeySet:
    """The key of an issuer."""
    return from_secret(secret, ["HS256"])


def trust(issuer: str) -> Trust:
    """An entry for one issuer."""
    return Trust(Rules(issuers=frozenset({issuer})), Keys(keys(SECRETS[issuer])))


def signed(secret: bytes, **claims: object) -> bytes:
    """A token that is signed with this secret."""
    return token({"alg": "HS256"}, {"sub": "42", "exp": NOW + 60, **claims}, hs(secret))


def verdict(trusts: list[Trust], sent: bytes) -> str:
    """Whose token it is, as issuer and subject; or the class of the error."""

    async def main() -> str:
        try:
            found = await Verifier(trusts, None, Taken(active=False), Wall()).verify(sent)
        except (AuthError, ServiceUnavailable) as error:
            return type(error).__name__
        return f"{found.principal.issuer} {found.principal.subject}"

    return run(main())


def test_each_issuer_has_its_keys_and_rules() -> None:
    """The claim `iss` chooses the key that a token is verified with."""
    trusts = [trust(A), trust(B), Trust(Rules(), Keys(keys(OWN)))]
    assert verdict(trusts, signed(SECRETS[A], iss=A)) == f"{A} 42"
    assert verdict(trusts, signed(SECRETS[B], iss=B)) == f"{B} 42"
    assert verdict(trusts, signed(OWN)) == " 42"
    assert verdict(trusts, signed(OWN, iss="https://c.test")) == "https://c.test 42"


@pytest.mark.parametrize("secret", [SECRETS[B], OWN])
def test_no_issuer_signs_for_another(secret: bytes) -> None:
    """A token that names an issuer is not verified with the key of another one."""
    trusts = [trust(A), trust(B), Trust(Rules(), Keys(keys(OWN)))]
    assert verdict(trusts, signed(secret, iss=A)) == "AuthError"


@pytest.mark.parametrize("issuer", ["https://c.test", "", None, 1, [A], {A: 1}])
def test_an_issuer_that_no_entry_has(issuer: object) -> None:
    """A token of an unknown issuer, or of none, is refused where every entry names its issuers."""
    for secret in SECRETS.values():
        assert verdict([trust(A), trust(B)], signed(secret, iss=issuer)) == "AuthError"
        assert verdict([trust(A), trust(B)], signed(secret)) == "AuthError"


def test_an_issuer_that_is_not_known_yet() -> None:
    """While a provider's document is awaited, its tokens are 503; those of the other entries are verified."""
    awaited = Trust(Rules(), Keys(keys(SECRETS[B])), discovers=True)
    trusts = [trust(A), awaited, Trust(Rules(), Keys(keys(OWN)))]
    assert verdict(trusts, signed(SECRETS[B], iss=B)) == "ServiceUnavailable"
    assert verdict(trusts, signed(SECRETS[A], iss=A)) == f"{A} 42"
    assert verdict(trusts, signed(OWN)) == " 42"
    assert verdict([awaited], signed(SECRETS[B], iss=B)) == "ServiceUnavailable"
    awaited.rules = Rules(issuers=frozenset({B}))
    assert verdict(trusts, signed(SECRETS[B], iss=B)) == f"{B} 42"
    assert verdict(trusts, signed(OWN, iss="https://c.test")) == "https://c.test 42"


def test_keys_of_one_issuer_are_missing() -> None:
    """A source that is down makes the tokens of its own issuer 503, and no others."""
    down = Trust(Rules(issuers=frozenset({B})), Keys(None))
    assert verdict([trust(A), down], signed(SECRETS[B], iss=B)) == "ServiceUnavailable"
    assert verdict([trust(A), down], signed(SECRETS[A], iss=A)) == f"{A} 42"


def test_a_single_entry_is_chosen_unseen() -> None:
    """With one entry the claims are not read before the signature is verified."""
    only = trust(A)
    assert chosen([only], {"iss": B}) is only
    with pytest.raises(BadToken):
        chosen([only, trust(B)], {"iss": "https://c.test"})
