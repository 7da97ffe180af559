"""Which key of a set a token is verified with, and which keys and sets are refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.authenticate.algorithms import ALGORITHMS
from propylon.proxy.authenticate.jws import BadToken
from propylon.proxy.authenticate.keys import UnknownKey, from_jwks, from_pem, from_secret
from tests.proxy.authenticate.verdicts import refused, signed, unusable, verify
from tests.support import jose
from tests.support.jose import (
    Jwk,
    claims,
    document,
    es,
    es_key,
    hs,
    other_rsa_key,
    pem,
    ps,
    rs,
    rsa_jwk,
    rsa_key,
    token,
)

SECRET = b"a secret of 32 bytes, for HS256."


def oct_jwk(secret: bytes = SECRET, **more: object) -> Jwk:
    """A published secret."""
    return jose.oct_jwk(secret, **more)


def ec_jwk(**more: object) -> Jwk:
    """A published key on P-256."""
    return {**jose.ec_jwk(es_key()), **more}


def test_key_by_its_name() -> None:
    """A token is verified with the key that it names, and with no other."""
    published = document(rsa_jwk(rsa_key(), kid="a"), rsa_jwk(other_rsa_key(), kid="b"))
    keys = from_jwks(published, ["RS256"])
    verify(keys, signed(rs(rsa_key()), alg="RS256", kid="a"))
    verify(keys, signed(rs(other_rsa_key()), alg="RS256", kid="b"))
    error = refused(keys, signed(rs(rsa_key()), alg="RS256", kid="b"))
    assert error.reason == "the signature is not the key's"
    assert type(error) is BadToken


def test_unknown_key() -> None:
    """A key id that is not in the set is told apart: the source may have newer keys."""
    keys = from_jwks(document(rsa_jwk(rsa_key(), kid="a"), ec_jwk()), ["RS256", "ES256"])
    for name in ("b", "", "A", "None"):
        error = refused(keys, signed(rs(rsa_key()), alg="RS256", kid=name))
        assert type(error) is UnknownKey
        assert error.reason == "signed with a key that is not in the set"


def test_unknown_key_of_an_unwanted_algorithm() -> None:
    """An algorithm that is not configured is refused before anybody would fetch a key for it."""
    keys = from_jwks(document(rsa_jwk(rsa_key(), kid="a")), ["RS256"])
    for algorithm in ("HS256", "RS384", "none", "ES256", ""):
        error = refused(keys, signed(rs(rsa_key()), alg=algorithm, kid="b"))
        assert type(error) is BadToken
        assert error.reason.startswith("signed with an algorithm that is not configured: it has ")


def test_the_algorithm_is_the_keys() -> None:
    """A token does not choose another algorithm for the key that it names."""
    published = document(rsa_jwk(rsa_key(), kid="a", alg="RS256"), ec_jwk(kid="b"))
    keys = from_jwks(published, ["RS256", "PS256", "ES256"])
    for sent in (
        signed(ps(rsa_key()), alg="PS256", kid="a"),
        signed(rs(rsa_key()), alg="RS256", kid="b"),
        signed(es(es_key()), alg="ES256", kid="a"),
    ):
        assert refused(keys, sent).reason == "signed with an algorithm that is not its key's"


def test_token_that_names_no_key() -> None:
    """A token without a key id is verified if exactly one key fits its algorithm, by whatever name."""
    keys = from_jwks(document(rsa_jwk(rsa_key(), kid="a"), ec_jwk()), ["RS256", "ES256", "PS256"])
    verify(keys, signed(rs(rsa_key()), alg="RS256"))
    verify(keys, signed(es(es_key()), alg="ES256"))
    two = from_jwks(document(rsa_jwk(rsa_key()), rsa_jwk(other_rsa_key(), kid="b")), ["RS256"])
    error = refused(two, signed(rs(rsa_key()), alg="RS256"))
    assert error.reason == "the token names no key, and not exactly one fits its algorithm"
    assert type(error) is BadToken


def test_published_secrets() -> None:
    """Secrets in a set are used where HMAC is configured, and only there."""
    published = document(oct_jwk(kid="a"), oct_jwk(b"x" * 32, kid="b"))
    verify(from_jwks(published, ["HS256"]), signed(hs(SECRET), alg="HS256", kid="a"))
    assert "fits none" in unusable(from_jwks, published, ["RS256"])


def test_unusable_keys_are_left_out() -> None:
    """A key that cannot be used does not spoil the set; why it is left out is kept for the log."""
    keys = from_jwks(
        document(
            rsa_jwk(rsa_key(), kid="a", use="enc"),
            rsa_jwk(rsa_key(), kid="b"),
            "what is this",
            {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
            ec_jwk(d="AAAA"),
        ),
        ["RS256", "ES256"],
    )
    verify(keys, signed(rs(rsa_key()), alg="RS256", kid="b"))
    assert type(refused(keys, signed(rs(rsa_key()), alg="RS256", kid="a"))) is UnknownKey
    assert keys.skipped == (
        "key 1 of 5: its use is not sig",
        "key 3 of 5: no JSON object",
        "key 4 of 5: its kty is none that verifies signatures",
        "key 5 of 5: its private part is published, too, so everyone can sign tokens with it",
    )


def test_key_ids_are_unique() -> None:
    """Of two keys with one name neither is used, though one of them could not be; the others stay in use."""
    others = (rsa_jwk(other_rsa_key(), kid="b"), ec_jwk(kid=""), ec_jwk(kid="", alg="?"))
    both = document(rsa_jwk(rsa_key(), kid="a"), *others, ec_jwk(kid="a"))
    for algorithms in (["RS256", "ES256"], ["RS256"]):
        keys = from_jwks(both, algorithms)
        verify(keys, signed(rs(other_rsa_key()), alg="RS256", kid="b"))
        assert type(refused(keys, signed(rs(rsa_key()), alg="RS256", kid="a"))) is UnknownKey
        assert keys.skipped == tuple(
            f"key {number} of 5: another key of the set has the same kid" for number in (1, 3, 4, 5)
        )


def test_key_ids_that_are_not_ambiguous() -> None:
    """Keys without a name, and one for encrypting under the same name, leave no doubt."""
    nameless = document(rsa_jwk(rsa_key()), ec_jwk())
    verify(from_jwks(nameless, ["RS256", "ES256"]), signed(es(es_key()), alg="ES256"))
    pair = document(rsa_jwk(rsa_key(), kid="a"), rsa_jwk(other_rsa_key(), kid="a", use="enc"))
    verify(from_jwks(pair, ["RS256"]), signed(rs(rsa_key()), alg="RS256", kid="a"))
    odd = document(rsa_jwk(rsa_key(), kid="a"), ec_jwk(kid=[1]), ec_jwk(kid=[1]))
    assert len(from_jwks(odd, ["RS256"]).skipped) == 2


def test_secrets_among_public_keys() -> None:
    """A secret that is published with public keys verifies nothing; the public keys do."""
    for published in (
        document(oct_jwk(kid="s"), rsa_jwk(rsa_key(), kid="a")),
        document(rsa_jwk(rsa_key(), kid="a"), oct_jwk(kid="s", use="enc")),
    ):
        for algorithms in (["HS256", "RS256", "ES256"], ["RS256", "ES256"]):
            keys = from_jwks(published, algorithms)
            verify(keys, signed(rs(rsa_key()), alg="RS256", kid="a"))
            refused(keys, signed(hs(SECRET), alg="HS256", kid="s"))
            assert [said[12:] for said in keys.skipped] == ["a secret among public keys"]
        assert "no key of the set" in unusable(from_jwks, published, ["HS256"])


ODD: dict[str, bytes] = {
    "a name twice": b'{"kty": "RSA", "kty": "RSA", "kid": "x"}',
    "a number out of range": b'{"kty": "RSA", "n": 1e400, "kid": "x"}',
    "a number with many digits": b'{"kty": "RSA", "n": ' + b"9" * 5000 + b"}",
    "half of a pair": b'{"kty": "RSA", "kid": "\\ud800", "n": "\\ud800"}',
    "no object": b'"RSA"',
}


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_key_does_not_take_the_others_down(odd: str) -> None:
    """Whatever one key of the set looks like, as long as it is JSON, the others verify."""
    good = json.dumps(rsa_jwk(rsa_key(), kid="a")).encode()
    keys = from_jwks(b'{"keys": [%b, %b]}' % (ODD[odd], good), ["RS256"])
    verify(keys, signed(rs(rsa_key()), alg="RS256", kid="a"))
    assert len(keys.skipped) == 1


@pytest.mark.parametrize(
    ("published", "reason"),
    [
        (b"", "not JSON"),
        (b"<html>maintenance</html>", "not JSON"),
        (b"{}", "no key set"),
        (b"[]", "no key set"),
        (b"null", "no key set"),
        (b'{"keys": {}}', "no key set"),
        (b'{"keys": null}', "no key set"),
        (b'{"keys": "RSA"}', "no key set"),
        (document(*[{}] * 257), "no key set"),
        (json.dumps(rsa_jwk(rsa_key())).encode(), "no key set"),
        (b'{"keys": []}', "no key of the set can be used"),
        (
            b'{"keys": [1, null]}',
            "no key of the set can be used; key 1 of 2: no JSON object; key 2",
        ),
        (b'{"keys": [], "keys": []}', "JSON with a name twice in one object"),
        (b'{"keys": [' + b"[" * 40 + b"]" * 40 + b"]}", "JSON nested deeper than 32"),
        (b'{"keys": [], "x": NaN}', "not JSON"),
        (document(*[{"use": "enc"}] * 9), "no key of the set can be used; key 1 of 9: its use"),
    ],
    ids=range(16),
)
def test_sets_of_no_use(published: bytes, reason: str) -> None:
    """What is no key set, or has no key that can be used, is refused with a reason that is not long."""
    said = unusable(from_jwks, published, ["RS256"])
    assert said.startswith(reason)
    assert len(said) < 400


def test_large_documents() -> None:
    """A document of a quarter of a megabyte is read; one that is larger is not."""
    published = document(rsa_jwk(rsa_key()))
    assert from_jwks(published.ljust(256 * 1024), ["RS256"])
    assert unusable(from_jwks, published.ljust(256 * 1024 + 1), ["RS256"]) == (
        "the document is larger than 256 KiB"
    )


@pytest.mark.parametrize(
    ("published", "reason"),
    [
        (b'{"keys": [{"a": [' + b"[]," * 5000 + b"0]}]}", "more than 4096 objects and lists"),
        (b'{"keys": [{"a": [' + b'"",' * 20000 + b"0]}]}", "more than 16384 strings"),
        (b'{"keys": ' + b"[" * 33 + b"]" * 33 + b"}", "JSON nested deeper than 32"),
        (b'\\"' * 8000 + b"[" * 33, "not JSON"),
        (b'"' + b"[" * 3000, "not JSON"),
    ],
    ids=range(5),
)
def test_documents_that_would_keep_a_worker_busy(published: bytes, reason: str) -> None:
    """A document with too many parts, or too deep, is refused before it is parsed."""
    assert unusable(from_jwks, published, ["RS256"]).startswith(reason)


def test_brackets_in_a_string_are_no_depth() -> None:
    """What stands in a string nests nothing, also behind an escaped quotation mark."""
    published = rsa_jwk(rsa_key(), kid="a", note='"' + "[{" * 100)
    assert from_jwks(document(published), ["RS256"]).skipped == ()


def test_reasons_hold_no_key() -> None:
    """What is said about keys holds nothing of them, nor of what their source wrote."""
    mark = "do-not-log-this"
    keys = from_jwks(
        document(
            ec_jwk(),
            ec_jwk(kid=mark, use=mark),
            ec_jwk(d=mark),
            ec_jwk(alg=mark),
            ec_jwk(x=mark),
            ec_jwk(crv=mark),
            ec_jwk(kty=mark),
            ec_jwk(kid=mark * 100),
        ),
        ["ES256"],
    )
    assert len(keys.skipped) == 7
    assert mark not in "".join(keys.skipped)
    assert mark not in repr(keys)


@pytest.mark.parametrize("name", ["none", "ES521", "ES256K", "hs256", "", "RS1", "A256GCM"])
def test_algorithms_that_are_none(name: str) -> None:
    """An algorithm that cannot be verified with is a mistake of the configuration, for every kind of key."""
    reason = f"no algorithm to verify with: {name}"
    assert unusable(from_secret, SECRET, ["HS256", name]) == reason
    assert unusable(from_pem, pem(rsa_key()), ["RS256", name]) == reason
    assert unusable(from_jwks, document(rsa_jwk(rsa_key())), ["RS256", name]) == reason


def test_algorithms_must_fit() -> None:
    """A key that none of the configured algorithms fits is a mistake, too."""
    assert unusable(from_secret, SECRET, ["RS256"]) == (
        "a secret verifies HS256, HS384 and HS512; the configured algorithms are RS256"
    )
    assert unusable(from_pem, pem(rsa_key()), []) == (
        "the public key is of another kind; the configured algorithms are none"
    )


@given(
    st.text(max_size=12) | st.sampled_from(["HS256", "HS512", "ES256"]),
    st.none() | st.text(max_size=4) | st.just("a"),
)
def test_any_algorithm_and_key_id(algorithm: str, key_id: str | None) -> None:
    """Whatever a token names, it is verified with the right key or refused."""
    plain = key_id is None or all(char.isascii() and char.isalnum() for char in key_id)
    header = {"alg": algorithm} | ({} if key_id is None else {"kid": key_id})
    sent = token(header, claims(), hs(SECRET))
    for keys, right in (
        (from_secret(SECRET, ["HS256"]), plain),
        (from_jwks(document(oct_jwk(kid="a")), ["HS256"]), key_id in (None, "a")),
        (from_pem(pem(es_key()), ALGORITHMS), False),
    ):
        if not plain and not keys._named:  # a matter of the names alone
            continue
        if right and algorithm == "HS256":
            verify(keys, sent)
        else:
            refused(keys, sent)
