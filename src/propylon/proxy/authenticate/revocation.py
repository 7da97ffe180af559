"""Name what a revocation is, and what asks for them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from propylon.proxy.authenticate.claims import Verified

__all__ = ["Kind", "Revocation", "Revocations", "of_all", "of_subject", "of_token"]


class Kind(StrEnum):
    """What a revocation ends."""

    ID = "id"  # one token, by its `jti`
    DIGEST = "digest"  # one token that has no `jti`, by its digest
    SUBJECT = "subject"  # all tokens of a subject that were issued before a moment
    ALL = "all"  # all tokens that were issued before a moment


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens that no longer count.

    `moment` is when a single token expires by itself, or before when the many were issued; seconds
    since 1970. `value` is the id, the digest or the subject; empty where all are meant.
    """

    kind: Kind
    value: str
    moment: float


def of_token(verified: Verified, digest: Callable[[], str]) -> Revocation:
    """Return what ends one token."""
    if verified.token_id is not None:
        return Revocation(Kind.ID, verified.token_id, verified.expires)
    return Revocation(Kind.DIGEST, digest(), verified.expires)


def of_subject(subject: str, before: float) -> Revocation:
    """Return what ends all tokens of a subject that were issued before a moment."""
    return Revocation(Kind.SUBJECT, subject, before)


def of_all(before: float) -> Revocation:
    """Return what ends all tokens that were issued before a moment."""
    return Revocation(Kind.ALL, "", before)


class Revocations(Protocol):
    """The tokens that were taken back, as the hot path asks for them."""

    active: bool  # False: nothing is revoked, and nobody need be asked

    def revoked(self, verified: Verified, digest: Callable[[], str]) -> bool:
        """Say whether the token was taken back; `digest` names one that has no id."""
