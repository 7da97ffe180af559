"""Read one published key (JWK, RFC 7517): its parameters, its purpose, and what it may verify. Pure.

Only parameters that were checked here reach the library, each in the one encoding that RFC 7518 gives it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from propylon.proxy.authenticate.algorithms import (
    Binding,
    UnusableKeys,
    bind_public,
    bind_secret,
)
from propylon.proxy.authenticate.jws import BadToken, read_base64url, read_key_id

__all__ = ["Key", "read_jwk"]

_Members = Mapping[str, object]

# Octets of a coordinate (RFC 7518, 6.2.1.2) or of a public key (RFC 8032, 5.1.5 and 5.2.5). A shorter coordinate
# is the same number to a lenient reader, and so a second spelling of the same key.
_CURVES = {"EC": {"P-256": 32, "P-384": 48, "P-521": 66}, "OKP": {"Ed25519": 32, "Ed448": 57}}
# Octets of 16384 bits, the largest modulus that OpenSSL accepts. Larger numbers cost CPU before they are refused.
_MAX_MODULUS = 2048
# Private parameters (RFC 7518, 6.2.2 and 6.3.2; RFC 8037, 2).
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})


@dataclass(frozen=True, slots=True)
class Key:
    """A key with its id, and a binding for each algorithm that it may verify."""

    key_id: str | None
    bindings: Mapping[str, Binding]


def read_jwk(jwk: object, algorithms: Collection[str]) -> Key:
    """Read a published key. Raises UnusableKeys, with the reason, for one that must not verify tokens."""
    if not isinstance(jwk, dict):
        msg = "no JSON object"
        raise UnusableKeys(msg)
    key_id = _key_id(jwk)
    _check_purpose(jwk)
    bindings = _bind(jwk, _permitted_algorithms(jwk, algorithms))
    if not bindings:
        msg = "its type, size, curve or alg fits none of the configured algorithms"
        raise UnusableKeys(msg)
    return Key(key_id, bindings)


def _key_id(jwk: _Members) -> str | None:
    try:
        return read_key_id(jwk)
    except BadToken as error:
        raise UnusableKeys(error.reason) from None


def _check_purpose(jwk: _Members) -> None:
    # A key that also encrypts: an attack on one use of a key can break the other use, too.
    if jwk.get("use", "sig") != "sig":
        msg = "its use is not sig"
        raise UnusableKeys(msg)
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        msg = "its key_ops are not for verifying"
        raise UnusableKeys(msg)


def _permitted_algorithms(jwk: _Members, algorithms: Collection[str]) -> Collection[str]:
    if "alg" not in jwk:
        return algorithms
    # RFC 7517, 4.4: `alg` names the one algorithm of the key. If it is another one (AES, another curve's, a
    # misspelling), the key is left out: guessing what was meant would use it against its issuer's word.
    return [name for name in algorithms if name == jwk["alg"]]


def _bind(jwk: _Members, algorithms: Collection[str]) -> Mapping[str, Binding]:
    kind = jwk.get("kty")
    if kind == "oct":
        return bind_secret(_octets(jwk, "k"), algorithms)
    # An unknown `kty` must be ignored (RFC 7517, 5), and one key that is left out does not hurt the others.
    if kind not in ("RSA", "EC", "OKP"):
        msg = "its kty is none that verifies signatures"
        raise UnusableKeys(msg)
    # The public half would verify well. But the private half is public, too, so its signatures prove nothing.
    if not _PRIVATE.isdisjoint(jwk):
        msg = "its private part is published, too, so everyone can sign tokens with it"
        raise UnusableKeys(msg)
    try:
        public = _read_rsa(jwk) if kind == "RSA" else _read_curve(jwk, kind)
    except (InvalidKeyError, UnsupportedAlgorithm, ValueError):
        msg = "its members make no key, or a point that is not on the curve"
        raise UnusableKeys(msg) from None
    return bind_public(public, algorithms)


def _read_rsa(jwk: _Members) -> object:
    # A leading zero octet is accepted (RFC 7518, 6.3.1.1: some encoders write one). The size is checked before the
    # library computes anything.
    if max(len(_octets(jwk, "n")), len(_octets(jwk, "e"))) > _MAX_MODULUS + 1:
        msg = "an RSA key that is too large"
        raise UnusableKeys(msg)
    return RSAAlgorithm.from_jwk({name: jwk[name] for name in ("kty", "n", "e")})


def _read_curve(jwk: _Members, kind: str) -> object:
    curve = jwk.get("crv")
    size = _CURVES[kind].get(curve) if isinstance(curve, str) else None
    coordinates = ("x", "y") if kind == "EC" else ("x",)
    if size is None or any(len(_octets(jwk, name)) != size for name in coordinates):
        msg = "its curve is not known, or its coordinates have not the curve's length"
        raise UnusableKeys(msg)
    members = {name: jwk[name] for name in ("kty", "crv", *coordinates)}
    library = ECAlgorithm if kind == "EC" else OKPAlgorithm
    return library.from_jwk(members)


def _octets(jwk: _Members, name: str) -> bytes:
    value = jwk.get(name)
    try:
        # A character outside ASCII becomes "?", which is not base64url.
        return read_base64url(value.encode("ascii", "replace") if isinstance(value, str) else b"?")
    except BadToken:
        msg = f"its {name} is missing, or is not canonical base64url"
        raise UnusableKeys(msg) from None
