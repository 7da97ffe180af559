"""Find secrets that are weak, published or missing. No message contains a secret. Pure."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from propylon.config.models.units import is_true
from propylon.config.reading.problems import Finding, Path
from propylon.config.reading.secretfile import SecretLines

__all__ = [
    "ADVICE",
    "SECRET",
    "SECRETS",
    "credential_findings",
    "jwt_entries",
    "suspicion",
    "weakness",
]

SECRET: Path = ("auth", "jwt", "secret")
# What is secret. Variables and files give it whole, and a reference to a variable may mean a file.
SECRETS: tuple[Path, ...] = (
    SECRET,
    ("auth", "introspection", "client_secret"),
    ("auth", "tokens", "database"),
    ("redis",),  # `redis: URL` is short for `redis: {url: URL}`
    ("redis", "url"),
    ("redis", "password"),
)
ADVICE = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(48))"'
# RFC 7518, 3.2: "A key of the same size as the hash output or larger MUST be used."
_HASHES = {"HS256": 32, "HS384": 48, "HS512": 64}
# Secrets that documentation and tutorials publish as examples. An attacker tries them first.
_PUBLISHED = frozenset(
    {
        # jwt.io, its old and its new examples.
        "your-256-bit-secret",
        "your-384-bit-secret",
        "your-512-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "a-valid-string-secret-that-is-at-least-384-bits-long",
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
        # FastAPI, RFC 7515 (A.1), Supabase, Hasura, PostgREST.
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "aym1syspbpydfgzld3umj1qzkobvwmkoqq-estjqlr_t-1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow",
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "3ek6fd+o0+c7tzbnvfjpmkndi2yaraakzqlk8o2ikoxqu4nf7edah8s3twphwrdwt6r",
        "reallyreallyreallyreallyverysafe",
        # Common to many.
        *(
            "secret",
            "secret-key",
            "secret_key",
            "secretkey",
            "mysecret",
            "my-secret",
            "mysecretkey",
        ),
        *("my-secret-key", "my_secret_key", "supersecret", "super-secret", "super_secret"),
        *("supersecretkey", "super-secret-key", "super_secret_key", "topsecret", "top-secret"),
        *("jwt-secret", "jwt_secret", "jwtsecret", "jwt-secret-key", "jwt_secret_key"),
        *("dev", "dev-secret", "dev_secret", "dev-secret-key", "dev-jwt-secret", "devsecret"),
        *("test", "test-secret", "test_secret", "test-secret-key", "testing", "default"),
        *("password", "passw0rd", "admin", "example", "insecure", "development", "changethis"),
        *("default-secret", "default-secret-key", "default_secret_key", "some-secret", "s3cr3t"),
        *("not-so-secret", "notasecret", "not-a-secret", "keyboard cat", "shhhhh", "foobar"),
    }
)
# Placeholders that tell the reader to replace them.
_INSTRUCTION = re.compile(
    r"your.*(?:secret|key|token|password)"
    r"|(?:change|replace|rename|regenerate)[-_ ]?(?:me|it|this|the|with|in|for|before)(?![a-z])"
    r"|in[-_ ]production"
    r"|(?:put|insert|enter|generate)[-_ ](?:a|your|the)[-_ ]"
    r"|do[-_ ]?not[-_ ]?use"
    r"|django-insecure-"
    r"|<.*>",
    re.DOTALL,
)

# Random text of 32 characters has at least a dozen different ones, even if it is hexadecimal.
_MIN_DISTINCT = 8
# Two of three characters follow the one before in the alphabet, in the digits or on a keyboard. Random hexadecimal text
# of 32 characters has 6 such pairs, and 21 or more in one of 10^11.
_MAX_PREDICTABLE = 2 / 3
_KEYBOARD = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = frozenset(
    pair for row in _KEYBOARD for text in (row, row[::-1]) for pair in pairwise(text)
)
# Words by which examples describe themselves, and which no random text contains.
_SELF_DESCRIBED = re.compile(r"insecure|for[-_ ]?(?:development|testing)|at[-_ ]least")


def suspicion(secret: str) -> str:
    """Return why a usable secret is suspicious; empty if it is not."""
    if _SELF_DESCRIBED.search(secret.casefold()):
        return f"describes itself as an example, and may be published; {ADVICE}"
    return ""


def weakness(secret: str, algorithms: Iterable[str]) -> str:
    """Return why a secret must not be used with these algorithms; empty if it may."""
    plain = secret.strip().casefold()
    if plain in _PUBLISHED or _INSTRUCTION.search(plain):
        return f"is a published placeholder, so an attacker could sign tokens; {ADVICE}"
    longest = max((name for name in algorithms if name in _HASHES), default="HS256")
    size, needed = len(secret.encode()), _HASHES[longest]
    if size < needed:
        return f"has {size} bytes, and {longest} needs at least {needed} (RFC 7518, 3.2); {ADVICE}"
    return _pattern(secret, needed)


def _pattern(secret: str, needed: int) -> str:
    """Return by which pattern a secret can be guessed, however long it is."""
    if len(set(secret)) < _MIN_DISTINCT:
        return f"has fewer than {_MIN_DISTINCT} different characters, and can be guessed; {ADVICE}"
    unit = _repeated(secret)
    if len(unit.encode()) < needed and len(unit) * 2 <= len(secret):
        return f"repeats {len(unit)} characters, and can be guessed; {ADVICE}"
    predictable = sum(_follows(*pair) for pair in pairwise(secret.casefold()))
    if predictable > _MAX_PREDICTABLE * (len(secret) - 1):
        return f"is a sequence of neighbouring characters, and can be guessed; {ADVICE}"
    return ""


def _repeated(secret: str) -> str:
    """Return the shortest beginning of which the secret is a repetition; the last one may be cut short."""
    for length in range(1, len(secret)):
        if secret[length:] == secret[:-length]:
            return secret[:length]
    return secret


def _follows(one: str, other: str) -> bool:
    return abs(ord(one) - ord(other)) <= 1 or (one, other) in _NEIGHBOURS


def credential_findings(written: object) -> Iterator[Finding]:
    """Yield problems with the secrets of a raw configuration, whether the rest of it is valid or not."""
    signing = False
    for path, entry in jwt_entries(written):
        secret = entry.get("secret")
        found = [*_secrets_of((*path, "secret"), secret)]
        signing = signing or bool(found)
        weak = [(at, why) for at, text in found if (why := weakness(text, _algorithms(entry)))]
        if isinstance(secret, SecretLines):
            # In debug, too: half a secret is not what was meant there either.
            if weak or len(found) < len(secret):
                yield (*path, "secret"), _wrapped(len(secret))
        elif not is_true(_value_at(("debug",), written)):
            yield from weak
    if not signing and is_true(_value_at(("auth", "tokens", "enabled"), written)):
        msg = "needs a secret to sign with: set auth.jwt.secret, or JWT_SECRET_KEY"
        yield ("auth", "tokens", "enabled"), msg


def _secrets_of(path: Path, written: object) -> Iterator[tuple[Path, str]]:
    """Yield each secret that is not blank, with its path."""
    items = written if isinstance(written, list) else [written]
    for at, item in enumerate(items):
        if isinstance(item, str) and item.strip():
            yield (path if items is not written else (*path, at)), item


def _wrapped(lines: int) -> str:
    what = f"this file holds {lines} lines: several secrets, or one that was wrapped"
    return f"{what}; write each secret whole on a line of its own, strong enough by itself"


def jwt_entries(written: object) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each entry of `auth.jwt` of a raw configuration with its path: there may be one, or a list."""
    found = _value_at(SECRET[:-1], written)
    if isinstance(found, dict):
        yield SECRET[:-1], found
    for at, entry in enumerate(found) if isinstance(found, list) else ():
        if isinstance(entry, dict):
            yield (*SECRET[:-1], at), entry


def _algorithms(entry: dict[str, Any]) -> list[str]:
    names: Any = entry.get("algorithms")
    found = [names] if isinstance(names, str) else names
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _value_at(path: Path, tree: object) -> object:
    for part in path:
        tree = tree.get(str(part)) if isinstance(tree, dict) else None
    return tree
