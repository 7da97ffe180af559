"""Tokens that nobody may be known by: each is wrong in one thing, and right in all others.

`hostile` is for a gateway with an HS256 secret, `hostile_rsa` for one with RS256 and a public key,
`hostile_es` for ES256. Each has its `valid…` twin, which must be accepted: otherwise the table would
prove nothing. All tokens can be sent in a header, but for those of `unsendable`; names that begin with
"oversized" are for those that a limit on heads may stop first.
"""

import base64
import json
from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.hostile_claims import NO_OBJECTS, ODD_JSON, payloads
from tests.support.hostile_signatures import (
    HS256,
    Named,
    confusions,
    numbers,
    paddings,
    psychic,
    signatures,
    weak_secrets,
)
from tests.support.jose import (
    LATER,
    Jwk,
    Sign,
    b64,
    claims,
    ec_jwk,
    es,
    hs,
    oct_jwk,
    other_rsa_key,
    pack,
    pem,
    ps,
    rs,
    rsa_jwk,
    token,
)

ATTACKERS = b"attacker's secret, long enough for HS256"


def valid(secret: bytes) -> bytes:
    """What `hostile` would be if it were not."""
    return token({"alg": "HS256", "typ": "JWT"}, claims(), hs(secret))


def valid_rsa(key: rsa.RSAPrivateKey) -> bytes:
    """What `hostile_rsa` would be if it were not."""
    return token({"alg": "RS256", "typ": "JWT"}, claims(), rs(key))


def valid_es(key: ec.EllipticCurvePrivateKey) -> bytes:
    """What `hostile_es` would be if it were not."""
    return token({"alg": "ES256", "typ": "JWT"}, claims(), es(key))


def hostile(secret: bytes) -> list[Named]:
    """Tokens for a gateway that verifies HS256 with this secret, and checks neither `iss` nor `aud`."""
    good = valid(secret)
    return [
        *_shapes(good),
        *_encodings(secret),
        *_algorithms("HS256", hs(secret), good),
        *((name, token(header, claims(), hs(secret))) for name, header in _headers("HS256")),
        *_own_keys("HS256", hs(ATTACKERS), oct_jwk(ATTACKERS)),
        *_key_ids(),
        *((f"claims: {name}", token(HS256, payload, hs(secret))) for name, payload in payloads()),
        *signatures(good),
        *weak_secrets(secret),
        ("oversized: 9 KB", token(HS256, claims(padding="x" * 6600), hs(secret))),
        ("oversized: 1 MB", token(HS256, claims(padding="x" * 750_000), hs(secret))),
        ("oversized: a kid of 20 KB", token({**HS256, "kid": "k" * 20_480}, claims(), hs(secret))),
        ("oversized: 20,000 deep", token(HS256, _deep(20_000), hs(secret))),
        ("oversized: a header 20,000 deep", token(_deep(20_000), claims(), hs(secret))),
    ]


def unsendable(good: bytes) -> list[Named]:
    """Made of a good token, with bytes that no header holds: for those who are given bytes."""
    return [
        ("raw: a line feed at the end", good + b"\n"),
        ("raw: a line feed at the start", b"\n" + good),
        ("raw: CR LF within", good[:20] + b"\r\n" + good[20:]),
        ("raw: NUL at the end", good + b"\x00"),
        ("raw: no ASCII", good[:-1] + "é".encode()),
        ("raw: a digit of another script", good[:-1] + "٣".encode()),
        ("raw: a letter of another width", good[:-1] + "Ａ".encode()),
        ("raw: a space at the end", good + b" "),
        ("raw: a tab at the start", b"\t" + good),
        ("raw: all bytes", bytes(range(256))),
        ("raw: UTF-16", good.decode().encode("utf-16")),
    ]


def hostile_rsa(public_key_pem: bytes, private_key: rsa.RSAPrivateKey) -> list[Named]:
    """Tokens for a gateway that verifies RS256, and nothing else, with this public key."""
    good = valid_rsa(private_key)
    header = {"alg": "RS256", "typ": "JWT"}
    other = other_rsa_key()
    return [
        *_algorithms("RS256", rs(private_key), good),
        *confusions(public_key_pem),
        *_own_keys("RS256", rs(other), rsa_jwk(other)),
        *signatures(good, step=8),
        ("another's key", token(header, claims(), rs(other))),
        ("signed as PS256", token(header, claims(), ps(private_key))),
        ("PS256, which is not configured", token({"alg": "PS256"}, claims(), ps(private_key))),
        ("signed as RS512", token(header, claims(), rs(private_key, hashes.SHA512()))),
        ("RS512, which is not configured", token({"alg": "RS512"}, claims(), rs(private_key))),
        *numbers(header, private_key),
        *paddings(header, private_key),
    ]


def hostile_es(private_key: ec.EllipticCurvePrivateKey) -> list[Named]:
    """Tokens for a gateway that verifies ES256, and nothing else, with the key's public half."""
    good = valid_es(private_key)
    header = {"alg": "ES256", "typ": "JWT"}
    other = ec.generate_private_key(ec.SECP256R1())
    wider = ec.generate_private_key(ec.SECP384R1())
    return [
        *_algorithms("ES256", es(private_key), good),
        *confusions(pem(private_key)),
        *_own_keys("ES256", es(other), ec_jwk(other)),
        *signatures(good, step=2),
        ("another's key", token(header, claims(), es(other))),
        ("a key of P-384", token(header, claims(), es(wider))),
        ("ES384 with a key of P-256", token({"alg": "ES384"}, claims(), es(private_key))),
        (
            "ES384 with a key of P-384",
            token({"alg": "ES384"}, claims(), es(wider, hashes.SHA384())),
        ),
        ("ES256K", token({"alg": "ES256K"}, claims(), es(private_key))),
        ("DER", token(header, claims(), lambda t: private_key.sign(t, ec.ECDSA(hashes.SHA256())))),
        *psychic(header, private_key),
    ]


_NONES = (
    "none",
    "None",
    "NONE",
    "nOnE",
    "nonE",
    "none ",
    "\x00none",
    "",
    "null",
    "NULL",
    "undefined",
)
_ELSEWHERE = "http://169.254.169.254/latest/keys"


def _shapes(good: bytes) -> Iterator[Named]:
    header, payload, signature = good.split(b".")
    yield "nothing", b""
    for dots in (1, 2, 3, 4):
        yield f"{dots} dots and nothing else", b"." * dots
    yield "a word", b"opaque-token"
    yield "header and payload", header + b"." + payload
    yield "four parts", good + b"." + signature
    yield "four parts, the last empty", good + b"."
    yield "a dot in front", b"." + good
    yield "five parts, as encrypted tokens have", b".".join([header, b"", payload, b"", signature])
    yield "no header", b"." + payload + b"." + signature
    yield "no payload", header + b".." + signature
    yield "twice", good + good
    yield "in quotes", b'"' + good + b'"'
    yield "two, comma-joined", good + b"," + good
    general = {
        "payload": payload.decode(),
        "signatures": [{"protected": header.decode(), "signature": signature.decode()}],
    }
    flat = {
        "payload": payload.decode(),
        "protected": header.decode(),
        "signature": signature.decode(),
    }
    yield "general JSON serialization", json.dumps(general).encode()
    yield "flattened JSON serialization", json.dumps(flat).encode()


def _encodings(secret: bytes) -> Iterator[Named]:
    # The signature is made over what is sent, so that only the encoding is wrong.
    def sent(header: bytes, payload: bytes, tail: bytes = b"") -> bytes:
        signed = header + b"." + payload
        return signed + b"." + b64(hs(secret)(signed)) + tail

    header, payload = b64(_not_in_threes(b'{"alg":"HS256"}')), b64(pack(claims()))
    good = sent(header, payload)
    yield "padding after the header", sent(header + b"==", payload)
    yield "padding after the payload", sent(header, payload + b"=")
    yield "padding after the signature", sent(header, payload, b"=")
    yield "base64 instead of base64url", good[:-1] + b"+"
    yield "a slash, as in base64", good[:-1] + b"/"
    yield "a question mark that a lax decoder skips", sent(header + b"????", payload)
    yield "spaces that a lax decoder skips", sent(header, b"    " + payload)
    yield "a bar that a lax decoder skips", sent(header, payload, b"|")
    yield "percent-encoded", good.replace(b".", b"%2E")
    for place, name in enumerate(("header", "payload", "signature")):
        parts = [header, b64(_not_in_threes(pack(claims()))), b""]
        if place < 2:
            parts[place] = _with_loose_bits(parts[place])
        parts[2] = b64(hs(secret)(parts[0] + b"." + parts[1]))
        if place == 2:
            parts[2] = _with_loose_bits(parts[2])
        yield f"bits behind the end of the {name}", b".".join(parts)
    yield "a part of one letter", sent(header, payload[: len(payload) // 4 * 4] + b"A")


def _not_in_threes(text: bytes) -> bytes:
    """The same JSON of a length whose base64 wants padding."""
    return text + b" " * (1 + -len(text) % 3)


def _with_loose_bits(part: bytes) -> bytes:
    """The same octets for a lax decoder: the last letter has bits that stand for nothing."""
    assert len(part) % 4 in (2, 3), "nothing is loose where the length is a multiple of three"
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(part[-1:])
    loose = part[:-1] + alphabet[last + 1 : last + 2]
    pad = b"=" * (-len(part) % 4)
    assert base64.urlsafe_b64decode(loose + pad) == base64.urlsafe_b64decode(part + pad)
    return loose


def _algorithms(right: str, sign: Sign, good: bytes) -> Iterator[Named]:
    signature = good.rpartition(b".")[2]
    for name in _NONES:
        unsigned = token({"alg": name}, claims(), lambda _: b"")
        yield f"alg {name!a}, no signature", unsigned
        yield f"alg {name!a}, another's signature", unsigned + signature
        yield f"alg {name!a}, signed all the same", token({"alg": name}, claims(), sign)
    spellings = (right.lower(), right + " ", right[:2] + "-" + right[2:], right + "\x00", "A256GCM")
    for name in (*spellings, "dir", "ES521", "HS1", "https://example.com/"):
        yield f"alg {name!a}", token({"alg": name}, claims(), sign)
    for odd in (None, True, 256, 2.5, [right], {"alg": right}, []):
        yield f"alg is {json.dumps(odd)}", token({"alg": odd}, claims(), sign)
    yield "no alg", token({"typ": "JWT"}, claims(), sign)
    yield "Alg", token({"Alg": right}, claims(), sign)
    yield "HS256 with nothing", token(HS256, claims(), lambda _: b"")
    yield "HS256 with an empty secret", token(HS256, claims(), hs(b""))
    yield "HS384 with an empty secret", token({"alg": "HS384"}, claims(), hs(b"", 384))
    if right == "HS256":
        for label in ("RS256", "PS256", "ES256", "EdDSA", "HS384", "HS512"):
            yield f"HS256 labelled {label}", token({"alg": label}, claims(), sign)


def _headers(algorithm: str) -> Iterator[tuple[str, object]]:
    """Headers that a good key signed, and nobody may take."""
    good = {"alg": algorithm, "typ": "JWT"}
    text = b'"alg":"%s"' % algorithm.encode()
    for crit in (["exp"], ["b64"], ["http://example.com/ext"], [], None, "exp", {}, [1], True):
        yield f"crit {json.dumps(crit)}", {**good, "crit": crit, "exp": LATER, "b64": True}
    yield "crit and what it names", {**good, "crit": ["x-ext"], "x-ext": 1}
    yield "b64 false", {**good, "b64": False}
    yield "b64 false and critical", {**good, "b64": False, "crit": ["b64"]}
    yield "zip", {**good, "zip": "DEF"}
    yield "enc", {**good, "enc": "A256GCM"}
    for name in ("jwk", "jku", "x5u"):
        yield f"{name} null", {**good, name: None}
    for kid in (1, None, True, ["k"], {"k": 1}, "k" * 300):
        yield f"kid {json.dumps(kid)[:20]}", {**good, "kid": kid}
    for typ in (
        1,
        None,
        True,
        ["JWT"],
        "",
        "JWE",
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "JWT ",
    ):
        yield f"typ {json.dumps(typ)}", {**good, "typ": typ}
    yield "alg twice", b"{" + text + b"," + text + b"}"
    yield "alg twice, none first", b'{"alg":"none",' + text + b"}"
    yield "alg twice, none last", b"{" + text + b',"alg":"none"}'
    yield "alg twice, once escaped", b"{" + text + b',"\\u0061lg":"none"}'
    yield "kid twice", b"{" + text + b',"kid":"a","kid":"b"}'
    yield "a name twice, further down", b"{" + text + b',"x":[{"y":{"z":1,"z":2}}]}'
    for name, odd in ODD_JSON:
        yield f"a header with {name}", b"{" + text + b',"x":' + odd + b"}"
    for name, wrap in NO_OBJECTS:
        yield f"a header: {name}", wrap(b"{" + text + b"}")


def _deep(depth: int) -> bytes:
    return b'{"alg":"HS256","sub":"x","exp":4102444800,"x":' + b"[" * depth + b"]" * depth + b"}"


def _own_keys(algorithm: str, sign: Sign, jwk: Jwk) -> Iterator[Named]:
    """Tokens signed with the attacker's key, which they bring along, or say where it is."""
    for name, value in (
        ("jwk", jwk),
        ("jku", _ELSEWHERE),
        ("x5u", _ELSEWHERE),
        ("x5c", ["MIIB" + "A" * 40]),
        ("x5t", "A" * 27),
        ("kid", _ELSEWHERE),
        ("kid", json.dumps(jwk)),
    ):
        header = {"alg": algorithm, "typ": "JWT", name: value}
        yield f"a key of one's own by {name} {str(value)[:12]!a}", token(header, claims(), sign)
    bold = {"alg": algorithm, "jwk": jwk, "jku": _ELSEWHERE, "kid": "mine"}
    yield "a key of one's own, every way", token(bold, claims(), sign)


def _key_ids() -> Iterator[Named]:
    """Key ids that make a careless lookup return a secret which the attacker knows."""
    known = b"known"
    for kid, secret in (
        ("../../../../../../dev/null", b""),
        ("/proc/sys/kernel/randomize_va_space", b"2\n"),
        ("file:///dev/null", b""),
        ("x' UNION SELECT 'known' -- ", known),
        ('x" UNION SELECT "known" --', known),
        ("x | echo known", known),
        ("$(echo known)", known),
        ("key\x00.pem", b""),
        ("key\r\nX-User-Id: root", b""),
        ("", b""),
        ("__proto__", b""),
    ):
        yield f"kid {kid!a}", token({**HS256, "kid": kid}, claims(), hs(secret))
