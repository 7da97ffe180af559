"""Which published keys verify anything."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.authenticate.algorithms import ALGORITHMS, UnusableKeys
from propylon.proxy.authenticate.jwk import read_jwk
from tests.support import jose
from tests.support.jose import Jwk, b64, number, rsa_key

MISFIT = "its type, size, curve or alg fits none of the configured algorithms"


def rsa_jwk(**changed: object) -> Jwk:
    """An RSA key, as it is published."""
    return jose.rsa_jwk(jose.rsa_key(), **changed)


def ec_jwk(curve: ec.EllipticCurve | None = None, **changed: object) -> Jwk:
    """A key on a curve."""
    return jose.ec_jwk(ec.generate_private_key(curve) if curve else jose.es_key(), **changed)


def okp_jwk(**changed: object) -> Jwk:
    """An Ed25519 key."""
    raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw).decode(), **changed}


def oct_jwk(**changed: object) -> Jwk:
    """A secret."""
    return {**jose.oct_jwk(b"s" * 64), **changed}


def ed448_jwk() -> Jwk:
    """An Ed448 key."""
    raw = ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()
    return okp_jwk(crv="Ed448", x=b64(raw).decode())


def refused(jwk: object, algorithms: object = ALGORITHMS) -> str:
    """The reason why the key is not used."""
    with pytest.raises(UnusableKeys) as caught:
        read_jwk(jwk, algorithms)
    return caught.value.reason


_RSA = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


@pytest.mark.parametrize(
    ("jwk", "names"),
    [
        (rsa_jwk(), _RSA),
        (ec_jwk(), {"ES256"}),
        (ec_jwk(ec.SECP384R1()), {"ES384"}),
        (ec_jwk(ec.SECP521R1()), {"ES512"}),
        (okp_jwk(), {"EdDSA", "Ed25519"}),
        (ed448_jwk(), {"EdDSA", "Ed448"}),
        (oct_jwk(), {"HS256", "HS384", "HS512"}),
        (oct_jwk(k=b64(b"s" * 32).decode()), {"HS256"}),
    ],
    ids=range(8),
)
def test_kinds(jwk: Jwk, names: set[str]) -> None:
    """Each kind of key is bound to what fits its type, curve and size; what is named alone, if one is."""
    assert read_jwk(jwk, ALGORITHMS).bindings.keys() == names
    for name in names:
        assert read_jwk({**jwk, "alg": name}, ALGORITHMS).bindings.keys() == {name}
        assert read_jwk(jwk, {name}).bindings.keys() == {name}
    for name in ALGORITHMS - names:
        assert refused({**jwk, "alg": name}) == MISFIT
        assert refused(jwk, {name}) == MISFIT


def test_alg_must_be_configured() -> None:
    """A key for an algorithm that is not configured is not used for another one that is."""
    assert refused(rsa_jwk(alg="PS256"), {"RS256"}) == MISFIT


@pytest.mark.parametrize(
    "alg", ["RSA-OAEP", "A256GCM", "A256KW", "ES521", "none", "rs256", "", None, 1, ["RS256"], {}]
)
def test_alg_for_something_else(alg: object) -> None:
    """A key that names what no token is signed with, or names it in another way, is not used."""
    for jwk in (rsa_jwk(), oct_jwk(), ec_jwk()):
        assert refused({**jwk, "alg": alg}) == MISFIT


def test_name() -> None:
    """A key has the name that it was published under, or none."""
    assert read_jwk(rsa_jwk(kid="2026-11"), ALGORITHMS).key_id == "2026-11"
    assert read_jwk(rsa_jwk(kid=""), ALGORITHMS).key_id == ""
    assert read_jwk(rsa_jwk(), ALGORITHMS).key_id is None
    for odd in (None, 1, ["a"], "k" * 257):
        assert refused(rsa_jwk(kid=odd)) == "its kid is no string of at most 256 characters"


def test_purpose() -> None:
    """A key for encrypting, or for anything but verifying, verifies nothing."""
    assert read_jwk(rsa_jwk(use="sig", key_ops=["verify"]), ALGORITHMS)
    assert read_jwk(oct_jwk(key_ops=["sign", "verify"]), ALGORITHMS)
    for use in ("enc", "SIG", "", None, 1, ["sig"]):
        assert refused(rsa_jwk(use=use)) == "its use is not sig"
    for operations in (["encrypt"], ["sign"], [], None, "verify", {"verify": 1}, ["sign, verify"]):
        assert refused(ec_jwk(key_ops=operations)) == "its key_ops are not for verifying"


@pytest.mark.parametrize("odd", [None, 1, [], "rsa", "RSA ", "oct1", "", "DSA", "AKP"])
def test_unknown_types(odd: object) -> None:
    """A type that is not known makes no key."""
    assert refused(rsa_jwk(kty=odd)) == "its kty is none that verifies signatures"
    without = {name: value for name, value in rsa_jwk().items() if name != "kty"}
    assert refused(without) == "its kty is none that verifies signatures"


@pytest.mark.parametrize("odd", [None, 1, "RSA", [], [rsa_jwk()], True])
def test_no_object(odd: object) -> None:
    """What is no object is no key."""
    assert refused(odd) == "no JSON object"


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth"])
def test_private_keys(member: str) -> None:
    """A key whose private part everybody can read is not used, and the log says why."""
    for jwk in (rsa_jwk(), ec_jwk(), okp_jwk()):
        for value in ("AQAB", None, []):
            assert refused({**jwk, member: value}) == (
                "its private part is published, too, so everyone can sign tokens with it"
            )


@pytest.mark.parametrize(
    ("jwk", "member"),
    [
        (jwk, member)
        for jwk, members in (
            (rsa_jwk(), "ne"),
            (ec_jwk(), "xy"),
            (okp_jwk(), "x"),
            (oct_jwk(), "k"),
        )
        for member in members
    ],
    ids=range(6),
)
def test_members_have_one_spelling(jwk: Jwk, member: str) -> None:
    """A member that is missing, of another type, padded, spaced or loosely written makes no key."""
    reason = f"its {member} is missing, or is not canonical base64url"
    good = str(jwk[member])
    for odd in (
        *(None, 1, True, [good], {"": good}),
        *(
            good + "=",
            good + "==",
            " " + good,
            good + "\n",
            good[:-1] + "+",
            good + "é",
            good + "A" * ((1 - len(good)) % 4),
        ),
        *("x!" + good[2:], good[:5] + "\ud800"),
    ):
        assert refused({**jwk, member: odd}) == reason
    assert refused({name: value for name, value in jwk.items() if name != member}) == reason


@pytest.mark.parametrize("size", [0, 31])
def test_short_secrets(size: int) -> None:
    """A secret that is shorter than the hash verifies nothing."""
    assert refused(oct_jwk(k=b64(b"s" * size).decode())) == MISFIT


@pytest.mark.parametrize("curve", ["P-384", "P-521", "secp256k1", "Ed25519", "p-256", "", None, 1])
def test_curves_and_coordinates_agree(curve: object) -> None:
    """The coordinates of one curve make no key of another."""
    reason = "its curve is not known, or its coordinates have not the curve's length"
    assert refused(ec_jwk(crv=curve)) == reason
    if curve != "Ed25519":
        assert refused(okp_jwk(crv=curve)) == reason


@pytest.mark.parametrize("curve", ["X25519", "P-256", "Ed448"])
def test_other_curves_of_octet_keys(curve: str) -> None:
    """A key for agreeing on keys signs nothing."""
    assert "curve" in refused(okp_jwk(crv=curve))


def test_points_are_on_the_curve() -> None:
    """A point that is not on the curve is refused (invalid curve attacks), and so is the one at infinity."""
    reason = "its members make no key, or a point that is not on the curve"
    good = ec_jwk()
    assert refused({**good, "x": good["y"], "y": good["x"]}) == reason
    assert refused(ec_jwk(x=number(0, 32), y=number(0, 32))) == reason
    assert refused(ec_jwk(x=b64(b"\xff" * 32).decode())) == reason


def test_weak_rsa_keys() -> None:
    """RSA keys that are short, have a small exponent, or are no keys at all are not used."""
    assert refused(rsa_jwk(n=number(2**1023 + 1))) == (
        "an RSA key of 1024 bits; 2048 to 16384 are taken"
    )
    assert refused(rsa_jwk(e=number(3))) == "an RSA key with an unsafe exponent or an even modulus"
    for odd in (rsa_jwk(e=number(1)), rsa_jwk(e=number(2)), rsa_jwk(n=""), rsa_jwk(n=number(3))):
        assert refused(odd) == "its members make no key, or a point that is not on the curve"
    for member in ("n", "e"):
        huge = b64(b"\xff" * 100_000).decode()
        assert refused(rsa_jwk(**{member: huge})) == "an RSA key that is too large"


def test_leading_zero_of_a_modulus() -> None:
    """Some encoders write a zero octet in front of the modulus: it is the same key."""
    numbers = rsa_key().public_key().public_numbers()
    key = read_jwk(rsa_jwk(n=number(numbers.n, 257)), {"RS256"})
    assert isinstance(key.bindings["RS256"].key, rsa.RSAPublicKey)
    assert key.bindings["RS256"].key.public_numbers() == numbers
    assert key.bindings["RS256"].size == 256


def test_members_that_mean_nothing() -> None:
    """Certificates and members of one's own are not looked at."""
    extra: Jwk = {"x5c": ["no certificate"], "x5t": 7, "x5u": "http://169.254.169.254/", "own": {}}
    assert read_jwk(rsa_jwk(**extra), {"RS256"}).bindings


_values = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=8),
    st.binary(max_size=70).map(lambda raw: b64(raw).decode()),
    st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "sig", "AQAB", "RS256"]),
    st.lists(st.sampled_from(["verify", "sign", 1]), max_size=2),
)
_members = st.sampled_from(
    ["kty", "crv", "x", "y", "n", "e", "k", "alg", "use", "key_ops", "kid", "d"]
)


@given(
    st.sampled_from([json.dumps(jwk) for jwk in ({}, rsa_jwk(), ec_jwk(), okp_jwk(), oct_jwk())]),
    st.dictionaries(_members, _values, max_size=4),
)
def test_any_members(start: str, changed: Jwk) -> None:
    """Whatever a source publishes is a key with something to verify, or UnusableKeys and nothing else."""
    try:
        key = read_jwk({**json.loads(start), **changed}, ALGORITHMS)
    except UnusableKeys:
        return
    assert key.bindings
    assert all(name == changed.get("alg", name) for name in key.bindings)
