"""Make tokens and published keys by hand: from the primitives, not with what is being tested."""

import base64
import hmac
import json
from collections.abc import Callable
from functools import cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Sign = Callable[[bytes], bytes]
Jwk = dict[str, object]

LATER = 4102444800  # the year 2100
SUBJECT = "mallory"
_CURVES = {256: "P-256", 384: "P-384", 521: "P-521"}


def b64(octets: bytes) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def pack(part: object) -> bytes:
    """A part of a token as JSON; bytes are taken as they are."""
    return part if isinstance(part, bytes) else json.dumps(part).encode()


def token(header: object, payload: object, sign: Sign) -> bytes:
    """A token of these parts, signed."""
    signed = b64(pack(header)) + b"." + b64(pack(payload))
    return signed + b"." + b64(sign(signed))


def claims(**changed: object) -> dict[str, object]:
    """Claims that are fine, but for what is changed."""
    return {"sub": SUBJECT, "exp": LATER, **changed}


def hs(secret: bytes, bits: int = 256) -> Sign:
    """Sign with a secret."""
    return lambda text: hmac.new(secret, text, f"sha{bits}").digest()


def rs(key: rsa.RSAPrivateKey, algorithm: hashes.HashAlgorithm | None = None) -> Sign:
    """Sign by RSASSA-PKCS1-v1_5."""
    return lambda text: key.sign(text, padding.PKCS1v15(), algorithm or hashes.SHA256())


def ps(key: rsa.RSAPrivateKey, salt: int = 32) -> Sign:
    """Sign by RSASSA-PSS with SHA-256."""
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    return lambda text: key.sign(text, scheme, hashes.SHA256())


def es(key: ec.EllipticCurvePrivateKey, algorithm: hashes.HashAlgorithm | None = None) -> Sign:
    """Sign by ECDSA, as r and s of the curve's length."""
    size = (key.curve.key_size + 7) // 8

    def sign(text: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(text, ec.ECDSA(algorithm or hashes.SHA256())))
        return r.to_bytes(size) + s.to_bytes(size)

    return sign


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """An RSA key; the same each time, because making one takes long."""
    return rsa.generate_private_key(65537, 2048)


@cache
def other_rsa_key() -> rsa.RSAPrivateKey:
    """The attacker's."""
    return rsa.generate_private_key(65537, 2048)


@cache
def es_key() -> ec.EllipticCurvePrivateKey:
    """A key on P-256; the same each time."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """The public key, as an operator writes it into a file."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def der(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """The public key in binary."""
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def number(value: int, size: int = 0) -> str:
    """A number as a member of a key has it; of so many octets, or as few as it takes."""
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8)).decode()


def rsa_jwk(key: rsa.RSAPrivateKey, **more: object) -> Jwk:
    """An RSA key, as it is published."""
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **more}


def ec_jwk(key: ec.EllipticCurvePrivateKey, **more: object) -> Jwk:
    """A key on a curve, as it is published."""
    point, bits = key.public_key().public_numbers(), key.curve.key_size
    x, y = (number(value, (bits + 7) // 8) for value in (point.x, point.y))
    return {"kty": "EC", "crv": _CURVES[bits], "x": x, "y": y, **more}


def oct_jwk(secret: bytes, **more: object) -> Jwk:
    """A secret, as nobody should publish one."""
    return {"kty": "oct", "k": b64(secret).decode(), **more}


def document(*keys: object) -> bytes:
    """A key set, as its source writes it."""
    return json.dumps({"keys": keys}).encode()
