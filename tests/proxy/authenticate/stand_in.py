"""Verifiers and what they ask, with a clock that is set by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field

from propylon.proxy.authenticate.claims import Rules, Verified
from propylon.proxy.authenticate.keys import KeySet, from_secret
from propylon.proxy.authenticate.trust import KeySource, Trust
from propylon.proxy.authenticate.verify import FixedKeys, Introspector, Verifier
from tests.support.jose import hs, token

NOW = 1_800_000_000.0
SECRET = b"a secret of 32 bytes, for HS256."


@dataclass
class Wall:
    """A clock that goes on only when it is told to."""

    now: float = NOW

    def __call__(self) -> float:
        """The time."""
        return self.now


@dataclass
class Taken:
    """Revocations: by subject, and by what a token is called that has no id."""

    active: bool = True
    subjects: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    asked: int = 0

    def revoked(self, verified: Verified, digest: Callable[[], str]) -> bool:
        """Whether it was taken back."""
        self.asked += 1
        by_name = verified.token_id is None and digest() in self.digests
        return by_name or verified.principal.subject in self.subjects

    def note(self, verified: Verified, digest: Callable[[], str]) -> None:
        """Remember nothing."""


class Keys(FixedKeys):
    """Keys that somebody counts the questions for, and that may be missing."""

    def __init__(self, keys: KeySet | None) -> None:
        self.keys = keys
        self.wanted = 0

    async def renew(self, key_id: str) -> bool:
        """Count."""
        self.wanted += 1
        return False


def one_secret() -> KeySet:
    """The key that `signed` signs with."""
    return from_secret(SECRET, ["HS256"])


def verifier(
    source: KeySource | None = None,
    opaque: Introspector | None = None,
    *,
    rules: Rules | None = None,
    taken: Taken | None = None,
    clock: Callable[[], float] | None = None,
) -> Verifier:
    """A verifier of tokens of one secret, unless it is given something else."""
    if source is None and opaque is None:
        source = FixedKeys(one_secret())
    trusts = [Trust(rules or Rules(), source)]
    return Verifier(trusts, opaque, taken or Taken(), clock or Wall())


def signed(subject: str = "42", **more: object) -> bytes:
    """A good token; a claim that is None is left out."""
    claims = {"sub": subject, "exp": NOW + 60, **more}
    said = {name: value for name, value in claims.items() if value is not None}
    return token({"alg": "HS256"}, said, hs(SECRET))
