"""Bind each key to the algorithms that it may be used with, once, when it is loaded. Pure.

The `alg` of a token only selects among the bindings of its key; it never decides how a key is used. So a
public key is never used as an HMAC secret (CVE-2016-10555). And each binding knows the exact shape of its
signatures, so malformed ones never reach the library: psychic signatures (r = s = 0, CVE-2022-21449), DER in
place of r||s, or a length that does not fit the key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import Algorithm, get_default_algorithms

from propylon.proxy.authenticate.jws import BadToken

__all__ = ["ALGORITHMS", "Binding", "UnusableKeys", "bind_public", "bind_secret"]

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

_HMAC_SIZES = {
    "HS256": 32,
    "HS384": 48,
    "HS512": 64,
}  # bytes of the hash, and of the shortest secret
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
# "EdDSA" leaves the curve open, so RFC 9864 replaces it by one name for each curve. Issuers use both.
_ED25519 = ("EdDSA", "Ed25519")
_ED448 = ("EdDSA", "Ed448")

ALGORITHMS = frozenset({*_HMAC_SIZES, *_RSA, *_CURVES.values(), *_ED25519, *_ED448})

_PYJWT = get_default_algorithms()
_PYJWT |= {"Ed25519": _PYJWT["EdDSA"], "Ed448": _PYJWT["EdDSA"]}

# RFC 7518, 3.3 and 3.5: 2048 bits or more. OpenSSL verifies nothing with a modulus of more than 16384 bits.
_RSA_BITS = range(2048, 16384 + 1)
# FIPS 186-5, A.1.1: odd and more than 2^16. With e = 1 every message is its own signature, and with e = 3 lax
# verifiers of the padding were fooled (Bleichenbacher, 2006). Go and Windows take no exponent above 2^32.
_EXPONENTS = range(65537, 2**32, 2)

# ROCA (CVE-2017-15361): keys made by Infineon's library can be factored, and can be recognised by their modulus:
# modulo each of these primes it is a power of 65537.
_ROCA_PRIMES = (
    *(3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97),
    *(101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167),
)
_ROCA_RESIDUES = {p: frozenset(pow(65537, k, p) for k in range(p)) for p in _ROCA_PRIMES}


class UnusableKeys(Exception):
    """No token can be verified with these keys; `reason` says why, without key material."""

    def __init__(self, reason: str) -> None:
        """Keep the reason, for the operator's log."""
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Binding:
    """A key with one algorithm, and the shape of the signatures that they make."""

    algorithm: Algorithm = field(repr=False)
    key: bytes | PublicKey = field(repr=False)
    size: int  # of a signature, in bytes
    order: int = 0  # of the curve's group; 0 where there is no curve

    def verify(self, signed: bytes, signature: bytes) -> None:
        """Return if the key made the signature. Raises BadToken.

        The shape is checked first, in bytes and for ECDSA in range, before any cryptography runs.
        """
        if len(signature) != self.size or (self.order and not self._is_in_range(signature)):
            msg = "the signature does not have the form that its algorithm requires"
            raise BadToken(msg)
        try:
            # For HMAC this is hmac.compare_digest: its time does not tell how many bytes were right.
            verified = self.algorithm.verify(signed, self.key, signature)
        except (InternalError, UnsupportedAlgorithm, ValueError):
            # PyJWT turns InvalidSignature into False. These are the other exceptions by which OpenSSL refuses.
            verified = False
        if not verified:
            msg = "the signature is not the key's"
            raise BadToken(msg)

    def _is_in_range(self, signature: bytes) -> bool:
        # FIPS 186-5, 6.4.2, step 1: r and s are in 1..n-1. Verifiers that skipped it took r = s = 0 for a
        # signature of anything (CVE-2022-21449).
        half = self.size // 2
        r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
        return 0 < r < self.order and 0 < s < self.order


def bind_secret(
    secret: bytes, algorithms: Collection[str], *, allow_short: bool = False
) -> Mapping[str, Binding]:
    """Return the bindings of a secret, for those of the algorithms that it is long enough for (RFC 7518, 3.2)."""
    return {
        name: Binding(_PYJWT[name], secret, size)
        for name, size in _HMAC_SIZES.items()
        if name in algorithms and (len(secret) >= size or allow_short)
    }


def bind_public(key: object, algorithms: Collection[str]) -> Mapping[str, Binding]:
    """Return the bindings of a public key, for those of the algorithms that fit it.

    Raises UnusableKeys for a weak key, or one of a kind that signs no tokens.
    """
    if not isinstance(key, PublicKey):
        msg = "a key of a kind that signs no tokens"
        raise UnusableKeys(msg)
    size, order = 0, 0
    names: tuple[str, ...]
    # One RSA key may serve RS* and PS*: issuers do that, and the operator's list decides which are accepted.
    if isinstance(key, RSAPublicKey):
        _check_rsa(key)
        names, size = _RSA, (key.key_size + 7) // 8
    elif isinstance(key, EllipticCurvePublicKey):
        name = _CURVES.get(key.curve.name)
        names = (name,) if name else ()
        size, order = (key.key_size + 7) // 8 * 2, key.curve.group_order
    elif isinstance(key, Ed25519PublicKey):
        names, size = _ED25519, 64
    else:
        names, size = _ED448, 114
    return {name: Binding(_PYJWT[name], key, size, order) for name in names if name in algorithms}


def _check_rsa(key: RSAPublicKey) -> None:
    numbers = key.public_numbers()
    if key.key_size not in _RSA_BITS:
        msg = f"an RSA key of {key.key_size} bits; 2048 to 16384 are taken"
        raise UnusableKeys(msg)
    if numbers.e not in _EXPONENTS or numbers.n % 2 == 0:
        msg = "an RSA key with an unsafe exponent or an even modulus"
        raise UnusableKeys(msg)
    if all(numbers.n % prime in powers for prime, powers in _ROCA_RESIDUES.items()):
        msg = "an RSA key that can be factored (ROCA, CVE-2017-15361)"
        raise UnusableKeys(msg)
