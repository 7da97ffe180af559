"""Name how the verification of a token may end. Apart from what verifies: who only counts needs no cryptography. Pure."""

from __future__ import annotations

__all__ = [
    "CACHED",
    "EXPIRED",
    "INVALID",
    "OUTCOMES",
    "REVOKED",
    "UNAVAILABLE",
    "VERIFIED",
]

OUTCOMES = ("cached", "verified", "expired", "revoked", "invalid", "unavailable")
"""It was known to be good, or found good now; or why it was refused."""
CACHED, VERIFIED, EXPIRED, REVOKED, INVALID, UNAVAILABLE = range(len(OUTCOMES))
