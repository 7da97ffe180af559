"""What a key may verify, and in which shape."""

import pytest
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from jwt.algorithms import Algorithm, HMACAlgorithm

from propylon.proxy.authenticate.algorithms import (
    ALGORITHMS,
    Binding,
    UnusableKeys,
    bind_public,
    bind_secret,
)
from propylon.proxy.authenticate.jws import BadToken
from tests.support.jose import es, es_key, rs, rsa_key

TEXT = b"header.payload"
_RSA = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (rsa_key().public_key(), _RSA),
        (es_key().public_key(), {"ES256"}),
        (ec.generate_private_key(ec.SECP384R1()).public_key(), {"ES384"}),
        (ec.generate_private_key(ec.SECP521R1()).public_key(), {"ES512"}),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), set()),
        (ec.generate_private_key(ec.BrainpoolP256R1()).public_key(), set()),
        (ed25519.Ed25519PrivateKey.generate().public_key(), {"EdDSA", "Ed25519"}),
        (ed448.Ed448PrivateKey.generate().public_key(), {"EdDSA", "Ed448"}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, set) else "",
)
def test_public_keys_fit_their_own_algorithms(key: object, names: set[str]) -> None:
    """A public key is bound to what its type and curve were made for, never to HMAC."""
    assert bind_public(key, ALGORITHMS).keys() == names


def test_only_what_is_configured() -> None:
    """Of the algorithms that fit, those that are configured count."""
    assert bind_public(rsa_key().public_key(), {"PS384", "ES256", "HS256"}).keys() == {"PS384"}
    assert bind_secret(b"x" * 64, {"HS384", "RS256"}).keys() == {"HS384"}
    assert bind_public(rsa_key().public_key(), ()) == {}


@pytest.mark.parametrize(
    ("size", "names"),
    [
        (0, set()),
        (31, set()),
        (32, {"HS256"}),
        (47, {"HS256"}),
        (48, {"HS256", "HS384"}),
        (63, {"HS256", "HS384"}),
        (64, {"HS256", "HS384", "HS512"}),
        (1000, {"HS256", "HS384", "HS512"}),
    ],
)
def test_secrets_are_as_long_as_the_hash(size: int, names: set[str]) -> None:
    """A secret is bound to the hashes that it is not shorter than (RFC 7518, 3.2), and to nothing else."""
    assert bind_secret(b"x" * size, ALGORITHMS).keys() == names


def test_short_secrets_on_demand() -> None:
    """Whoever tries things out may use a short secret."""
    assert bind_secret(b"x", ALGORITHMS, allow_short=True).keys() == {"HS256", "HS384", "HS512"}


@pytest.mark.parametrize(
    "key",
    [
        rsa_key(),
        es_key(),
        x25519.X25519PrivateKey.generate().public_key(),
        dsa.generate_private_key(1024).public_key(),
        b"secret" * 10,
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_keys_that_verify_nothing(key: object) -> None:
    """A private key, a key for agreeing on keys, DSA or a secret is no public key to verify with."""
    with pytest.raises(UnusableKeys, match="signs no tokens"):
        bind_public(key, ALGORITHMS)


def rsa_numbers(n: int, e: int = 65537) -> rsa.RSAPublicKey:
    """A public key of these numbers, whether or not they were made for it."""
    return rsa.RSAPublicNumbers(e, n).public_key()


def roca() -> int:
    """A modulus as Infineon's library made them: a power of 65537 modulo many small primes at once."""
    product = 1
    for candidate in range(2, 700):
        if all(candidate % divisor for divisor in range(2, candidate)):
            product *= candidate
    n = pow(65537, 1234567, product)
    return n + product * (((1 << 2047) - n) // product + 2)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (rsa_numbers(2**2046 + 1), "an RSA key of 2047 bits; 2048 to 16384 are taken"),
        (rsa_numbers(2**1023 + 1), "an RSA key of 1024 bits; 2048 to 16384 are taken"),
        (rsa_numbers(2**16384 + 1), "an RSA key of 16385 bits; 2048 to 16384 are taken"),
        (rsa_numbers(2**2047 + 1, 3), "an RSA key with an unsafe exponent or an even modulus"),
        (rsa_numbers(2**2047 + 1, 17), "an RSA key with an unsafe exponent or an even modulus"),
        (
            rsa_numbers(2**2047 + 1, 2**33 + 1),
            "an RSA key with an unsafe exponent or an even modulus",
        ),
        (rsa_numbers(2**2047), "an RSA key with an unsafe exponent or an even modulus"),
        (rsa_numbers(roca()), "an RSA key that can be factored (ROCA, CVE-2017-15361)"),
    ],
    ids=range(8),
)
def test_weak_rsa_keys(key: rsa.RSAPublicKey, reason: str) -> None:
    """An RSA key under 2048 bits, with a small exponent or of a broken generator verifies nothing."""
    with pytest.raises(UnusableKeys) as caught:
        bind_public(key, ALGORITHMS)
    assert caught.value.reason == str(caught.value) == reason


def test_sound_rsa_keys() -> None:
    """A key of exactly 2048 bits and an exponent that is larger than usual are taken."""
    assert bind_public(rsa_numbers(2**2047 + 1, 2**31 + 11), {"RS256"})
    assert bind_public(rsa_key().public_key(), {"RS256"})


def bound(algorithm: str) -> tuple[Binding, bytes]:
    """A key under this algorithm, and its signature of the text."""
    if algorithm == "HS256":
        binding = bind_secret(b"s" * 32, {algorithm})[algorithm]
        return binding, HMACAlgorithm(HMACAlgorithm.SHA256).sign(TEXT, b"s" * 32)
    if algorithm == "RS256":
        return bind_public(rsa_key().public_key(), {algorithm})[algorithm], rs(rsa_key())(TEXT)
    if algorithm == "ES256":
        return bind_public(es_key().public_key(), {algorithm})[algorithm], es(es_key())(TEXT)
    if algorithm == "ES512":
        wide = ec.generate_private_key(ec.SECP521R1())
        return (
            bind_public(wide.public_key(), {algorithm})[algorithm],
            es(wide, hashes.SHA512())(TEXT),
        )
    key = {
        "Ed25519": ed25519.Ed25519PrivateKey,
        "Ed448": ed448.Ed448PrivateKey,
    }[algorithm].generate()
    return bind_public(key.public_key(), {algorithm})[algorithm], key.sign(TEXT)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "ES512", "Ed25519", "Ed448"])
def test_signatures(algorithm: str) -> None:
    """A key knows its own signature, of its own text and length only."""
    binding, signature = bound(algorithm)
    binding.verify(TEXT, signature)
    changed = bytes([signature[0] ^ 1]) + signature[1:]
    with pytest.raises(BadToken, match="not the key's|not have the form"):
        binding.verify(TEXT, changed)
    with pytest.raises(BadToken, match="not the key's"):
        binding.verify(TEXT + b"x", signature)
    for odd in (b"", signature[:-1], signature + b"\x00", b"\x00" + signature, signature * 2):
        with pytest.raises(BadToken, match="not have the form"):
            binding.verify(TEXT, odd)


def test_ecdsa_numbers_are_in_their_range() -> None:
    """Numbers that no key makes are refused before the library sees them (CVE-2022-21449)."""

    class Believer(HMACAlgorithm):
        def verify(self, msg: bytes, key: bytes, sig: bytes) -> bool:
            return True

    key = es_key().public_key()
    order = key.curve.group_order
    binding = Binding(Believer(HMACAlgorithm.SHA256), key, 64, order)
    binding.verify(TEXT, (1).to_bytes(32) + (order - 1).to_bytes(32))
    for r in (0, order, order + 1, 2**256 - 1):
        for pair in ((r, 1), (1, r), (r, r)):
            with pytest.raises(BadToken, match="not have the form"):
                binding.verify(TEXT, b"".join(number.to_bytes(32) for number in pair))


@pytest.mark.parametrize(
    "error", [InternalError("x", []), UnsupportedAlgorithm("x"), ValueError("x")], ids=repr
)
def test_every_way_to_say_no(error: Exception) -> None:
    """Whatever the library raises about a signature, the token is refused and nothing else leaves."""

    class Raiser(HMACAlgorithm):
        def verify(self, msg: bytes, key: bytes, sig: bytes) -> bool:
            raise error

    with pytest.raises(BadToken) as caught:
        Binding(Raiser(HMACAlgorithm.SHA256), b"", 1).verify(TEXT, b"x")
    assert caught.value.reason == "the signature is not the key's"


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An HMAC is compared by hmac.compare_digest, whole: the time does not tell how much was right."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    binding, signature = bound("HS256")
    monkeypatch.setattr("jwt.algorithms.hmac.compare_digest", compare)
    binding.verify(TEXT, signature)
    assert compared == [(signature, signature)]


def test_repr_shows_no_key() -> None:
    """A key cannot be read from a traceback or a log."""
    algorithm: Algorithm = HMACAlgorithm(HMACAlgorithm.SHA256)
    assert repr(Binding(algorithm, b"the secret", 32)) == "Binding(size=32, order=0)"
