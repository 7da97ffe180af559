"""Signatures that are not what they should be, on tokens that are fine otherwise."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.jose import Jwk, b64, claims, es, hs, number, pack, rs, token

Named = tuple[str, bytes]
HS256 = {"alg": "HS256", "typ": "JWT"}


def signatures(good: bytes, step: int = 1) -> Iterator[Named]:
    """A good token with its signature changed, cut, grown, or put over something else."""
    signed, _, last = good.rpartition(b".")
    right = base64.urlsafe_b64decode(last + b"==")

    def sent(signature: bytes) -> bytes:
        return signed + b"." + b64(signature)

    for place in range(0, len(right), step):
        flipped = right[place] ^ (1 << place % 8)
        changed = right[:place] + bytes([flipped]) + right[place + 1 :]
        yield f"a bit turned in octet {place} of the signature", sent(changed)
    for length in (0, 1, len(right) // 2, len(right) - 1):
        yield f"a signature cut to {length} octets", sent(right[:length])
    yield "a signature with an octet more", sent(right + b"\x00")
    yield "a signature with an octet before", sent(b"\x00" + right)
    yield "a signature twice", sent(right + right)
    yield "a signature of zeros", sent(bytes(len(right)))
    yield "a signature of ones", sent(b"\xff" * len(right))
    yield "a signature in hexadecimal", sent(right.hex().encode())
    yield "a digest for a signature", sent(hashlib.sha256(signed).digest())
    header, _, payload = signed.partition(b".")
    elevated = b64(pack(claims(roles=["admin"])))
    yield "other claims under the signature", header + b"." + elevated + b"." + last
    changed = b64(pack({**json.loads(base64.urlsafe_b64decode(header + b"==")), "x": 1}))
    yield "another header under the signature", changed + b"." + payload + b"." + last


def weak_secrets(secret: bytes) -> Iterator[Named]:
    """Tokens signed with what others take for a secret, and with what ours is nearly."""
    for guess in (b"", b"secret", b"password", b"changeme", b"\x00", b"your-256-bit-secret"):
        yield f"guessed: {guess!r}", token(HS256, claims(), hs(guess))
    for name, other in (
        ("cut", secret[:-1]),
        ("with a line feed", secret + b"\n"),
        ("turned round", secret[::-1] + b"x"),
        ("in base64", base64.b64encode(secret)),
        ("as text of bytes", repr(secret).encode()),
    ):
        yield f"the secret {name}", token(HS256, claims(), hs(other))


def confusions(public_key_pem: bytes) -> Iterator[Named]:
    """The public key, which everybody has, for a secret (CVE-2016-10555)."""
    key = serialization.load_pem_public_key(public_key_pem)
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    numbers = key.public_numbers()
    if isinstance(numbers, rsa.RSAPublicNumbers):
        bare = numbers.n.to_bytes(key.key_size // 8)
        jwk: Jwk = {"kty": "RSA", "n": number(numbers.n), "e": "AQAB"}
    else:
        bare = numbers.x.to_bytes(32) + numbers.y.to_bytes(32)
        jwk = {"kty": "EC", "crv": "P-256", "x": number(numbers.x, 32), "y": number(numbers.y, 32)}
    for spelling, secret in (
        ("PEM", public_key_pem),
        ("PEM without the last line feed", public_key_pem.rstrip(b"\n")),
        ("DER", key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        ("JWK", json.dumps(jwk, separators=(",", ":")).encode()),
        ("bare", bare),
    ):
        for bits in (256, 384, 512):
            name = f"HS{bits} with the public key for a secret: {spelling}"
            yield name, token({"alg": f"HS{bits}"}, claims(), hs(secret, bits))


def numbers(header: object, key: rsa.RSAPrivateKey) -> Iterator[Named]:
    """Signatures that are numbers with a meaning of their own."""
    n, size = key.public_key().public_numbers().n, key.key_size // 8
    for name, value in (("0", 0), ("1", 1), ("n-1", n - 1), ("n", n), ("n+1", n + 1)):
        octets = value.to_bytes(size)
        yield f"a signature that is {name}", token(header, claims(), lambda _, o=octets: o)

    def and_n(text: bytes) -> bytes:
        return (int.from_bytes(rs(key)(text)) + n).to_bytes(size + 1)

    yield "the signature and n", token(header, claims(), and_n)


# DigestInfo of SHA-256 and of SHA-1 (RFC 8017, 9.2, note 1).
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")
_SHA1 = bytes.fromhex("3021300906052b0e03021a05000414")
_SHA256_NO_NULL = bytes.fromhex("302f300b0609608648016503040201" + "0420")
_SHA256_LONG_FORM = bytes.fromhex("308131300d060960864801650304020105000420")
_SHA256_LONG_DIGEST = bytes.fromhex("3032300d06096086480165030402010500048120")
_SHA512 = bytes.fromhex("3051300d060960864801650304020305000440")


def paddings(header: object, key: rsa.RSAPrivateKey) -> Iterator[Named]:
    """Signatures made with the key over a block that is not quite that of RSASSA-PKCS1-v1_5."""
    private, size = key.private_numbers(), key.key_size // 8
    modulus = private.public_numbers.n

    def over(block: Callable[[bytes], bytes]) -> bytes:
        def sign(text: bytes) -> bytes:
            made = block(text)
            assert len(made) == size
            return pow(int.from_bytes(made), private.d, modulus).to_bytes(size)

        return token(header, claims(), sign)

    def filled(info: bytes, first: bytes = b"\x00\x01", filler: bytes = b"\xff") -> bytes:
        return first + filler * (size - len(info) - 3) + b"\x00" + info

    def sha256(text: bytes) -> bytes:
        return hashlib.sha256(text).digest()

    # The one that is right, to show that the others are refused for their blocks.
    assert over(lambda t: filled(_SHA256 + sha256(t))) == token(header, claims(), rs(key))
    for name, block in (
        ("block type 2", lambda t: filled(_SHA256 + sha256(t), first=b"\x00\x02")),
        ("block type 0", lambda t: filled(_SHA256 + sha256(t), first=b"\x00\x00")),
        ("a first octet that is 1", lambda t: filled(_SHA256 + sha256(t), first=b"\x01\x01")),
        ("padding of zeros", lambda t: filled(_SHA256 + sha256(t), filler=b"\x00")),
        ("padding of 0xfe", lambda t: filled(_SHA256 + sha256(t), filler=b"\xfe")),
        ("the digest alone", lambda t: filled(sha256(t))),
        ("no NULL", lambda t: filled(_SHA256_NO_NULL + sha256(t))),
        ("a length in long form", lambda t: filled(_SHA256_LONG_FORM + sha256(t))),
        ("a digest's length in long form", lambda t: filled(_SHA256_LONG_DIGEST + sha256(t))),
        ("SHA-1", lambda t: filled(_SHA1 + hashlib.sha1(t).digest())),
        ("SHA-512", lambda t: filled(_SHA512 + hashlib.sha512(t).digest())),
        ("SHA-512 by name only", lambda t: filled(_SHA512 + sha256(t))),
        ("a cut digest", lambda t: filled(_SHA256 + sha256(t)[:-1])),
        ("an octet behind the digest", lambda t: filled(_SHA256 + sha256(t) + b"\x00")),
        # Bleichenbacher, 2006: what a verifier that stops reading too early takes with e = 3.
        ("garbage behind the digest", lambda t: _with_garbage(_SHA256 + sha256(t), size)),
        ("no end of the padding", lambda t: filled(b"\xff" + _SHA256[1:] + sha256(t))),
    ):
        yield f"a signature with {name}", over(block)


def _with_garbage(info: bytes, size: int) -> bytes:
    start = b"\x00\x01" + b"\xff" * 8 + b"\x00" + info
    return start + b"\x55" * (size - len(start))


def psychic(header: object, key: ec.EllipticCurvePrivateKey) -> Iterator[Named]:
    """Signatures whose numbers need no key (CVE-2022-21449), or are written in another way."""
    order, right = key.curve.group_order, es(key)
    edges = (("0", 0), ("1", 1), ("n-1", order - 1), ("n", order), ("n+1", order + 1))
    for left_name, r in (*edges, ("2^256-1", 2**256 - 1)):
        for right_name, s in edges:
            octets = r.to_bytes(32) + s.to_bytes(32)
            yield f"r={left_name}, s={right_name}", token(header, claims(), lambda _, o=octets: o)

    def rewritten(rewrite: Callable[[bytes, bytes], bytes]) -> bytes:
        def sign(text: bytes) -> bytes:
            made = right(text)
            return rewrite(made[:32], made[32:])

        return token(header, claims(), sign)

    yield "s and r", rewritten(lambda r, s: s + r)
    yield "r twice", rewritten(lambda r, s: r + r)
    yield "r and no s", rewritten(lambda r, s: r)
    yield "r and s of 33 octets", rewritten(lambda r, s: b"\x00" + r + b"\x00" + s)
    yield "r and s of 48 octets", rewritten(lambda r, s: bytes(16) + r + bytes(16) + s)
    yield "zeros behind r and s", rewritten(lambda r, s: r + b"\x00" + s + b"\x00")
