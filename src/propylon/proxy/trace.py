"""Continue the client's trace, or begin one (W3C Trace Context, level 2). Pure.

The trace is decided when the exchange begins, so that a refusal carries it as well. The span is this exchange's own:
the upstream is told our span as its parent, never the client's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from propylon.wire.grammar import OWS
from propylon.wire.message import Request

__all__ = ["SAMPLED", "Trace", "continued", "is_state", "own_span", "span_id"]

SAMPLED = b"01"
"""The trace flags of a trace that begins here: whether it is recorded is up to what exports it."""

# Section 3.2.2. Section 4.3: a later version begins as version 00 does, and may have more behind another dash.
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_VERSION = b"00"
_INVALID_VERSION = b"ff"
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16
# Sampled (1) and random (2): section 3.2.2.5 wants all other flags to be zero where the trace goes on.
_KNOWN_FLAGS = 3
# Section 3.3.1: a list of at most 32 members. `vendor@tenant=value`, too.
_MOST_MEMBERS = 32
_MEMBER = re.compile(
    rb"([a-z0-9][a-z0-9_\-*/@]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
# An odd number: adding it again and again gives each number of 64 bits once (Weyl's sequence, as in SplitMix64).
_STEP = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace that a request belongs to, and the span of the gateway in it; both in hexadecimal digits."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The header that continues the trace in a request of one's own."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def continued(request: Request) -> tuple[bytes, bytes, bytes] | None:
    """Return trace id, parent's span and flags that the client sent; None where they are missing or invalid."""
    sent = request.special.get(b"traceparent", ())
    match = _TRACEPARENT.fullmatch(sent[0]) if len(sent) == 1 else None
    if match is None or match[2] == _NO_TRACE or match[3] == _NO_SPAN:
        return None
    version = match[1]
    if version == _INVALID_VERSION or (version == _VERSION and match[5] is not None):
        return None
    # Of a later version only the flag that is known is understood.
    known = _KNOWN_FLAGS if version == _VERSION else 1
    return match[2], match[3], b"%02x" % (int(match[4], 16) & known)


def is_state(lines: Sequence[bytes]) -> bool:
    """Tell whether the lines of tracestate are a list that may go on; what is none is dropped whole (3.3)."""
    members = [part for line in lines for one in line.split(b",") if (part := one.strip(OWS))]
    keys = {found[1] for part in members if (found := _MEMBER.fullmatch(part)) is not None}
    return 0 < len(members) <= _MOST_MEMBERS and len(keys) == len(members)


def own_span(entropy: bytes) -> bytes:
    """Return the span of the exchange itself; that of its first attempt is the last part of its digits."""
    # The digits of the request id: drawn at random like the rest, and no secret.
    return entropy[:16]


def span_id(entropy: bytes, attempt: int) -> bytes:
    """Return the span of an attempt, counted from 0: each has its own, and all come from the exchange's digits."""
    if attempt == 0:
        return entropy[64:]
    return b"%016x" % ((int(entropy[64:], 16) + attempt * _STEP & _MASK) or 1)
