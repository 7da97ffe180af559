"""Continue the client's trace, or begin one (W3C Trace Context, level 1). Pure.

The trace is decided when the exchange begins, so that a refusal carries it as well. The span is this exchange's own:
the upstream is told our span as its parent, never the client's.
"""

from __future__ import annotations

import re

from propylon.wire.message import Request

__all__ = ["SAMPLED", "continued"]

SAMPLED = b"01"
"""The trace flags of a trace that begins here: whether it is recorded is up to what exports it."""

# Section 3.2.2. A later version may append fields; only version 00 is understood, so others begin a trace anew.
_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16


def continued(request: Request) -> tuple[bytes, bytes] | None:
    """Return the trace id and the flags that the client sent; None where they are missing or invalid."""
    sent = request.special.get(b"traceparent", ())
    match = _TRACEPARENT.fullmatch(sent[0]) if len(sent) == 1 else None
    if match is None or match[1] == _NO_TRACE or match[2] == _NO_SPAN:
        return None
    return match[1], match[3]
