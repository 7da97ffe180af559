"""Name how the verification of a token may end. Apart from what verifies: who only counts needs no cryptography. Pure."""

from __future__ import annotations

from typing import Protocol

__all__ = [
    "CACHED",
    "EXPIRED",
    "INVALID",
    "OUTCOMES",
    "REVOKED",
    "UNAVAILABLE",
    "VERIFIED",
    "Counts",
]

OUTCOMES = ("cached", "verified", "expired", "revoked", "invalid", "unavailable")
"""It was known to be good, or found good now; or why it was refused."""
CACHED, VERIFIED, EXPIRED, REVOKED, INVALID, UNAVAILABLE = range(len(OUTCOMES))


class Counts(Protocol):
    """Numbers that are added to in place."""

    def __getitem__(self, at: int, /) -> float:
        """Return one of them."""

    def __setitem__(self, at: int, value: float, /) -> None:
        """Set one of them."""
