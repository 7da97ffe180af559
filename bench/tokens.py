"""Makes the tokens: good ones for the load, and those that every gateway has to refuse. Pure but for the secret."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import jwt

ALGORITHM = "HS256"
LIFETIME = 6 * 3600  # longer than any run
HOUR = 3600


@dataclass(frozen=True)
class Tokens:
    """The secret that the gateways get, tokens to pass with, and by name tokens to be refused."""

    secret: str
    good: tuple[str, ...]
    refused: Mapping[str, str]


def make_tokens(count: int, now: int) -> Tokens:
    """So many callers, each with a token of its own, as a token endpoint would sign them."""
    secret = secrets.token_hex(32)
    good = tuple(_sign(_claims(number, now), secret) for number in range(count))
    return Tokens(secret, good, _refused(good[0], secret, now))


def _claims(number: int, now: int) -> dict[str, object]:
    return {
        "sub": f"user-{number:05}",
        "email": f"user-{number:05}@example.com",
        "scopes": ["orders:read", "orders:write"],
        "roles": ["clerk"],
        "type": "access",
        "jti": secrets.token_hex(16),
        "iat": now,
        "exp": now + LIFETIME,
    }


def _refused(good: str, secret: str, now: int) -> dict[str, str]:
    claims = _claims(0, now)
    header, _, signature = good.split(".")
    other_payload = _sign({**claims, "sub": "admin"}, secret).split(".")[1]
    return {
        "expired": _sign({**claims, "iat": now - 2 * HOUR, "exp": now - HOUR}, secret),
        "signed with another secret": _sign(claims, secrets.token_hex(32)),
        "altered": f"{header}.{other_payload}.{signature}",
        "unsigned": jwt.encode(claims, "", "none"),
        "cut": good[:-8],
        "not a token": "x" * 40,
    }


def _sign(claims: dict[str, object], secret: str) -> str:
    return jwt.encode(claims, secret, ALGORITHM)
