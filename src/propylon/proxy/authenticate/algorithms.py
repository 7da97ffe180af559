"""Bind a key to the algorithms that it may be used with, once, when it is loaded. Pure.

The header of a token only chooses among these. So no public key is ever a secret (CVE-2016-10555), and
a signature reaches the library in its exact shape only: psychic signatures (CVE-2022-21449), DER where
r||s should be, or a length that the key does not have are refused here.
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

_HMAC_SIZES = {"HS256": 32, "HS384": 48, "HS512": 64}  # bytes of the hash
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
# EdDSA leaves the curve open, and RFC 9864 replaces it by names that do not; both are in use.
_ED25519 = ("EdDSA", "Ed25519")
_ED448 = ("EdDSA", "Ed448")

ALGORITHMS = frozenset({*_HMAC_SIZES, *_RSA, *_CURVES.values(), *_ED25519, *_ED448})

_PYJWT = get_default_algorithms()
_PYJWT |= {"Ed25519": _PYJWT["EdDSA"], "Ed448": _PYJWT["EdDSA"]}

# RFC 7518, 3.3 and 3.5; OpenSSL verifies nothing with a modulus of more bits than the second.
_RSA_BITS = range(2048, 16384 + 1)
# FIPS 186-5 wants more than 2^16: with e = 1 anybody signs, and with e = 3 many a lax verifier was
# fooled. Nobody's is larger than 2^32: Go and Windows do not take it.
_EXPONENTS = range(65537, 2**32, 2)

# Keys of Infineon's library give themselves away (CVE-2017-15361, ROCA), and can be factored: modulo
# each small prime, the modulus is a power of 65537.
_ROCA_PRIMES = (
    *(3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97),
    *(101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167),
)
_ROCA_RESIDUES = {p: frozenset(pow(65537, k, p) for k in range(p)) for p in _ROCA_PRIMES}


class UnusableKeys(Exception):
    """No token can be verified with these; `reason` says why, without key material."""

    def __init__(self, reason: str) -> None:
        """Say why."""
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Binding:
    """A key under one algorithm, and the shape of the signatures that it makes."""

    algorithm: Algorithm = field(repr=False)
    key: bytes | PublicKey = field(repr=False)
    size: int  # of a signature, in bytes
    order: int = 0  # of the curve's group, for ECDSA

    def verify(self, signed: bytes, signature: bytes) -> None:
        """Return if the key made the signature. Raises BadToken."""
        if len(signature) != self.size or (self.order and not self._is_in_range(signature)):
            msg = "the signature has not the shape that its algorithm gives it"
            raise BadToken(msg)
        try:
            # For HMAC this is hmac.compare_digest: the time does not tell how much of it was right.
            verified = self.algorithm.verify(signed, self.key, signature)
        except (InternalError, UnsupportedAlgorithm, ValueError):
            # InvalidSignature has become False; these are OpenSSL's other ways to say no.
            verified = False
        if not verified:
            msg = "the signature is not the key's"
            raise BadToken(msg)

    def _is_in_range(self, signature: bytes) -> bool:
        # FIPS 186-5, 6.4.2: r and s are in 1..n-1, before anything is computed.
        half = self.size // 2
        r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
        return 0 < r < self.order and 0 < s < self.order


def bind_secret(
    secret: bytes, algorithms: Collection[str], *, allow_short: bool = False
) -> Mapping[str, Binding]:
    """Return those of the algorithms that a secret is long enough for (RFC 7518, 3.2)."""
    return {
        name: Binding(_PYJWT[name], secret, size)
        for name, size in _HMAC_SIZES.items()
        if name in algorithms and (len(secret) >= size or allow_short)
    }


def bind_public(key: object, algorithms: Collection[str]) -> Mapping[str, Binding]:
    """Return those of the algorithms that fit the key. Raises UnusableKeys for a weak or foreign one."""
    if not isinstance(key, PublicKey):
        msg = "a key of a kind that signs no tokens"
        raise UnusableKeys(msg)
    size, order = 0, 0
    names: tuple[str, ...]
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
