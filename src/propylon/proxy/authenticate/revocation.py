"""Define a revocation, and the port to the list of revoked tokens. Pure.

A signed token is valid until it expires, unless the gateway remembers that it was revoked. There are two kinds: a
single token, by its id, and all tokens issued before a moment, which is one entry however many there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.principal import caller_key

__all__ = [
    "Kind",
    "Revocation",
    "Revocations",
    "caller_value",
    "of_all",
    "of_subject",
    "of_token",
]

_MAX_VALUE = 512  # characters that a database keeps


class Kind(StrEnum):
    """Which tokens a revocation ends."""

    ID = "id"  # one token, by its `jti`
    DIGEST = "digest"  # one token that has no `jti`, by its digest
    SUBJECT = (
        "subject"  # all tokens of a subject, of whatever issuer, that were issued before a moment
    )
    CALLER = "caller"  # the same, but only those of one issuer
    ALL = "all"  # all tokens that were issued before a moment


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens that are revoked.

    `value` is the id, the digest, the subject or the caller; empty for all tokens. `moment`, in seconds since 1970, is when a
    single token expires (then the entry is no longer needed), or before when the others were issued.
    """

    kind: Kind
    value: str
    moment: float


def of_token(verified: Verified, digest: Callable[[], str]) -> Revocation:
    """Return the revocation of one token."""
    # By id if there is one: a re-signed or re-encoded copy of the token has another digest but the same `jti`.
    if verified.token_id is not None:
        return Revocation(Kind.ID, verified.token_id, verified.expires)
    return Revocation(Kind.DIGEST, digest(), verified.expires)


def of_subject(subject: str, before: float, issuer: str | None = None) -> Revocation:
    """Return the revocation of all tokens of a subject that were issued before a moment.

    With an issuer (empty: that of tokens that name none) it is for that issuer's subject alone. Without one it is for the
    subjects of this name of all issuers.
    """
    if issuer is None:
        return Revocation(Kind.SUBJECT, subject, before)
    return Revocation(Kind.CALLER, caller_value(subject, issuer), before)


def caller_value(subject: str, issuer: str) -> str:
    """Return the value of a revocation for the pair of subject and issuer."""
    key = caller_key(subject, issuer)
    if len(key) <= _MAX_VALUE:
        return key
    return "sha256:" + hashlib.sha256(key.encode("utf-8")).hexdigest()


def of_all(before: float) -> Revocation:
    """Return the revocation of all tokens that were issued before a moment."""
    return Revocation(Kind.ALL, "", before)


class Revocations(Protocol):
    """The list of revoked tokens, as the hot path needs it."""

    active: bool  # False: the list is empty, and the call can be saved
    revision: int  # another number after each revocation: open sockets look at the list only then

    def revoked(self, verified: Verified, digest: Callable[[], str]) -> bool:
        """Tell whether the token is revoked; `digest` identifies one that has no id."""

    def note(self, verified: Verified, digest: Callable[[], str]) -> None:
        """Take note of a verified token that does not say when it was issued."""
