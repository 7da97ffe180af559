"""Mint tokens: good ones, and whatever a forger, a careless issuer or an old client would send."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.support.secrecy import SECRECY

# As long as HS512 wants it (RFC 7518, 3.2), and nothing that anybody has published.
SECRET = SECRECY.note("kV3-pQ8sZ1nW6xT0yRb4uHd9mCe2gJfA7iLoKq5wXtGz_vBhNyMj-UrEcDsPa8F1")
OTHER_SECRET = SECRECY.note("Zq7-bN2wXk9eLr5tYu1iOp3aSd6fGh8jKl0zXcVb4nMq_wErTyUi-PlKjHgFdS0A")
LASTS = 86_400.0  # seconds: some are minted when a module is imported, long before their case
ABSENT: Any = object()  # the value of a claim that is left out

Signer = Callable[[bytes], bytes]
Credentials = list[tuple[str, str]]


def encoded(data: bytes) -> bytes:
    """Base64url without padding, as JOSE has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def hmac_signer(secret: str | bytes = SECRET, digest: str = "sha256") -> Signer:
    """Sign with a shared secret."""
    key = secret.encode() if isinstance(secret, str) else secret
    return lambda signed: hmac.new(key, signed, getattr(hashlib, digest)).digest()


def unsigned(signed: bytes) -> bytes:
    """Do not sign at all."""
    return b""


def claims(subject: Any = "42", *, lasts: float = LASTS, **more: Any) -> dict[str, Any]:
    """The claims of an ordinary token, some of them replaced or ABSENT."""
    now = time.time()
    found = {
        "sub": subject,
        "iat": int(now),
        "exp": int(now + lasts),
        "jti": uuid.uuid4().hex,
        **more,
    }
    return {name: value for name, value in found.items() if value is not ABSENT}


def forge(header: Any, payload: Any, sign: Signer) -> str:
    """A token of any shape: header and payload as given (bytes stay what they are), then signed."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)
    ]
    signed = b".".join(encoded(part) for part in parts)
    return SECRECY.note((signed + b"." + encoded(sign(signed))).decode())


def mint(subject: Any = "42", *, secret: str | bytes = SECRET, **more: Any) -> str:
    """A good HS256 token, but for what is asked to be otherwise."""
    header = {"alg": "HS256", "typ": "JWT"}
    return forge(header, claims(subject, **more), hmac_signer(secret))


def claims_of(token: str) -> dict[str, Any]:
    """What stands in a token."""
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def bearer(token: str) -> Credentials:
    """The header that brings a token."""
    return [("Authorization", f"Bearer {token}")]


def authorized(subject: Any = "42", **more: Any) -> Credentials:
    """The header that brings a good token."""
    return bearer(mint(subject, **more))


@dataclass(frozen=True)
class Key:
    """A key pair with its name in a published set."""

    kid: str
    algorithm: str
    private: Any

    @property
    def jwk(self) -> dict[str, Any]:
        """Its public half, as it is published."""
        kind = RSAAlgorithm if self.algorithm.startswith(("RS", "PS")) else ECAlgorithm
        published: dict[str, Any] = kind.to_jwk(self.private.public_key(), as_dict=True)
        return {**published, "kid": self.kid, "use": "sig", "alg": self.algorithm}

    @property
    def pem(self) -> str:
        """Its public half, as an operator writes it into a file."""
        public = self.private.public_key()
        return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "ascii")

    def mint(self, subject: Any = "42", **more: Any) -> str:
        """A token that this key has signed; `headers` lays values over its header."""
        headers = {"kid": self.kid, **more.pop("headers", {})}
        # As bytes: what claims may say is not the library's to judge here.
        said = json.dumps(claims(subject, **more)).encode()
        signed = jwt.api_jws.encode(said, self.private, self.algorithm, headers)
        return SECRECY.note(signed)


def ec_key(kid: str) -> Key:
    """A new key on P-256."""
    return Key(kid, "ES256", ec.generate_private_key(ec.SECP256R1()))


@lru_cache
def rsa_key(kid: str) -> Key:
    """An RSA key; made once for each name, because that takes long."""
    return Key(kid, "RS256", rsa.generate_private_key(65537, 2048))


def hs256(payload: Any, **header: Any) -> str:
    """A token that is signed as configured, whatever it says."""
    return forge({"alg": "HS256", **header}, payload, hmac_signer())


def labelled(algorithm: str, sign: Signer) -> str:
    """A token with good claims, whatever its header says of its signature."""
    return forge({"alg": algorithm, "typ": "JWT"}, claims(), sign)


def _cut(parts: int) -> str:
    return SECRECY.note(".".join(mint().split(".")[:parts]))


def _other_payload() -> str:
    head, _, signature = mint().split(".")
    return SECRECY.note(f"{head}.{mint('root').split('.')[1]}.{signature}")


# Tokens that nobody may be let in with, each bad in one way. Made when they are needed: one that
# has expired meanwhile would be refused for that alone.
BAD_TOKENS: dict[str, Callable[[], str]] = {
    "expired": lambda: mint(exp=int(time.time()) - 10),
    "expired-and-forged": lambda: mint(secret=OTHER_SECRET, exp=int(time.time()) - 10),
    "other-key": lambda: mint(secret=OTHER_SECRET),
    "no-signature": lambda: _cut(2) + ".",
    "two-parts": lambda: _cut(2),
    "one-part": lambda: _cut(1),
    "four-parts": lambda: mint() + ".e30",
    "other-payload": _other_payload,
    "garbage": lambda: SECRECY.note("garbage-Zx81kd02-no-token-at-all"),
    "garbage-in-three-parts": lambda: SECRECY.note("Zx81kd02abc.kd02Zx81abc.abcZx81kd02"),
    "alg-none": lambda: labelled("none", unsigned),
    "alg-none-but-signed": lambda: labelled("none", hmac_signer()),
    "alg-None": lambda: labelled("NoNe", unsigned),
    "alg-RS256": lambda: labelled("RS256", hmac_signer()),
    "alg-hs256": lambda: labelled("hs256", hmac_signer()),
    "alg-not-listed": lambda: labelled("HS512", hmac_signer(digest="sha512")),
    "alg-missing": lambda: forge({"typ": "JWT"}, claims(), hmac_signer()),
    "really-RS256": lambda: rsa_key("stranger").mint(),
    "crit": lambda: hs256(claims(), crit=["exp"]),
    "no-sub": lambda: mint(ABSENT),
    "empty-sub": lambda: mint(""),
    "sub-fraction": lambda: mint(42.5),
    "sub-null": lambda: mint(None),
    "sub-list": lambda: mint(["42"]),
    "no-exp": lambda: mint(exp=ABSENT),
    "exp-string": lambda: mint(exp=str(int(time.time()) + 600)),
    "exp-true": lambda: mint(exp=True),
    "exp-endless": lambda: hs256(b'{"sub":"42","exp":1e400}'),
    "exp-nan": lambda: hs256(b'{"sub":"42","exp":NaN}'),
    "not-yet": lambda: mint(nbf=int(time.time()) + 300),
    "issued-tomorrow": lambda: mint(iat=int(time.time()) + 86400),
    "refresh-token": lambda: mint(type="refresh"),
    "type-list": lambda: mint(type=["access"]),
    "payload-list": lambda: hs256([claims()]),
    "payload-no-json": lambda: hs256(b"sub=42"),
    "two-subjects": lambda: hs256(b'{"sub":"42","sub":"root","exp":%d}' % (time.time() + 600)),
    "nine-kilobytes": lambda: mint(padding="p4dD1nG_" * 840),
}


def _pair() -> str:
    return SECRECY.note(base64.b64encode(b"alice:correct-horse-battery").decode())


# What a client may write into Authorization that is no bearer token, the good one inside or not.
BAD_CREDENTIALS: dict[str, Callable[[str], list[str]]] = {
    "basic": lambda good: [f"Basic {_pair()}"],
    "basic-with-the-token": lambda good: [f"Basic {good}"],
    "scheme-only": lambda good: ["Bearer"],
    "scheme-and-space": lambda good: ["Bearer "],
    "empty": lambda good: [""],
    "token-only": lambda good: [good],
    "no-space": lambda good: [f"Bearer{good}"],
    "colon": lambda good: [f"Bearer: {good}"],
    "two-words": lambda good: [f"Bearer {good} {good}"],
    "two-in-one": lambda good: [f"Bearer {good}, Bearer {good}"],
    "quoted": lambda good: [f'Bearer "{good}"'],
    "as-parameter": lambda good: [f"Bearer token={good}"],
    "twice-the-same": lambda good: [f"Bearer {good}", f"Bearer {good}"],
    "two-different": lambda good: [f"Bearer {good}", f"Bearer {mint('43')}"],
    "good-then-basic": lambda good: [f"Bearer {good}", f"Basic {_pair()}"],
    "basic-then-good": lambda good: [f"Basic {_pair()}", f"Bearer {good}"],
    "good-then-empty": lambda good: [f"Bearer {good}", ""],
    "empty-then-good": lambda good: ["", f"Bearer {good}"],
    "negotiate": lambda good: [f"Negotiate {good}"],
    "digest": lambda good: [f'Digest username="42", response="{good}"'],
    "not-ascii": lambda good: [f"Bearer {good}\xe9"],
    "padded": lambda good: [f"Bearer {good}="],
    "escaped-newline": lambda good: [f"Bearer {good}%0d%0a"],
}
