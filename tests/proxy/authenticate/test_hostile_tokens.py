"""Tokens that nobody may be known by, from the first byte to the last claim."""

import json
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.authenticate.claims import Rules, Verified, judge
from propylon.proxy.authenticate.jws import BadToken, parse
from propylon.proxy.authenticate.keys import KeySet, from_jwks, from_pem, from_secret
from tests.support.hostile_tokens import (
    Named,
    hostile,
    hostile_es,
    hostile_rsa,
    unsendable,
    valid,
    valid_es,
    valid_rsa,
)
from tests.support.jose import (
    LATER,
    SUBJECT,
    b64,
    claims,
    document,
    ec_jwk,
    es_key,
    hs,
    oct_jwk,
    pem,
    rsa_jwk,
    rsa_key,
    token,
)

NOW = 1_800_000_000.0
SECRET = b"a secret of 32 bytes, for HS256."
RULES = Rules()


def verified(sent: bytes, keys: KeySet) -> Verified:
    """Who a token is good for: all that is done with it."""
    jws = parse(sent)
    keys.verify(jws)
    return judge(jws.payload, RULES, NOW)


def secrets() -> list[KeySet]:
    """The same secret, however it came."""
    return [
        from_secret(SECRET, ["HS256"]),
        from_jwks(document(oct_jwk(SECRET, kid="a", alg="HS256")), ["HS256"]),
    ]


def rsa_keys() -> list[KeySet]:
    """The same RSA key, however it came."""
    return [
        from_pem(pem(rsa_key()), ["RS256"]),
        from_jwks(document(rsa_jwk(rsa_key(), kid="a", use="sig", alg="RS256")), ["RS256"]),
    ]


def es_keys() -> list[KeySet]:
    """The same key on P-256, however it came."""
    return [
        from_pem(pem(es_key()), ["ES256"]),
        from_jwks(document(ec_jwk(es_key(), kid="a")), ["ES256", "HS256"]),
    ]


@cache
def table(kind: str) -> list[Named]:
    """The hostile tokens for a kind of key; made once, because there are RSA signatures among them."""
    if kind == "secret":
        return hostile(SECRET)
    return hostile_rsa(pem(rsa_key()), rsa_key()) if kind == "rsa" else hostile_es(es_key())


KEYS_OF: dict[str, Callable[[], list[KeySet]]] = {
    "secret": secrets,
    "rsa": rsa_keys,
    "es": es_keys,
}
GOOD_OF: dict[str, Callable[[], bytes]] = {
    "secret": lambda: valid(SECRET),
    "rsa": lambda: valid_rsa(rsa_key()),
    "es": lambda: valid_es(es_key()),
}


def accepted(table: list[Named], keys: KeySet) -> list[str]:
    """The names of those that are taken; those that are not must be refused by BadToken alone."""
    taken = []
    for name, sent in table:
        try:
            verified(sent, keys)
        except BadToken as error:
            assert "mallory" not in error.reason, name
            assert not sent or sent.decode("latin-1")[:40] not in error.reason, name
        else:
            taken.append(name)
    return taken


@pytest.mark.parametrize("kind", KEYS_OF)
def test_hostile_tokens(kind: str) -> None:
    """Not one of the hostile tokens is taken, by a key however it came; the one that is good is."""
    for keys in KEYS_OF[kind]():
        somebody = verified(GOOD_OF[kind](), keys)
        assert (somebody.principal.subject, somebody.expires) == (SUBJECT, LATER)
        assert accepted(table(kind), keys) == []
        assert accepted(unsendable(GOOD_OF[kind]()), keys) == []


@pytest.mark.parametrize("kind", KEYS_OF)
def test_hostile_tokens_for_another_key(kind: str) -> None:
    """What is made for a key of another kind is not taken either, and nor is what is good there."""
    for other in KEYS_OF.keys() - {kind}:
        for keys in KEYS_OF[kind]():
            assert accepted([*table(other), ("good", GOOD_OF[other]())], keys) == []


@pytest.mark.parametrize("kind", KEYS_OF)
def test_tables_are_of_use(kind: str) -> None:
    """Each entry has a name of its own, and can be sent in a header as it is."""
    assert len(dict(table(kind))) == len(table(kind)) > 100
    for name, sent in table(kind):
        assert all(0x20 <= byte < 0x7F for byte in sent), name
        assert sent == sent.strip(), name
        assert len(sent) <= 8192 or name.startswith("oversized"), name


# ------------------------------------------------------------------------------------- properties

GOOD = valid(SECRET)
KEYS = from_secret(SECRET, ["HS256"])


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_octet_changed(place: int, octet: int) -> None:
    """A good token with any octet changed is good no more."""
    sent = GOOD[:place] + bytes([octet]) + GOOD[place + 1 :]
    if sent == GOOD:
        assert verified(sent, KEYS)
    else:
        with pytest.raises(BadToken):
            verified(sent, KEYS)


@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.binary(max_size=3))
def test_any_piece_replaced(start: int, end: int, piece: bytes) -> None:
    """A good token with anything cut out, put in or repeated is good no more."""
    sent = GOOD[:start] + piece + GOOD[end:]
    if sent != GOOD:
        with pytest.raises(BadToken):
            verified(sent, KEYS)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
_header_names = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5t", "cty", "zip"])


@given(st.dictionaries(_header_names, _json))
def test_any_signed_header(changed: dict[str, object]) -> None:
    """Under a good signature too, a header is taken only if it asks for nothing that we do not do."""
    sent = token({"alg": "HS256"} | changed, claims(), hs(SECRET))
    try:
        somebody = verified(sent, KEYS)
    except BadToken:
        return
    assert somebody.principal.subject == SUBJECT
    assert changed.get("alg", "HS256") == "HS256"
    assert not changed.keys() & {"crit", "b64", "jwk", "zip"}


@given(st.one_of(st.binary(max_size=60), _json.map(json.dumps).map(str.encode)))
def test_any_signed_payload(payload: bytes) -> None:
    """A good signature over anything makes nobody known, and raises nothing but BadToken."""
    with pytest.raises(BadToken):
        verified(token({"alg": "HS256"}, payload, hs(SECRET)), KEYS)


@given(
    st.binary(max_size=70)
    | st.binary(min_size=32, max_size=32)
    | st.binary(min_size=64, max_size=64)
)
def test_any_signature(signature: bytes) -> None:
    """No signature is right by chance, for any kind of key."""
    for kind in ("secret", "es"):
        signed = GOOD_OF[kind]().rpartition(b".")[0]
        with pytest.raises(BadToken):
            verified(signed + b"." + b64(signature), KEYS_OF[kind]()[0])
