"""Read what an answer has cost out of a header of the service. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from propylon.wire.grammar import DELAY_SECONDS, OWS

__all__ = ["header_cost"]


def header_cost(name: str) -> Callable[[bytes], int]:
    """Return what reads the units in a header of this name out of a block; one that is no whole number costs nothing.

    A header that is repeated counts as the sum: a chain of services may each add its own.
    """
    line = re.compile(rb"\r\n" + re.escape(name.encode("ascii")) + rb":([^\r\n]*)", re.IGNORECASE)

    def cost(block: bytes) -> int:
        values = [value.strip(OWS) for value in line.findall(block)]
        # 1*DIGIT, as the seconds of Retry-After: `int` alone would take "+5" and "5_0".
        return sum(int(value) for value in values if DELAY_SECONDS.fullmatch(value))

    return cost
