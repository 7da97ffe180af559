"""Say in Cache-Status what the cache did with a request (RFC 9211), and count it. Pure."""

from __future__ import annotations

__all__ = [
    "BYPASSED",
    "COALESCED",
    "COUNTED",
    "HIT",
    "MISSED",
    "STALE",
    "STORED",
    "VALIDATED",
    "forwarded",
    "hit",
]

# What is counted, each at its place in a row.
HIT, STALE, MISSED, VALIDATED, BYPASSED, COALESCED, STORED = range(7)
COUNTED = ("hit", "stale", "miss", "revalidated", "bypass", "coalesced", "stored")


def hit(left: float, *, detail: str = "", collapsed: bool = False) -> bytes:
    """Return the line for an answer out of the store, fresh for so many seconds more."""
    line = b"\r\nCache-Status: propylon; hit; ttl=%d" % int(left)
    if collapsed:
        line = b"\r\nCache-Status: propylon; fwd=uri-miss; collapsed"
    return line + (b"; detail=" + detail.encode() if detail else b"")


def forwarded(why: str, *, status: int = 0, stored: bool = False, detail: str = "") -> bytes:
    """Return the line for a request that went to the upstream, and why."""
    line = b"\r\nCache-Status: propylon; fwd=" + why.encode()
    if status:
        line += b"; fwd-status=%d" % status
    if stored:
        line += b"; stored"
    return line + (b"; detail=" + detail.encode() if detail else b"")
