"""Write `json_web_signature.json` and `json_web_key.json` anew, with new keys, in Wycheproof's format.

From the project's folder: python -m tests.proxy.authenticate.vectors.generate
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from tests.support.hostile_signatures import paddings, psychic
from tests.support.jose import (
    Jwk,
    Sign,
    b64,
    ec_jwk,
    es,
    hs,
    number,
    oct_jwk,
    rs,
    rsa_jwk,
    token,
)

HERE = Path(__file__).parent
FOO = b"foo"
Test = tuple[str, bytes, bool]


def ps(key: rsa.RSAPrivateKey, algorithm: hashes.HashAlgorithm) -> Sign:
    """Sign by RSASSA-PSS with a salt as long as the hash."""
    scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
    return lambda text: key.sign(text, scheme, algorithm)


def edwards_jwk(key: ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) -> Jwk:
    """A key for EdDSA, as it is published."""
    curve = "Ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "Ed448"
    return {"kty": "OKP", "crv": curve, "x": b64(key.public_key().public_bytes_raw()).decode()}


def algorithms() -> Iterator[tuple[str, Jwk, Sign]]:
    """Each algorithm with a key for it, and how that signs."""
    hashed = {256: hashes.SHA256(), 384: hashes.SHA384(), 512: hashes.SHA512()}
    curves = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 512: ec.SECP521R1()}
    key = rsa.generate_private_key(65537, 2048)
    for bits, algorithm in hashed.items():
        secret = bytes(range(bits // 8))
        on_curve = ec.generate_private_key(curves[bits])
        yield f"HS{bits}", oct_jwk(secret), hs(secret, bits)
        yield f"RS{bits}", rsa_jwk(key), rs(key, algorithm)
        yield f"PS{bits}", rsa_jwk(key), ps(key, algorithm)
        yield f"ES{bits}", ec_jwk(on_curve), es(on_curve, algorithm)
    for edwards in (ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()):
        jwk = edwards_jwk(edwards)
        yield "EdDSA", jwk, edwards.sign
        yield str(jwk["crv"]), jwk, edwards.sign


def general(algorithm: str, sign: Sign) -> Iterator[Test]:
    """What is tried with every algorithm."""
    header = {"alg": algorithm, "kid": "key"}
    good = token(header, FOO, sign)
    start, payload, signature = good.split(b".")
    other = b64(json.dumps({"alg": algorithm, "kid": "kex"}).encode())
    flipped = (b"B" if signature[:1] == b"A" else b"A") + signature[1:]
    yield "valid", good, True
    yield "valid, names no key", token({"alg": algorithm}, FOO, sign), True
    yield "valid, empty payload", token(header, b"", sign), True
    yield "valid, spaces in the header", token(
        b'{ "alg" : "%b",\r\n\t"kid":"key" }' % algorithm.encode(), FOO, sign
    ), True
    yield "modified signature", b".".join([start, payload, flipped]), False
    yield "modified payload", b".".join([start, b"Zm9w", signature]), False
    yield "modified header", b".".join([other, payload, signature]), False
    yield "no signature", b".".join([start, payload, b""]), False
    yield "no signature and no dot", b".".join([start, payload]), False
    yield "no payload", b".".join([start, b"", signature]), False
    yield "no header", b".".join([b"", payload, signature]), False
    yield "a part more", good + b".Zm9v", False
    yield "an empty part more", good + b".", False
    yield "a signature of zeros", token(header, FOO, lambda text: bytes(len(sign(text)))), False
    yield "a cut signature", token(header, FOO, lambda text: sign(text)[:-1]), False
    yield "a signature with a zero behind", token(header, FOO, lambda t: sign(t) + b"\0"), False
    yield "alg none", token({**header, "alg": "none"}, FOO, lambda _: b""), False
    yield "alg none, signed", token({**header, "alg": "none"}, FOO, sign), False
    yield "another key's name", token({**header, "kid": "other"}, FOO, sign), False
    yield "critical extension", token({**header, "crit": ["x"], "x": 1}, FOO, sign), False
    yield "alg twice", token(
        b'{"alg":"%b","kid":"key","alg":"%b"}' % ((algorithm.encode(),) * 2), FOO, sign
    ), False


def encodings(sign: Sign) -> Iterator[Test]:
    """What is tried with base64url; the signature is over what is sent."""

    def sent(header: bytes, payload: bytes, tail: bytes = b"") -> bytes:
        signed = header + b"." + payload
        return signed + b"." + b64(sign(signed)) + tail

    header = b64(b'{"alg":"HS256","kid":"key"}')
    yield "valid", sent(header, b"VGVzdA"), True
    yield "spaces behind the header", sent(header + b"    ", b"VGVzdA"), False
    yield "spaces before the payload", sent(header, b"    VGVzdA"), False
    yield "invalid characters in the header", sent(header + b"####", b"VGVzdA"), False
    yield "invalid characters in the payload", sent(header, b"VGV?zdA"), False
    yield "an invalid character in the signature", sent(header, b"VGVzdA", b"?"), False
    yield "a line feed behind the signature", sent(header, b"VGVzdA", b"\n"), False
    yield "padding of the payload", sent(header, b"VGVzdA=="), False
    yield "padding of the signature", sent(header, b"VGVzdA", b"="), False
    yield "unused bits in the payload", sent(header, b"VGVzdB"), False
    yield "a payload of one letter", sent(header, b"V"), False
    yield "the alphabet of base64", sent(header, b"+/+/"), False
    yield "the alphabet of base64url", sent(header, b"-_-_"), True


def group(comment: str, jwk: Jwk, tests: Iterator[Test]) -> dict[str, Any]:
    """A key with the tests for it."""
    kind = "private" if jwk["kty"] == "oct" else "public"
    return {"type": "JsonWebSignature", "comment": comment, kind: jwk, "tests": list(tests)}


def signatures() -> Iterator[dict[str, Any]]:
    """The groups of json_web_signature.json."""
    for algorithm, jwk, sign in algorithms():
        named = {**jwk, "alg": algorithm, "use": "sig", "kid": "key"}
        tests = general(algorithm, sign)
        # What is wrong with a long RSA signature for SHA-512 is wrong with one for SHA-256.
        few = algorithm in ("RS384", "RS512", "PS384", "PS512")
        comment = f"{algorithm} {jwk.get('crv', '')}".strip()
        yield group(comment, named, islice(tests, 6) if few else tests)
    secret = bytes(range(32))
    yield group("base64url", oct_jwk(secret, kid="key"), encodings(hs(secret)))
    key, on_curve = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    for comment, jwk, hostile in (
        ("padding of RS256", rsa_jwk(key), paddings({"alg": "RS256"}, key)),
        ("numbers of ES256", ec_jwk(on_curve), psychic({"alg": "ES256"}, on_curve)),
    ):
        yield group(comment, jwk, ((name, jws, False) for name, jws in hostile))


def odd_keys() -> Iterator[tuple[str, list[Jwk], bytes, bool]]:
    """Sets of keys; the token is signed as it should be, so that only the set decides."""
    secret, key = bytes(range(64)), rsa.generate_private_key(65537, 2048)
    on_curve = ec.generate_private_key(ec.SECP256R1())
    weak = rsa.generate_private_key(65537, 1024)
    cubic = rsa.generate_private_key(3, 2048)
    by_secret = token({"alg": "HS256", "kid": "a"}, FOO, hs(secret))
    by_short = token({"alg": "HS256", "kid": "a"}, FOO, hs(secret[:31]))
    by_rsa = token({"alg": "RS256", "kid": "a"}, FOO, rs(key))
    by_curve = token({"alg": "ES256", "kid": "a"}, FOO, es(on_curve))
    shared, public, point = (
        oct_jwk(secret, kid="a"),
        rsa_jwk(key, kid="a"),
        ec_jwk(on_curve, kid="a"),
    )
    yield "two keys", [public, ec_jwk(on_curve, kid="b")], by_rsa, True
    yield "a longer secret", [{**shared, "alg": "HS256", "use": "sig"}], by_secret, True
    yield "an unusable key beside it", [public, {"kty": "AKP", "kid": "b"}], by_rsa, True
    yield "secrets and public keys", [shared, ec_jwk(on_curve, kid="b")], by_secret, False
    yield "secrets and public keys", [oct_jwk(secret, kid="b"), point], by_curve, True
    yield "one kid twice", [shared, oct_jwk(secret[::-1], kid="a")], by_secret, False
    yield "one kid twice", [public, point], by_rsa, False
    yield "one kid twice, once of no use", [public, {**point, "alg": "ES384"}], by_rsa, False
    yield "no kid matches", [rsa_jwk(key, kid="b")], by_rsa, False
    yield "a secret that is too short", [oct_jwk(secret[:31], kid="a")], by_short, False
    yield "an empty secret", [oct_jwk(b"", kid="a")], by_secret, False
    for alg in ("A256GCM", "A256KW", "HS384", "RS256", "none", "hs256", 256, None):
        yield f"alg {alg} of a secret", [{**shared, "alg": alg}], by_secret, False
    for alg in ("RSA-OAEP", "RSA1_5", "PS256", "RS512", "ES256"):
        yield f"alg {alg} of an RSA key", [{**public, "alg": alg}], by_rsa, False
    for alg in ("ES384", "ES521", "ES224", "ES256K", "EdDSA"):
        yield f"alg {alg} of a key on P-256", [{**point, "alg": alg}], by_curve, False
    for jwk, jws in ((shared, by_secret), (public, by_rsa), (point, by_curve)):
        kind = jwk["kty"]
        yield f"{kind} for encrypting", [{**jwk, "use": "enc"}], jws, False
        yield f"{kind} with key_ops encrypt", [{**jwk, "key_ops": ["encrypt"]}], jws, False
        yield f"{kind} with key_ops sign", [{**jwk, "key_ops": ["sign"]}], jws, False
        yield f"{kind} with key_ops verify", [{**jwk, "key_ops": ["verify"]}], jws, True
        for odd in ("oct", "RSA", "EC", "OKP", "", None):
            if odd != kind:
                yield f"{kind} as {odd}", [{**jwk, "kty": odd}], jws, False
        for member in {"k", "n", "e", "x", "y"} & jwk.keys():
            for name, value in (
                ("padded", f"{jwk[member]}="),
                ("spaced", f" {jwk[member]}"),
                ("cut", str(jwk[member])[:-2]),
                ("empty", ""),
                ("null", None),
            ):
                yield f"{kind} with {member} {name}", [{**jwk, member: value}], jws, False
    yield "a published private RSA key", [{**public, "d": "AQAB"}], by_rsa, False
    yield "a published private key on P-256", [{**point, "d": "AQAB"}], by_curve, False
    yield "another curve's name", [{**point, "crv": "P-384"}], by_curve, False
    yield "not on the curve", [{**point, "x": point["y"], "y": point["x"]}], by_curve, False
    yield "the point at infinity", [
        {**point, "x": number(0, 32), "y": number(0, 32)}
    ], by_curve, False
    yield "1024 bits", [rsa_jwk(weak, kid="a")], token(
        {"alg": "RS256", "kid": "a"}, FOO, rs(weak)
    ), False
    yield "exponent 3", [rsa_jwk(cubic, kid="a")], token(
        {"alg": "RS256", "kid": "a"}, FOO, rs(cubic)
    ), False


def key_sets() -> Iterator[dict[str, Any]]:
    """The groups of json_web_key.json: one test each."""
    for comment, keys, jws, accepted in odd_keys():
        yield {
            "type": "JsonWebKey",
            "comment": comment,
            "private" if keys[0]["kty"] == "oct" else "public": {"keys": keys},
            "tests": [(comment, jws, accepted)],
        }


def write(name: str, groups: list[dict[str, Any]]) -> None:
    """Number the tests, and write the file."""
    count = 0
    for entry in groups:
        tests = []
        for comment, jws, accepted in entry["tests"]:
            count += 1
            tests.append(
                {
                    "tcId": count,
                    "comment": comment,
                    "jws": jws.decode(),
                    "result": "valid" if accepted else "invalid",
                    "flags": [],
                }
            )
        entry["tests"] = tests
    vectors = {
        "numberOfTests": count,
        "header": ["Written by generate.py, in the format of Project Wycheproof."],
        "testGroups": groups,
    }
    (HERE / name).write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    write("json_web_signature.json", list(signatures()))
    write("json_web_key.json", list(key_sets()))
