"""Declare where claims and answers are kept, and what stands there. Pure.

R token          a request is under way
D fingerprint …  it is settled; the record of its answer follows
N fingerprint    it is settled, and its answer was too long to be kept, or endless
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from propylon.proxy.cache.behind import Held
from propylon.proxy.cache.stored import Stored

__all__ = [
    "FINGERPRINT",
    "KEPT",
    "RUNNING",
    "UNKEPT",
    "IdempotencyRules",
    "Ledger",
    "LedgerAway",
    "Records",
    "without_answer",
]

RUNNING, KEPT, UNKEPT = b"R", b"D", b"N"
FINGERPRINT = 32  # bytes


def without_answer(value: bytes) -> bytes:
    """Return what is kept of a settled request whose answer has no room: that it was processed, and which one it was."""
    return UNKEPT + value[1 : 1 + FINGERPRINT]


class LedgerAway(Exception):
    """The ledger cannot be used now, or has no room."""


@dataclass(frozen=True, slots=True)
class IdempotencyRules:
    """What the operator has said about a route; `ttl` in seconds. `refuses`: without a ledger nothing is asked."""

    route: str
    required: bool = False
    ttl: float = 86_400.0
    refuses: bool = True
    methods: frozenset[str] = frozenset({"POST", "PATCH"})


class Ledger(Protocol):
    """Keeps a value for each name, for a time."""

    async def claim(self, name: bytes, value: bytes, seconds: float) -> bytes | None:
        """Put a value under a name where there is none: None; else return the one that is there. Raises LedgerAway."""

    async def settle(self, name: bytes, claim: bytes, value: bytes, seconds: float) -> None:
        """Put a value in place of a claim; if another claim is there by now, do nothing. Never fails."""

    async def release(self, name: bytes, claim: bytes) -> None:
        """Remove a claim, if it is still there. Never fails."""


class Records(Protocol):
    """Writes answers as bytes, and reads them with distrust."""

    def written(self, name: bytes, stored: Stored, since: int, ident: bytes, pieces: int) -> bytes:
        """Return the record of an answer."""

    def read(self, name: bytes, record: bytes) -> tuple[Held, int]:
        """Return the answer of a record. Raises ValueError for what is none."""
