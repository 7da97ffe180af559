"""Decide which traces are recorded: by the client's flag, by a ratio, by the route. Pure.

Facts. A ratio looks at the last 16 digits of the trace id, as OpenTelemetry's TraceIdRatioBased does: all programs with the
same ratio record the same traces. But a client may choose its trace id, and its flag. Where it is not trusted, neither
decides: the digits are then those of our own span, which no client knows before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from propylon.proxy.exchange import Exchange

__all__ = ["SAMPLED", "Keep", "Parent", "Sampling", "bound", "with_flag"]

Parent = Literal["ignore", "trusted", "follow"]
"""Whose flag decides: nobody's, that of trusted proxies, or that of any client."""

_ALL = 1 << 64
# Greater than any digits: everything is below it.
_ABOVE = b"g"
SAMPLED = frozenset({b"01", b"03"})
"""The flags of a trace that is recorded."""

_FLAGS = {
    (b"00", False): b"00",
    (b"00", True): b"01",
    (b"01", False): b"00",
    (b"01", True): b"01",
    (b"02", False): b"02",
    (b"02", True): b"03",
    (b"03", False): b"02",
    (b"03", True): b"03",
}


@dataclass(frozen=True, slots=True)
class Keep:
    """Which exchanges are recorded after all, when they have ended; at most `most` in so many seconds."""

    errors: bool = True
    slower_than: float | None = None  # seconds
    most: int = 100
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How traces are chosen that begin here, or whose parent does not decide."""

    ratio: float = 1.0
    parent: Parent = "ignore"

    def follows(self, exchange: Exchange) -> bool:
        """Tell whether the flag that came with the request decides."""
        return self.parent == "follow" or (
            self.parent == "trusted" and exchange.downstream.origin.trusted
        )


def bound(ratio: float) -> bytes:
    """Return the digits below which a trace is recorded."""
    below = round(ratio * _ALL)
    return _ABOVE if below >= _ALL else b"%016x" % below


def with_flag(flags: bytes, *, sampled: bool) -> bytes:
    """Return the flags with this decision; that the trace id is random stays said (W3C Trace Context, level 2)."""
    return _FLAGS[flags, sampled]
